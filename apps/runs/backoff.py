"""How long a run waits before its next attempt (runs.md §1, RetryPolicy). Pure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_POLICY: dict[str, Any] = {
    "max_attempts": 1,
    "backoff": "exponential",
    "delay_s": 1,
    "max_delay_s": 60,
    "jitter": 0.1,
}


def allows_another(policy: Mapping[str, Any], failures: int) -> bool:
    """Say whether a run whose attempts failed `failures` times may try again by itself."""
    return failures < int(policy.get("max_attempts", DEFAULT_POLICY["max_attempts"]))


def delay_seconds(
    policy: Mapping[str, Any],
    failures: int,
    *,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return the wait in seconds after the `failures`-th failed attempt (1, 2, …).

    fixed: delay_s each time; exponential: delay_s · 2^(failures−1). Both are cut at max_delay_s and then spread
    by ± jitter (a fraction of the delay), so that runs which failed together do not come back together.
    """
    merged = {**DEFAULT_POLICY, **policy}
    delay = float(merged["delay_s"])
    if merged["backoff"] == "exponential":
        # The exponent is bounded: 2.0**1024 would overflow, and the cap is reached long before.
        delay *= 2.0 ** min(failures - 1, 60)
    delay = min(delay, float(merged["max_delay_s"]))
    jitter = float(merged["jitter"])
    return max(0.0, delay * (1 + uniform(-jitter, jitter)))

"""How urgently a topic's readers want it (topics v0 §10): a hint for schedulers, of no effect on the log. Pure."""

from __future__ import annotations

_LIMIT = 1000
_FRESH = 500
_HALVES_EVERY_MS = 30_000
_STALE_MS = 300_000


def effective_priority(
    *, manual: int | None, auto: bool, last_consumed: int | None, now: int
) -> int:
    """Return the manual priority within −1000 … 1000, else 500 halved for every 30 s since the last read."""
    if manual is not None:
        return min(max(manual, -_LIMIT), _LIMIT)
    if not auto or last_consumed is None:
        return 0
    idle = max(now - last_consumed, 0)
    # The comparison stands first: 2 ** -idle would underflow for a clock that is far off.
    return 0 if idle >= _STALE_MS else round(_FRESH * 2.0 ** (-idle / _HALVES_EVERY_MS))

"""The bodies that requests to several apps have."""

from __future__ import annotations

from apps.core.body import JSON, Body

MOST_REASON = 1000


def read_reason(value: JSON) -> str:
    """Read the optional body of a request that may give its reason. Raises Invalid."""
    body = Body({} if value is None else value)
    reason = body.text("reason", high=MOST_REASON)
    body.refuse_unknown()
    body.finish()
    return reason


def read_nothing(value: JSON) -> None:
    """Accept an absent or empty body. Raises Invalid for anything else."""
    body = Body({} if value is None else value)
    body.refuse_unknown()
    body.finish()

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template

from apps.core import clock

if TYPE_CHECKING:
    from datetime import datetime

register = template.Library()


@register.filter
def took(began: datetime | None, ended: datetime | None) -> str:
    """Say how long something has lasted, up to now if it goes on; nothing if it has not begun."""
    if began is None:
        return ""
    return _spoken(max(((ended or clock.now()) - began).total_seconds(), 0))


@register.filter
def lasting(milliseconds: int) -> str:
    """Say how long so many milliseconds are."""
    return _spoken(milliseconds / 1000)


@register.filter
def for_seconds(seconds: float) -> str:
    """Say how long so many seconds are."""
    return _spoken(seconds)


def _spoken(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"

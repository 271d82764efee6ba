from __future__ import annotations

from django import template
from django.template.defaultfilters import filesizeformat

from apps.core import clock

register = template.Library()


@register.filter
def rate(value: float | None, unit: str) -> str:
    """Say how much there is per second, of bytes or of anything that is counted."""
    if value is None:
        return "unknown"
    if unit == "bytes":
        return "under a byte" if 0 < value < 1 else filesizeformat(value)
    if 0 < value < 0.05:
        return "under 0.1"
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


@register.filter
def counted(value: int) -> str:
    """Write a number so that its size is seen."""
    return f"{value:,}"


@register.filter
def moment(written: str) -> str:
    """Write a moment in RFC 3339 shorter: to the millisecond, in UTC as all times of the console."""
    return written[:23].replace("T", " ")


@register.filter
def time_of_day(milliseconds: int) -> str:
    """Say when it was, to the second, of a moment today."""
    return clock.rfc3339_of_milliseconds(milliseconds)[11:19]

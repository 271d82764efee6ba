"""Five-field cron expressions in a timezone: which moments they name. Pure.

A due time is a minute of the wall clock. One that the clock skips (spring) is due as much later as the clock jumps; one
that it shows twice (autumn) is due the first time. An expression for every hour follows the hours as they pass instead:
none that was skipped, and both of those shown twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# (name, lowest, highest, words for its numbers from the lowest on); Sunday is 0 and 7.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_PART = re.compile(
    r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,3}))?", re.ASCII
)
# February 29 may be eight years away, around a century that has none.
_MOST_DAYS = 8 * 366 + 1
_DAY = timedelta(days=1)
LONGEST = 255


class BadCron(ValueError):
    """The text is no cron expression; the message says why."""


def is_timezone(name: str) -> bool:
    """Say whether this is the IANA name of a timezone."""
    return name in _timezones()


@lru_cache(maxsize=1)
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


@dataclass(frozen=True, slots=True)
class Cron:
    """The moments of an expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    # 0 = Sunday.
    weekdays: frozenset[int]
    # With both days named, either will do; a field that begins with * names none.
    is_either_day: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read an expression. Raises BadCron."""
        if len(text) > LONGEST:
            raise BadCron(f"must be at most {LONGEST} characters, has {len(text)}")
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise BadCron(
                "must have five fields, minute, hour, day of the month, month and day of the week,"
                f" has {len(parts)}"
            )
        found = [_read_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
        cron = cls(
            minutes=tuple(sorted(found[0])),
            hours=tuple(sorted(found[1])),
            days=frozenset(found[2]),
            months=frozenset(found[3]),
            weekdays=frozenset(day % 7 for day in found[4]),
            is_either_day=not (parts[2].startswith("*") or parts[4].startswith("*")),
        )
        if cron.next_after(datetime(2000, 1, 1, tzinfo=UTC), "UTC") is None:
            raise BadCron("names a day that never comes")
        return cron

    @property
    def is_every_hour(self) -> bool:
        return len(self.hours) == 24

    def next_after(self, moment: datetime, timezone: str) -> datetime | None:
        """Return the first due time after a moment, in UTC; None if none comes within eight years."""
        zone = ZoneInfo(timezone)
        # What the clock skipped before midnight is due after it.
        day = moment.astimezone(zone).date() - _DAY
        for _ in range(_MOST_DAYS):
            later = [m for d in (day, day + _DAY) for m in self._moments(d, zone) if m > moment]
            if later:
                return min(later)
            day += _DAY
        return None

    def latest(self, *, since: datetime, until: datetime, timezone: str) -> datetime:
        """Return the last due time up to `until`; `since` is one itself, and what is returned without a later one."""
        zone = ZoneInfo(timezone)
        day, first = until.astimezone(zone).date(), since.astimezone(zone).date()
        while day >= first:
            earlier = [
                m for d in (day, day - _DAY) for m in self._moments(d, zone) if since < m <= until
            ]
            if earlier:
                return max(earlier)
            day -= _DAY
        return since

    def _has_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.is_either_day else (by_month and by_week)

    def _moments(self, day: date, zone: ZoneInfo) -> list[datetime]:
        """Return the due times of a day of the wall clock, in UTC."""
        if not self._has_day(day):
            return []
        midnight = datetime.combine(day, time(), zone)
        shown = [
            midnight.replace(hour=hour, minute=minute)
            for hour in self.hours
            for minute in self.minutes
        ]
        if midnight.utcoffset() == datetime.combine(day + _DAY, time(), zone).utcoffset():
            return [moment.astimezone(UTC) for moment in shown]
        found = set()
        for moment in shown:
            first = moment.astimezone(UTC)
            is_skipped = first.astimezone(zone).replace(fold=0) != moment
            if not (is_skipped and self.is_every_hour):
                found.add(first)
            if self.is_every_hour and not is_skipped:
                found.add(moment.replace(fold=1).astimezone(UTC))
        return sorted(found)


def _read_field(
    text: str, name: str, lowest: int, highest: int, words: tuple[str, ...]
) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise BadCron(f"can't read {part!r} as {name}")
        step = int(match["step"] or 1)
        if step == 0:
            raise BadCron(f"steps of 0 in {name}")
        if match["all"]:
            low, high = lowest, highest
        else:
            low = _number(match["low"], name, lowest, highest, words)
            if match["high"]:
                high = _number(match["high"], name, lowest, highest, words)
            else:
                high = highest if match["step"] else low
        if high < low:
            raise BadCron(f"{part!r} ends before it begins in {name}")
        found.update(range(low, high + 1, step))
    return found


def _number(text: str, name: str, lowest: int, highest: int, words: tuple[str, ...]) -> int:
    word = text.lower()
    if word in words:
        return lowest + words.index(word)
    if not (text.isdecimal() and len(text) <= 2 and lowest <= int(text) <= highest):
        raise BadCron(f"{name} must be {lowest}–{highest}, got {text!r}")
    return int(text)

"""Which moments a cron expression names, also where the clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.pipelines.schedules.cron import BadCron, Cron, is_timezone


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(text: str, after: str, zone: str = "UTC", count: int = 1) -> list[str]:
    cron, moment, found = Cron.parse(text), at(after), []
    for _ in range(count):
        due = cron.next_after(moment, zone)
        assert due is not None
        moment = due
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2030-01-01 00:00", "2030-01-01 00:01"),
        ("*/15 * * * *", "2030-01-01 00:00", "2030-01-01 00:15"),
        ("5/20 * * * *", "2030-01-01 00:05", "2030-01-01 00:25"),
        ("0 3 * * *", "2030-01-01 03:00", "2030-01-02 03:00"),
        ("30 8-10/2 * * *", "2030-01-01 08:30", "2030-01-01 10:30"),
        ("0 0 1 jan *", "2030-01-01 00:00", "2031-01-01 00:00"),
        ("0 9 * * MON-FRI", "2030-01-04 09:00", "2030-01-07 09:00"),
        ("0 9 * * 7", "2030-01-01 00:00", "2030-01-06 09:00"),
        ("0 9 * * 0", "2030-01-01 00:00", "2030-01-06 09:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
        # Both days named: either will do.
        ("0 0 13 * 5", "2030-01-01 00:00", "2030-01-04 00:00"),
        ("0 0 13 * 5", "2030-01-12 00:00", "2030-01-13 00:00"),
        # One of them begins with *: both must hold.
        ("0 0 */2 * 5", "2030-01-01 00:00", "2030-01-11 00:00"),
    ],
)
def test_it_finds_the_next_moment(text, after, expected):
    assert following(text, after) == [expected]


def test_a_time_that_is_skipped_is_due_as_much_later_as_the_clock_jumps():
    # In New York 2:00 becomes 3:00 on 2030-03-10.
    found = following("30 2 * * *", "2030-03-09 00:00", "America/New_York", 3)
    assert found == ["2030-03-09 07:30", "2030-03-10 07:30", "2030-03-11 06:30"]
    # What falls together is due once.
    assert following("30 2,3 * * *", "2030-03-10 00:00", "America/New_York", 2) == [
        "2030-03-10 07:30",
        "2030-03-11 06:30",
    ]


def test_a_time_that_is_shown_twice_is_due_the_first_time():
    # In New York 2:00 becomes 1:00 on 2030-11-03.
    found = following("30 1 * * *", "2030-11-02 00:00", "America/New_York", 3)
    assert found == ["2030-11-02 05:30", "2030-11-03 05:30", "2030-11-04 06:30"]


def test_every_hour_follows_the_hours_as_they_pass():
    spring = following("0 * * * *", "2030-03-10 05:30", "America/New_York", 3)
    assert spring == ["2030-03-10 06:00", "2030-03-10 07:00", "2030-03-10 08:00"]
    autumn = following("*/30 * * * *", "2030-11-03 04:45", "America/New_York", 5)
    assert autumn == [
        f"2030-11-03 {hour}" for hour in ("05:00", "05:30", "06:00", "06:30", "07:00")
    ]


def test_a_day_that_a_country_left_out_is_due_a_day_later():
    # Samoa went from December 29 to December 31 in 2011.
    assert following("0 12 30 12 *", "2011-12-29 00:00", "Pacific/Apia") == ["2011-12-30 22:00"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute must be 0–59, got '60'"),
        ("* 24 * * *", "hour must be 0–23"),
        ("* * 0 * *", "day of the month must be 1–31"),
        ("* * * 13 *", "month must be 1–12"),
        ("* * * * 8", "day of the week must be 0–7"),
        ("* * L * *", "day of the month must be 1–31, got 'L'"),
        ("*/0 * * * *", "steps of 0"),
        ("30-10 * * * *", "ends before it begins"),
        ("1,,2 * * * *", "can't read ''"),
        ("٣ * * * *", "can't read"),
        ("0 0 31 2 *", "never comes"),
        ("* " * 300, "at most 255"),
    ],
)
def test_it_says_what_is_wrong(text, message):
    with pytest.raises(BadCron, match=message):
        Cron.parse(text)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"])
def test_it_knows_timezones(name):
    assert is_timezone(name)


@pytest.mark.parametrize("name", ["", "Berlin", "../etc/passwd", "europe/berlin", "UTC\0"])
def test_it_knows_what_is_no_timezone(name):
    assert not is_timezone(name)


ZONES = st.sampled_from(
    [
        "UTC",
        "America/New_York",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/Havana",
        "Asia/Kolkata",
    ]
)
FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "15,45", "59"]),
    st.sampled_from(["*", "0", "2", "1-3", "*/5", "23"]),
    st.sampled_from(["*", "1", "*/3", "28-31"]),
    st.sampled_from(["*", "3", "10-12"]),
    st.sampled_from(["*", "0", "1-5", "sat,sun"]),
).map(" ".join)
MOMENTS = st.datetimes(
    datetime(2029, 1, 1),  # noqa: DTZ001 - hypothesis adds the timezone
    datetime(2031, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(FIELDS, ZONES, MOMENTS)
def test_nothing_lies_between_a_moment_and_the_next(text, zone, moment):
    cron = Cron.parse(text)
    due = cron.next_after(moment, zone)
    assert due is not None
    assert due > moment
    assert due.second == 0
    # Shown on the clock, unless the clock jumped just before.
    local = due.astimezone(ZoneInfo(zone))
    jumped = (due - timedelta(hours=4)).astimezone(ZoneInfo(zone)).utcoffset() != local.utcoffset()
    assert jumped or (local.minute in cron.minutes and local.hour in cron.hours)
    assert cron.next_after(due - timedelta(seconds=1), zone) == due
    assert cron.latest(since=due, until=due, timezone=zone) == due


@given(FIELDS, ZONES, MOMENTS, st.integers(0, 5 * 24 * 60))
def test_the_latest_is_what_one_after_another_leads_to(text, zone, moment, minutes):
    cron = Cron.parse(text)
    first = cron.next_after(moment, zone)
    assert first is not None
    until = first + timedelta(minutes=minutes)
    latest = cron.latest(since=first, until=until, timezone=zone)
    assert first <= latest <= until
    following_one = cron.next_after(latest, zone)
    assert following_one is None or following_one > until

from __future__ import annotations

import json
import logging
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.core import correlation, logs

SECRET = "gyk_8sdkfjhSDKFJH-sdf_sdf"


def line(style: str, message: str, *args: object, **extra: object) -> str:
    record = logging.getLogger("apps.test").makeRecord(
        "apps.test", logging.WARNING, "f", 1, message, args, None, extra=extra
    )
    return logs.formatter(style).format(record)


def test_json_lines_carry_the_correlation_id():
    with correlation.bound("abc"):
        written = json.loads(line("json", "run %s left", "r1", worker="w1"))
    assert written.pop("timestamp").endswith("Z")
    assert written == {
        "event": "run r1 left",
        "level": "warning",
        "logger": "apps.test",
        "worker": "w1",
        "correlation_id": "abc",
    }


def test_nothing_is_said_twice_with_the_codes_of_a_terminal():
    assert "color_message" not in line("json", "ready", color_message="\x1b[36mready")


def test_text_lines_carry_it_too():
    with correlation.bound("abc"):
        assert "correlation_id=abc" in line("text", "hello")


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    ("message", "extra"),
    [
        (f"key {SECRET} used", {}),
        ("used", {"headers": {"Authorization": f"Bearer {SECRET}"}}),
        ("used", {"token": SECRET}),
        (f"GET /v0/watch/1?token={SECRET}&x=1", {}),
    ],
)
def test_no_key_reaches_a_line(style, message, extra):
    written = line(style, message, **extra)
    assert SECRET not in written
    assert "[hidden]" in written


def test_credentials_of_any_shape_are_hidden():
    hidden = logs.hide(
        "Authorization: Bearer hunter2, X-API-Key: hunter2 ?token=hunter2 postgresql://u:hunter2@db/x"
    )
    assert "hunter2" not in hidden
    assert "@db/x" in hidden


@pytest.mark.parametrize(
    "config", [{"level": "LOUD", "format": "text"}, {"level": "INFO", "format": "xml"}]
)
def test_a_bad_setting_names_its_variable(config):
    with pytest.raises(ImproperlyConfigured, match="GYOZA_LOG_"):
        logs.configure(config)


def test_a_line_that_is_said_again_and_again_is_told_seldom():
    def told(second: float, template: str = "error connecting in %r: %s") -> bool:
        record = logging.LogRecord(
            "pool", logging.WARNING, "", 0, template, ("pool-1", second), None
        )
        record.created = second
        return bool(seldom.filter(record))

    seldom = logs.Seldom()
    assert [told(second) for second in (0, 1, 29, 30, 31, 60)] == [
        *(True, False, False),
        *(True, False, True),
    ]
    assert told(61, "another kind: %s %s")


def test_what_came_in_is_told_without_where_it_was_refused():
    try:
        raise ValueError("bad host")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "m", None, sys.exc_info())
    assert logs.InALine().filter(record)
    assert "Traceback" not in logs.formatter("text").format(record)

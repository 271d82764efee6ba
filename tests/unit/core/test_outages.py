from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest
from celery import Celery
from django.db import InterfaceError, OperationalError

from gyoza_site.celery import app as ours

REFUSED = psycopg.OperationalError('connection to "127.0.0.1" failed: refused\nIs it running?')


def failing_with(cause: Exception) -> OperationalError:
    error = OperationalError(str(cause))
    error.__cause__ = cause
    return error


@pytest.fixture
def sweep():
    """A task that raises what it is given, one after the other."""
    app = Celery("test", task_cls=ours.task_cls, set_as_current=False)
    left: list[Exception | None] = []

    @app.task(name="tests.sweep", shared=False)
    def sweep():
        if left and (error := left.pop(0)):
            raise error

    def run(*errors: Exception | None) -> None:
        left[:] = errors
        for _ in errors:
            sweep.apply()

    yield run
    run(None)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    return [(one.levelno, one.getMessage(), one.exc_info) for one in caplog.records]


def test_an_outage_is_one_line_without_a_traceback(sweep, caplog):
    caplog.set_level(logging.WARNING)
    sweep(*[failing_with(REFUSED)] * 3, InterfaceError("the connection is closed"))
    ((level, message, traceback),) = lines(caplog)
    assert (level, traceback) == (logging.WARNING, None)
    assert message == (
        'tests.sweep waits for Postgres, which is away: connection to "127.0.0.1" failed: refused'
    )


def test_the_next_outage_is_told_again(sweep, caplog):
    caplog.set_level(logging.INFO, "apps.core.outages")
    sweep(failing_with(REFUSED), None, None, failing_with(REFUSED))
    away, back, again = [message for _, message, _ in lines(caplog)]
    assert away == again
    assert back == "tests.sweep goes on: Postgres is back"


def test_a_server_that_shuts_down_is_away(sweep, caplog):
    caplog.set_level(logging.WARNING)
    sweep(failing_with(psycopg.errors.AdminShutdown("terminating connection")))
    assert [level for level, _, _ in lines(caplog)] == [logging.WARNING]


@pytest.mark.parametrize(
    "error",
    [failing_with(psycopg.errors.DeadlockDetected("deadlock")), ValueError("a mistake")],
    ids=["deadlock", "mistake"],
)
def test_whatever_else_fails_is_told_with_its_traceback(sweep, caplog, error):
    caplog.set_level(logging.WARNING)
    sweep(error)
    ((level, _, traceback),) = lines(caplog)
    assert level == logging.ERROR
    assert traceback

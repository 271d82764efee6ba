"""Celery tasks while Postgres is away: a line when it goes and one when it is back, not a traceback each second."""

from __future__ import annotations

import logging
from typing import Any

import celery
import psycopg
from django.db import InterfaceError, OperationalError

log = logging.getLogger(__name__)

# Classes of SQLSTATE by which a server says that it can't be talked to: connections, and shutting down or starting.
_AWAY_STATES = ("08", "57P")


class PostgresAway(Exception):
    """Postgres can't be reached; the task is due again by the clock, and its work stands in rows."""


class Task(celery.Task):  # type: ignore[type-arg]
    """Every task of the house: an outage of Postgres is no mistake of its."""

    abstract = True
    # Of what is listed here Celery tells no traceback.
    throws = (PostgresAway,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            result = super().__call__(*args, **kwargs)
        except (OperationalError, InterfaceError) as exc:
            if not is_away(exc):
                raise
            _note_outage(str(self.name), exc)
            raise PostgresAway(str(exc)) from exc
        _note_return(str(self.name))
        return result


def is_away(exc: OperationalError | InterfaceError) -> bool:
    """Say whether an error of Django's means that there is no talking to Postgres, rather than a lock or a limit."""
    if isinstance(exc, InterfaceError):
        return True  # the connection is closed already
    state = exc.__cause__.sqlstate if isinstance(exc.__cause__, psycopg.Error) else None
    return state is None or state.startswith(_AWAY_STATES)


_away: set[str] = set()


def _note_outage(task: str, exc: Exception) -> None:
    if task not in _away:
        _away.add(task)
        reason = str(exc).strip().partition("\n")[0]
        log.warning("%s waits for Postgres, which is away: %s", task, reason)


def _note_return(task: str) -> None:
    if task in _away:
        _away.discard(task)
        log.info("%s goes on: Postgres is back", task)

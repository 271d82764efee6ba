"""Sessions of Postgres, seen from a test: who waits for whom, and how one of them dies."""

from __future__ import annotations

from django.db import connection

# Not pg_stat_activity, of which a transaction sees the same all the time.
_BLOCKED = "FROM pg_locks WHERE NOT granted"


def wait_for_a_blocked_session() -> None:
    """Return once Postgres says that a session waits for another's lock."""
    for _ in range(100_000):
        if _found(f"SELECT count(*) {_BLOCKED}"):
            return
    raise AssertionError("nobody waits")


def kill_blocked_sessions() -> None:
    """End the sessions that wait for a lock, as when their connection breaks."""
    wait_for_a_blocked_session()
    assert _found(f"SELECT bool_and(pg_terminate_backend(pid, 30000)) {_BLOCKED}")


def _found(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])

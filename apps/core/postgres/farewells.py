"""Whether Postgres has closed a connection while nobody used it."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection


def has_ended(idle: Connection | AsyncConnection) -> bool:
    """Return whether Postgres has closed a connection that nobody uses, at the price of a system call.

    A host that has vanished is not noticed: the next statement fails after `tcp_user_timeout`.
    """
    if idle.closed:
        return True
    # Nothing is expected on an idle connection, so what can be read is a farewell or the end. Not select(), which knows
    # no descriptor beyond 1023: a process with a thousand clients has others.
    poller = select.poll()
    poller.register(idle.fileno(), select.POLLIN)
    return bool(poller.poll(0))

"""Django's own backend but for how it takes connections out of its pool.

The pool's own check (`CONN_HEALTH_CHECKS`) costs a round trip for each connection that is fine, and after each that is
not, it waits twice as long before it looks at the next: a Postgres that has been restarted would stay away for seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql import base

from apps.core.postgres.farewells import has_ended

if TYPE_CHECKING:
    from psycopg import Connection


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Return a connection that Postgres has not closed.

        Raises OperationalError when the pool has had none to lend for its timeout.
        """
        while True:
            lent: Connection = super().get_new_connection(conn_params)
            if not has_ended(lent):
                return lent
            # A closed one is not lent again: the pool replaces it in the background.
            lent.close()
            if self.pool:
                self.pool.putconn(lent)

"""What is refused of routers, by the codes of topics v0 §2.5."""

from __future__ import annotations

from apps.core.errors import Conflict, NotFound


class RouterNotFound(NotFound):
    """There is no such router."""

    code = "router_not_found"

    @classmethod
    def of(cls, router: str) -> RouterNotFound:
        """Build the error that names the router."""
        return cls(f'no router named "{router}"', router=router)


class RouterCycle(Conflict):
    """The router would close a circle."""

    code = "router_cycle"

"""The web process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string

from apps.core import lifespan

if TYPE_CHECKING:
    import socket

# Streams end at once when the process stops; other requests get this long.
GRACE_SECONDS = 10


class Command(BaseCommand):
    help = "Serve HTTP (uvicorn) on GYOZA_HOST and PORT until SIGINT or SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        import_string(settings.GYOZA_REFUSE_BIND)(settings.GYOZA_HOST)
        banner = import_string(settings.GYOZA_BANNER)()
        if banner:
            self.stderr.write(self.style.WARNING(banner))
        config = uvicorn.Config(
            settings.ASGI_APPLICATION.replace(".application", ":application"),
            host=settings.GYOZA_HOST,
            port=settings.GYOZA_PORT,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=settings.GYOZA_BEHIND_TLS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        _Server(config).run()


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First, or uvicorn would wait for streams that nobody has told to end.
        lifespan.drain()
        await super().shutdown(sockets)

"""`manage.py serve`: the web process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from uvicorn.supervisors import Multiprocess

from apps.access import auth
from apps.core.sql import AWAY
from apps.stack.connections.protocol import PatientProtocol
from apps.stack.connections.websocket import PING_SECONDS, SocketProtocol

if TYPE_CHECKING:
    from argparse import ArgumentParser

# topics v0 §21: what is still open then is dropped.
DRAIN_SECONDS = 10


class Command(BaseCommand):
    help = "Serve the API, the streams, the admin and the console (uvicorn, uvloop, httptools)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host", default=settings.GYOZA_HOST, help="Address to bind to; GYOZA_HOST by default."
        )
        parser.add_argument(
            "--port", default=settings.GYOZA_PORT, type=int, help="TCP port; PORT by default."
        )
        parser.add_argument(
            "--workers", default=1, type=int, help="Processes that share the port; 1 by default."
        )

    def handle(self, *, host: str, port: int, workers: int, **_: Any) -> None:
        try:
            auth.refuse_open_bind(host)
            banner = auth.dev_mode_banner()
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc
        except AWAY as exc:
            raise CommandError(
                f"Postgres does not answer, start again when it does: {exc}"
            ) from exc
        if banner:
            self.stderr.write(banner)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gyoza_site.settings")
        config = uvicorn.Config(
            "gyoza_site.asgi:application",
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http=PatientProtocol,
            ws=SocketProtocol,
            ws_max_size=settings.GYOZA_MAX_SOCKET_MESSAGE_BYTES,
            # A kilobyte could become a gigabyte.
            ws_per_message_deflate=False,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=settings.GYOZA_STALLED_SECONDS,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.GYOZA_TRUSTED_PROXIES,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            # Bursts of connections wait in the kernel rather than being refused.
            backlog=4096,
        )
        if workers > 1:
            Multiprocess(config, sockets=[config.bind_socket()]).run()
        else:
            uvicorn.Server(config).run()

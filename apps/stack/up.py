"""`make up` from its first line to its last."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import redis
from django.conf import settings

from apps.stack import client, ports, processes, sockets
from apps.stack.children import record_of, stop_left_over
from apps.stack.errors import CannotStart
from apps.stack.postgres import Postgres
from apps.stack.showcase import show
from apps.stack.showcase.card import card
from apps.stack.supervisor import Stopped, Supervisor
from apps.stack.terminal import Terminal
from apps.stack.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apps.stack.children import Child

URLS = "urls.json"
# Postgres looks after its own: it knows them by their data directory.
LEFTOVERS = ("web", "worker", "beat", "valkey")


def run(*, with_showcase: bool) -> int:
    """Bring the whole stack up and stay in front until asked to stop; return the exit code."""
    terminal = Terminal()
    stack = Stack(terminal, settings.GYOZA_HOME)
    try:
        with stack.lock():
            return stack.run(with_showcase=with_showcase)
    except CannotStart as exc:
        terminal.line(f"\n{terminal.paint('bad', 'Gyoza could not start.')} {exc}")
        return 1


class Stack:
    """Everything that `up` starts, as one thing."""

    def __init__(self, terminal: Terminal, home: Path) -> None:
        self.terminal = terminal
        self.home = home
        self.children: list[Child] = []
        self.sockets: list[Path] = []
        self.supervisor = Supervisor(self.children, terminal)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the place: a second `up` in the same clone would fight over the same data."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o711)
        if os.geteuid() == 0:
            self.home.chmod(0o711)  # Postgres runs as another user and passes through
        path = self.home / "up.lock"
        with path.open("a+", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                raise CannotStart(
                    f"It is already running from this directory: {handle.read().strip()}"
                ) from None
            handle.truncate(0)
            handle.write(f"{client.base_url()} (pid {os.getpid()})\n")
            handle.flush()
            yield

    def run(self, *, with_showcase: bool) -> int:
        """Start, stay, stop; return the exit code."""
        self.supervisor.listen()
        try:
            self._start()
            if with_showcase:
                self._present()
            else:
                self.terminal.line(card(self.terminal))
            self.supervisor.watch()
        except Stopped:
            pass
        finally:
            self._stop()
        return 0

    def _start(self) -> None:
        self._clear_leftovers()
        self._refuse_taken_port()
        urls = {"DATABASE_URL": self._postgres(), "REDIS_URL": self._redis()}
        # For manage.py in another terminal. What was given is the caller's to keep, passwords included.
        embedded = {name: url for name, url in urls.items() if not os.environ.get(name)}
        (self.home / URLS).write_text(json.dumps(embedded), encoding="utf-8")
        env = processes.environment(urls)
        self._migrate(env)
        # All at once: most of what each does first is to import the same packages.
        service = [
            make(self.home, env) for make in (processes.web, processes.worker, processes.beat)
        ]
        for child in service:
            self.children.append(child)
            self.supervisor.start(child)
        for child in service:
            self._wait_for(child, client.base_url() if child.spec.name == "web" else "running")

    def _present(self) -> None:
        # In a thread of its own, so that a child that dies meanwhile is restarted, and Ctrl-C is heard.
        arguments = [self.terminal, lambda: self.supervisor.is_asked_to_stop]
        threading.Thread(target=show.run, args=arguments, name="showcase", daemon=True).start()

    def _stop(self) -> None:
        if self.supervisor.is_asked_to_stop:
            self.terminal.line()
            self.terminal.line("Stopping. Press Ctrl-C again to force it.")
        self.supervisor.stop()
        for path in self.sockets:
            sockets.discard(path)
        (self.home / URLS).unlink(missing_ok=True)
        if self.supervisor.is_asked_to_stop:
            self.terminal.line("Stopped. Your data is kept: `make up` goes on from here.")

    def _clear_leftovers(self) -> None:
        """Stop what an `up` that was killed has left."""
        for name in LEFTOVERS:
            if stop_left_over(record_of(self.home, name), grace_s=15):
                self.terminal.done(
                    name, "left over from an earlier `up`, stopped", mark="!", colour="warn"
                )

    def _refuse_taken_port(self) -> None:
        host, port = settings.GYOZA_HOST, settings.GYOZA_PORT
        reason = ports.refusal(host, port)
        if reason is not None:
            other = ports.free_port_after(host, max(port, 1024))
            raise CannotStart(
                f"Port {port}: {reason}. Take another one: make up PORT={other or 8080}"
            )

    def _postgres(self) -> str:
        given = os.environ.get("DATABASE_URL")
        if given:
            with self.terminal.step("postgres", f"DATABASE_URL, {_without_secrets(given)}"):
                try:
                    psycopg.connect(given, connect_timeout=5).close()
                except psycopg.Error as exc:
                    raise CannotStart(f"DATABASE_URL: {exc}") from exc
            return given
        postgres = Postgres(self.home / "postgres")
        fresh = not (postgres.home / "data").exists()
        self.sockets.append(postgres.sockets)
        doing = "making the data directory" if fresh else "starting"
        self._start_server(
            processes.server(postgres, self.home),
            doing,
            f"{postgres.version.rpartition('.')[0]}, {'new data' if fresh else 'data'} in {self._place('postgres')}",
        )
        return postgres.url

    def _redis(self) -> str:
        given = os.environ.get("REDIS_URL")
        if given:
            with self.terminal.step("redis", f"REDIS_URL, {_without_secrets(given)}"):
                try:
                    with redis.Redis.from_url(
                        given, socket_connect_timeout=5, socket_timeout=5
                    ) as link:
                        link.ping()
                except (redis.RedisError, ValueError) as exc:
                    raise CannotStart(f"REDIS_URL: {exc}") from exc
            return given
        valkey = Valkey(self.home / "valkey")
        self.sockets.append(valkey.socket.parent)
        version = valkey.version.partition(".post")[0]
        child = processes.server(valkey, self.home)
        self._start_server(child, "starting", f"{version}, snapshot in {self._place('valkey')}")
        return valkey.url

    def _place(self, name: str) -> str:
        path = self.home / name
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)

    def _migrate(self, env: dict[str, str]) -> None:
        argv = [sys.executable, "manage.py", "migrate", "--no-input", "--no-color"]
        with self.terminal.step("migrations", "looking") as step:
            said: list[str] = []
            applied = 0
            with subprocess.Popen(
                argv,
                env=env,
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            ) as process:
                assert process.stdout is not None  # noqa: S101  asked for above
                for line in process.stdout:
                    said.append(line.rstrip())
                    if line.strip().startswith("Applying "):
                        applied += 1
                        step.tell(line.strip())
            if self.supervisor.is_asked_to_stop:
                raise Stopped
            if process.returncode != 0:
                raise CannotStart("\n".join(["manage.py migrate failed:", *said[-15:]]))
            step.result = f"{applied} applied" if applied else "up to date"

    def _start_server(self, child: Child, doing: str, result: str) -> None:
        self.children.append(child)
        with self.terminal.step(child.spec.name, doing) as step:
            self.supervisor.start(child)
            self.supervisor.wait_for(child)
            step.result = result

    def _wait_for(self, child: Child, result: str) -> None:
        with self.terminal.step(child.spec.name, "starting") as step:
            self.supervisor.wait_for(child)
            step.result = result


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"

"""Gyoza as real processes on a database of its own: for acceptance tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import psycopg
from psycopg import sql

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
WORKER = [
    sys.executable, "-m", "celery", "-A", "gyoza_site.celery", "worker", "--pool", "threads", "--concurrency", "4",
    "--queues", "gyoza,gyoza.wake", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO",
]  # fmt: skip


class System:
    """A web process, any number of workers, and beat; each can be killed and started again."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home = home
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **os.environ,
            **env,
            "DJANGO_SETTINGS_MODULE": "gyoza_site.settings",
            "GYOZA_HOME": str(home),
            "GYOZA_URL": self.url,
            "GYOZA_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "GYOZA_DRAIN_SECONDS": "2",
            "PYTHONUNBUFFERED": "1",
        }
        self._urls = {"web": self.url}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.env, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    def start(self, name: str, argv: list[str], **env: str) -> subprocess.Popen[bytes]:
        """Start a process; what it prints goes to <home>/<name>.log."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, cwd=ROOT, env={**self.env, **env}, stdout=log, stderr=subprocess.STDOUT
            )
        return self.processes[name]

    def start_web(self, name: str = "web") -> None:
        """Start a web process and wait until it answers; one with another name has a port of its own."""
        url = self.url_of(name)
        self.start(name, [sys.executable, "manage.py", "serve"], PORT=str(urlsplit(url).port))
        self.wait_for(lambda: self._answers(url), f"the process {name} answers")

    def url_of(self, name: str) -> str:
        """Return where a web process answers."""
        if name not in self._urls:
            self._urls[name] = f"http://127.0.0.1:{_free_port()}"
        return self._urls[name]

    def start_worker(self, name: str = "worker", **env: str) -> None:
        """Start a worker and wait until it is registered."""
        log_size = self._log_size(name)
        self.start(name, WORKER, **env)
        self.wait_for(lambda: b" is ready" in self.read_log(name)[log_size:], f"{name} is ready")

    def start_beat(self) -> None:
        """Start beat."""
        argv = [sys.executable, "-m", "celery", "-A", "gyoza_site.celery", "beat", "--pidfile="]
        self.start("beat", argv)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and wait until it is gone."""
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(timeout=60)

    def read_log(self, name: str) -> bytes:
        """Return what a process has printed."""
        path = self.home / f"{name}.log"
        return path.read_bytes() if path.exists() else b""

    def _log_size(self, name: str) -> int:
        return len(self.read_log(name))

    def wait_for_postgres(self) -> None:
        """Return once Postgres takes connections: a process that is started while it recovers gives up after five seconds."""
        self.wait_for(self._postgres_answers, "Postgres takes connections")

    def _postgres_answers(self) -> bool:
        try:
            psycopg.connect(self.env["DATABASE_URL"], connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _answers(self, url: str) -> bool:
        try:
            return self.http.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def wait_for(self, condition: Any, what: str, seconds: float = 60) -> Any:
        """Return the first true value of `condition`; fail with the processes' last words if none comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := condition():
                return value
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(f"{name} has ended:\n{self._last_words(name)}")
            time.sleep(0.02)
        words = "\n".join(f"--- {name}\n{self._last_words(name)}" for name in self.processes)
        raise AssertionError(f"not within {seconds} s: {what}\n{words}")

    def _last_words(self, name: str) -> str:
        return self.read_log(name)[-3000:].decode("utf-8", "replace")

    def close(self) -> None:
        """End everything."""
        self.http.close()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- what a client does -------------------------------------------------------------------

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """POST JSON and return the answer's, failing on an error."""
        answer = self.http.post(path, json=body, **kwargs)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def get(self, path: str, **params: Any) -> Any:
        """GET and return the answer's JSON, failing on an error."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def run(self, run_id: str) -> Any:
        """Return a run."""
        return self.get(f"/runs/{run_id}")

    def wait_for_state(self, run_id: str, *states: str, seconds: float = 60) -> Any:
        """Return the run once it is in one of the states."""

        def there() -> Any:
            run = self.run(run_id)
            return run if run["state"] in states else None

        return self.wait_for(there, f"run {run_id} is {' or '.join(states)}", seconds)


@contextmanager
def system(home: Path, **env: str) -> Iterator[System]:
    """Open a system with an empty, migrated database; its processes are started by the caller."""
    urls = servers.environment()
    os.environ.update(urls)
    servers.start()
    with _opened(home, urls, env) as opened:
        yield opened


@contextmanager
def durable_system(home: Path, *options: str, **env: str) -> Iterator[System]:
    """Open a system on a Postgres of its own that waits for the disk, as in production: for benchmarks."""
    urls = servers.environment()
    os.environ.update(urls)
    servers.start()
    with (
        servers.durable_postgres(home / "durable", *options) as server,
        _opened(home, {**urls, "DATABASE_URL": server.url}, env) as opened,
    ):
        yield opened


@contextmanager
def _opened(home: Path, urls: dict[str, str], env: dict[str, str]) -> Iterator[System]:
    name = f"gyoza_{uuid4().hex[:12]}"
    with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as link:
        link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    parts = urlsplit(urls["DATABASE_URL"])
    opened = System(
        home, {**urls, "DATABASE_URL": urlunsplit(parts._replace(path=f"/{name}")), **env}
    )
    try:
        opened.manage("migrate", "--verbosity", "0")
        yield opened
    finally:
        opened.close()
        with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as link:
            link.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

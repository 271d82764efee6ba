"""`manage.py up` in a copy of the project, in a path with spaces."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import psutil
import pytest

from apps.stack.account import can_execute
from apps.stack.spawn import Account
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
# Long: the machine may be busy. What is waited for is the text, not the time.
PATIENCE_S = 120


class Up:
    """One `manage.py up`, with its output in a file."""

    started: ClassVar[list[Up]] = []

    def __init__(self, clone: Path, *options: str, port: int | None = None, **popen: Any) -> None:
        self.clone = clone
        self.port = port or free_port()
        self.output = clone / f"up-{time.monotonic_ns()}.log"
        env = {key: value for key, value in os.environ.items() if key not in OURS}
        env |= {
            "PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": "gyoza_site.settings",
            **popen.pop("env", {}),
        }
        argv = [popen.pop("python", sys.executable), "manage.py", "up", *options]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv, cwd=clone, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, **popen,
            )  # fmt: skip

        self.started.append(self)

    def text(self) -> str:
        return self.output.read_text("utf-8")

    def wait_for(self, words: str, *, times: int = 1) -> str:
        """Return the output once it has the words."""
        deadline = time.monotonic() + PATIENCE_S
        while self.text().count(words) < times:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{words!r} never came:\n{self.text()}")
            time.sleep(0.05)
        return self.text()

    def family(self) -> list[psutil.Process]:
        """Return every process that belongs to it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        record = self.clone / ".gyoza/run" / f"{name}.pid"
        return psutil.Process(int(record.read_text("ascii").split()[0]))

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return json.load(response)

    def stop(self) -> int:
        """Press Ctrl-C, check that nothing stays behind, return the exit code."""
        family = self.family()
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=PATIENCE_S)
        left = [
            process
            for process in family
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]
        assert not left, self.text()
        return code


OURS = {"DATABASE_URL", "REDIS_URL", "PORT", "GYOZA_HOME", "DJANGO_SETTINGS_MODULE"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def copy(target: Path) -> Iterator[Path]:
    """Copy the project; what its Postgres keeps elsewhere (root's closed directories) goes at the end."""
    skip = shutil.ignore_patterns(
        ".git", ".venv", ".gyoza", ".*_cache", "__pycache__", ".hypothesis"
    )
    shutil.copytree(ROOT, target, ignore=skip)
    try:
        yield target
    finally:
        for up in Up.started:
            if up.clone == target and up.process.poll() is None:  # its test has failed
                up.stop()
        data = target / ".gyoza/postgres"
        if data.is_symlink():
            shutil.rmtree(data.resolve())
        shutil.rmtree(target)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with copy(tmp_path_factory.mktemp("a clone") / "with spaces") as path:
        yield path


@pytest.fixture
def own_clone(tmp_path: Path) -> Iterator[Path]:
    with copy(tmp_path / "a clone of its own") as path:
        yield path


@pytest.fixture(scope="module")
def up(clone: Path) -> Up:
    """Return one that has come to its card, first start included."""
    running = Up(clone)
    running.wait_for("Ctrl-C")
    return running


def test_it_shows_each_step_and_the_showcase(up: Up):
    text = up.text()
    for name in ("postgres", "valkey", "migrations", "web", "worker", "beat"):
        assert f"✓ {name}" in text
    assert "PROGRESS   50 %" in text
    assert text.count("COMPLETED") == 4
    assert '{"attempts": 3}' in text
    assert "Pipeline  orders was applied and listens" in text
    assert re.search(r"order A-1 +ship +completed", text)
    assert re.search(r"order A-2 +charge +skipped", text)
    assert text.count("the whole  completed") == 2
    assert f"curl http://127.0.0.1:{up.port}/definitions/monte-carlo-pi/runs" in text


def test_the_service_is_there(up: Up):
    assert up.get("/health")["status"] == "ok"
    assert {run["state"] for run in up.get("/runs")["data"]} == {"COMPLETED"}


@pytest.mark.parametrize("name", ["web", "worker", "beat", "valkey", "postgres"])
def test_a_child_that_is_killed_comes_back(up: Up, name: str):
    child = up.child(name)
    before = up.text().count(f"{name:14} is back")
    child.kill()
    up.wait_for(f"{name:14} is back", times=before + 1)
    assert f"{name:14} died: killed by SIGKILL; restarting" in up.text()
    assert up.child(name).pid != child.pid


def test_a_second_one_in_the_same_place_refuses(up: Up):
    second = Up(up.clone)
    assert second.process.wait(timeout=PATIENCE_S) == 1
    assert f"already running from this directory: http://127.0.0.1:{up.port}" in second.text()


def test_a_taken_port_is_named_with_a_way_out(up: Up, tmp_path: Path):
    second = Up(up.clone, port=up.port, env={"GYOZA_HOME": str(tmp_path / "home")})
    assert second.process.wait(timeout=PATIENCE_S) == 1
    assert f"Port {up.port}: taken by python" in second.text()
    assert "make up PORT=" in second.text()
    assert not (tmp_path / "home/postgres").exists()


def test_manage_py_finds_the_embedded_postgres(up: Up):
    env = {key: value for key, value in os.environ.items() if key not in OURS}
    argv = [sys.executable, "manage.py", "migrate", "--check"]
    subprocess.run(argv, cwd=up.clone, env=env, check=True)


def test_it_stops_cleanly_and_goes_on_with_the_data(own_clone: Path):
    first = Up(own_clone)
    first.wait_for("Ctrl-C")
    runs = len(first.get("/runs?limit=100")["data"])
    assert first.stop() == 0
    assert "your data is kept" in first.text().lower()

    second = Up(own_clone)
    assert "up to date" in second.wait_for("Ctrl-C")
    assert "Pipeline  orders is listening" in second.text()
    assert second.get("/api/v1/pipelines/orders")["version"] == "1"
    assert len(second.get("/runs?limit=100")["data"]) == 2 * runs

    # Killed itself, it leaves nothing that the next one would stumble over.
    family = second.family()
    second.process.kill()
    second.process.wait()
    third = Up(own_clone, "--no-showcase", port=second.port)
    third.wait_for("Ctrl-C")
    psutil.wait_procs(family, timeout=PATIENCE_S)
    assert len(third.get("/runs?limit=100")["data"]) == 2 * runs
    assert third.stop() == 0


def test_it_uses_the_servers_it_is_given(tmp_path: Path, own_clone: Path):
    servers.start()
    home = tmp_path / "home"
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path="/given").geturl()
    create = [
        str(servers.postgres().programs / "createdb"),
        "-h",
        str(servers.postgres().sockets),
        "-U",
        "gyoza",
        "given",
    ]
    subprocess.run(create, check=True)
    given = {
        "DATABASE_URL": database,
        "REDIS_URL": os.environ["REDIS_URL"],
        "GYOZA_HOME": str(home),
    }
    up = Up(own_clone, "--no-showcase", env=given)
    text = up.wait_for("Ctrl-C")
    assert "DATABASE_URL, postgresql://" in text
    assert "REDIS_URL, unix://" in text
    assert {process.name() for process in up.family()}.isdisjoint({"postgres", "valkey-server"})
    assert up.stop() == 0
    assert not (home / "postgres").exists()
    assert not (home / "valkey").exists()


def test_it_says_what_is_wrong_with_a_server_it_is_given(tmp_path: Path, clone: Path):
    env = {
        "DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/none",
        "GYOZA_HOME": str(tmp_path / "home"),
    }
    up = Up(clone, env=env)
    assert up.process.wait(timeout=PATIENCE_S) == 1
    assert "DATABASE_URL: connection failed" in up.text()
    assert "secret" not in up.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_it_works_as_an_ordinary_user():
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_uid, nobody.pw_gid)
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    pythons = [Path(sys.executable), Path(shutil.which(name, path=os.defpath) or "/none")]
    python = next((path for path in pythons if can_execute(account, path)), None)
    if python is None or not can_execute(account, servers.postgres().programs / "postgres"):
        pytest.skip("this machine's Python is closed to other users")
    with copy(Path("/tmp") / f"gyoza user {os.getpid()}") as clone:
        for path in (clone, *clone.rglob("*")):
            os.chown(path, account.uid, account.gid)
        up = Up(
            clone,
            python=str(python),
            env={"PYTHONPATH": str(Path(pytest.__file__).parents[1]), "HOME": str(clone)},
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
        text = up.wait_for("Ctrl-C")
        assert text.count("COMPLETED") == 4
        assert {process.uids().real for process in up.family()} == {account.uid}
        assert up.stop() == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_quickstart_does_what_it_says(up: Up):
    text = (ROOT / "docs/quickstart.md").read_text("utf-8")
    first, *blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert first == "make up\n"
    script = "\n".join(["set -e", *blocks]).replace(":5555", f":{up.port}")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after, types = "0", []
    while "COMPLETED" not in types:
        page = up.get(f"/events?topic=shouting&after={after}&wait=10")
        after = page["next_cursor"]
        types += [event["type"] for event in page["events"]]
    assert up.get("/runs?topic=shouting")["data"][0]["outputs"] == {"shout": "HELLO!"}

"""Files that ops leave in GYOZA_STORAGE_DIR become objects: while they run, whole, once, and none is missed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.storage import storages
from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from apps.core import ids
from apps.runs.models import Run
from apps.runs.states import RunState
from apps.runs.worker.agent import Agent
from apps.storage import blobs
from apps.storage import services as storage
from apps.storage.models import Object
from apps.topics import queries as topics
from tests.factories import make_run, make_worker
from tests.integration.storage.conftest import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

__all__ = ["place"]
S = RunState
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("place")]
WRITE = "import os, sys, time; d = os.environ['GYOZA_STORAGE_DIR']; os.chdir(d)\n"


@pytest.fixture
def execution_id() -> UUID:
    execution_id = ids.uuid7()
    storage.open_spaces([storage.NewSpace(execution_id, None, "p")])
    return execution_id


@pytest.fixture
def make_agent(tmp_path) -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def make() -> Agent:
        agent = Agent(worker_id="w", root=tmp_path / "ops")
        agents.append(agent)
        agent.tick()
        return agent

    yield make
    for agent in agents:
        agent._watcher.close()
        for executor in agent.executors.values():
            executor.close()


def op(source: str, execution_id: UUID, **over: Any) -> Run:
    command = [sys.executable, "-c", WRITE + textwrap.dedent(source)]
    return make_run(command=command, execution_id=execution_id, step="s", stage="s", **over)


def work(agent: Agent, until: Callable[[], bool], seconds: float = 30) -> None:
    """Let an agent go on until something is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not come to that"
        agent.nudge()
        agent.tick()
        agent._wake.wait(0.01)
        agent._wake.clear()


def state_of(run: Run) -> str:
    run.refresh_from_db()
    return run.state


def has_ended(run: Run) -> Callable[[], bool]:
    return lambda: state_of(run) in {S.COMPLETED, S.FAILED, S.CANCELLED}


def objects(execution_id: UUID) -> dict[str, int]:
    rows = Object.objects.filter(space_id=execution_id)
    return dict(rows.order_by("name").values_list("name", "content_length"))


def created(execution_id: UUID) -> list[str]:
    page = topics.read_after("system.storage.events", after=0, limit=1000)
    return [] if page is None else [json.loads(one.data)["key"][37:] for one in page.records]


def test_files_are_objects_when_the_run_has_ended(make_agent, execution_id):
    run = op(
        "open('a.txt', 'w').write('1'); os.makedirs('x/y'); open('x/y/b.md', 'w').write('22')",
        execution_id,
    )
    work(make_agent(), has_ended(run))
    assert run.state == S.COMPLETED
    assert objects(execution_id) == {"s/a.txt": 1, "s/x/y/b.md": 2}
    stored = Object.objects.get(name="s/x/y/b.md")
    assert (stored.run_id, stored.content_type, stored.stage) == (run.id, "text/markdown", "s")


def test_a_file_is_an_object_while_its_op_runs(make_agent, execution_id):
    run = op(
        "open('a', 'w').write('1')\nwhile not os.path.exists('../work/go'): time.sleep(0.01)",
        execution_id,
    )
    agent = make_agent()
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    assert state_of(run) == S.RUNNING
    [held] = agent.held.values()
    (held.files.directory.parent / "work/go").touch()
    work(agent, has_ended(run))
    assert created(execution_id) == ["s/a"]


def test_what_lies_in_new_folders_is_found_while_its_op_runs(make_agent, execution_id):
    """Made faster than they can be listened to, and moved here with what is in them."""
    source = """
        time.sleep(0.1)
        for n in range(20):
            os.makedirs(f'{n}/deep'); open(f'{n}/deep/f', 'w').write('1')
        os.makedirs('../work/made/deep'); open('../work/made/deep/f', 'w').write('1')
        os.rename('../work/made', 'moved')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        """
    run = op(source, execution_id)
    agent = make_agent()
    wanted = {f"s/{folder}/deep/f": 1 for folder in [*range(20), "moved"]}
    work(agent, lambda: objects(execution_id) == wanted)
    assert state_of(run) == S.RUNNING
    [held] = agent.held.values()
    (held.files.directory.parent / "work/go").touch()
    work(agent, has_ended(run))
    assert sorted(created(execution_id)) == sorted(wanted)


def test_what_is_still_open_is_not_seen_half(make_agent, execution_id):
    source = """
        f = open('a', 'w'); f.write('half'); f.flush(); open('b', 'w').write('1')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        f.write(' and half'); f.close()
        while not os.path.exists('../work/end'): time.sleep(0.01)
        """
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: objects(execution_id) == {"s/b": 1})
    [held] = agent.held.values()
    (held.files.directory.parent / "work/go").touch()
    work(agent, lambda: objects(execution_id) == {"s/a": 13, "s/b": 1})
    (held.files.directory.parent / "work/end").touch()
    work(agent, has_ended(run))
    assert created(execution_id) == ["s/b", "s/a"]


def test_a_file_written_again_is_told_again(make_agent, execution_id):
    source = """
        open('a', 'w').write('1')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        open('a.new', 'w').write('22'); os.replace('a.new', 'a')
        """
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    [held] = agent.held.values()
    (held.files.directory.parent / "work/go").touch()
    work(agent, has_ended(run))
    assert objects(execution_id)["s/a"] == 2
    assert [name for name in created(execution_id) if name == "s/a"] == ["s/a", "s/a"]


def test_a_write_that_sets_the_time_back_is_seen_and_a_new_mode_is_no_write(
    make_agent, execution_id
):
    source = """
        for name in ('a', 'b'): open(name, 'w').write('1')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        found = os.stat('a')
        with open('a', 'r+') as file: file.write('2')
        os.utime('a', ns=(found.st_atime_ns, found.st_mtime_ns))
        os.chmod('b', 0o600)
        """
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: len(objects(execution_id)) == 2)
    [held] = agent.held.values()
    (held.files.directory.parent / "work/go").touch()
    work(agent, has_ended(run))
    assert sorted(created(execution_id)) == ["s/a", "s/a", "s/b"]
    assert Object.objects.get(name="s/a").sha256 == hashlib.sha256(b"2").hexdigest()


def test_links_and_pipes_lead_nowhere(make_agent, execution_id):
    source = """
        os.symlink('/etc/passwd', 'secret'); os.symlink('/etc', 'etc'); os.mkfifo('pipe'); open('a', 'w').write('1')
        open('.gyoza-half', 'w').write('1')
        """
    run = op(source, execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.COMPLETED
    assert objects(execution_id) == {"s/a": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("open('metadata', 'w').write('1')", 'metadata: must not end in "metadata"'),
        (r"open(b'\xff', 'w').write('1')", r"\xff: is not UTF-8"),
        (r"open('a\\b', 'w').write('1')", "has a backslash"),
    ],
)
def test_a_name_that_can_be_no_key_fails_the_run(make_agent, execution_id, source, message):
    run = op(source + "; open('z', 'w').write('1')", execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.FAILED
    assert "could not be stored: " in run.error_message
    assert message in run.error_message
    assert objects(execution_id) == {"s/z": 1}


def test_the_quota_fails_the_run(make_agent, execution_id, settings):
    settings.GYOZA_STORAGE_QUOTA_BYTES = 10
    run = op("open('a', 'w').write('1' * 10); open('b', 'w').write('1')", execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.FAILED
    assert "b: the objects of an execution may have 10 bytes" in run.error_message
    assert objects(execution_id) == {"s/a": 10}


def test_a_file_that_is_too_long_is_not_read(make_agent, execution_id, settings, tmp_path):
    """Reading it would need a disk as large: here there is none."""
    settings.GYOZA_STORAGE_INCOMING = tmp_path / "none" / "none"
    (tmp_path / "none").touch()
    run = op("os.truncate(os.open('f', os.O_CREAT | os.O_WRONLY), 1 << 33)", execution_id)
    work(make_agent(), has_ended(run))
    assert run.error_message == "could not be stored: f: an object may have 1073741824 bytes"


def test_an_execution_that_has_ended_takes_nothing_more(make_agent, execution_id):
    run = op("time.sleep(0.3); open('a', 'w').write('1')", execution_id)
    agent = make_agent()
    work(agent, lambda: state_of(run) == S.RUNNING)
    storage.close_spaces([execution_id])
    work(agent, has_ended(run))
    assert run.state == S.FAILED
    assert f"Execution {execution_id} has ended" in run.error_message
    assert objects(execution_id) == {}


def test_an_execution_that_is_tried_again_takes_what_was_refused(make_agent, execution_id):
    """Its runs may begin a moment before it takes anything."""
    source = """
        open('a', 'w').write('1')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        """
    storage.close_spaces([execution_id])
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: bool(agent.held))
    [held] = agent.held.values()
    work(agent, lambda: held.files._is_resting)
    storage.reopen_space(execution_id)
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    (held.files.directory.parent / "work/go").touch()
    work(agent, has_ended(run))
    assert run.state == S.COMPLETED


def test_a_lost_lease_stores_nothing(make_agent, execution_id):
    run = op("time.sleep(60)", execution_id)
    agent = make_agent()
    work(agent, lambda: state_of(run) == S.RUNNING)
    [held] = agent.held.values()
    Run.objects.filter(pk=run.pk).update(lease="another", worker=make_worker("v"))
    (held.files.directory / "a").write_text("1")
    held.files.look()
    work(agent, lambda: held.files._is_over)
    assert objects(execution_id) == {}
    work(agent, lambda: not [(h.files.__dict__, h.files.problem) for h in agent.held.values()])


def test_a_worker_that_restarts_stores_nothing_twice(make_agent, execution_id):
    source = """
        open('a', 'w').write('1')
        while not os.path.exists('../work/go'): time.sleep(0.01)
        open('b', 'w').write('1')
        """
    run = op(source, execution_id)
    first = make_agent()
    work(first, lambda: objects(execution_id) == {"s/a": 1})
    [held] = first.held.values()
    go = held.files.directory.parent / "work/go"
    first._watcher.close()
    for executor in first.executors.values():
        executor.close()
    second = make_agent()
    assert len(second.held) == 1
    go.touch()
    work(second, has_ended(run))
    assert created(execution_id) == ["s/a", "s/b"]


def test_a_worker_that_leaves_does_not_wait_for_a_disk_to_have_room(
    make_agent, execution_id, settings, monkeypatch
):
    backend: Any = storages[blobs.ALIAS]

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = op("open('a', 'w').write('1')", execution_id)
    agent = make_agent()
    with monkeypatch.context() as patch:
        patch.setattr(backend, "_save", full)
        patch.setattr("apps.runs.worker.held.FILES_SECONDS", 0.05)
        work(agent, lambda: any(one.files.has_ended for one in agent.held.values()))
        settings.GYOZA_CANCEL_GRACE_SECONDS = 600
        agent._leave()
    # Its op is done again: nothing of it is there, and it has not been lost.
    run.refresh_from_db()
    assert (run.state, run.current_attempt, run.losses) == (S.PENDING, 2, 0)
    assert objects(execution_id) == {}
    work(make_agent(), has_ended(run))
    assert run.state == S.COMPLETED
    assert objects(execution_id) == {"s/a": 1}


def test_many_small_files_of_many_runs_are_all_there_once(make_agent, execution_id):
    source = """
        for n in range(50):
            open(f'{sys.argv[1]}-{n}', 'w').write(str(n)); time.sleep(0.002)
        """
    runs = [op(source, execution_id) for _ in range(4)]
    for number, run in enumerate(runs):
        run.command = [*(run.command or []), str(number)]
        run.save(update_fields=["command"])
    agent = make_agent()
    work(agent, lambda: all(state_of(run) == S.COMPLETED for run in runs))
    wanted = sorted(f"s/{number}-{n}" for number in range(4) for n in range(50))
    assert sorted(objects(execution_id)) == wanted
    assert sorted(created(execution_id)) == wanted


def test_files_found_together_are_objects_together_and_refused_alone(
    make_agent, execution_id, settings
):
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 150
    source = r"""
        open('!\\', 'w').write('1')
        for n in range(260):
            open(f'{n:03}', 'w').write(str(n))
        """
    run = op(source, execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.FAILED
    assert "has a backslash" in run.error_message
    assert "an execution may have 150 objects" in run.error_message
    # Which ones depends on when they were heard of.
    assert len(objects(execution_id)) == 150
    assert sorted(created(execution_id)) == list(objects(execution_id))
    by = Object.objects.extra(select={"by": "xmin::text"}).values_list("by", flat=True)
    assert len(set(by)) < 75  # two in a transaction at least, on average


def test_a_disk_with_room_for_some_of_many_takes_each_once(make_agent, execution_id, monkeypatch):
    backend: Any = storages[blobs.ALIAS]
    save, saved = backend._save, iter(range(100))

    def sometimes_full(*args: Any) -> Any:
        if next(saved) in {3, 9}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(*args)

    monkeypatch.setattr(backend, "_save", sometimes_full)
    run = op("[open(str(n), 'w').write('1') for n in range(9)]", execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.COMPLETED
    assert sorted(created(execution_id)) == [f"s/{n}" for n in range(9)]


LISTENER = "apps.runs.pickup.watcher.RustNotify"
WAIT = "\nwhile not os.path.exists('../work/go'): time.sleep(0.01)\n"


def let_go(agent: Agent) -> None:
    for held in agent.held.values():
        assert held.files is not None
        (held.files.directory.parent / "work/go").touch()


def test_a_directory_that_was_made_anew_is_listened_to(make_agent, execution_id):
    source = """
        open('a', 'w').write('1'); time.sleep(0.3)
        os.unlink('a'); os.rmdir(os.getcwd()); os.mkdir(d); os.chdir(d)
        while not os.path.exists('../work/go'): time.sleep(0.01)
        os.mkdir('x'); open('x/b', 'w').write('1')
        while not os.path.exists('../work/end'): time.sleep(0.01)
        """
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    [held] = agent.held.values()
    watched = agent._watcher._watched
    place = str(held.files.directory)
    work(agent, lambda: place not in agent._watcher._watched)
    work(agent, lambda: place in agent._watcher._watched)
    assert watched is not agent._watcher._watched
    let_go(agent)
    work(agent, lambda: "s/x/b" in objects(execution_id))
    (held.files.directory.parent / "work/end").touch()
    work(agent, has_ended(run))
    assert created(execution_id) == ["s/a", "s/x/b"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "no watches"), WatchfilesRustInternalError("no instances")]
)
def test_where_nothing_can_be_heard_it_is_looked(make_agent, execution_id, monkeypatch, error):
    def refuse(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(LISTENER, refuse)
    source = WAIT + "open('a', 'w').write('1')" + WAIT.replace("go", "end")
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: bool(agent._watcher._watched))
    let_go(agent)
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    [held] = agent.held.values()
    (held.files.directory.parent / "work/end").touch()
    work(agent, has_ended(run))


def test_a_folder_that_goes_while_it_is_begun_to_be_listened_to_is_no_matter(
    make_agent, execution_id, monkeypatch
):
    passing_over: list[bool] = []

    def listen(*args: Any) -> Any:
        passing_over.append(args[-1])
        if not args[-1]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return RustNotify(*args)

    monkeypatch.setattr(LISTENER, listen)
    run = op(f"{WAIT}open('a', 'w').write('1'){WAIT.replace('go', 'end')}", execution_id)
    agent = make_agent()
    work(agent, lambda: passing_over == [False, True])
    let_go(agent)
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    [held] = agent.held.values()
    assert held.files is not None
    (held.files.directory.parent / "work/end").touch()
    work(agent, has_ended(run))


def test_a_mistake_in_listening_is_not_the_end_of_it(make_agent, execution_id, monkeypatch):
    mistakes = iter([ValueError("one mistake")])

    def sometimes(*args: Any) -> Any:
        for mistake in mistakes:
            raise mistake
        return RustNotify(*args)

    monkeypatch.setattr(LISTENER, sometimes)
    source = WAIT + "open('a', 'w').write('1')" + WAIT.replace("go", "end")
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: bool(agent._watcher._watched))
    let_go(agent)
    work(agent, lambda: objects(execution_id) == {"s/a": 1})
    [held] = agent.held.values()
    (held.files.directory.parent / "work/end").touch()
    work(agent, has_ended(run))


def test_who_links_to_other_folders_is_not_listened_to_and_found_nevertheless(
    make_agent, execution_id, monkeypatch
):
    heard: set[str] = set()

    def listen(names: list[str], *args: Any) -> Any:
        heard.update(names)
        return RustNotify(names, *args)

    linked = op(f"os.symlink('/usr', 'usr'){WAIT}open('a', 'w').write('1'){WAIT}", execution_id)
    agent = make_agent()
    work(agent, lambda: any(not one.files.may_be_listened_to for one in agent.held.values()))
    monkeypatch.setattr(LISTENER, listen)
    other = op(f"open('b', 'w').write('1'){WAIT}", execution_id)
    work(agent, lambda: bool(heard) and objects(execution_id) == {"s/b": 1})
    places = {one.claim.run_id: str(one.files.directory) for one in agent.held.values()}
    assert heard == {places[other.id]}
    let_go(agent)
    work(agent, lambda: objects(execution_id) == {"s/a": 1, "s/b": 1})
    work(agent, has_ended(linked))
    work(agent, has_ended(other))


def test_who_writes_much_lets_others_have_their_turn(make_agent, execution_id, monkeypatch):
    monkeypatch.setattr("apps.runs.pickup.pool._THREADS", 1)
    monkeypatch.setattr("apps.runs.pickup.attempt._TURN_SECONDS", 0)
    much = op(f"{WAIT}[open(f'{{n:03}}', 'w').close() for n in range(900)]", execution_id)
    little = op(f"{WAIT}open('little', 'w').close()", execution_id)
    agent = make_agent()
    work(agent, lambda: len(agent._watcher._watched) == 2)
    let_go(agent)
    work(agent, has_ended(much))
    work(agent, has_ended(little))
    told = created(execution_id)
    assert sorted(told) == [f"s/{n:03}" for n in range(900)] + ["s/little"]
    assert told.index("s/little") < 800


def test_large_files_keep_no_others_waiting(make_agent, execution_id, monkeypatch):
    """They are stuck in the backend until the small one is an object."""
    backend: Any = storages[blobs.ALIAS]
    save, may_go = backend._save, threading.Event()

    def slow(name: str, content: Any) -> Any:
        if content.size > 1:
            assert may_go.wait(60)
        return save(name, content)

    monkeypatch.setattr(backend, "_save", slow)
    monkeypatch.setattr("apps.runs.pickup.attempt._LARGE_BYTES", 1)
    large = [op("open(str(os.getpid()), 'w').write('22'); open('1', 'w').write('1')", execution_id)]
    large += [op("open(str(os.getpid()), 'w').write('22')", execution_id) for _ in range(4)]
    agent = make_agent()
    work(agent, lambda: sum(one.files.has_ended for one in agent.held.values()) == 5)
    small = op("open('small', 'w').write('1')", execution_id)
    try:
        work(agent, has_ended(small))
    finally:
        may_go.set()
    for run in large:
        work(agent, has_ended(run))
        assert run.state == S.COMPLETED
    told = created(execution_id)
    assert len(told) == len(set(told)) == 7
    assert "s/small" in told[:2]


def test_a_commit_that_nobody_heard_of_is_not_made_again(make_agent, execution_id, monkeypatch):
    wrapper: Any = DatabaseWrapper
    commit, unheard = wrapper._commit, iter([1])

    def commit_unheard(self: Any) -> None:
        commit(self)
        if threading.current_thread().name.startswith("gyoza-pickup"):
            for _ in unheard:
                raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(wrapper, "_commit", commit_unheard)
    source = f"open('a', 'w').write('1'); open('b', 'w').write('1'){WAIT}open('a', 'w').write('1')"
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: not list(unheard) and len(objects(execution_id)) == 2)
    [held] = agent.held.values()
    work(agent, lambda: len(held.files._known) == 2)
    let_go(agent)
    work(agent, has_ended(run))
    assert run.state == S.COMPLETED
    assert created(execution_id) == ["s/a", "s/b", "s/a"]


def test_a_backend_that_is_away_is_not_asked_for_every_file(
    make_agent, execution_id, monkeypatch, place
):
    backend: Any = storages[blobs.ALIAS]
    asked: list[str] = []

    def away(name: str, *_: Any) -> Any:
        asked.append(name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    source = f"""
for n in range(100):
    open(str(n), 'w').write('1'); time.sleep(0.01)
open('all', 'w').close(){WAIT}"""
    run = op(source, execution_id)
    agent = make_agent()
    with monkeypatch.context() as patch:
        patch.setattr(backend, "_save", away)
        work(agent, lambda: bool(agent.held))
        [held] = agent.held.values()
        work(agent, (held.files.directory / "all").exists)
        assert len(asked) < 30
    let_go(agent)
    work(agent, has_ended(run))
    assert run.state == S.COMPLETED
    assert len(created(execution_id)) == 101


def test_what_can_not_be_read_fails_the_run(make_agent, execution_id):
    run = op("[(os.mkdir('d'), os.chdir('d')) for _ in range(600)]", execution_id)
    work(make_agent(), has_ended(run))
    assert run.state == S.FAILED
    assert run.error_message.endswith("d/d: File name too long")


def test_a_file_that_was_too_long_and_is_not_any_more_is_stored(make_agent, execution_id, settings):
    settings.GYOZA_STORAGE_QUOTA_BYTES = 10
    source = f"open('a', 'w').write('1' * 11){WAIT}open('a', 'w').write('1')"
    run = op(source, execution_id)
    agent = make_agent()
    work(agent, lambda: any(one.files._refused for one in agent.held.values()))
    let_go(agent)
    work(agent, has_ended(run))
    assert run.state == S.COMPLETED
    assert objects(execution_id) == {"s/a": 1}


def test_a_run_of_no_execution_keeps_its_files_to_itself(make_agent):
    run = make_run(command=[sys.executable, "-c", WRITE + "open('a', 'w').write('1')"])
    work(make_agent(), has_ended(run))
    assert run.state == S.COMPLETED
    assert not Object.objects.exists()

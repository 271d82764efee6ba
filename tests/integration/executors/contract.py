"""What every executor promises. Subclass it, and say how to make one and how to name an op."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from apps.runs.executors.base import Executor, ExecutorFailure, Handle, LaunchSpec, Message, Outcome
from apps.runs.executors.supervision import proctree
from apps.runs.executors.supervision.output import LOG_LIMIT, LOG_NOTICE
from tests.asserts import present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[3]
# Not an expectation: only what keeps a broken test from waiting for ever.
HANG = 60
# On a busy machine an op has not begun to do its part when a short limit is over; then a longer one is tried.
LIMITS_S = (0.5, 4, 30)
T = TypeVar("T")
_numbers = count()


class Contract:
    """The promises any executor keeps, be it a fake."""

    executor: Executor
    root: Path

    def make(self, root: Path) -> Executor:
        raise NotImplementedError

    def op(self, name: str) -> dict[str, Any]:
        """Return the fields of a LaunchSpec that name one of the ops in `ops.py`."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _executor(self, tmp_path: Path) -> Iterator[None]:
        self.root = tmp_path / "attempts"
        self._heard = threading.Condition()
        self.executor = self.open()
        yield
        for handle in self.executor.leftovers():
            self.executor.forget(handle)
        self.executor.close()

    def open(self) -> Executor:
        executor = self.make(self.root)
        executor.on_news = self._hear
        return executor

    def restart(self) -> None:
        """Go on with a new executor over the same root, as a restarted worker does."""
        self.executor.close()
        self.executor = self.open()

    def spec(self, name: str, **over: Any) -> LaunchSpec:
        inputs = over.pop("inputs", {})
        fields: dict[str, Any] = {
            "attempt_id": f"run-1-lease{next(_numbers)}",
            "run_id": "the-run",
            "attempt": 2,
            "env": {},
            "inputs_json": json.dumps(inputs).encode(),
            **self.op(name),
        }
        return LaunchSpec(**(fields | over))

    def launch(self, name: str, **over: Any) -> Handle:
        return self.executor.launch(self.spec(name, **over))

    def run(self, name: str, **over: Any) -> tuple[Outcome, Handle]:
        handle = self.launch(name, **over)
        return self.outcome(handle), handle

    def outcome(self, handle: Handle) -> Outcome:
        """Wait for the outcome, woken by the executor's news alone."""
        return self._until(lambda: self.executor.poll(handle))

    def outputs(self, handle: Handle) -> dict[str, Any]:
        """Wait for the outcome and return its outputs, which there must be."""
        return present(self.outcome(handle).outputs)

    def said(self, handle: Handle) -> list[Message]:
        """Wait for the first messages."""
        return self._until(lambda: self.executor.read_messages(handle, 0)[0])

    def log(self, handle: Handle) -> bytes:
        pieces, offset = [], 0
        while piece := self.executor.read_log(handle, offset):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _hear(self, attempt_id: str) -> None:
        with self._heard:
            self._heard.notify_all()

    def _until(self, look: Callable[[], T | None]) -> T:
        with self._heard:
            found = self._heard.wait_for(look, HANG)
        return found or pytest.fail("no news")

    def test_it_runs_an_op_to_its_outcome(self):
        outcome, _ = self.run("double", inputs={"n": 21})
        assert outcome.succeeded
        assert (outcome.exit_code, outcome.signal, outcome.error) == (0, None, "")
        assert outcome.outputs == {"doubled": 42}
        assert outcome.started
        assert not outcome.stopped

    def test_an_op_without_outputs_has_empty_ones(self):
        outcome, _ = self.run("nothing")
        assert outcome.succeeded
        assert outcome.outputs == {}

    def test_it_keeps_what_the_op_prints_byte_for_byte(self):
        outcome, handle = self.run("speak")
        assert outcome.succeeded
        lines = self.log(handle).splitlines()
        assert sorted(lines) == [b"by number \xff\xfe", b"to stderr", b"to stdout"]

    def test_the_log_is_read_from_any_offset(self):
        _, handle = self.run("speak")
        whole = self.log(handle)
        assert self.executor.read_log(handle, 4) == whole[4:]
        assert self.executor.read_log(handle, len(whole)) == b""
        assert self.executor.read_log(handle, len(whole) + 100) == b""

    def test_it_takes_messages_out_of_the_log(self):
        outcome, handle = self.run("tell")
        messages, end = self.executor.read_messages(handle, 0)
        assert [(m.kind, m.value or m.msg) for m in messages] == [
            ("progress", 40),
            ("info", "half way"),
            ("output", 5),
            ("output", "said"),
        ]
        assert messages[1].payload == {"rows": 5}
        assert self.executor.read_messages(handle, end) == ([], end)
        assert self.log(handle) == b"a line of log\n"
        assert outcome.outputs == {"rows": 5, "both": "returned"}

    def test_a_failing_op_has_its_exit_code_and_the_end_of_stderr(self):
        outcome, _ = self.run("fail")
        assert outcome.exit_code == 3
        assert outcome.error.splitlines() == [f"reason {n}" for n in range(10, 30)]
        assert not outcome.succeeded

    def test_it_says_which_signal_ended_the_op(self):
        outcome, _ = self.run("die")
        assert (outcome.exit_code, outcome.signal) == (None, 9)
        assert "killed by signal 9 (SIGKILL)" in outcome.error

    def test_launching_twice_returns_the_same_handle_and_runs_once(self, tmp_path):
        marks = tmp_path / "marks"
        marks.touch()
        spec = self.spec("count", inputs={"path": str(marks)})
        handle = self.executor.launch(spec)
        assert self.executor.launch(spec) == handle
        self.outcome(handle)
        assert self.executor.launch(spec) == handle
        self.outcome(handle)
        assert len(marks.read_text()) <= 1

    def test_a_handle_survives_json_and_a_restart(self):
        handle = self.launch("wait")
        self.said(handle)
        self.restart()
        again = Handle.from_dict(json.loads(json.dumps(handle.to_dict())))
        assert again == handle
        assert self.executor.poll(again) is None
        self.executor.stop(again, grace=HANG)
        assert self.outcome(again).stopped

    def test_it_reports_what_ended_meanwhile(self):
        handle = self.launch("tell")
        self.outcome(handle)
        self.restart()
        outcome = self.outcome(handle)
        assert outcome.outputs == {"rows": 5, "both": "returned"}
        assert len(self.executor.read_messages(handle, 0)[0]) == 4

    def test_launching_again_after_a_restart_finds_the_first_launch(self, tmp_path):
        marks = tmp_path / "marks"
        marks.touch()
        spec = self.spec("count", inputs={"path": str(marks)})
        handle = self.executor.launch(spec)
        self.outcome(handle)
        self.restart()
        assert self.executor.launch(spec).attempt_id == handle.attempt_id
        self.outcome(handle)
        assert len(marks.read_text()) <= 1

    def test_a_polite_stop_lets_the_op_clean_up(self):
        handle = self.launch("wait")
        self.said(handle)
        self.executor.stop(handle, grace=HANG)
        outcome = self.outcome(handle)
        assert outcome.stopped
        assert outcome.error.startswith("stopped on request")
        assert self.log(handle) == b"cleaned up\n"

    def test_what_does_not_heed_is_killed_after_the_grace(self):
        handle = self.launch("resist")
        self.said(handle)
        self.executor.stop(handle, grace=0.05)
        outcome = self.outcome(handle)
        assert outcome.stopped
        assert outcome.signal == 9

    def test_stopping_what_has_ended_is_no_error(self):
        outcome, handle = self.run("double", inputs={"n": 1})
        self.executor.stop(handle, grace=0)
        assert self.executor.poll(handle) == outcome

    def test_forgetting_leaves_nothing_and_may_be_repeated(self):
        _, handle = self.run("store")
        self.executor.forget(handle)
        assert handle.attempt_id not in {h.attempt_id for h in self.executor.leftovers()}
        assert self.executor.read_log(handle, 0) == b""
        assert self.executor.read_messages(handle, 0) == ([], 0)
        self.executor.forget(handle)

    def test_forgetting_ends_what_still_runs(self):
        handle = self.launch("wait")
        self.said(handle)
        self.executor.forget(handle)
        assert handle.attempt_id not in {h.attempt_id for h in self.executor.leftovers()}


class SupervisedContract(Contract):
    """The further promises of executors that run ops as processes of this machine."""

    def crash(self, name: str) -> Handle:
        """Launch an op from a process that is killed as soon as it has the handle."""
        spec = self.spec(name)
        order = {
            "backend": f"{type(self.executor).__module__}.{type(self.executor).__qualname__}",
            "options": self.executor.options,
            "root": str(self.root),
            "spec": {
                "attempt_id": spec.attempt_id,
                "run_id": spec.run_id,
                "attempt": spec.attempt,
                "env": {},
                "python": spec.python,
                "command": spec.command,
            },
        }
        launcher = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("launch_and_die.py"))],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        assert launcher.returncode == -9
        return Handle.from_dict(json.loads(launcher.stdout))

    def test_an_attempt_survives_its_launcher_and_is_adopted(self):
        handle = self.crash("wait")
        assert self.executor.poll(handle) is None
        assert self.said(handle)[0].msg == "waiting"
        self.executor.stop(handle, grace=HANG)
        assert self.outcome(handle).stopped
        assert self.log(handle) == b"cleaned up\n"

    def test_an_attempt_that_ends_without_its_launcher_keeps_its_outcome(self):
        handle = self.crash("tell")
        assert self.outcome(handle).outputs == {"rows": 5, "both": "returned"}
        assert handle in self.executor.leftovers()

    def test_a_killed_supervisor_is_noticed_and_takes_the_op_along(self):
        handle = self.launch("resist")
        pids = present(self.said(handle)[0].payload)["pids"]
        os.kill(handle.pid, 9)
        outcome = self.outcome(handle)
        assert outcome.lost
        assert "supervised" in outcome.error
        assert not any(map(proctree.born, pids))

    def test_a_recycled_pid_is_never_signalled(self):
        bystander = subprocess.Popen(["sleep", "600"])
        try:
            stranger = Handle(self.executor.name, "never-launched", bystander.pid, "boot:1")
            outcome = self.executor.poll(stranger)
            assert outcome is not None
            assert outcome.lost
            self.executor.stop(stranger, grace=0)
            self.executor.forget(stranger)
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()

    def test_a_forced_stop_reaches_children_in_other_sessions(self):
        handle = self.launch("resist")
        pids = present(self.said(handle)[0].payload)["pids"]
        assert all(map(proctree.born, pids))
        self.executor.stop(handle, grace=0)
        self.outcome(handle)
        assert not any(map(proctree.born, pids))

    def test_what_an_op_leaves_running_ends_with_it(self):
        outcome, _ = self.run("leave_family")
        assert outcome.succeeded
        assert not any(map(proctree.born, present(outcome.outputs)["pids"]))

    def test_a_shorter_grace_overtakes_a_longer_one(self):
        handle = self.launch("resist")
        self.said(handle)
        self.executor.stop(handle, grace=HANG * 10)
        self.executor.stop(handle, grace=0)
        assert self.outcome(handle).signal == 9

    def test_a_timeout_ends_the_op(self):
        for limit in LIMITS_S:
            outcome, handle = self.run("wait", timeout_s=limit, grace_s=HANG)
            assert outcome.timed_out
            assert not outcome.stopped
            assert outcome.error.startswith(f"timed out after {limit:g} s")
            if self.log(handle):
                break
        assert self.log(handle) == b"cleaned up\n"

    def test_a_timeout_forces_what_resists(self):
        for limit in LIMITS_S:
            outcome, _ = self.run("resist", timeout_s=limit, grace_s=0.05)
            assert outcome.timed_out
            if outcome.signal == 9:
                break
        assert outcome.signal == 9

    def test_a_flood_is_cut_and_says_so_but_messages_are_heard(self):
        outcome, handle = self.run("flood", inputs={"mib": 30})
        assert outcome.succeeded
        assert outcome.outputs == {"flooded": True, "still": "heard"}
        log = self.log(handle)
        assert len(log) == LOG_LIMIT + len(LOG_NOTICE)
        assert log.endswith(LOG_NOTICE)

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"", "is empty"),
            (b"{", "is not valid JSON: Expecting property name"),
            (b"[1]", "is not a JSON object: it is an array"),
            (b"null", "is not a JSON object: it is null"),
            (b'{"a": "\\u0000"}', "contains the character U+0000 at a"),
            (b'{"a": [1, 18446744073709551616]}', "has a number beyond 64 bits at a.1"),
            (b'{"a": ' + b"9" * 5000 + b"}", "has a number beyond 64 bits"),
            (b'{"a": NaN}', "contains NaN"),
            (b'{"a":' * 65 + b"1" + b"}" * 65, "is nested deeper than 64 levels"),
            (b'{"a":' * 50000, "is nested deeper than 64 levels"),
            (b'{"a": "\xff"}', "is not UTF-8"),
            (b'{"a": "' + b"x" * 2**20 + b'"}', "is over the limit of 1048576 bytes"),
        ],
        ids=lambda value: None if isinstance(value, bytes) else value,
    )
    def test_a_broken_outputs_file_is_named(self, content, complaint):
        outcome, _ = self.run("write_outputs", inputs={"hex": content.hex()})
        assert outcome.exit_code == 0
        assert outcome.outputs is None
        assert outcome.error.startswith(f"outputs file {complaint}")

    def test_an_outputs_file_is_taken(self):
        outcome, _ = self.run("write_outputs", inputs={"hex": b'{"a": [1, "\xc3\xa9"]}'.hex()})
        assert outcome.outputs == {"a": [1, "é"]}

    @pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
    @pytest.mark.parametrize(
        "how",
        [
            "directory",
            "fifo",
            "endless",
            pytest.param(b"[}\n".hex(), id="junk"),
            pytest.param(b'{"exit_code": true, "kind": 1, "pid": "x"}\n'.hex(), id="wrong-types"),
            pytest.param(
                b'{"exit_code": 1e9, "kind": "progress", "at": 1, "value": 1e9}\n'.hex(),
                id="out-of-range",
            ),
        ],
    )
    @pytest.mark.parametrize("name", ["outcome.json", "handle.json", "stop", "log", "messages"])
    def test_an_op_that_spoils_our_files_harms_only_itself(self, name, how, late):
        handle = self.launch("spoil", inputs={"name": name, "how": how, "late": late})
        outcome = self.outcome(handle)
        assert outcome.outputs == {"spoiled": True}
        assert len(self.log(handle)) < 1000
        messages, _ = self.executor.read_messages(handle, 0)
        assert {message.kind for message in messages} <= {"info"}
        self.executor.stop(handle, grace=0)
        self.restart()
        assert self.outcome(handle) == outcome
        assert handle.attempt_id in {one.attempt_id for one in self.executor.leftovers()}
        self.executor.forget(handle)
        assert not (self.root / handle.attempt_id).exists()

    def test_folders_nested_beyond_measure_are_removed(self):
        outcome, handle = self.run("bury")
        assert outcome.succeeded
        self.executor.forget(handle)
        assert not (self.root / handle.attempt_id).exists()

    def test_a_link_in_the_place_of_the_directory_is_not_followed(self, tmp_path):
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").touch()
        _, handle = self.run("elope", inputs={"to": str(tmp_path / "precious")})
        self.executor.forget(handle)
        assert (tmp_path / "precious" / "file").exists()
        assert not (self.root / handle.attempt_id).exists()

    def test_an_op_that_forges_its_outcome_can_be_stopped(self):
        handle = self.launch("forge", inputs={"waits": True})
        self.said(handle)
        assert self.executor.poll(handle) is None
        self.executor.stop(handle, grace=0)
        assert self.outcome(handle).stopped

    def test_the_last_word_on_an_outcome_is_the_supervisors(self):
        outcome, _ = self.run("forge", inputs={"waits": False})
        assert (outcome.exit_code, outcome.outputs or {}) == (3, {})

    @pytest.mark.parametrize("code", [0, 3])
    @pytest.mark.parametrize("how", ["removed", "moved", "made anew", "a file"])
    def test_an_op_that_removes_its_directory_is_told_so(self, how, code):
        outcome, handle = self.run("vacate", inputs={"how": how, "code": code})
        assert not outcome.lost
        assert outcome.exit_code == code, outcome
        assert "the op removed the directory of its attempt" in outcome.error
        assert not code or "after" in outcome.error
        self.restart()
        assert self.outcome(handle) == outcome
        self.executor.forget(handle)
        assert not (self.root / handle.attempt_id).exists()

    def test_a_stopped_supervisor_hears_a_stop(self):
        handle = self.launch("wait")
        self.said(handle)
        os.kill(handle.pid, signal.SIGSTOP)
        self.executor.stop(handle, grace=HANG)
        assert self.outcome(handle).stopped

    def test_a_timeout_of_years_is_no_trouble(self):
        outcome, _ = self.run("double", inputs={"n": 21}, timeout_s=1e9)
        assert outcome.outputs == {"doubled": 42}

    def test_storage_is_there_until_the_attempt_is_forgotten(self):
        outcome, handle = self.run("store")
        assert outcome.outputs == {"files": ["a/b.txt"]}
        assert (self.executor.storage_dir(handle) / "a/b.txt").read_text() == "stored"
        self.executor.forget(handle)
        assert not (self.root / handle.attempt_id).exists()

    def test_the_environment_is_clean_and_keeps_the_contract(self, monkeypatch):
        for secret in ("DATABASE_URL", "REDIS_URL", "GYOZA_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(secret, "secret")
        mine = {"MINE": "yes", "GYOZA_RUN_ID": "forged"}
        outcome, handle = self.run("look_around", inputs={"q": 1}, env=mine, gpu_id=3)
        seen = present(outcome.outputs)
        home = str(self.root / handle.attempt_id)
        assert "secret" not in seen["env"].values()
        assert seen["env"]["MINE"] == "yes"
        assert seen["env"]["CUDA_VISIBLE_DEVICES"] == "3"
        assert seen["env"]["GYOZA_RUN_ID"] == "the-run"
        assert seen["env"]["GYOZA_ATTEMPT"] == "2"
        assert seen["env"]["GYOZA_STORAGE_DIR"] == f"{home}/storage"
        assert seen["env"]["TMPDIR"] == f"{home}/tmp"
        assert seen["cwd"] == seen["env"]["HOME"] == f"{home}/work"
        assert seen["inputs"] == {"q": 1}
        assert seen["core"] == "0"
        assert seen["group"]

    @pytest.mark.parametrize("attempt_id", ["", "..", ".hidden", "a/b", "a\0b", "x" * 300])
    def test_an_attempt_id_never_leaves_the_root(self, attempt_id):
        with pytest.raises(ExecutorFailure) as failure:
            self.launch("nothing", attempt_id=attempt_id)
        assert failure.value.permanent

    def test_it_works_here(self):
        assert self.executor.check() == []

    def test_a_root_that_cannot_be_made_is_reported(self, tmp_path):
        (tmp_path / "file").touch()
        assert self.make(tmp_path / "file" / "root").check() != []

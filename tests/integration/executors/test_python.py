from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apps.runs.executors.base import ExecutorFailure
from apps.runs.executors.python import PythonExecutor
from apps.runs.executors.supervision.frames import DONE, LAUNCH, STOP, Frame, encode
from tests.asserts import present
from tests.integration.executors.contract import HANG, SupervisedContract

HERE = str(Path(__file__).parent)


class TestPythonExecutor(SupervisedContract):
    def make(self, root: Path) -> PythonExecutor:
        return PythonExecutor(root, {"base_dir": HERE, "max_children": 3, "env": {"TOP": "yes"}})

    def op(self, name: str) -> dict[str, Any]:
        return {"python": name if ":" in name else f"ops:{name}"}

    def test_an_exception_is_a_failure_with_its_traceback(self):
        outcome, handle = self.run("warm_ops:explode")
        assert outcome.exit_code == 1
        assert outcome.error.splitlines()[0] == "Traceback (most recent call last):"
        assert outcome.error.splitlines()[-1] == "ValueError: no good"
        assert "warm_child.py" not in outcome.error
        assert self.log(handle).decode().rstrip() == outcome.error

    @pytest.mark.parametrize(
        ("code", "exit_code", "error"),
        [(None, 0, ""), (0, 0, ""), (7, 7, "exit code 7"), ("sorry", 1, "sorry")],
    )
    def test_sys_exit_is_the_exit_status(self, code, exit_code, error):
        outcome, _ = self.run("warm_ops:leave", inputs={"code": code})
        assert (outcome.exit_code, outcome.error) == (exit_code, error)

    def test_a_process_that_ends_itself_is_a_failure(self):
        outcome, _ = self.run("warm_ops:vanish")
        assert outcome.exit_code == 0
        assert not outcome.succeeded
        assert "before the callable returned" in outcome.error

    def test_a_crash_is_named_and_the_next_attempt_gets_a_fresh_child(self):
        before = self.outputs(self.launch("warm_ops:identity"))
        outcome, _ = self.run("warm_ops:segfault")
        assert outcome.signal == 11
        assert "SIGSEGV" in outcome.error
        after = self.outputs(self.launch("warm_ops:identity"))
        assert after["pid"] != before["pid"]

    def test_children_are_reused_and_modules_stay_warm(self):
        first = self.outputs(self.launch("warm_ops:identity"))
        second = self.outputs(self.launch("warm_ops:identity"))
        assert second == {"pid": first["pid"], "calls": first["calls"] + 1}

    def test_what_one_attempt_changes_the_next_does_not_see(self):
        before = self.outputs(self.launch("warm_ops:surroundings"))
        self.run("warm_ops:make_a_mess")
        after = self.outputs(self.launch("warm_ops:surroundings"))
        for seen in (before, after):
            for name in ("HOME", "TMPDIR", "GYOZA_INPUTS", "GYOZA_OUTPUTS", "GYOZA_STORAGE_DIR"):
                del seen["env"][name]
        assert after == before

    def test_variables_of_one_attempt_are_gone_in_the_next(self):
        with_it = self.outputs(self.launch("warm_ops:surroundings", env={"MINE": "1"}))
        without = self.outputs(self.launch("warm_ops:surroundings"))
        assert with_it["env"]["MINE"] == "1"
        assert "MINE" not in without["env"]
        assert without["env"]["TOP"] == "yes"

    def test_temporary_files_go_where_the_attempt_says(self):
        for _ in range(2):
            handle = self.launch("warm_ops:temporary")
            path = self.outputs(handle)["path"]
            assert path.startswith(str(self.root / handle.attempt_id / "tmp"))

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("ops:absent", "ops has no callable absent"),
            ("ops:JSON_TEXT", "ops has no callable JSON_TEXT"),
            ("absent:op", "can't import absent: No module named 'absent'"),
            ("ops.absent:op", "can't import ops.absent"),
        ],
    )
    def test_what_cannot_be_found_is_named(self, name, error):
        outcome, _ = self.run(name)
        assert not outcome.started
        assert outcome.error.startswith(error)

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ("list", "the callable returned list, not a dict"),
            ("object", "returned dict is not JSON: Object of type object"),
            ("nan", "returned dict is not JSON"),
            ("nul", "returned dict contains the character U+0000 at a"),
            ("loop", "returned dict is not JSON: Circular reference"),
            ("big", "outputs are over the limit"),
        ],
    )
    def test_a_return_value_that_is_no_outputs_is_named(self, value, error):
        outcome, _ = self.run("warm_ops:give_back", inputs={"what": value})
        assert outcome.outputs is None
        assert outcome.error.startswith(error)

    def test_many_at_once_all_end(self):
        handles = [self.launch("double", inputs={"n": n}) for n in range(50)]
        found = [self.outputs(handle)["doubled"] for handle in handles]
        assert found == [n * 2 for n in range(50)]

    def test_attempts_wait_for_a_free_child_and_can_be_stopped_there(self):
        busy = [self.launch("wait") for _ in range(3)]
        for handle in busy:
            self.said(handle)
        waiting = self.launch("wait")
        self.executor.stop(waiting, grace=30)
        outcome = self.outcome(waiting)
        assert outcome.stopped
        assert not outcome.started
        for handle in busy:
            self.executor.stop(handle, grace=0)
            self.outcome(handle)

    def test_an_attempt_that_writes_nothing_leaves_nothing(self):
        for _ in range(5):
            _, handle = self.run("nothing")
            self.executor.forget(handle)
        assert len([d for d in self.root.iterdir() if not d.name.startswith(".")]) <= 1

    def test_a_big_input_arrives(self):
        outcome, _ = self.run("warm_ops:measure", inputs={"text": "x" * 900_000})
        assert outcome.outputs == {"size": 900_000}

    def test_a_fork_that_returns_does_not_answer(self):
        outcome, _ = self.run("warm_ops:fork_and_return")
        assert outcome.outputs == {"parent": True}

    def test_a_child_without_descriptors_is_replaced(self):
        outcome, _ = self.run("warm_ops:close_everything")
        assert not outcome.succeeded
        again, _ = self.run("nothing")
        assert again.succeeded

    def test_a_child_whose_op_has_failed_runs_no_other(self):
        before = self.outputs(self.launch("warm_ops:identity"))
        self.run("warm_ops:explode")
        after = self.outputs(self.launch("warm_ops:identity"))
        assert after["pid"] != before["pid"]

    @pytest.mark.parametrize("daemon", [True, False])
    def test_a_child_with_a_thread_left_in_it_runs_no_other(self, daemon):
        # It could print, and to whose log? Of a library's own threads none is told apart from the op's.
        left = self.outputs(self.launch("warm_ops:leave_a_thread", inputs={"daemon": daemon}))
        after = self.outputs(self.launch("warm_ops:identity"))
        assert after["pid"] != left["pid"]

    def test_threads_that_have_ended_are_none(self):
        before = self.outputs(self.launch("warm_ops:end_a_thread"))
        after = self.outputs(self.launch("warm_ops:identity"))
        assert after["pid"] == before["pid"]

    def test_an_op_that_changes_the_json_module_is_answered_for_all_the_same(self):
        outcome, _ = self.run("warm_ops:patch_the_encoder")
        assert not outcome.lost
        again, _ = self.run("double", inputs={"n": 2})
        assert again.outputs == {"doubled": 4}

    @pytest.mark.parametrize(
        "answer",
        [
            Frame(DONE, b"{id}", b"[}"),
            Frame(DONE, b"{id}", b"[]"),
            Frame(DONE, b"{id}", b"{}"),
            Frame(DONE, b"{id}", b'{"exit_code": 0}', b"[1]"),
            Frame(DONE, b"{id}", b'{"exit_code": 0}', b"{"),
            Frame(DONE, b"{id}", b"", b"[" * 100_000),
            Frame(DONE, b"{id}", time=float("nan")),
            Frame(DONE, b"{id}", time=float("inf")),
            Frame(DONE, b"stranger"),
            Frame(STOP, b"{id}"),
            Frame(LAUNCH, b"{id}", b"{}"),
        ],
    )
    def test_an_answer_that_makes_no_sense_harms_only_its_op(self, answer):
        bystander = self.launch("wait")
        self.said(bystander)
        spec = self.spec("warm_ops:answer_for_us")
        forged = encode(
            answer._replace(attempt_id=answer.attempt_id.replace(b"{id}", spec.attempt_id.encode()))
        )
        inputs = json.dumps({"hex": forged.hex()}).encode()
        outcome = self.outcome(self.executor.launch(replace(spec, inputs_json=inputs)))
        assert outcome.error.startswith("the op has broken the process it runs in")
        self.executor.stop(bystander, grace=HANG)
        assert not self.outcome(bystander).lost

    def test_an_answer_without_end_is_not_waited_for(self):
        # A header that announces 4 GiB, and more than any answer has.
        forged = struct.pack("!BHIIddi", DONE, 0, 0, 2**32 - 1, 0.0, 0.0, 0) + b"x" * (5 << 20)
        outcome, _ = self.run("warm_ops:answer_for_us", inputs={"hex": forged.hex()})
        assert not outcome.lost
        assert not outcome.succeeded

    @pytest.mark.parametrize("name", ["speak", "tell", "warm_ops:segfault", "nothing"])
    def test_a_nursery_without_work_sleeps(self, name):
        _, handle = self.run(name)
        self.executor.forget(handle)
        # Asleep in epoll_wait with a timeout that isn't 0; a busy loop never is.
        syscall = Path(f"/proc/{handle.pid}/syscall")
        deadline = time.monotonic() + HANG
        while (doing := syscall.read_text().split())[0] == "running" or not int(doing[4], 16):
            assert time.monotonic() < deadline, "it never sleeps"
            os.sched_yield()

    def test_an_idle_child_ends(self, tmp_path):
        executor = PythonExecutor(tmp_path / "other", {"base_dir": HERE, "idle_s": 0})
        executor.on_news = self._hear
        handle = executor.launch(self.spec("warm_ops:identity"))
        outcome = self._until(lambda: executor.poll(handle))
        # ProcessLookupError: it has ended even before we looked.
        with contextlib.suppress(ProcessLookupError):
            child = os.pidfd_open(present(outcome.outputs)["pid"])
            poller = select.poll()
            poller.register(child, select.POLLIN)
            assert poller.poll(HANG * 1000)
            os.close(child)
        executor.forget(handle)
        executor.close()

    def test_launches_held_together_all_begin(self):
        with self.executor.together():
            handles = [self.launch("double", inputs={"n": n}) for n in range(5)]
        assert [self.outputs(handle)["doubled"] for handle in handles] == [0, 2, 4, 6, 8]

    def test_a_child_is_replaced_after_its_share(self, tmp_path):
        options = {"base_dir": HERE, "max_runs_per_child": 1}
        executor = PythonExecutor(tmp_path / "other", options)
        executor.on_news = self._hear
        pids = set()
        for _ in range(3):
            handle = executor.launch(self.spec("warm_ops:identity"))
            outcome = self._until(partial(executor.poll, handle))
            pids.add(present(outcome.outputs)["pid"])
            executor.forget(handle)
        executor.close()
        assert len(pids) == 3

    def test_only_allowed_callables_run(self, tmp_path):
        options = {"base_dir": HERE, "allowed": ["warm_ops.*", "ops:double"]}
        executor = PythonExecutor(tmp_path / "other", options)
        executor.on_news = self._hear
        for name in ("ops:nothing", "os:getpid", "warm_ops:_hidden"):
            with pytest.raises(ExecutorFailure) as failure:
                executor.launch(self.spec(name))
            assert failure.value.permanent
        # It is reachable through an allowed module, but was defined in another one.
        handle = executor.launch(self.spec("warm_ops:system"))
        outcome = self._until(lambda: executor.poll(handle))
        assert not outcome.started
        assert "defined elsewhere" in outcome.error
        executor.forget(handle)
        executor.close()

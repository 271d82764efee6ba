from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apps.runs.executors.base import ExecutorFailure
from apps.runs.executors.process import ProcessExecutor
from apps.runs.executors.supervision import proctree
from apps.runs.executors.supervision.output import LOG_LIMIT
from tests.integration.executors.contract import SupervisedContract

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fills the disk beside the scratch folders, says so on stderr, and hands in outputs.
HOG = 'cat /dev/zero > "$GYOZA_STORAGE_DIR/hog" 2>/dev/null; echo no room >&2; exit {code}'
OPS = str(Path(__file__).with_name("ops.py"))


class TestProcessExecutor(SupervisedContract):
    def make(self, root: Path) -> ProcessExecutor:
        return ProcessExecutor(root, {})

    def op(self, name: str) -> dict[str, Any]:
        return {"command": ("python", OPS, name)}

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            (("no-such-command",), "command not found: no-such-command"),
            (("/etc/passwd",), "not executable: /etc/passwd"),
            (("/",), "not executable: /"),
            (("x" * 5000,), "can't start xxx"),
        ],
    )
    def test_a_command_that_cannot_start_is_named(self, command, error):
        outcome, _ = self.run("nothing", command=command)
        assert not outcome.started
        assert outcome.error.startswith(error)

    def test_a_script_without_interpreter_line_is_named(self, tmp_path):
        script = tmp_path / "script"
        script.write_text("echo hello\n")
        script.chmod(0o755)
        outcome, _ = self.run("nothing", command=(str(script),))
        assert outcome.error.startswith(f"not executable: {script} is neither")

    def test_no_command_is_a_permanent_failure(self):
        with pytest.raises(ExecutorFailure) as failure:
            self.launch("nothing", command=None)
        assert failure.value.permanent

    def test_a_fifo_as_outputs_file_blocks_nobody(self):
        outcome, _ = self.run("nothing", command=("sh", "-c", 'mkfifo "$GYOZA_OUTPUTS"'))
        assert outcome.error == "outputs file is not a regular file"

    def test_a_stop_before_the_op_began_is_kept(self):
        spec = self.spec("wait")
        handle = self.executor.launch(spec)
        self.executor.stop(handle, grace=0)
        assert self.outcome(handle).stopped

    def test_children_of_a_shell_get_the_grace_too(self):
        script = 'sh -c \'trap "sleep 0.3; echo child done; exit" TERM; echo {\\"gyoza\\":\\"info\\"}; while :; do sleep 0.05; done\' & wait'
        handle = self.launch("nothing", command=("sh", "-c", script))
        self.said(handle)
        self.executor.stop(handle, grace=30)
        self.outcome(handle)
        assert b"child done\n" in self.log(handle)

    def test_a_paused_op_hears_the_stop(self):
        script = (
            'trap "echo heard; exit" TERM; echo {\\"gyoza\\":\\"info\\"}; kill -STOP $$; sleep 600'
        )
        handle = self.launch("nothing", command=("sh", "-c", script))
        self.said(handle)
        self.executor.stop(handle, grace=30)
        self.outcome(handle)
        assert self.log(handle) == b"heard\n"

    def test_a_supervisor_that_slept_over_the_timeout_says_timed_out(self):
        script = "kill -STOP $PPID; sleep 0.4; kill -TERM $PPID; kill -CONT $PPID; sleep 600"
        outcome, _ = self.run("nothing", command=("sh", "-c", script), timeout_s=0.2)
        assert outcome.timed_out
        assert not outcome.stopped

    @pytest.fixture
    def small_disk(self) -> Iterator[None]:
        """Put the attempts on a disk of their own, of 4 MiB."""
        self.root.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(self.root)],
            check=False,
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"no disk to fill: {mounted.stderr.strip()}")
        yield
        self.executor.close()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)

    @pytest.mark.usefixtures("small_disk")
    def test_an_op_that_fills_the_disk_is_told_of(self):
        outcome, handle = self.run("nothing", command=("sh", "-c", HOG.format(code=3)))
        assert (outcome.exit_code, outcome.lost) == (3, False)
        assert "no room" in outcome.error
        self.executor.forget(handle)
        outcome, _ = self.run("nothing")
        assert outcome.succeeded

    @pytest.mark.usefixtures("small_disk")
    def test_outputs_that_find_no_room_fail_the_attempt(self):
        begin, end = '{"gyoza":"output","name":"a","value":"', '"}'
        say = f"printf '{begin}'; head -c 500000 /dev/zero | tr '\\0' x; printf '{end}\\n'; "
        outcome, _ = self.run("nothing", command=("sh", "-c", say + HOG.format(code=0)))
        assert not outcome.lost
        assert outcome.error.startswith("what the op did can't be stored: No space left")

    def test_an_op_that_forges_its_outcome_is_adopted_and_ended(self):
        handle = self.launch("forge", inputs={"waits": True})
        self.said(handle)
        self.restart()
        assert self.executor.poll(handle) is None
        self.executor.forget(handle)
        assert not proctree.is_alive(handle.pid, handle.born)
        assert not (self.root / handle.attempt_id).exists()

    def test_the_spec_is_for_the_owner_only(self):
        handle = self.launch("wait", env={"TOKEN": "x"})
        directory = self.root / handle.attempt_id
        assert directory.stat().st_mode & 0o077 == 0
        assert (directory / "spec.json").stat().st_mode & 0o077 == 0

    def test_memory_is_limited_only_on_request(self, tmp_path):
        eat = ("python", "-c", "x = bytearray(400 * 2**20)")
        outcome, _ = self.run("nothing", command=eat, ram_mb=100)
        assert outcome.succeeded
        strict = ProcessExecutor(tmp_path / "strict", {"limit_memory": True})
        strict.on_news = self._hear
        handle = strict.launch(self.spec("nothing", command=eat, ram_mb=100))
        outcome = self._until(lambda: strict.poll(handle))
        assert "MemoryError" in outcome.error
        strict.forget(handle)
        strict.close()

    @pytest.mark.acceptance
    def test_a_gibibyte_of_output_hurts_nobody(self):
        outcome, handle = self.run("flood", inputs={"mib": 1024})
        assert outcome.succeeded
        assert len(self.log(handle)) < LOG_LIMIT + 1000

"""An attempt as a nursery has it, and the outcome that its child's answer, or death, comes to."""

from __future__ import annotations

import json
import os
import time

from apps.runs.executors.supervision import outcomes, workspace
from apps.runs.executors.supervision.frames import DONE
from apps.runs.executors.supervision.output import Capture
from apps.runs.executors.supervision.workspace import AppendFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from apps.runs.executors.supervision.children import Child
    from apps.runs.executors.supervision.frames import Frame

NEVER = float("inf")


class Attempt:
    """An attempt the nursery was given and has not answered yet."""

    __slots__ = (
        "at", "began", "capture", "child", "ends_at", "files", "frame", "grace", "id",
        "is_garbled", "kill_at", "stopped", "timed_out", "timeout_at",
    )  # fmt: skip

    def __init__(self, frame: Frame) -> None:
        self.id = frame.attempt_id
        self.frame = frame
        self.grace = frame.grace
        self.child: Child | None = None
        self.began = 0.0
        self.timeout_at = NEVER
        self.kill_at = NEVER
        self.stopped = self.timed_out = False
        self.is_garbled = False  # its child gave an answer that makes no sense
        self.at = -1
        self.capture: Capture | None = None
        self.files: tuple[AppendFile, ...] = ()

    def begin_capture(self, at: int, tell: Callable[[], None]) -> Capture:
        """Keep what the op writes in the files of the directory `at`, and tell of each write."""

        def noted(write: Callable[[bytes], None]) -> Callable[[bytes], None]:
            def write_and_tell(data: bytes) -> None:
                write(data)
                tell()

            return write_and_tell

        self.at = at
        log, messages = AppendFile(workspace.LOG, at), AppendFile(workspace.MESSAGES, at)
        self.files = (log, messages)
        self.capture = Capture(noted(log.write), noted(messages.write))
        return self.capture

    def close(self) -> None:
        for file in self.files:
            file.close()
        if self.at >= 0:
            os.close(self.at)

    def is_answered_by(self, frame: Frame) -> bool:
        """Say whether a frame is an answer that our own code in the child would give."""
        if frame.kind != DONE or frame.attempt_id != self.id or not 0 <= frame.time < NEVER:
            return False
        try:
            status = json.loads(frame.meta) if frame.meta else {"exit_code": 0}
            outputs = json.loads(frame.body) if frame.body else {}
        except (ValueError, RecursionError):
            return False
        return (
            isinstance(outputs, dict)
            and isinstance(status, dict)
            and isinstance(status.get("error", ""), str)
            and (isinstance(status.get("exit_code"), int) or bool(status.get("error")))
        )

    def outcome(self, frame: Frame) -> bytes:
        """Return the outcome that an answer stands for."""
        took = round(frame.time * 1000)
        capture = self.capture
        if capture is None and not frame.meta and self.kill_at == NEVER:
            return b'{"exit_code": 0, "outputs": %b, "duration_ms": %d}' % (
                frame.body or b"{}",
                took,
            )
        status: dict[str, Any] = json.loads(frame.meta or b'{"exit_code": 0}')
        if capture is not None:
            capture.close()
        status["duration_ms"] = took
        error = status.get("error", "")
        if status.get("started", True) and not error:
            error = outcomes.describe(
                exit_code=status["exit_code"],
                number=None,
                tail=capture.stderr_tail() if capture else "",
                stopped=self.stopped,
                timeout_s=self.frame.time if self.timed_out else None,
            )
            status["outputs"], problem = _merged(capture, frame.body)
            error = error or problem
        if status.pop("gone", False):
            status["outputs"], error = None, outcomes.removed(error)
        status.update(error=error, stopped=self.stopped, timed_out=self.timed_out)
        return json.dumps(status).encode()

    def crashed(self, code: int) -> bytes:
        """Return the outcome if the child has died without an answer."""
        capture = self.capture
        if capture is not None:
            capture.close()
        tail = capture.stderr_tail() if capture else ""
        exit_code, number = (code, None) if code >= 0 else (None, -code)
        if self.is_garbled:
            error = "the op has broken the process it runs in: its answer makes no sense"
        elif number is None and not self.stopped and not self.timed_out:
            error = f"the process ended with exit code {code} before the callable returned"
            error = f"{error}\n{tail}" if tail else error
        else:
            error = outcomes.describe(
                exit_code=exit_code,
                number=number,
                tail=tail,
                stopped=self.stopped,
                timeout_s=self.frame.time if self.timed_out else None,
            )
        outcome = {
            "exit_code": exit_code,
            "signal": number,
            "error": error,
            "stopped": self.stopped,
            "timed_out": self.timed_out,
            "duration_ms": round((time.monotonic() - self.began) * 1000),
        }
        return json.dumps(outcome).encode()


def never_began(error: str, **status: bool) -> bytes:
    """Return the outcome of an attempt that no child was given."""
    return json.dumps({"started": False, **status, "error": error}).encode()


def _merged(capture: Capture | None, body: bytes) -> tuple[dict[str, Any] | None, str]:
    handed_in = json.loads(body) if body else {}
    if capture is None:
        return handed_in, ""
    if capture.outputs_problem:
        return None, f"outputs {capture.outputs_problem}"
    return outcomes.merge(capture.outputs, handed_in)

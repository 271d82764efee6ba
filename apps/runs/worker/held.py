"""An attempt this worker executes: what is to be told of it, and how it is stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.access import services as access
from apps.runs.executors.base import LaunchSpec
from apps.runs.models import LogChunk
from apps.runs.turns import Ended, Report, Said

if TYPE_CHECKING:
    from apps.runs.executors.base import Executor, ExecutorFailure, Handle, Message, Outcome
    from apps.runs.models import Run
    from apps.runs.pickup.attempt import Pickup
    from apps.runs.scheduling import Claim

# What one attempt may tell in one turn; the rest follows in the next turns, before its end is told.
LOG_BYTES_PER_TURN = 1024 * 1024
MESSAGES_PER_TURN = 1000
# A run that was claimed ahead of need and has not begun after so long is given back.
WAIT_SECONDS = 2.0
# What a supervisor may be late with a timeout, beyond the grace, before the worker reminds it.
LATE_SECONDS = 15.0
# For so long after its op's end a worker that leaves waits for its files. They are objects within milliseconds; unless the
# disk is full or a backend away, which may last: then the run goes back, and another attempt writes them again.
FILES_SECONDS = 2.0


@dataclass(slots=True)
class Room:
    """What all attempts together may tell in one turn: it must be over long before the next heartbeat is due."""

    messages: int = 4000
    log_bytes: int = 8 * 1024 * 1024


@dataclass(slots=True)
class Held:
    """An attempt this worker executes. What it remembers has been committed, or can be read again."""

    claim: Claim
    executor: Executor
    handle: Handle | None = None
    is_reported: bool = False
    failure: Ended | None = None
    message_offset: int = 0
    log_offset: int = 0
    launched_at: float = 0.0
    is_stopping: bool = False
    is_returning: bool = False
    is_disowned: bool = False
    ended_at: float | None = None  # when its op was seen to have ended
    seconds: float | None = None  # how long it took, once it has ended
    has_more: bool = False  # there was no room for all it has to tell
    has_ended_itself: bool = False  # and not because we asked it to
    told_at: float = 0.0  # when it last had some
    files: Pickup | None = None  # None: it belongs to no execution, and they go nowhere
    could_begin: bool = True  # False: this worker could not even start it

    @property
    def id(self) -> str:
        return self.claim.attempt_id

    def spec(self) -> LaunchSpec:
        """Return what its executor needs to know to start it."""
        claim = self.claim
        token = access.issue_run_token(claim.run_id, claim.attempt)
        return LaunchSpec(
            attempt_id=self.id,
            run_id=str(claim.run_id),
            attempt=claim.attempt,
            command=None if claim.command is None else tuple(claim.command),
            python=claim.python,
            image=claim.image,
            env={**claim.env, "GYOZA_URL": settings.GYOZA_URL, "GYOZA_RUN_TOKEN": token},
            inputs_json=claim.inputs_json,
            timeout_s=claim.timeout_s,
            cpu=claim.cpu,
            ram_mb=claim.ram_mb,
            gpu_id=claim.gpu,
            grace_s=settings.GYOZA_CANCEL_GRACE_SECONDS,
        )

    def look(self, room: Room) -> Report | None:
        """Return what has happened since the last report, as far as there is room for it; None if nothing has."""
        self.has_more = False
        if self.failure is not None or self.handle is None:
            return self._report(ended=self.failure)
        # The outcome first: whatever the op said and printed is complete once it is there.
        outcome = self._poll(self.handle)
        if outcome is None and not self.is_reported and self.executor.is_waiting(self.handle):
            if time.monotonic() >= self.launched_at + WAIT_SECONDS and not self.is_stopping:
                self.is_returning = True
                self.stop(grace=0)
            return None
        if outcome is not None and self.is_returning and outcome.stopped:
            # Should it have begun in the very last moment, the timeline says so.
            began = self.handle.to_dict() if outcome.started else None
            return self._report(handle=began, given_back="those ahead of it took long")
        if outcome is None and self._is_overdue() and not self.is_stopping:
            self.stop()
        messages, message_offset = self._read_messages(self.handle, room)
        logged = self._read_log(self.handle, room)
        if messages or logged:
            self.told_at = time.monotonic()
        self.has_ended_itself = outcome is not None and not outcome.stopped
        if outcome is not None and (self.has_more or not self._has_stored(outcome)):
            outcome = None  # its end is the last that is told
        if outcome is None and not messages and not logged and self.is_reported:
            return None
        if outcome is not None:
            self.seconds = outcome.duration_ms / 1000
            self.could_begin = outcome.started or not outcome.lost
        return self._report(
            handle=None if self.is_reported else self.handle.to_dict(),
            said=[_said(message) for message in messages],
            message_offset=message_offset,
            log_start=self.log_offset,
            log=logged,
            ended=None if outcome is None else self._ended(outcome),
        )

    def settle(self, report: Report) -> None:
        """Remember what has been committed."""
        self.is_reported = True
        self.message_offset = max(self.message_offset, report.message_offset)
        self.log_offset += len(report.log)

    def give_up(self, why: Exception) -> None:
        """Have the attempt end as lost: this worker can't follow it."""
        self.failure = Ended(
            {}, None, f"the worker can't follow it: {why!r}", stopped=False, lost=True
        )

    def refuse(self, failure: ExecutorFailure) -> None:
        """Have the attempt end because it can't be started: for good, or as lost if only this worker can't."""
        self.could_begin = failure.permanent
        self.failure = Ended(
            {},
            None,
            str(failure),
            stopped=False,
            permanent=failure.permanent,
            lost=not failure.permanent,
        )

    def stop(self, *, grace: float | None = None) -> None:
        """Ask the op to end, and have it ended after the grace."""
        self.is_stopping = True
        if self.handle is not None:
            usual = settings.GYOZA_CANCEL_GRACE_SECONDS
            self.executor.stop(self.handle, grace=usual if grace is None else grace)

    def waits_for_files(self) -> bool:
        """Say whether an op that has ended has left files that may soon be stored."""
        outcome = None if self.handle is None else self._poll(self.handle)
        if outcome is None or self.ended_at is None or self._has_stored(outcome):
            return False
        return time.monotonic() < self.ended_at + FILES_SECONDS

    def has_ended(self) -> bool:
        """Say whether nothing of the op runs any more."""
        return self.handle is None or self.executor.poll(self.handle) is not None

    def forget(self) -> None:
        """Remove every trace of the op."""
        if self.handle is not None:
            self.executor.forget(self.handle)

    def _poll(self, handle: Handle) -> Outcome | None:
        outcome = self.executor.poll(handle)
        if outcome is not None and self.ended_at is None:
            self.ended_at = time.monotonic()
        return outcome

    def _is_overdue(self) -> bool:
        """Say whether its supervisor should long have ended it, and has not: an op can stop that one, too."""
        timeout = self.claim.timeout_s
        late = settings.GYOZA_CANCEL_GRACE_SECONDS + LATE_SECONDS
        return timeout is not None and time.monotonic() > self.launched_at + timeout + late

    def _has_stored(self, outcome: Outcome) -> bool:
        # Of one that was lost nobody knows whether its files are whole; another attempt writes them.
        return self.files is None or outcome.lost or self.files.finish()

    def _ended(self, outcome: Outcome) -> Ended:
        error, lost = outcome.error, outcome.lost
        if self.files is not None and self.files.problem and (self.files.is_lost or not error):
            error, lost = self.files.problem, self.files.is_lost
        return Ended(outcome.outputs or {}, outcome.exit_code, error, outcome.stopped, lost=lost)

    def _report(self, **said: Any) -> Report:
        return Report(self.claim.run_id, self.claim.attempt, self.claim.lease, **said)

    def _read_messages(self, handle: Handle, room: Room) -> tuple[list[Message], int]:
        found: list[Message] = []
        offset, end = self.message_offset, -1
        while offset != end:
            if room.messages <= 0 or len(found) >= MESSAGES_PER_TURN:
                self.has_more = True
                break
            end = offset
            read, offset = self.executor.read_messages(handle, offset)
            found += read
            room.messages -= len(read)
        return found, offset

    def _read_log(self, handle: Handle, room: Room) -> bytes:
        found = bytearray()
        while True:
            if room.log_bytes <= 0 or len(found) >= LOG_BYTES_PER_TURN:
                self.has_more = True
                break
            piece = self.executor.read_log(handle, self.log_offset + len(found))
            if not piece:
                break
            found += piece
            room.log_bytes -= len(piece)
        return bytes(found)


def taken_up(run: Run, claim: Claim, executor: Executor, handle: Handle) -> Held:
    """Return an attempt that a process before this one has begun, from where it has told of it."""
    # It was launched earlier than now, but no timeout is cut short by saying so.
    held = Held(claim, executor, handle, launched_at=time.monotonic())
    held.is_reported, held.message_offset = True, run.message_offset
    last = LogChunk.objects.filter(run=run, attempt=run.current_attempt).order_by("-start")
    if chunk := last.first():
        held.log_offset = chunk.start + len(chunk.content)
    return held


def _said(message: Any) -> Said:
    return Said(
        message.kind, message.value, message.name or message.msg, dict(message.payload or {})
    )

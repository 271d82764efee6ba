"""The only writer of the states of executions and their stages.

Whoever moves something has locked the execution (`locked`), moves it with the verbs below, and everything is written
together: stages, the execution, and, as the last step, the events. Lock order: execution → worker → run → topic.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import transaction

from apps.core import clock, ids, sql
from apps.core.errors import IllegalTransition, NotFound
from apps.core.queue import nudge_on_commit
from apps.core.sse import wakeups
from apps.pipelines import queries
from apps.pipelines.models import Execution, Stage
from apps.pipelines.states import (
    ENDED,
    EXECUTION_MOVES,
    FINAL,
    STAGE_MOVES,
    UNDONE,
    ExecutionStatus,
    StageStatus,
)
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from apps.pipelines.queries import LiveStage

JSON = Any
E, S = ExecutionStatus, StageStatus

EVENTS_TOPIC = "system.executions.events"
# A nudge: there are executions to advance or to settle. Which ones is in their rows.
ADVANCE_TASK = "pipelines.advance_executions"
_encode = msgspec.json.encode


def channel(execution_id: UUID) -> str:
    """Return the wake-up channel of an execution."""
    return f"execution:{execution_id}"


class Moves:
    """What changes in one locked execution. Use `locked()`."""

    def __init__(self, execution: Execution) -> None:
        self.now = clock.now()
        self.execution = execution
        self.stages: dict[str, LiveStage] = {}
        self._changed: set[str] = set()
        self._is_changed = False
        self._events: list[topics.NewEvent] = []
        self._messages: list[tuple[topics.NewEvent, dict[str, JSON]]] = []

    def load(self, *, reads: Sequence[tuple[str, str]] = ()) -> dict[str, LiveStage]:
        """Read the stages, with the outputs that pending steps read: pairs (step, step whose outputs it reads)."""
        if not self.stages:
            self.stages = queries.stages_of(self.execution.id, reads=reads)
        return self.stages

    def change(self, stage: LiveStage) -> None:
        """Remember that something of a stage was changed without a move."""
        self._changed.add(stage.name)

    def touch(self) -> None:
        """Remember that something of the execution was changed without a move."""
        self._is_changed = True

    def publish(self, message: topics.NewEvent, outputs: dict[str, JSON]) -> None:
        """Append a message to the log when everything is written; its `seq` is put into `outputs`."""
        self._messages.append((message, outputs))

    def write(self) -> None:
        """Write everything, topics last, unless what is written must say where messages have landed."""
        if not (self._changed or self._is_changed or self._events):
            return
        wakeups.announce_on_commit(channel(self.execution.id))
        if not self._messages:
            self._write_rows()
        if self._events or self._messages:
            # One statement for all of them: their topics are locked in one order.
            seqs = topics.append_events([*(m for m, _ in self._messages), *self._events])
            for (_, outputs), seq in zip(self._messages, seqs, strict=False):
                outputs["seq"] = seq
        if self._messages:
            self._write_rows()

    def _write_rows(self) -> None:
        execution = self.execution
        sql.run_bound(
            "pipelines/write_stages",
            execution_id=execution.id,
            stages=_encode([self.stages[name].row() for name in sorted(self._changed)]).decode(),
            status=execution.status,
            is_queued=execution.is_queued,
            is_settled=execution.is_settled,
            outputs=_json(execution.outputs) if execution.status == E.COMPLETED else None,
            error_info=_json(execution.error_info),
            attempt=execution.attempt,
            started_at=execution.started_at,
            completed_at=execution.completed_at,
            wake_at=execution.wake_at,
            deadline_at=execution.deadline_at,
            retry_at=execution.retry_at,
            cancel_requested_at=execution.cancel_requested_at,
            cancel_reason=execution.cancel_reason,
        )

    # --- stages -------------------------------------------------------------------------------

    def move_stage(
        self, stage: LiveStage, to: StageStatus, *, error: str = "", outputs: JSON = None
    ) -> None:
        """Move a stage and tell it. Raises IllegalTransition if STAGE_MOVES has no such edge."""
        if to not in STAGE_MOVES[stage.status]:
            raise IllegalTransition(
                f"a {stage.status} stage can't become {to}", stage=stage.name, to=to
            )
        stage.status = to
        stage.error = error
        if to in ENDED:
            stage.completed_at = self.now
            stage.wake_at = None
            stage.outputs, stage.keeps_outputs = outputs, False
        elif to == S.PENDING:
            stage.started_at = stage.completed_at = stage.wake_at = stage.note = None
            stage.outputs, stage.keeps_outputs = None, False
        elif stage.started_at is None:
            stage.started_at = self.now
            stage.attempts += 1
        self.change(stage)
        self._tell(to, stage=stage)

    # --- the execution ------------------------------------------------------------------------

    def move(self, to: ExecutionStatus) -> None:
        """Move the execution and tell it. Raises IllegalTransition if EXECUTION_MOVES has no such edge."""
        execution = self.execution
        if to not in EXECUTION_MOVES[ExecutionStatus(execution.status)]:
            raise IllegalTransition(
                f"a {execution.status} execution can't become {to}",
                execution_id=str(execution.id),
                status=execution.status,
            )
        execution.status = to
        execution.completed_at = self.now if to in FINAL else None
        if to in FINAL:
            execution.wake_at = execution.deadline_at = None
            execution.is_queued = False
            execution.is_settled = False
            nudge_on_commit(ADVANCE_TASK)
        self._is_changed = True
        self._tell(to)

    def _tell(self, what: str, *, stage: LiveStage | None = None) -> None:
        execution = self.execution
        event = {
            "id": str(ids.uuid7()),
            "type": f"execution.{what}" if stage is None else f"stage.{what}",
            "timestamp": clock.rfc3339(self.now),
            "execution_id": str(execution.id),
            "tag": execution.tag,
            "pipeline_id": execution.pipeline_id,
            "status": execution.status,
            "stage": None if stage is None else stage.name,
            "stage_status": None if stage is None else stage.status,
            "error": (stage.error if stage else (execution.error_info or {}).get("message"))
            or None,
        }
        self._events.append(
            topics.NewEvent(
                topic=EVENTS_TOPIC,
                data=_encode(event).decode(),
                tag=f"execution/{execution.id}",
            )
        )


@contextmanager
def locked(execution_id: UUID) -> Iterator[Moves]:
    """Lock an execution, in a transaction of its own or the surrounding one; what was moved is written at the end.

    Raises NotFound.
    """
    with transaction.atomic():
        # no_key: stages reference it.
        execution = Execution.objects.select_for_update(no_key=True).filter(pk=execution_id).first()
        if execution is None:
            raise NotFound(f"no execution {execution_id}", execution_id=str(execution_id))
        moves = Moves(execution)
        yield moves
        moves.write()


def begin(moves: Moves, *, deadline_at: datetime | None) -> None:
    """Let an execution whose turn has come start its steps."""
    execution = moves.execution
    execution.is_queued = False
    execution.started_at = moves.now
    execution.deadline_at = deadline_at
    moves.touch()


def complete(moves: Moves, *, outputs: JSON) -> None:
    """running → completed."""
    moves.execution.outputs = outputs
    moves.execution.error_info = None
    moves.move(E.COMPLETED)


def fail(moves: Moves, *, error: dict[str, JSON]) -> None:
    """running → failed."""
    moves.execution.error_info = error
    moves.move(E.FAILED)


def cancel(moves: Moves) -> None:
    """running → cancelled; nothing of it is active any more."""
    moves.execution.error_info = {"message": moves.execution.cancel_reason or "cancelled"}
    moves.move(E.CANCELLED)


def postpone(moves: Moves, *, until: datetime, error: dict[str, JSON]) -> None:
    """Keep an execution that failed running: it tries again then."""
    moves.execution.error_info = error
    moves.execution.retry_at = moves.execution.wake_at = until
    moves.touch()


def try_again(moves: Moves) -> None:
    """Do the stages that failed or were cancelled again, in an execution that has been postponed."""
    _again(moves)
    moves.execution.wake_at = moves.now


def interrupt(moves: Moves, *, error: dict[str, JSON]) -> None:
    """running → interrupted: a fault of ours; a retry goes on from where it stopped."""
    moves.execution.error_info = error
    moves.execution.is_queued = False
    moves.execution.wake_at = None
    moves.move(E.INTERRUPTED)


def request_cancel(moves: Moves, *, reason: str) -> None:
    """Note that an execution is to stop; it is cancelled by the advance that finds nothing of it active."""
    execution = moves.execution
    if execution.status == E.INTERRUPTED:
        moves.move(E.RUNNING)
    if execution.cancel_requested_at is None:
        execution.cancel_requested_at = moves.now
        execution.cancel_reason = reason
        execution.is_queued = False
        moves.touch()


def require_ended(moves: Moves) -> None:
    """Raise IllegalTransition unless the execution can be retried."""
    execution = moves.execution
    if execution.status not in (E.FAILED, E.CANCELLED, E.INTERRUPTED):
        raise IllegalTransition(
            f"a {execution.status} execution can't be retried", execution_id=str(execution.id)
        )


def reopen(moves: Moves) -> None:
    """failed, cancelled or interrupted → running: stages that failed or were cancelled are to be done again.

    A stage that has runs goes on with them.
    """
    moves.move(E.RUNNING)
    moves.execution.is_settled = True
    _again(moves)


def _again(moves: Moves) -> None:
    execution = moves.execution
    execution.attempt += 1
    execution.error_info = execution.cancel_requested_at = execution.wake_at = None
    execution.retry_at = None
    execution.cancel_reason = ""
    for stage in moves.load().values():
        if stage.status in UNDONE:
            moves.move_stage(stage, S.PENDING)
            if stage.run_ids:
                moves.move_stage(stage, S.INITIATED)
    moves.touch()


def take_over(moves: Moves, done: Mapping[str, Stage]) -> None:
    """Let stages of a new execution begin where those of another one have ended, by name."""
    for name, stage in moves.load().items():
        earlier = done.get(name)
        if earlier is not None:
            moves.move_stage(stage, StageStatus(earlier.status), outputs=earlier.outputs)


def _json(value: JSON) -> str | None:
    return None if value is None else _encode(value).decode()


@dataclass(frozen=True, slots=True)
class NewExecution:
    """An execution to be made with its stages."""

    execution: Execution
    steps: tuple[str, ...]


def create(new: Sequence[NewExecution]) -> None:
    """Store new executions with all their stages pending; inside the caller's transaction."""
    Execution.objects.bulk_create([one.execution for one in new], batch_size=500)
    stages = [
        Stage(execution_id=one.execution.id, position=position, name=name)
        for one in new
        for position, name in enumerate(one.steps)
    ]
    Stage.objects.bulk_create(stages, batch_size=2000)

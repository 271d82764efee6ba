"""The only writer of the states of executions and their stages.

Whoever moves something has locked the execution (`locked`), moves it with the verbs below, and everything is written
together: stages, the execution, and, as the last step, the events. Lock order: execution → worker → run → space → topic.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import transaction

from apps.core import clock, ids, jsonb, sql
from apps.core.errors import IllegalTransition, NotFound
from apps.core.queue import nudge_on_commit
from apps.core.sse import wakeups
from apps.pipelines.execution import liveexecutions, livestages
from apps.pipelines.models import Execution
from apps.pipelines.states import (
    ENDED,
    EXECUTION_MOVES,
    FINAL,
    STAGE_MOVES,
    UNDONE,
    ExecutionStatus,
    StageStatus,
)
from apps.storage import services as storage
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.pipelines.execution.livestages import LiveStage
    from apps.pipelines.models import Stage

JSON = Any
E, S = ExecutionStatus, StageStatus

EVENTS_TOPIC = "system.executions.events"
# A nudge: there are executions to advance or to settle. Which ones is in their rows.
ADVANCE_TASK = "pipelines.advance_executions"
_encode = msgspec.json.encode


# How the wake-up channels of executions begin.
CHANNEL = "execution:"


def channel(execution_id: UUID) -> str:
    """Return the wake-up channel of an execution."""
    return f"{CHANNEL}{execution_id}"


class Moves:
    """What changes in one locked execution. Use `locked()`."""

    def __init__(self, execution: LiveExecution) -> None:
        self.now = clock.now()
        self.execution = execution
        # What each of its events says alike.
        self._told = (clock.rfc3339(self.now), f"execution/{execution.id}")
        self.stages: dict[str, LiveStage] = {}
        self._changed: set[str] = set()
        self._is_changed = False
        self.events: list[topics.NewEvent] = []
        self.messages: list[tuple[topics.NewEvent, dict[str, JSON]]] = []
        self.has_ended = False

    def load(self, *, reads: Sequence[tuple[str, str]] = ()) -> dict[str, LiveStage]:
        """Read the stages, with the outputs that pending steps read: pairs (step, step whose outputs it reads)."""
        if not self.stages:
            load_all([(self, reads)])
        return self.stages

    def change(self, stage: LiveStage) -> None:
        """Remember that something of a stage was changed without a move."""
        self._changed.add(stage.name)

    def touch(self) -> None:
        """Remember that something of the execution was changed without a move."""
        self._is_changed = True

    def publish(self, message: topics.NewEvent, outputs: dict[str, JSON]) -> None:
        """Append a message to the log when everything is written; its `seq` is put into `outputs`."""
        self.messages.append((message, outputs))

    @property
    def has_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changed or self._is_changed or self.events)

    def row(self) -> dict[str, JSON]:
        """Return the execution's columns as `write_executions` takes them."""
        execution = self.execution
        return {
            "id": execution.id,
            "status": execution.status,
            "is_queued": execution.is_queued,
            "outputs": execution.outputs if execution.status == E.COMPLETED else None,
            "error_info": execution.error_info,
            "attempt": execution.attempt,
            "started_at": execution.started_at,
            "completed_at": execution.completed_at,
            "wake_at": execution.wake_at,
            "deadline_at": execution.deadline_at,
            "retry_at": execution.retry_at,
            "cancel_requested_at": execution.cancel_requested_at,
            "cancel_reason": execution.cancel_reason,
        }

    def stage_rows(self) -> list[dict[str, JSON]]:
        """Return the columns of the stages that have changed as `write_executions` takes them."""
        one = self.execution.id
        return [{"execution_id": one, **self.stages[name].row()} for name in sorted(self._changed)]

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
        if to in (S.COMPLETED, S.FAILED) and stage.started_at is None:
            # Done in one go.
            stage.started_at = self.now
            stage.attempts += 1
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
        if to not in EXECUTION_MOVES[execution.status]:
            raise IllegalTransition(
                f"a {execution.status} execution can't become {to}",
                execution_id=str(execution.id),
                status=execution.status,
            )
        is_again = execution.status in FINAL
        execution.status = to
        execution.completed_at = self.now if to in FINAL else None
        if is_again:
            storage.reopen_space(execution.id)
        if to in FINAL:
            execution.wake_at = execution.deadline_at = None
            execution.is_queued = False
            self.has_ended = True
        self._is_changed = True
        self._tell(to)

    def _tell(self, what: str, *, stage: LiveStage | None = None) -> None:
        execution = self.execution
        timestamp, tag = self._told
        event = {
            "id": ids.uuid7(),
            "type": f"execution.{what}" if stage is None else f"stage.{what}",
            "timestamp": timestamp,
            "execution_id": execution.id,
            "tag": execution.tag,
            "pipeline_id": execution.pipeline_id,
            "status": execution.status,
            "stage": None if stage is None else stage.name,
            "stage_status": None if stage is None else stage.status,
            "error": (stage.error if stage else (execution.error_info or {}).get("message"))
            or None,
        }
        self.events.append(
            topics.NewEvent(topic=EVENTS_TOPIC, data=_encode(event).decode(), tag=tag)
        )


def load_all(wanted: Sequence[tuple[Moves, Sequence[tuple[str, str]]]]) -> None:
    """Do as `Moves.load` for several executions at once; each comes with its reads."""
    found = livestages.stages_of({moves.execution.id: reads for moves, reads in wanted})
    for moves, _ in wanted:
        moves.stages = found[moves.execution.id]


@contextmanager
def locked(execution_id: UUID) -> Iterator[Moves]:
    """Lock an execution, in a transaction of its own or the surrounding one; what was moved is written at the end.

    Raises NotFound.
    """
    with locked_all([execution_id]) as found:
        if not found:
            raise NotFound(f"no execution {execution_id}", execution_id=str(execution_id))
        yield found[0]


@contextmanager
def locked_all(
    execution_ids: Collection[UUID], *, due: int = 0, settles: bool = False
) -> Iterator[list[Moves]]:
    """Do as `locked` for several executions, and for at most `due` that are due and nobody else is at.

    Those that are gone are missing. A caller that settles what has ended himself needs nobody woken for it. Raises topics'
    Refused if a message has no room; then nothing is written.
    """
    with transaction.atomic():
        # Waits for the ones it was told of, in one order; never for those that are merely due.
        told = liveexecutions.lock_executions(execution_ids) if execution_ids else []
        found = {row.id: row for row in told}
        if due:
            # Those it has locked already come again.
            found = {row.id: row for row in liveexecutions.lock_due(clock.now(), due)} | found
        together = [Moves(execution) for execution in found.values()]
        yield together
        _write([moves for moves in together if moves.has_changed])
        if not settles and any(moves.has_ended for moves in together):
            nudge_on_commit(ADVANCE_TASK)


def wake(execution_ids: Collection[UUID]) -> None:
    """Have executions advanced soon, those that run and do not wait for their next try."""
    if not execution_ids:
        return
    with transaction.atomic():
        ids = liveexecutions.lock_unpostponed(execution_ids)
        Execution.objects.filter(pk__in=ids).update(wake_at=clock.now())
        if ids:
            nudge_on_commit(ADVANCE_TASK)


def _write(together: Sequence[Moves]) -> None:
    """Write everything, topics last, unless what is written must say where messages have landed."""
    if not together:
        return
    wakeups.announce_on_commit(*(channel(moves.execution.id) for moves in together))
    messages = [pair for moves in together for pair in moves.messages]
    events = [event for moves in together for event in moves.events]
    _close_spaces(together)
    if not messages:
        _write_rows(together)
    if messages or events:
        # One statement for all of them: their topics are locked in one order.
        seqs = topics.append_events(
            [*(message for message, _ in messages), *events],
            refusable={message.topic for message, _ in messages},
        )
        for (_, outputs), seq in zip(messages, seqs, strict=False):
            outputs["seq"] = seq
    if messages:
        _write_rows(together)


def _close_spaces(together: Sequence[Moves]) -> None:
    # Before they tell their ends: what was written until then is in the log first.
    ended = [moves.execution.id for moves in together if moves.has_ended]
    if ended:
        storage.close_spaces(ended)


def _write_rows(together: Sequence[Moves]) -> None:
    sql.run_bound(
        "pipelines/write_executions",
        executions=jsonb.encode([moves.row() for moves in together]),
        stages=jsonb.encode([row for moves in together for row in moves.stage_rows()]),
        endings=_endings(together),
    )


def _endings(together: Sequence[Moves]) -> str:
    """Return what is to be told of those that have ended, as the statements that write executions take it."""
    found: dict[tuple[str, str | None], dict[str, JSON]] = {}
    for moves in together:
        if moves.has_ended:
            one = moves.execution
            ending = found.setdefault(
                (one.pipeline_id, one.source_id),
                {
                    "pipeline_id": one.pipeline_id,
                    "source_id": one.source_id,
                    "execution_ids": [],
                    "parent_ids": [],
                },
            )
            ending["execution_ids"].append(one.id)
            if one.parent_stage is not None and one.parent_id is not None:
                ending["parent_ids"].append(one.parent_id)
    return _encode(list(found.values())).decode()


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


def take_over(moves: Moves, done: Mapping[str, Stage], notes: Mapping[str, JSON]) -> None:
    """Let stages of a new execution begin where those of another one have ended, by name, each with its note."""
    for name, stage in moves.load().items():
        earlier = done.get(name)
        if earlier is not None:
            stage.started_at = earlier.started_at
            stage.note = notes[name]
            moves.move_stage(stage, StageStatus(earlier.status), outputs=earlier.outputs)


# What never changes after an execution was made; the rest is in `Moves.row`.
_FOR_EVER = (
    "pipeline_id", "pipeline_version", "tag", "document", "trigger", "inputs", "metadata", "hops", "parent_id",
    "parent_stage", "root_correlation_id", "created_by", "prefixes", "created_at", "source_id", "source_topic_id",
    "source_seq", "source_key", "scheduled_at",
)  # fmt: skip


def new(execution: LiveExecution, steps: Sequence[str]) -> Moves:
    """Return an execution that is to be made, with all its stages pending."""
    moves = Moves(execution)
    moves.stages = {
        name: livestages.pending_stage(position, name) for position, name in enumerate(steps)
    }
    return moves


def create(together: Sequence[Moves]) -> None:
    """Store new executions as they stand, inside the caller's transaction; what they tell is for him to append."""
    executions = [
        {**{column: getattr(moves.execution, column) for column in _FOR_EVER}, **moves.row()}
        for moves in together
    ]
    stages = [
        {"execution_id": moves.execution.id, "name": stage.name, **stage.row()}
        for moves in together
        for stage in moves.stages.values()
    ]
    sql.run_bound(
        "pipelines/insert_executions",
        executions=jsonb.encode(executions),
        stages=jsonb.encode(stages),
        endings=_endings(together),
    )
    storage.open_spaces(
        [
            storage.NewSpace(
                execution_id=moves.execution.id,
                tag=moves.execution.tag,
                visible_as=moves.execution.pipeline_id,
                correlation_id=moves.execution.root_correlation_id,
            )
            for moves in together
        ]
    )
    _close_spaces(together)

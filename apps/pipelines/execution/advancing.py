"""The engine: one step forward for executions, from what their rows say.

`advance_execution` may be called by anybody at any time, any number of times: it locks the execution, looks at the
runs of its active stages, starts what has become ready and ends it when nothing is left to do.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from apps.core.errors import NotFound
from apps.core.queue import nudge_on_commit
from apps.core.sql import AWAY
from apps.pipelines import transitions
from apps.pipelines.execution import errands
from apps.pipelines.execution.errands import Ordered
from apps.pipelines.execution.steprun import Ops
from apps.pipelines.execution.turns import Turn
from apps.pipelines.language import documents
from apps.pipelines.states import UNDONE, ExecutionStatus
from apps.runs.services import control, submission
from apps.topics.services import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from uuid import UUID

    from apps.pipelines.execution.livestages import LiveStage
    from apps.pipelines.language.plans import Plan
    from apps.pipelines.models import Execution
    from apps.pipelines.transitions import Moves
    from apps.runs.services.submission import RunSpec

log = logging.getLogger(__name__)

RETRIABLE = frozenset(
    {ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.INTERRUPTED}
)


@dataclass(frozen=True, slots=True)
class Advanced:
    """How many executions were advanced, and by what those were started that have ended: triggers, or None."""

    count: int = 0
    ended: frozenset[str | None] = frozenset()


def advance_all(
    told: Collection[UUID], *, due: int, send: Callable[[Ordered], object] = errands.run
) -> Advanced:
    """Do as `advance_execution` for these executions and for at most `due` that are due, in one transaction.

    The caller settles those that have ended.

    If one stumbles they are advanced one by one, so that it does not keep back the others. `send` sees to errands.
    """
    ids: list[UUID] = []
    ended: list[Moves] = []
    try:
        found = _advance_together(told, due=due, ids=ids, ended=ended)
    except AWAY:
        raise
    except Refused:
        # Which of them wanted to publish there is seen when each has a turn of its own.
        found = [_Alone(one) for one in ids]
    except Exception:
        log.exception("%d executions are advanced one by one", len(ids))
        found = [_Alone(one) for one in ids]
    for one in found:
        if isinstance(one, _Alone):
            with suppress(NotFound):
                advance_execution(one.execution_id, send=send)
    _finish(found, send)
    return Advanced(len(ids), frozenset(moves.execution.source_id for moves in ended))


def advance_execution(
    execution_id: UUID, *, send: Callable[[Ordered], object] = errands.run
) -> None:
    """Do whatever an execution is ready for; nothing if it has ended or waits for its turn.

    A fault of ours interrupts it, so that it is not tried for ever. Raises NotFound.
    """
    ids: list[UUID] = []
    try:
        found = _advance_unless_refused(execution_id, ids)
        if any(isinstance(one, _Alone) for one in found):
            _try_again(execution_id)
            found = _advance_unless_refused(execution_id, ids)
    except (NotFound, *AWAY):
        raise
    except Exception as exc:
        log.exception("execution %s was interrupted", execution_id)
        with transitions.locked(execution_id) as moves:
            if moves.execution.status == ExecutionStatus.RUNNING:
                transitions.interrupt(moves, error={"message": f"{type(exc).__name__}: {exc}"})
        return
    if not ids:
        raise NotFound(f"no execution {execution_id}", execution_id=str(execution_id))
    _finish(found, send)


def _finish(left: Sequence[_Left], send: Callable[[Ordered], object]) -> None:
    """Do what is left to do after the transaction. Should this be lost, the executions wake again."""
    for one in left:
        if isinstance(one, _ToStop):
            # Runs tell their feeds, and topics are locked in one order only.
            control.stop_runs(run_ids=one.run_ids, reason=one.reason)
        elif isinstance(one, _ToCancel):
            for child in one.execution_ids:
                _cancel(child, one.reason, send)
        elif isinstance(one, Ordered):
            send(one)


def _cancel(execution_id: UUID, reason: str, send: Callable[[Ordered], object]) -> None:
    with suppress(NotFound):
        with transitions.locked(execution_id) as moves:
            execution = moves.execution
            if execution.status != ExecutionStatus.RUNNING or execution.cancel_requested_at:
                return
            transitions.request_cancel(moves, reason=reason)
            execution.wake_at = moves.now
        advance_execution(execution_id, send=send)


def _advance_unless_refused(execution_id: UUID, ids: list[UUID]) -> list[_Left]:
    """Advance an execution; steps whose messages have no room fail."""
    refused: dict[str, str] = {}
    while True:
        try:
            return _advance_together([execution_id], ids=ids, refused=refused)
        except Refused as exc:
            # Nothing of the turn was written. The next one knows of a topic more, so there is an end.
            refused[exc.topic] = str(exc)


def _try_again(execution_id: UUID) -> None:
    with transitions.locked(execution_id) as moves:
        if not _is_due_again(moves):
            return
        undone = [stage for stage in moves.load().values() if stage.status in UNDONE]
        run_ids = [run_id for stage in undone for run_id in stage.run_ids]
    # First the runs, in a transaction of their own (see advance_execution); doing it twice is harmless.
    if run_ids:
        control.reopen_runs(run_ids=run_ids, reason="its execution tries again")
    with transitions.locked(execution_id) as moves:
        if _is_due_again(moves):
            transitions.try_again(moves)


def _is_due_again(moves: Moves) -> bool:
    """Say whether a postponed execution's time has come; a cancel ends the wait in another way."""
    execution = moves.execution
    return (
        execution.retry_at is not None
        and execution.retry_at <= moves.now
        and execution.cancel_requested_at is None
    )


@dataclass(frozen=True, slots=True)
class _Alone:
    """An execution that needs a turn of its own: it tries again, its message is long, or one beside it stumbled."""

    execution_id: UUID


@dataclass(frozen=True, slots=True)
class _ToStop:
    run_ids: list[UUID]
    reason: str


@dataclass(frozen=True, slots=True)
class _ToCancel:
    """Executions that steps of one that is to end wait for."""

    execution_ids: list[UUID]
    reason: str


_Left = _ToStop | _ToCancel | _Alone | Ordered


def _advance_together(
    told: Collection[UUID],
    *,
    ids: list[UUID],
    ended: list[Moves] | None = None,
    due: int = 0,
    refused: Mapping[str, str] | None = None,
) -> list[_Left]:
    """Advance executions in one transaction, noting in `ids` which, and in `ended` those that have; return what is left
    to do after it.
    """
    left: list[_Left] = []
    with transitions.locked_all(told, due=due, settles=ended is not None) as together:
        ids += [moves.execution.id for moves in together]
        ready = []
        for moves in together:
            execution = moves.execution
            if execution.status != ExecutionStatus.RUNNING or execution.is_queued:
                continue
            if _is_due_again(moves) or (len(together) > 1 and execution.has_long_trigger):
                left.append(_Alone(execution.id))
                continue
            ready.append((moves, documents.plan_of(execution.document)))
        if not ready:
            return left
        transitions.load_all([(moves, plan.reads) for moves, plan in ready])
        left += _run(ready, refused or {})
    if ended is not None:
        ended += [moves for moves in together if moves.has_ended]
    return left


def advance_new(together: Sequence[Moves]) -> None:
    """Let executions that are about to be stored take their first step, in the caller's transaction.

    Those with adapters, which may do anything, wait for a turn of their own.
    """
    plans = [(moves, documents.plan_of(moves.execution.document)) for moves in together]
    _run(
        [
            (moves, plan)
            for moves, plan in plans
            if not moves.execution.is_queued and not plan.has_adapters
        ],
        {},
    )


def _run(ready: Sequence[tuple[Moves, Plan]], refused: Mapping[str, str]) -> list[_Left]:
    """Advance executions whose stages are there; return what is left to do after the transaction.

    `refused` are topics that take no message now, and why.
    """
    ops = Ops()
    turns = [Turn(moves, plan, refused=refused, ops=ops) for moves, plan in ready]
    for turn in turns:
        turn.run()
    _make_runs(turns)
    left: list[_Left] = [
        _ToStop(run_ids, turn.execution.cancel_reason)
        for turn in turns
        if (run_ids := turn.runs_to_stop())
    ]
    left += [
        _ToCancel(turn.children_to_stop, f"the execution {turn.execution.id} waits no more")
        for turn in turns
        if turn.children_to_stop
    ]
    for turn in turns:
        for stage, errand in turn.errands:
            left.append(Ordered(turn.execution.id, stage.name, stage.attempts, errand))
    return left


def _make_runs(turns: Sequence[Turn]) -> None:
    """Make the runs that executions have asked for, all those of one owner in one statement."""
    wanted: dict[str, list[tuple[LiveStage, RunSpec]]] = {}
    for turn in turns:
        wanted.setdefault(turn.execution.created_by, []).extend(turn.new_runs)
    for owner, pairs in wanted.items():
        if pairs:
            made = submission.add_runs(requests=[spec for _, spec in pairs], owner=owner)
            for (stage, _), run_id in zip(pairs, made, strict=True):
                stage.run_ids.append(run_id)


def retry_execution(
    execution: Execution, *, reason: str, also: Callable[[], object] | None = None
) -> None:
    """Do again what failed or was cancelled: runs that were made get another attempt, the other steps start anew.

    `also` writes what is to be committed with it. Raises IllegalTransition unless the execution is failed, cancelled or
    interrupted.
    """
    # First the runs, in a transaction of their own (see advance_execution). Should the second be lost, they end under
    # an ended execution, and the next retry finds them done.
    with transitions.locked(execution.id) as moves:
        transitions.require_ended(moves)
        again = [stage for stage in moves.load().values() if stage.status in UNDONE]
    run_ids = [run_id for stage in again for run_id in stage.run_ids]
    if run_ids:
        control.reopen_runs(run_ids=run_ids, reason=reason)
    with transitions.locked(execution.id) as moves:
        transitions.require_ended(moves)
        transitions.reopen(moves)
        if also is not None:
            also()
        timeout_s = documents.plan_of(moves.execution.document).timeout_s
        if timeout_s is not None:
            moves.execution.deadline_at = moves.now + timedelta(seconds=timeout_s)
        moves.execution.wake_at = moves.now
        nudge_on_commit(transitions.ADVANCE_TASK)

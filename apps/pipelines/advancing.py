"""The engine: one step forward for one execution, from what its rows say.

`advance_execution` may be called by anybody at any time, any number of times: it locks the execution, looks at the
runs of its active stages, starts what has become ready and ends it when nothing is left to do.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import transaction

from apps.access.auth import Caller
from apps.core.errors import GyozaError, NotFound
from apps.core.queue import nudge_on_commit
from apps.core.sql import AWAY
from apps.definitions import queries as definitions
from apps.definitions import services as definition_services
from apps.pipelines import documents, expressions, queries, transitions
from apps.pipelines.adapters import registry
from apps.pipelines.adapters.base import AdapterFailed, Call, Delegates, Done, Publishes, Waits
from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.graph import Decision, decide
from apps.pipelines.states import ACTIVE, UNDONE, ExecutionStatus, StageStatus
from apps.pipelines.steps import MOST_ITEMS
from apps.runs import services as runs
from apps.runs.services import RunSpec
from apps.runs.states import FINAL as FINAL_RUN_STATES
from apps.runs.states import RunState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from apps.definitions.models import Definition
    from apps.pipelines.models import Execution, Pipeline, Version
    from apps.pipelines.plans import Plan, Step
    from apps.pipelines.queries import LiveStage
    from apps.pipelines.transitions import Moves

log = logging.getLogger(__name__)
JSON = Any
S = StageStatus

RETRIABLE = frozenset(
    {ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.INTERRUPTED}
)
# After how long runs that were asked to stop are asked again.
STOPPING = timedelta(seconds=5)


class StepFailed(Exception):
    """A step can't be done; the message says why."""


def advance_all(told: Collection[UUID], *, due: int) -> int:
    """Do as `advance_execution` for these executions and for at most `due` that are due, in one transaction; count them.

    If one stumbles they are advanced one by one, so that it does not keep back the others.
    """
    ids: list[UUID] = []
    try:
        found = _advance_together(told, due=due, ids=ids)
    except AWAY:
        raise
    except Exception:
        log.exception("%d executions are advanced one by one", len(ids))
        found = [_Alone(one) for one in ids]
    for one in found:
        if isinstance(one, _ToStop):
            runs.stop_runs(run_ids=one.run_ids, reason=one.reason)
        else:
            with suppress(NotFound):
                advance_execution(one.execution_id)
    return len(ids)


def advance_execution(execution_id: UUID) -> None:
    """Do whatever an execution is ready for; nothing if it has ended or waits for its turn.

    A fault of ours interrupts it, so that it is not tried for ever. Raises NotFound.
    """
    ids: list[UUID] = []
    try:
        found = _advance_together([execution_id], ids=ids)
        if any(isinstance(one, _Alone) for one in found):
            _try_again(execution_id)
            found = _advance_together([execution_id], ids=ids)
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
    for one in found:
        if isinstance(one, _ToStop):
            # Apart from the execution's transaction: runs tell their feeds, and topics are locked in one order only.
            # Should this be lost, the execution wakes again.
            runs.stop_runs(run_ids=one.run_ids, reason=one.reason)


def _try_again(execution_id: UUID) -> None:
    with transitions.locked(execution_id) as moves:
        if not _is_due_again(moves):
            return
        undone = [stage for stage in moves.load().values() if stage.status in UNDONE]
        run_ids = [run_id for stage in undone for run_id in stage.run_ids]
    # First the runs, in a transaction of their own (see advance_execution); doing it twice is harmless.
    if run_ids:
        runs.reopen_runs(run_ids=run_ids, reason="its execution tries again")
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
    """An execution that needs a turn of its own: it tries again, or one that was advanced with it stumbled."""

    execution_id: UUID


@dataclass(frozen=True, slots=True)
class _ToStop:
    run_ids: list[UUID]
    reason: str


def _advance_together(
    told: Collection[UUID], *, ids: list[UUID], due: int = 0
) -> list[_ToStop | _Alone]:
    """Advance executions in one transaction, noting in `ids` which; return what is left to do after it."""
    left: list[_ToStop | _Alone] = []
    with transitions.locked_all(told, due=due) as together:
        ids += [moves.execution.id for moves in together]
        ready = []
        for moves in together:
            execution = moves.execution
            if execution.status != ExecutionStatus.RUNNING or execution.is_queued:
                continue
            if _is_due_again(moves):
                left.append(_Alone(execution.id))
                continue
            ready.append((moves, documents.plan_of(execution.document)))
        if not ready:
            return left
        transitions.load_all([(moves, _reads(plan)) for moves, plan in ready])
        left += _run(ready)
    return left


def advance_new(together: Sequence[Moves]) -> bool:
    """Let executions that are about to be stored take their first step, in the caller's transaction.

    Those with adapters wait for a turn of their own. Returns False if one stumbled: then all of them are to be prepared
    anew, and do the same, so that the messages that start them are not kept back.
    """
    plans = [(moves, documents.plan_of(moves.execution.document)) for moves in together]
    ready = [
        (moves, plan)
        for moves, plan in plans
        if not moves.execution.is_queued and all(step.work.adapter is None for step in plan.steps)
    ]
    try:
        with transaction.atomic():
            _run(ready)
    except AWAY:
        raise
    except Exception:
        log.exception("%d executions take their first step later", len(ready))
        return False
    return True


def _run(ready: Sequence[tuple[Moves, Plan]]) -> list[_ToStop | _Alone]:
    """Advance executions whose stages are there; return what is left to do after the transaction."""
    advances = [_Advance(moves, plan) for moves, plan in ready]
    for advance in advances:
        advance.run()
    _make_runs(advances)
    return [
        _ToStop(run_ids, advance.execution.cancel_reason)
        for advance in advances
        if (run_ids := advance.runs_to_stop())
    ]


def _make_runs(advances: Sequence[_Advance]) -> None:
    """Make the runs that executions have asked for, all those of one owner in one statement."""
    wanted: dict[str, list[tuple[LiveStage, RunSpec]]] = {}
    for advance in advances:
        wanted.setdefault(advance.execution.created_by, []).extend(advance.new_runs)
    for owner, pairs in wanted.items():
        if pairs:
            made = runs.create_runs(requests=[spec for _, spec in pairs], owner=owner)
            for (stage, _), run in zip(pairs, made, strict=True):
                stage.run_ids.append(run.id)


class _Advance:
    """One turn of one execution."""

    def __init__(self, moves: Moves, plan: Plan) -> None:
        self.moves = moves
        self.plan = plan
        self.execution = moves.execution
        self.stages = moves.stages
        # Made for all executions of a turn together, when each has said what it needs.
        self.new_runs: list[tuple[LiveStage, RunSpec]] = []
        self.published: list[LiveStage] = []
        self.wakes_again = False
        self.trigger: JSON = None
        if self.execution.trigger is not None:
            self.trigger = msgspec.json.decode(self.execution.trigger)
            self.trigger["attempt"] = self.execution.attempt

    def run(self) -> None:
        if self.execution.wake_at is not None:
            self.execution.wake_at = None
            self.moves.touch()
        if self._is_postponed():
            return
        self._time_out()
        for step in self.plan.steps:
            stage = self.stages[step.name]
            if stage.status in ACTIVE:
                self._look(step, stage)
        outcome = self._start_ready()
        if self.published:
            outcome = self._settle_published()
        if outcome is not None:
            self._end(outcome)
        else:
            self._sleep()

    def _is_postponed(self) -> bool:
        """Say whether it waits for its next try; a cancel ends the wait."""
        retry_at = self.execution.retry_at
        if retry_at is None:
            return False
        if self.execution.cancel_requested_at is not None:
            self.execution.retry_at = None
            return False
        if retry_at > self.moves.now:
            self.execution.wake_at = retry_at
            return True
        return False

    # --- what has happened --------------------------------------------------------------------

    def _time_out(self) -> None:
        due = self.execution.deadline_at
        if due is not None and due <= self.moves.now and self.execution.cancel_requested_at is None:
            # Fails at the end, see _end: timing out is no wish of anybody.
            transitions.request_cancel(
                self.moves, reason=f"timed out after {self.plan.timeout_s:g} s"
            )

    def _look(self, step: Step, stage: LiveStage) -> None:
        """Bring an active stage up to what its runs say."""
        if not stage.run_ids and stage.items is None:
            if self.execution.cancel_requested_at is not None:
                self.moves.move_stage(stage, S.CANCELLED, error=self.execution.cancel_reason)
            else:
                self._perform(step, stage, self._scope(step))
            return
        found = [stage.runs[one] for one in stage.run_ids if one in stage.runs]
        is_open = [run for run in found if run.state not in FINAL_RUN_STATES]
        bad = next((run for run in found if run.state == RunState.FAILED), None)
        stopped = next((run for run in found if run.state == RunState.CANCELLED), None)
        stops = bad or stopped or self.execution.cancel_requested_at is not None
        left = len(stage.items or ()) - len(stage.run_ids) if stage.items is not None else 0
        if left and not stops:
            self._start_items(step, stage, room=step.max_parallel - len(is_open))
        elif not is_open:
            if stage.status == S.INITIATED and any(run.has_started for run in found):
                # Nobody looked while it ran: its story stays complete.
                self.moves.move_stage(stage, S.PROCESSING)
            if bad is not None:
                self.moves.move_stage(stage, S.FAILED, error=bad.error or "its run failed")
            elif stopped is not None or left:
                self.moves.move_stage(stage, S.CANCELLED, error="its run was cancelled")
            else:
                self.moves.move_stage(stage, S.COMPLETED, outputs=_outputs(stage))
        elif stage.status == S.INITIATED and any(run.has_started for run in found):
            self.moves.move_stage(stage, S.PROCESSING)

    # --- what is to be done -------------------------------------------------------------------

    def _start_ready(self) -> ExecutionStatus | None:
        """Start all that is ready, which may make more ready; return how it ends, if it does."""
        while True:
            decision = self._decide()
            for name in decision.skip:
                self.moves.move_stage(self.stages[name], S.SKIPPED)
            why = self.execution.cancel_reason or "a step failed before it"
            for name in decision.give_up:
                self.moves.move_stage(self.stages[name], S.CANCELLED, error=why)
            if not decision.start:
                return decision.outcome
            for name in decision.start:
                self._begin(self.plan.step(name), self.stages[name])

    def _decide(self) -> Decision:
        return decide(
            self.plan.needs,
            {name: stage.status for name, stage in self.stages.items()},
            goes_on=self.plan.goes_on,
            is_cancelled=self.execution.cancel_requested_at is not None,
        )

    def _settle_published(self) -> ExecutionStatus | None:
        """Complete the steps whose messages are written with this turn; what follows them is for the next one."""
        for stage in self.published:
            outputs: dict[str, JSON] = {}
            self.moves.publish(stage.note, outputs)
            stage.note = None
            self.moves.move_stage(stage, S.COMPLETED, outputs=outputs)
        if self._decide().start:
            self.wakes_again = True
            return None
        return self._start_ready()

    def _begin(self, step: Step, stage: LiveStage) -> None:
        scope = self._scope(step)
        try:
            if step.when is not None and not expressions.is_true(
                expressions.evaluate(step.when, scope)
            ):
                self.moves.move_stage(stage, S.SKIPPED)
            elif step.work.adapter is not None:
                self._perform(step, stage, scope)
            elif step.for_each is not None:
                self._begin_items(step, stage, scope)
            else:
                self._add_run(stage, _run_spec(self.execution, step, scope))
                self.moves.move_stage(stage, S.INITIATED)
        except (ExpressionFailed, StepFailed) as exc:
            self.moves.move_stage(stage, S.FAILED, error=str(exc))

    def _begin_items(self, step: Step, stage: LiveStage, scope: dict[str, JSON]) -> None:
        items = expressions.evaluate(step.for_each or "", scope)
        if not isinstance(items, list):
            raise StepFailed(
                f"for_each {step.for_each!r} must give an array, gave {expressions.shape(items)}"
            )
        if len(items) > MOST_ITEMS:
            raise StepFailed(f"for_each gave {len(items)} items; at most {MOST_ITEMS} are possible")
        stage.items = runs.clean(items)
        if not items:
            self.moves.move_stage(stage, S.COMPLETED, outputs=[])
            return
        self.moves.move_stage(stage, S.INITIATED)
        self._start_items(step, stage, room=step.max_parallel)

    def _start_items(self, step: Step, stage: LiveStage, *, room: int) -> None:
        scope = self._scope(step)
        first = len(stage.run_ids)
        for item in (stage.items or [])[first : first + max(room, 0)]:
            try:
                self._add_run(
                    stage, _run_spec(self.execution, step, {**scope, expressions.ITEM: item})
                )
            except (ExpressionFailed, StepFailed) as exc:
                self.moves.move_stage(stage, S.FAILED, error=f"item {len(stage.run_ids)}: {exc}")
                return
        self.moves.change(stage)

    def _perform(self, step: Step, stage: LiveStage, scope: dict[str, JSON]) -> None:
        """Let an adapter do the step."""
        adapter = registry.get(step.work.adapter or "")
        try:
            inputs = _filled(adapter.inputs, expressions.fill(step.inputs, scope))
            outcome = adapter.perform(
                Call(self.execution, step.name, step.stage, inputs, self.moves.now, stage.note)
            )
        except (ExpressionFailed, StepFailed, AdapterFailed, GyozaError) as exc:
            self.moves.move_stage(stage, S.FAILED, error=str(exc))
            return
        match outcome:
            case Done(outputs):
                self.moves.move_stage(stage, S.COMPLETED, outputs=runs.clean(outputs))
            case Waits(note, until):
                stage.note, stage.wake_at = note, until
                if stage.status == S.PENDING:
                    self.moves.move_stage(stage, S.PROCESSING)
                self.moves.change(stage)
            case Publishes(message):
                stage.note = message
                self.moves.move_stage(stage, S.PROCESSING)
                self.published.append(stage)
            case Delegates():
                spec = replace(
                    _overridden(step, RunSpec(python=outcome.python, inputs=outcome.inputs)),
                    execution_id=self.execution.id,
                    step=step.name,
                )
                if outcome.timeout_s is not None and not step.has_timeout:
                    spec = replace(spec, timeout_s=outcome.timeout_s)
                self._add_run(stage, spec)
                self.moves.move_stage(stage, S.INITIATED)

    def _add_run(self, stage: LiveStage, spec: RunSpec) -> None:
        self.new_runs.append((stage, spec))

    def _scope(self, step: Step) -> dict[str, JSON]:
        execution = self.execution
        return {
            "trigger": self.trigger,
            "inputs": execution.inputs,
            "steps": {
                name: {"outputs": stage.outputs, "status": stage.status.value}
                for name, stage in self.stages.items()
            },
            "execution": {
                "id": str(execution.id),
                "tag": execution.tag,
                "pipeline_id": execution.pipeline_id,
                "pipeline_version": str(execution.pipeline_version),
                "attempt": execution.attempt,
                "metadata": execution.metadata,
            },
        }

    # --- the end ------------------------------------------------------------------------------

    def _end(self, outcome: ExecutionStatus) -> None:
        timed_out = (
            self.execution.deadline_at is not None and self.execution.deadline_at <= self.moves.now
        )
        if outcome == ExecutionStatus.CANCELLED and not timed_out:
            transitions.cancel(self.moves)
        elif outcome == ExecutionStatus.COMPLETED:
            needed = {need for needs in self.plan.needs.values() for need in needs}
            leaves = [name for name in self.plan.needs if name not in needed]
            transitions.complete(self.moves, outputs=self._outputs(leaves))
        else:
            self._fail(may_retry=not timed_out)

    def _fail(self, *, may_retry: bool) -> None:
        failed = [stage for stage in self.stages.values() if stage.status == S.FAILED]
        error: dict[str, JSON] = {
            "message": (
                f"{failed[0].name}: {failed[0].error}" if failed else self.execution.cancel_reason
            ),
            "stages": [{"name": stage.name, "error": stage.error} for stage in failed],
        }
        policy = self.plan.trigger.retry_policy
        may_retry = may_retry and self.execution.source_id is not None
        if may_retry and runs.allows_another(policy, self.execution.attempt):
            delay = timedelta(seconds=runs.delay_seconds(policy, self.execution.attempt))
            transitions.postpone(self.moves, until=self.moves.now + delay, error=error)
        else:
            transitions.fail(self.moves, error=error)

    def _outputs(self, leaves: list[str]) -> dict[str, JSON]:
        """Return the outputs of the steps that no other needs."""
        here = {
            name: self.stages[name].outputs
            for name in leaves
            if not self.stages[name].keeps_outputs and self.stages[name].status == S.COMPLETED
        }
        stored = [name for name in leaves if self.stages[name].keeps_outputs]
        return {**queries.leaf_outputs(self.execution.id, stored), **here} if stored else here

    def runs_to_stop(self) -> list[UUID]:
        """Return the runs that go on although the execution is to end."""
        if self.execution.cancel_requested_at is None:
            return []
        return [
            run.id
            for stage in self.stages.values()
            for run in stage.runs.values()
            if stage.status in ACTIVE and run.state not in FINAL_RUN_STATES
        ]

    def _sleep(self) -> None:
        """Note when to look again without being told."""
        moments = [stage.wake_at for stage in self.stages.values() if stage.wake_at is not None]
        if self.execution.cancel_requested_at is None and self.execution.deadline_at is not None:
            moments.append(self.execution.deadline_at)
        if self.runs_to_stop():
            moments.append(self.moves.now + STOPPING)
        if self.wakes_again:
            moments.append(self.moves.now)
            nudge_on_commit(transitions.ADVANCE_TASK)
        if moments:
            self.execution.wake_at = min(moments)
            self.moves.touch()


def retry_execution(execution: Execution, *, reason: str) -> None:
    """Do again what failed or was cancelled: runs that were made get another attempt, the other steps start anew.

    Raises IllegalTransition unless the execution is failed, cancelled or interrupted.
    """
    # First the runs, in a transaction of their own (see advance_execution). Should the second be lost, they end under
    # an ended execution, and the next retry finds them done.
    with transitions.locked(execution.id) as moves:
        transitions.require_ended(moves)
        again = [stage for stage in moves.load().values() if stage.status in UNDONE]
    run_ids = [run_id for stage in again for run_id in stage.run_ids]
    if run_ids:
        runs.reopen_runs(run_ids=run_ids, reason=reason)
    with transitions.locked(execution.id) as moves:
        transitions.require_ended(moves)
        transitions.reopen(moves)
        timeout_s = documents.plan_of(moves.execution.document).timeout_s
        if timeout_s is not None:
            moves.execution.deadline_at = moves.now + timedelta(seconds=timeout_s)
        moves.execution.wake_at = moves.now
        nudge_on_commit(transitions.ADVANCE_TASK)


def first_inputs(
    plan: Plan, pipeline: Pipeline, version: Version, trigger: JSON
) -> dict[str, JSON]:
    """Return the inputs of the steps that a message would start at once; what fails says so in its place."""
    scope = {
        "trigger": trigger,
        "inputs": {},
        "steps": {},
        "execution": {
            "id": None,
            "tag": None,
            "pipeline_id": pipeline.id,
            "pipeline_version": str(version.number),
            "attempt": 1,
            "metadata": {},
        },
    }
    found: dict[str, JSON] = {}
    for step in plan.steps:
        if step.needs:
            continue
        try:
            if step.when is None or expressions.is_true(expressions.evaluate(step.when, scope)):
                found[step.name] = expressions.fill(step.inputs, scope)
        except ExpressionFailed as exc:
            found[step.name] = {"error": exc.message}
    return found


def _reads(plan: Plan) -> list[tuple[str, str]]:
    return [(step.name, need) for step in plan.steps for need in step.needs]


def _outputs(stage: LiveStage) -> JSON:
    listed = [stage.runs[one].outputs for one in stage.run_ids]
    return listed if stage.items is not None else listed[0]


def _run_spec(execution: Execution, step: Step, scope: dict[str, JSON]) -> RunSpec:
    """Return the run that does a step. Raises StepFailed, ExpressionFailed."""
    inputs = runs.clean(expressions.fill(step.inputs, scope))
    work = step.work
    if work.op is not None:
        definition = _definition(execution, step)
        spec = replace(runs.spec_of(definition), inputs=_filled(definition.input_specs, inputs))
    else:
        spec = RunSpec(
            image=work.image,
            command=work.command,
            python=work.python,
            env=step.env,
            inputs=inputs,
            output_specs=step.output_specs,
        )
    return replace(_overridden(step, spec), execution_id=execution.id, step=step.name)


def _definition(execution: Execution, step: Step) -> Definition:
    wanted = (step.work.op or "", step.work.op_version)
    maker = Caller(name="pipeline", scopes=frozenset(), prefixes=tuple(execution.prefixes))
    found = definitions.find_definitions(wanted=[wanted], caller=maker)
    if wanted not in found:
        raise StepFailed(f"there is no op {'@'.join(part for part in wanted if part)} any more")
    return found[wanted]


def _overridden(step: Step, spec: RunSpec) -> RunSpec:
    """Return the run with what the step itself says of priority, constraints, retries and time."""
    if step.priority is not None:
        spec = replace(spec, priority=step.priority)
    if step.retry_policy is not None:
        spec = replace(spec, retry_policy=step.retry_policy)
    if step.has_timeout:
        spec = replace(spec, timeout_s=step.timeout_s)
    if step.constraints is not None:
        spec = replace(spec, **step.constraints)
    return spec


def _filled(specs: Any, inputs: dict[str, JSON]) -> dict[str, JSON]:
    """Return inputs with defaults. Raises StepFailed naming every one that does not fit."""
    filled, errors = definition_services.fill_inputs(specs, inputs)
    if errors:
        listed = "; ".join(f"{name} {message}" for name, message in errors)
        raise StepFailed(f"{listed}; it was given {expressions.shape(inputs)}")
    return filled

"""One turn of one execution: what has happened to its stages, what is to be done next, and how it ends."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from apps.core.errors import GyozaError
from apps.core.queue import nudge_on_commit
from apps.pipelines import queries, transitions
from apps.pipelines.adapters import registry
from apps.pipelines.adapters.base import (
    AdapterFailed,
    Call,
    Delegates,
    Done,
    Errand,
    Publishes,
    Waits,
)
from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.execution import steprun
from apps.pipelines.execution.graph import Decision, decide
from apps.pipelines.execution.liveexecutions import read_trigger
from apps.pipelines.execution.steprun import StepFailed
from apps.pipelines.language import expressions
from apps.pipelines.language.steps import MOST_ITEMS
from apps.pipelines.states import ACTIVE, ExecutionStatus, StageStatus
from apps.runs.services.control import allows_another, delay_seconds
from apps.runs.services.submission import RunSpec, clean
from apps.runs.states import FINAL as FINAL_RUN_STATES
from apps.runs.states import RunState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from apps.pipelines.execution.livestages import LiveStage
    from apps.pipelines.language.plans import Plan, Step
    from apps.pipelines.transitions import Moves

JSON = Any
S = StageStatus

# After how long what was asked to stop is asked again.
STOPPING = timedelta(seconds=5)
# The note of a stage whose errand is being run, and after how long somebody else may run it, too.
UNDER_WAY: JSON = {"errand": "under way"}
PATIENCE = timedelta(seconds=30)


class Turn:
    """One turn of one execution."""

    def __init__(
        self, moves: Moves, plan: Plan, *, refused: Mapping[str, str], ops: steprun.Ops
    ) -> None:
        self.moves = moves
        self.plan = plan
        self.refused = refused
        self.ops = ops
        self.execution = moves.execution
        self.stages = moves.stages
        # Made for all executions of a turn together, when each has said what it needs.
        self.new_runs: list[tuple[LiveStage, RunSpec]] = []
        self.published: list[LiveStage] = []
        # Run when the turn is committed.
        self.errands: list[tuple[LiveStage, Errand]] = []
        # Executions that steps wait for and that go on although this one is to end.
        self.children_to_stop: list[UUID] = []
        self.wakes_again = False

    @cached_property
    def trigger(self) -> JSON:
        """The message as steps see it, for those that read it."""
        text = read_trigger(self.execution)
        if text is None:
            return None
        return {**msgspec.json.decode(text), "attempt": self.execution.attempt}

    def run(self) -> None:
        """Move the execution as far as it goes, noting the runs it needs."""
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
                child = _child_of(stage)
                if child is not None and queries.is_running(child):
                    self.children_to_stop.append(child)
                else:
                    self.moves.move_stage(stage, S.CANCELLED, error=self.execution.cancel_reason)
            elif stage.note != UNDER_WAY or (stage.wake_at or self.moves.now) <= self.moves.now:
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
                self._add_run(stage, self._run_spec(step, scope))
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
        stage.items = clean(items)
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
                self._add_run(stage, self._run_spec(step, {**scope, expressions.ITEM: item}))
            except (ExpressionFailed, StepFailed) as exc:
                self.moves.move_stage(stage, S.FAILED, error=f"item {len(stage.run_ids)}: {exc}")
                return
        self.moves.change(stage)

    def _perform(self, step: Step, stage: LiveStage, scope: dict[str, JSON]) -> None:
        """Let an adapter do the step."""
        adapter = registry.get(step.work.adapter or "")
        try:
            inputs = steprun.filled(adapter.inputs, expressions.fill(step.inputs, scope))
            outcome = adapter.perform(
                Call(self.execution, step.name, step.stage, inputs, self.moves.now, stage.note)
            )
        except (ExpressionFailed, StepFailed, AdapterFailed, GyozaError) as exc:
            self.moves.move_stage(stage, S.FAILED, error=str(exc))
            return
        match outcome:
            case Done(outputs):
                self.moves.move_stage(stage, S.COMPLETED, outputs=clean(outputs))
            case Waits(note, until):
                self._wait(step, stage, note, until)
            case Errand():
                stage.note, stage.wake_at = UNDER_WAY, self.moves.now + PATIENCE
                if stage.status == S.PENDING:
                    self.moves.move_stage(stage, S.PROCESSING)
                self.moves.change(stage)
                self.errands.append((stage, outcome))
            case Publishes(message) if message.topic in self.refused:
                self.moves.move_stage(stage, S.FAILED, error=self.refused[message.topic])
            case Publishes(message):
                stage.note = message
                self.moves.move_stage(stage, S.PROCESSING)
                self.published.append(stage)
            case Delegates():
                spec = replace(
                    steprun.overridden(step, RunSpec(python=outcome.python, inputs=outcome.inputs)),
                    execution_id=self.execution.id,
                    step=step.name,
                )
                if outcome.timeout_s is not None and not step.has_timeout:
                    spec = replace(spec, timeout_s=outcome.timeout_s)
                self._add_run(stage, spec)
                self.moves.move_stage(stage, S.INITIATED)

    def _wait(self, step: Step, stage: LiveStage, note: JSON, until: datetime | None) -> None:
        """Let an adapter's step wait, for as long as `timeout_s` allows: a run has a clock of its own."""
        if stage.status == S.PENDING:
            self.moves.move_stage(stage, S.PROCESSING)
        timeout_s, started_at = step.timeout_s, stage.started_at or self.moves.now
        due = None if timeout_s is None else started_at + timedelta(seconds=timeout_s)
        if due is not None and due <= self.moves.now:
            self.moves.move_stage(stage, S.FAILED, error=f"timed out after {timeout_s:g} s")
            return
        stage.note = note
        stage.wake_at = min((one for one in (until, due) if one is not None), default=None)
        self.moves.change(stage)

    def _run_spec(self, step: Step, scope: dict[str, JSON]) -> RunSpec:
        return steprun.run_spec(self.execution, self.plan, step, scope, self.ops)

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
            transitions.complete(self.moves, outputs=self._outputs(self.plan.leaves))
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
        if may_retry and allows_another(policy, self.execution.attempt):
            delay = timedelta(seconds=delay_seconds(policy, self.execution.attempt))
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
        if self.runs_to_stop() or self.children_to_stop:
            moments.append(self.moves.now + STOPPING)
        if self.wakes_again:
            moments.append(self.moves.now)
            nudge_on_commit(transitions.ADVANCE_TASK)
        if moments:
            self.execution.wake_at = min(moments)
            self.moves.touch()


def _child_of(stage: LiveStage) -> UUID | None:
    """Return the execution that a step waits for."""
    named = stage.note.get("execution_id") if isinstance(stage.note, dict) else None
    return None if named is None else UUID(named)


def _outputs(stage: LiveStage) -> JSON:
    listed = [stage.runs[one].outputs for one in stage.run_ids]
    return listed if stage.items is not None else listed[0]

"""The run that does a step: what its document, its op and what it reads of other steps make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from apps.access.auth import Caller
from apps.definitions import queries as definitions
from apps.definitions import services as definition_services
from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.language import expressions
from apps.runs.services.submission import RunSpec, clean, spec_of

if TYPE_CHECKING:
    from apps.definitions.models import Definition
    from apps.definitions.queries import Wanted
    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.pipelines.language.plans import Plan, Step
    from apps.pipelines.models import Pipeline, Version

JSON = Any


class StepFailed(Exception):
    """A step can't be done; the message says why."""


class Ops:
    """The ops that steps name, as they are now: all of a plan are looked up together, once for many executions.

    So is what a step says of its run by itself.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], dict[Wanted, Definition | None]] = {}
        # By id: steps can't be hashed, and those of a turn are kept as long as this is.
        self._own: dict[int, tuple[Step, RunSpec]] = {}

    def own(self, step: Step) -> RunSpec:
        """Return the run of a step that names no op, but for its inputs and its execution."""
        known = self._own.get(id(step))
        if known is None:
            work = step.work
            spec = RunSpec(
                image=work.image,
                command=work.command,
                python=work.python,
                env=step.env,
                output_specs=step.output_specs,
                step=step.name,
                stage=step.stage,
            )
            known = self._own[id(step)] = step, overridden(step, spec)
        return known[1]

    def get(self, execution: LiveExecution, plan: Plan, step: Step) -> Definition:
        """Return the op of a step, as the maker of the execution sees it. Raises StepFailed."""
        prefixes = tuple(execution.prefixes)
        known = self._known.setdefault(prefixes, {})
        wanted = _wanted(step)
        if wanted not in known:
            news = {_wanted(one) for one in plan.steps if one.work.op is not None} - known.keys()
            maker = Caller(name="pipeline", scopes=frozenset(), prefixes=prefixes)
            known |= dict.fromkeys(news)
            known |= definitions.find_definitions(wanted=news, caller=maker)
        definition = known[wanted]
        if definition is None:
            raise StepFailed(f"there is no op {'@'.join(part for part in wanted if part)} any more")
        return definition


def _wanted(step: Step) -> Wanted:
    return (step.work.op or "", step.work.op_version)


def run_spec(
    execution: LiveExecution, plan: Plan, step: Step, scope: dict[str, JSON], ops: Ops
) -> RunSpec:
    """Return the run that does a step. Raises StepFailed, ExpressionFailed."""
    inputs = clean(expressions.fill(step.inputs, scope))
    if step.work.op is None:
        return replace(ops.own(step), inputs=inputs, execution_id=execution.id)
    definition = ops.get(execution, plan, step)
    inputs = filled(definition.input_specs, inputs)
    return replace(
        overridden(step, spec_of(definition)),
        inputs=inputs,
        execution_id=execution.id,
        step=step.name,
        stage=step.stage,
    )


def overridden(step: Step, spec: RunSpec) -> RunSpec:
    """Return the run with what the step itself says of priority, constraints, retries and time."""
    own: dict[str, JSON] = dict(step.constraints or {})
    if step.priority is not None:
        own["priority"] = step.priority
    if step.retry_policy is not None:
        own["retry_policy"] = step.retry_policy
    if step.has_timeout:
        own["timeout_s"] = step.timeout_s
    return replace(spec, **own) if own else spec


def filled(specs: Any, inputs: dict[str, JSON]) -> dict[str, JSON]:
    """Return inputs with defaults. Raises StepFailed naming every one that does not fit."""
    with_defaults, errors = definition_services.fill_inputs(specs, inputs)
    if errors:
        listed = "; ".join(f"{name} {message}" for name, message in errors)
        raise StepFailed(f"{listed}; it was given {expressions.shape(inputs)}")
    return with_defaults


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

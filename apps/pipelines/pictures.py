"""A pipeline's graph on its page, and on the pages of its executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.html import format_html
from django.utils.safestring import mark_safe

from apps.pipelines.language.drawing import Look, lay_out, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.utils.safestring import SafeString

    from apps.pipelines.language.plans import Plan, Step
    from apps.pipelines.models import Stage


def of_plan(plan: Plan) -> SafeString:
    """Draw what a pipeline does: each step with who does it."""
    return _picture(plan, {step.name: Look(note=_work(step)) for step in plan.steps})


def of_execution(plan: Plan, stages: Sequence[Stage]) -> SafeString:
    """Draw how far an execution is: each step with its state."""
    return _picture(
        plan, {stage.name: Look(note=_progress(stage), state=stage.status) for stage in stages}
    )


def _picture(plan: Plan, looks: Mapping[str, Look]) -> SafeString:
    drawn = svg(lay_out(plan.needs), looks, title=f"Steps of {plan.name}")
    # All text in it was escaped where it was put in.
    return format_html('<div class="gz-scroll" tabindex="0">{}</div>', mark_safe(drawn))  # noqa: S308


def _work(step: Step) -> str:
    work = step.work
    named = (
        "@".join(part for part in (work.op, work.op_version) if part)
        or work.adapter
        or work.image
        or work.python
        or " ".join(work.command or ())
    )
    return f"{named} for each" if step.for_each is not None else named


def _progress(stage: Stage) -> str:
    runs = f", {len(stage.run_ids)} runs" if len(stage.run_ids) > 1 else ""
    return f"{stage.status}{runs}"

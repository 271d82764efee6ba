"""What operators do with triggers and schedules: to several rows at once, and to one behind a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from unfold.decorators import action

from apps.access.auth import person_of
from apps.pipelines import triggers
from apps.pipelines.schedules import services as schedules

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from apps.access.auth import Caller
    from apps.core.adminsite import AskingAdmin
    from apps.pipelines.models import Autostart

    # An action of a list, and a button of a page.
    Pair = tuple[Callable[..., None], Callable[..., HttpResponse]]


def _pair(name: str, done: str, question: str, change: Callable[[str, Caller], object]) -> Pair:
    @admin.action(description=name, permissions=["operate"])
    def several(page: AskingAdmin, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        caller = person_of(request)
        page.apply(request, queryset, done, lambda row: change(row.pk, caller))

    @action(description=name, url_path=name.lower().replace(" ", "-"), permissions=["operate"])  # type: ignore[untyped-decorator]
    def one(page: AskingAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
        def carry_out(row: Autostart, _: dict[str, Any]) -> str:
            change(row.pk, person_of(request))
            return f"{done}: {row}"

        return page.ask(request, object_id, title=name, question=question, change=carry_out)

    return several, one


START = _pair(
    "Start",
    "Started",
    "Messages start the newest version from now on; a started trigger goes on where it is.",
    lambda pipeline_id, caller: triggers.start_trigger(
        pipeline_id=pipeline_id, version=None, caller=caller
    ),
)
STOP = _pair(
    "Stop",
    "Stopped",
    "No more messages are taken, and the position is forgotten. What runs goes on.",
    lambda pipeline_id, caller: triggers.stop_trigger(pipeline_id=pipeline_id, caller=caller),
)
PAUSE = _pair(
    "Pause",
    "Paused",
    "Messages wait until it is resumed.",
    lambda pipeline_id, caller: triggers.pause_trigger(pipeline_id=pipeline_id, caller=caller),
)
RESUME = _pair(
    "Resume",
    "Resumed",
    "Messages are taken from where it was paused.",
    lambda pipeline_id, caller: triggers.resume_trigger(pipeline_id=pipeline_id, caller=caller),
)
REDRIVE = _pair(
    "Redrive",
    "Redriven",
    "All dead letters are taken up again: what failed goes on from its failed steps.",
    lambda pipeline_id, caller: triggers.redrive(pipeline_id=pipeline_id, seqs=None, caller=caller),
)
PAUSE_SCHEDULE = _pair(
    "Pause schedule",
    "Schedule paused",
    "Nothing is started by the clock until it is resumed, nor made up for then.",
    lambda pipeline_id, caller: schedules.pause_schedule(pipeline_id=pipeline_id, caller=caller),
)
RESUME_SCHEDULE = _pair(
    "Resume schedule",
    "Schedule resumed",
    "The clock starts it again, from its next due time on.",
    lambda pipeline_id, caller: schedules.resume_schedule(pipeline_id=pipeline_id, caller=caller),
)

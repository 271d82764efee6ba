"""What operators do with pipelines, and with what starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from apps.console.page import Act, Made, given
from apps.core import strictjson
from apps.core.api.parameters import Parameters
from apps.core.errors import NotFound
from apps.pipelines import services, triggers
from apps.pipelines.schedules import services as schedules
from apps.topics.queries import MAX_SEQ

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseRedirect

    from apps.access.auth import Caller


class RunView(Act):
    def post(self, request: HttpRequest, pipeline_id: str) -> HttpResponseRedirect:
        """Start an execution of the newest version, and lead to it."""
        inputs, tag = given(request, "inputs"), given(request, "tag")

        def change() -> Made:
            execution = services.run_pipeline(
                pipeline_id=pipeline_id,
                inputs=strictjson.read_object(inputs.encode()) if inputs else {},
                tag=tag or None,
                caller=self.caller,
            )
            return Made("Started.", reverse("console:execution", args=[execution.id]))

        return self.act(change, back=_page(pipeline_id))


class RedriveView(Act):
    def post(self, request: HttpRequest, pipeline_id: str) -> HttpResponseRedirect:
        """Take one dead letter up again, or all."""
        form = Parameters(request.POST)
        seq = form.integer("seq", default=0, low=1, high=MAX_SEQ)
        form.finish()

        def change() -> str:
            seqs = [seq] if seq else None
            count = triggers.redrive(pipeline_id=pipeline_id, seqs=seqs, caller=self.caller)
            return f"Dead letters taken up again: {count}."

        return self.act(change, back=_page(pipeline_id))


class StarterView(Act):
    def post(self, request: HttpRequest, pipeline_id: str, deed: str) -> HttpResponseRedirect:
        """Do with a trigger or a schedule what a button says."""
        if deed not in _DEEDS:
            raise NotFound("There is no such button.")
        return self.act(lambda: _DEEDS[deed](pipeline_id, self.caller), back=_page(pipeline_id))


def _start(pipeline_id: str, caller: Caller) -> str:
    triggers.start_trigger(pipeline_id=pipeline_id, version=None, caller=caller)
    return "Messages start the newest version from now on."


def _stop(pipeline_id: str, caller: Caller) -> str:
    triggers.stop_trigger(pipeline_id=pipeline_id, caller=caller)
    return "No more messages are taken, and the position is forgotten."


def _pause(pipeline_id: str, caller: Caller) -> str:
    triggers.pause_trigger(pipeline_id=pipeline_id, caller=caller)
    return "Messages wait until it is resumed."


def _resume(pipeline_id: str, caller: Caller) -> str:
    triggers.resume_trigger(pipeline_id=pipeline_id, caller=caller)
    return "Messages are taken again."


def _pause_schedule(pipeline_id: str, caller: Caller) -> str:
    schedules.pause_schedule(pipeline_id=pipeline_id, caller=caller)
    return "The clock starts nothing until it is resumed."


def _resume_schedule(pipeline_id: str, caller: Caller) -> str:
    schedules.resume_schedule(pipeline_id=pipeline_id, caller=caller)
    return "The clock starts it again."


_DEEDS: dict[str, Callable[[str, Caller], str]] = {
    "trigger/start": _start,
    "trigger/stop": _stop,
    "trigger/pause": _pause,
    "trigger/resume": _resume,
    "schedule/pause": _pause_schedule,
    "schedule/resume": _resume_schedule,
}


def _page(pipeline_id: str) -> str:
    return reverse("console:pipeline", args=[pipeline_id])

"""Request bodies of the runs API, read into what the services take; every error at once, each naming its field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec.structs import replace

from apps.core.body import JSON, Body, is_integer, shown
from apps.definitions import queries as definitions
from apps.definitions import services as definition_services
from apps.runs.services.submission import RunSpec, spec_of
from apps.runs.states import EventType, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller
    from apps.definitions.models import Definition

MOST_RUNS = 1000
WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)
REPORTABLE = [type_ for type_ in EventType if type_ not in (EventType.ASSIGNED, EventType.RETRIED)]
# PATCH /runs/{id} by the executing worker: the state it wants, as the event that brings it.
EVENT_OF_STATE = {
    RunState.RUNNING: EventType.STARTED,
    RunState.COMPLETED: EventType.COMPLETED,
    RunState.FAILED: EventType.FAILED,
    RunState.CANCELLED: EventType.CANCELLED,
}


def read_definition_run(value: JSON, *, definition: Definition, caller: Caller) -> RunSpec:
    """Read the body of POST /definitions/{name}/runs. Raises Invalid, Forbidden."""
    body = Body(value)
    spec = _from_definition(body, definition)
    body.finish()
    return _permitted([spec], caller)[0]


def read_ad_hoc_run(value: JSON, *, caller: Caller) -> RunSpec:
    """Read the body of POST /runs. Raises Invalid, Forbidden."""
    body = Body(value)
    if body.present("definition"):
        body.fail("definition", "runs of a definition are posted to /definitions/{name}/runs")
    spec = _ad_hoc(body)
    body.finish()
    return _permitted([spec], caller)[0]


def read_batch(value: JSON, *, caller: Caller) -> list[RunSpec]:
    """Read the body of POST /runs/batch. Raises Invalid naming the index of each bad request, Forbidden."""
    batch = Body(value)
    if not batch.given("runs"):
        batch.fail("runs", "is required")
    members = [
        Body(member, path=f"runs.{index}", errors=batch.errors)
        for index, member in enumerate(batch.array("runs")[: MOST_RUNS + 1])
    ]
    if batch.raw("runs") == [] or len(members) > MOST_RUNS:
        batch.fail("runs", f"must hold 1–{MOST_RUNS} requests")
        members = []
    batch.refuse_unknown()
    if any(not member.present("definition") for member in members):
        caller.require("admin")
    wanted = [_wanted(member) for member in members]
    found = definitions.find_definitions(wanted=[one for one in wanted if one], caller=caller)
    specs = []
    for member, want in zip(members, wanted, strict=True):
        if want is None:
            specs.append(_ad_hoc(member))
        elif want in found:
            specs.append(_from_definition(member, found[want]))
        else:
            member.fail(
                "definition", f"there is no definition {shown(want[0])}, version {shown(want[1])}"
            )
    batch.finish()
    return _permitted(specs, caller)


def _wanted(member: Body) -> tuple[str, str | None] | None:
    """Return the definition a batch member asks for; None = it is an ad-hoc run."""
    if not member.present("definition"):
        return None
    name = member.text("definition")
    version = member.text("version") if member.given("version") else None
    return name, version


def _permitted(specs: list[RunSpec], caller: Caller) -> list[RunSpec]:
    for topic in dict.fromkeys(spec.topic for spec in specs):
        definition_services.require_topic(caller, topic)
    return specs


def _from_definition(body: Body, definition: Definition) -> RunSpec:
    event_delivery = definition_services.read_event_delivery(body, definition.event_delivery)
    timeout_s = definition_services.read_timeout(body, default=definition.timeout_s)
    inputs, errors = definition_services.fill_inputs(
        definition.input_specs, body.mapping("inputs"), path=body.at("inputs")
    )
    body.errors.extend(errors)
    spec = replace(
        spec_of(definition),
        inputs=inputs,
        topic=event_delivery["topic"],
        attributes=event_delivery["attributes"],
        timeout_s=timeout_s,
        priority=_priority(body),
        metadata=body.mapping("metadata"),
        scheduled_at=_scheduled_at(body),
    )
    body.refuse_unknown()
    return spec


def _ad_hoc(body: Body) -> RunSpec:
    work = definition_services.read_work(body)
    inputs = body.mapping("inputs")
    if work.input_specs:
        inputs, errors = definition_services.fill_inputs(
            work.input_specs, inputs, path=body.at("inputs")
        )
        body.errors.extend(errors)
    needs = work.constraints
    spec = RunSpec(
        image=work.image,
        command=work.command,
        python=work.python,
        env=work.env,
        inputs=inputs,
        output_specs=work.output_specs,
        cpu=needs["cpu"],
        ram_mb=needs["ram_mb"],
        vram_mb=needs["vram_mb"],
        gpu_id=needs["gpu_id"],
        tags=needs["tags"],
        retry_policy=work.retry_policy,
        topic=work.event_delivery["topic"],
        attributes=work.event_delivery["attributes"],
        timeout_s=work.timeout_s,
        priority=_priority(body),
        metadata=body.mapping("metadata"),
        scheduled_at=_scheduled_at(body),
    )
    body.refuse_unknown()
    return spec


def _priority(body: Body) -> int:
    return body.integer("priority", default=5, low=-1000, high=1000)


def _scheduled_at(body: Body) -> datetime | None:
    value = body.raw("scheduled_at")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 < moment.year < 9999:
        body.fail("scheduled_at", f"must be an RFC 3339 time with its offset, got {shown(value)}")
        return None
    return moment


@dataclass(frozen=True, slots=True)
class Report:
    """What an executing worker, or the op itself, says about its attempt."""

    type: EventType | None
    msg: str | int
    payload: dict[str, JSON]
    outputs: dict[str, JSON] | None
    attempt: int
    lease: str | None


def read_report(value: JSON, *, is_op: bool) -> Report:
    """Read the body of POST /runs/{id}/events; an op speaks for its own attempt and needs no lease.

    Raises Invalid.
    """
    body = Body(value)
    types = [EventType.INFO, EventType.PROGRESS] if is_op else REPORTABLE
    if not body.given("type"):
        body.fail("type", "is required")
    kind = body.choice("type", types, default=EventType.INFO) if body.given("type") else "INFO"
    report = Report(
        type=EventType(kind),
        msg=_message(body, EventType(kind)),
        payload=body.mapping("payload"),
        outputs=body.mapping("outputs") if body.present("outputs") else None,
        attempt=_attempt(body, is_required=not is_op),
        lease=None if is_op else _lease(body),
    )
    body.refuse_unknown()
    body.finish()
    return report


def _message(body: Body, kind: EventType) -> str | int:
    if kind != EventType.PROGRESS:
        return body.text("msg")
    value = body.raw("msg")
    if not is_integer(value) or not 0 <= value <= 100:
        body.fail("msg", f"must be a whole number from 0 to 100, got {shown(value)}")
        return 0
    return int(value)


def _attempt(body: Body, *, is_required: bool) -> int:
    if is_required and not body.present("attempt"):
        body.fail("attempt", "is required")
    return body.integer("attempt", default=0, low=1, high=2**31 - 1)


def _lease(body: Body) -> str:
    return body.text("lease", default=None)


@dataclass(frozen=True, slots=True)
class RunChange:
    """What PATCH /runs/{id} asks for: a person's changes, or the worker's report."""

    priority: int | None
    metadata: dict[str, JSON] | None
    report: Report | None


def read_change(value: JSON) -> RunChange:
    """Read the body of PATCH /runs/{id}. Raises Invalid."""
    body = Body(value)
    by_worker = [name for name in ("state", "outputs") if body.present(name)]
    by_person = [name for name in ("priority", "metadata") if body.present(name)]
    change = RunChange(
        priority=_priority(body) if body.present("priority") else None,
        metadata=body.mapping("metadata") if body.present("metadata") else None,
        report=_worker_change(body) if by_worker else None,
    )
    if by_worker and by_person:
        body.fail(by_worker[0], f"a worker's report can't be combined with {by_person[0]}")
    body.refuse_unknown()
    body.finish()
    return change


def _worker_change(body: Body) -> Report:
    kind = None
    if body.present("state"):
        state = body.choice("state", list(EVENT_OF_STATE), default=RunState.RUNNING)
        kind = EVENT_OF_STATE[RunState(state)]
    return Report(
        type=kind,
        msg="",
        payload={},
        outputs=body.mapping("outputs") if body.present("outputs") else None,
        attempt=_attempt(body, is_required=True),
        lease=_lease(body),
    )


def read_limit(value: JSON) -> int:
    """Read the body of POST /workers/{id}/claim. Raises Invalid."""
    body = Body({} if value is None else value)
    limit = body.integer("max", default=1, low=1, high=1000)
    body.refuse_unknown()
    body.finish()
    return limit


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a pull worker says of itself."""

    resources: dict[str, JSON]
    tags: list[str]
    running: list[UUID] | None  # None = it does not say


def read_heartbeat(value: JSON) -> Heartbeat:
    """Read the body of POST /workers/{id}/heartbeat. Raises Invalid."""
    body = Body({} if value is None else value)
    resources = body.child("resources")
    heartbeat = Heartbeat(
        resources={
            "cpu": resources.integer_or_null("cpu") or 0,
            "ram_mb": resources.integer_or_null("ram_mb") or 0,
            "gpus": _gpus(resources),
        },
        tags=body.strings("tags"),
        running=_run_ids(body) if body.present("running") else None,
    )
    resources.refuse_unknown()
    body.refuse_unknown()
    body.finish()
    return heartbeat


def _gpus(resources: Body) -> list[dict[str, int]]:
    gpus: list[dict[str, int]] = []
    complaints = len(resources.errors)
    for index, raw in enumerate(resources.array("gpus")):
        gpu = Body(raw, path=resources.at(f"gpus.{index}"), errors=resources.errors)
        read = {name: gpu.integer_or_null(name) for name in ("id", "vram_mb")}
        for name, number in read.items():
            if number is None and not gpu.given(name):
                gpu.fail(name, "is required")
        gpu.refuse_unknown()
        gpus.append({name: number or 0 for name, number in read.items()})
    if len(resources.errors) == complaints and len({gpu["id"] for gpu in gpus}) < len(gpus):
        resources.fail("gpus", "each id must be there once")
    return gpus


def _run_ids(body: Body) -> list[UUID]:
    ids = []
    for index, value in enumerate(body.strings("running")):
        try:
            ids.append(UUID(value))
        except ValueError:
            body.fail(f"running.{index}", f"must be a run id, got {shown(value)}")
    return ids


def check_worker_id(worker_id: str) -> None:
    """Raise Invalid for an id no worker may have."""
    body = Body({"worker_id": worker_id})
    body.text(
        "worker_id",
        pattern=WORKER_ID.pattern,
        rule="must be 1–128 letters, digits, '.', '_', ':', '@' or '-'",
    )
    body.finish()


def read_states(values: Sequence[str]) -> tuple[list[RunState], list[str]]:
    """Split state names into states, each once, and names that are none."""
    known = [RunState(value) for value in dict.fromkeys(values) if value in list(RunState)]
    return known, [value for value in values if value not in list(RunState)]

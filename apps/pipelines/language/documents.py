"""A pipeline's document, read with every complaint at once (pipelines-storage.md §1, §3).

The document is kept as its author wrote it; what is read here is what the services need of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from apps.core.body import Body, is_integer, shown
from apps.definitions import services as definitions
from apps.pipelines.language import filters, steps
from apps.pipelines.language.plans import Batch, Plan, RateLimit, SchedulePlan, TriggerPlan
from apps.pipelines.schedules.cron import BadCron, Cron, is_timezone
from apps.topics import queries as topics

if TYPE_CHECKING:
    from apps.core.body import FieldError
    from apps.pipelines.language.steps import World

JSON = Any

RESERVED_IDS = frozenset({"validate"})
ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
ID_RULE = "must be 1–128 letters, digits, '.', '_' or '-', not beginning with a sign"
TOPIC_RULE = "must be a topic name (1–255 letters, digits, '.', '_', ':' or '-')"
MOST_NAME = 255
MOST_CONCURRENT = 10_000
MOST_CONCURRENCY = 1_000
MOST_BATCH = 1_000
LONGEST_BATCH_WAIT_MS = 3_600_000
_RATE = re.compile(r"([1-9]\d{0,5})/([smh])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read: its id if it names one, and what it says."""

    id: str | None
    plan: Plan


def read_document(value: JSON, *, world: World) -> Document:
    """Read a pipeline; raises Invalid with every complaint at once, each naming its place."""
    body, document = _read(value, world)
    body.finish()
    return document


def complaints(value: JSON, *, world: World) -> list[FieldError]:
    """Return what `read_document` would complain about."""
    body, _ = _read(value, world)
    return sorted(body.errors)


@lru_cache(maxsize=128)
def plan_of(text: str) -> Plan:
    """Return what a stored document says: it was checked when it was saved."""
    return _read(msgspec.json.decode(text), steps.World())[1].plan


def _read(value: JSON, world: World) -> tuple[Body, Document]:
    body = Body(value)
    identity = None
    if body.given("id"):
        identity = body.text("id", pattern=ID, rule=ID_RULE)
        if identity in RESERVED_IDS:
            body.fail("id", f"{identity} is the name of a path below /api/v1/pipelines")
    name = body.text("name", default=None, high=MOST_NAME)
    if body.present("name") and body.raw("name") == "":
        body.fail("name", "must not be empty")
    options = body.child("options")
    plan = Plan(
        name=name,
        steps=steps.read_steps(body, world),
        event=_event(options),
        trigger=_trigger(options.child("trigger")),
        schedule=_schedule(options),
        max_concurrent_executions=options.integer_or_null(
            "max_concurrent_executions", low=1, high=MOST_CONCURRENT
        ),
        timeout_s=definitions.read_timeout(options, default=None),
        goes_on=options.choice("on_failure", ["stop", "continue"], default="stop") == "continue",
    )
    body.mapping("metadata")
    _tags(body)
    for of_the_server in ("version", "created_at", "updated_at"):
        # Part of every answer: who sends one back changed means no harm.
        body.present(of_the_server)
    body.refuse_unknown()
    return body, Document(identity, plan)


def _event(options: Body) -> str:
    return _topic(options, "event") or ""


def _tags(body: Body) -> None:
    value = body.raw("tags")
    if value is not None and not isinstance(value, list | dict):
        body.fail("tags", f"must be an array or an object, got {shown(value)}")


def _schedule(options: Body) -> SchedulePlan | None:
    timezone = options.text("timezone") if options.given("timezone") else "UTC"
    if timezone and not is_timezone(timezone):
        options.fail(
            "timezone", f"must be an IANA name such as Europe/Berlin, got {shown(timezone)}"
        )
    cron = options.text("schedule") if options.given("schedule") else ""
    if not cron:
        return None
    try:
        Cron.parse(cron)
    except BadCron as exc:
        options.fail("schedule", f"{exc}, got {shown(cron)}")
    return SchedulePlan(cron=" ".join(cron.split()), timezone=timezone or "UTC")


def _trigger(body: Body) -> TriggerPlan:
    ordering = body.choice("ordering", ["unordered", "by_key"], default="unordered")
    key = None
    if ordering == "by_key":
        key = filters.read_field(body, "key")
    elif body.given("key"):
        body.fail("key", 'is for ordering "by_key"')
    plan = TriggerPlan(
        start=_start(body),
        filters=filters.read_filters(body, "filter"),
        max_concurrency=body.integer("max_concurrency", default=4, low=1, high=MOST_CONCURRENCY),
        lag_threshold=body.integer("lag_threshold", default=1, low=1, high=1_000_000),
        key=key,
        batch=_batch(body),
        retry_policy=definitions.read_retry_policy(body.child("retry")),
        dead_letter=_dead_letter(body),
        rate_limit=_rate_limit(body),
    )
    if plan.batch is not None and plan.key is not None:
        body.fail("batch", 'can\'t be combined with ordering "by_key"')
    body.refuse_unknown()
    return plan


def _start(body: Body) -> str | int:
    value = body.raw("start", "latest")
    if value in ("latest", "earliest") and isinstance(value, str):
        return str(value)
    if is_integer(value) and 0 <= value < 2**63:
        return int(value)
    body.fail("start", f'must be "latest", "earliest" or a seq, got {shown(value)}')
    return "latest"


def _batch(body: Body) -> Batch | None:
    if not body.given("batch"):
        return None
    child = body.child("batch")
    batch = Batch(
        max=child.integer("max", default=100, low=1, high=MOST_BATCH),
        wait_ms=child.integer("wait_ms", default=0, low=0, high=LONGEST_BATCH_WAIT_MS),
    )
    child.refuse_unknown()
    return batch


def _dead_letter(body: Body) -> str | None:
    name = _topic(body, "dead_letter")
    if name is not None and topics.is_reserved(name):
        body.fail(
            "dead_letter", f"must be a topic that others than the service write to, got {name}"
        )
    return name


def _topic(body: Body, member: str) -> str | None:
    if not body.given(member):
        return None
    name = body.text(member)
    if name and not topics.is_topic_name(name):
        body.fail(member, f"{TOPIC_RULE}, got {shown(name)}")
    return name or None


def _rate_limit(body: Body) -> RateLimit | None:
    if not body.given("rate_limit"):
        return None
    text = body.text("rate_limit")
    found = _RATE.fullmatch(text)
    if found is None:
        body.fail(
            "rate_limit", f'must be a number per s, m or h, such as "100/m", got {shown(text)}'
        )
        return None
    return RateLimit(int(found[1]), _SECONDS[found[2]])

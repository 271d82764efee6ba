"""The pages of GET /runs: which runs, and of each just what its JSON is made of (runs.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.db.models import DateTimeField, JSONField, Q, TextField
from django.db.models.functions import Cast

from apps.core.errors import Invalid
from apps.runs import names
from apps.runs.models import Run

if TYPE_CHECKING:
    from apps.access.auth import Caller
    from apps.runs.models import RunQuerySet
    from apps.runs.states import RunState

# Ids are made a moment before the row's created_at is read; the exact comparison stands beside the id bound.
_ID_SLACK_S = 60
_UUID7_LOW = 0x7000_8000_0000_0000_0000
# So many runs are looked through before a limited key's names are: whose runs are a good part of all has its page in them.
NEAR = 500
# So many if, by what the near ones have shown, they have the page: four times the rows cost less than the names do.
FAR = 2000


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What GET /runs may ask for; None and () = whatever."""

    states: tuple[RunState, ...] = ()
    op_definition: str | None = None
    image: str | None = None
    topic: str | None = None
    execution_id: UUID | None = None
    created_gte: float | None = None
    created_gt: float | None = None
    created_lte: float | None = None
    created_lt: float | None = None


class ListedRun(msgspec.Struct):
    """A run as `wire.run` reads it. JSON is the text that Postgres has, neither parsed nor written anew.

    Making models of a page costs three times the page.
    """

    id: UUID
    state: str
    priority: int
    progress: int
    current_attempt: int
    image: str | None
    command: list[str] | None
    python: str | None
    inputs: msgspec.Raw
    outputs: msgspec.Raw
    op_definition: str | None
    op_version: str | None
    cpu: int | None
    ram_mb: int | None
    vram_mb: int | None
    gpu_id: int | None
    tags: list[str]
    retry_policy: msgspec.Raw
    topic: str
    attributes: msgspec.Raw
    timeout_s: float | None
    worker_id: str | None
    error_message: str
    gpu: int | None
    exit_code: int | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    scheduled_at: datetime | None
    cancel_requested_at: datetime | None
    metadata: msgspec.Raw
    execution_id: UUID | None
    step: str | None


def runs_page(
    *,
    caller: Caller,
    chosen: RunFilter,
    limit: int,
    starting_after: UUID | None = None,
    ending_before: UUID | None = None,
) -> tuple[list[ListedRun], bool]:
    """Return a page of runs, newest first, and whether there are more in the direction of the cursor.

    Raises Invalid for a cursor that is no run the caller may see.
    """
    rows = _narrow(Run.objects.all(), chosen)
    backwards = ending_before is not None
    if starting_after is not None:
        rows = rows.filter(pk__lt=_known(starting_after, "starting_after", caller))
    if ending_before is not None:
        rows = rows.filter(pk__gt=_known(ending_before, "ending_before", caller))
    order = "id" if backwards else "-id"
    page = [_listed(row) for row in _first(rows, caller, chosen, order, limit + 1)]
    shown = page[:limit]
    return shown[::-1] if backwards else shown, len(page) > limit


def _first(
    rows: RunQuerySet, caller: Caller, chosen: RunFilter, order: str, count: int
) -> list[tuple[Any, ...]]:
    """Take the first `count` rows that the caller may see; each part reads an index of its own in that order."""
    if caller.prefixes and not (chosen.op_definition or chosen.topic or chosen.execution_id):
        return _first_of_limited(rows, caller, chosen, order, count)
    rows = rows.visible_to(caller.prefixes, caller.owner)
    parts = [rows.in_states(state) for state in chosen.states] if chosen.states else [rows]
    if len(parts) > 1:
        first, *others = (part.order_by(order).values_list("pk")[:count] for part in parts)
        parts = [rows.filter(pk__in=first.union(*others, all=True))]
    return list(parts[0].order_by(order).values_list(*_COLUMNS)[:count])


# --- what a key limited to prefixes sees ---------------------------------------------------------


def _first_of_limited(
    rows: RunQuerySet, caller: Caller, chosen: RunFilter, order: str, count: int
) -> list[tuple[Any, ...]]:
    """Take the first `count` rows that a limited key may see: of the nearest ones, else by the names it sees."""
    rows = rows.in_states(*chosen.states) if chosen.states else rows
    visible = rows.visible_to(caller.prefixes, caller.owner)
    for looked_through in (NEAR, FAR):
        near = visible.filter(pk__in=rows.order_by(order).values("pk")[:looked_through])
        page = list(near.order_by(order).values_list(*_COLUMNS)[:count])
        if len(page) == count:
            return page
        if len(page) * FAR < count * looked_through:
            break
    seen = names.visible_names(caller)
    if seen is not None:
        visible = rows.filter(pk__in=names.first_ids_under(seen, rows, order, count))
    return list(visible.order_by(order).values_list(*_COLUMNS)[:count])


# --- rows ----------------------------------------------------------------------------------------


def _as_text(name: str) -> Any:
    return Cast(name, TextField())


def _places(*kinds: type) -> tuple[int, ...]:
    return tuple(
        place
        for place, name in enumerate(ListedRun.__struct_fields__)
        if isinstance(Run._meta.get_field(name), kinds)
    )


_JSONS = _places(JSONField)
# Django reads a moment in Python, letter by letter; as text it is read in C.
_MOMENTS = _places(DateTimeField)
_COLUMNS = tuple(
    _as_text(name) if place in _JSONS + _MOMENTS else name
    for place, name in enumerate(ListedRun.__struct_fields__)
)


def _listed(row: tuple[Any, ...]) -> ListedRun:
    values = list(row)
    for place in _JSONS:
        values[place] = msgspec.Raw(values[place].encode())
    for place in _MOMENTS:
        if values[place] is not None:
            values[place] = datetime.fromisoformat(values[place])
    return ListedRun(*values)


# --- which ones ----------------------------------------------------------------------------------


def _known(run_id: UUID, name: str, caller: Caller) -> UUID:
    if not Run.objects.visible_to(caller.prefixes, caller.owner).filter(pk=run_id).exists():
        raise Invalid.of([(name, "is not the id of a run")])
    return run_id


def _narrow(rows: RunQuerySet, chosen: RunFilter) -> RunQuerySet:
    for name in ("op_definition", "image", "topic", "execution_id"):
        value = getattr(chosen, name)
        if value is not None:
            rows = rows.filter(**{name: value})
    bounds = {
        "gte": chosen.created_gte,
        "gt": chosen.created_gt,
        "lte": chosen.created_lte,
        "lt": chosen.created_lt,
    }
    for comparison, seconds in bounds.items():
        if seconds is not None:
            rows = rows.filter(_created(comparison, seconds))
    return rows


def _created(comparison: str, seconds: float) -> Q:
    """Bound created_at exactly and, with some slack, the id, which the indexes are ordered by."""
    moment = datetime.fromtimestamp(min(max(seconds, 0), 253_402_300_799), UTC)
    exact = Q(**{f"created_at__{comparison}": moment})
    if comparison in {"gte", "gt"}:
        return exact & Q(id__gte=_first_id(seconds - _ID_SLACK_S))
    return exact & Q(id__lt=_first_id(seconds + _ID_SLACK_S))


def _first_id(seconds: float) -> UUID:
    """Return the smallest UUIDv7 of a moment."""
    milliseconds = min(max(int(seconds * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80 | _UUID7_LOW)

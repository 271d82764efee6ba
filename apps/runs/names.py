"""The names under which a key limited to prefixes sees runs: of ops, of topics of runs without an op, and its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OrderBy, OuterRef, Subquery, TextField, Value
from django.db.models.functions import Cast

from apps.core import sql
from apps.runs.models import Run

if TYPE_CHECKING:
    from collections.abc import Collection

    from apps.access.auth import Caller
    from apps.runs.models import RunQuerySet

# Most names whose newest runs are compared for one page: about 10 ms. A key that sees more is given the page by a walk
# through all runs, many of which will be its own.
MOST_NAMES = 1000
# Of each name so many ids are read at first, and of few names more: four times what all of them have to give.
FEW = 10


class Name(NamedTuple):
    """A name, told by one of its runs."""

    kind: str
    run: UUID


def visible_names(caller: Caller) -> list[Name] | None:
    """Return the names among the runs that a key limited to prefixes sees; None if they are too many to look at each.

    Without this, a page would be found by walking through everybody's runs until enough are the caller's: a second
    at a million, for a key that has none or whose runs are old.
    """
    rows = sql.run_bound(
        "runs/visible_names",
        prefixes=list(caller.prefixes),
        owner=caller.owner,
        most=MOST_NAMES + 1,
    ).rows
    return None if len(rows) > MOST_NAMES else [Name(row["kind"], row["id"]) for row in rows]


def first_ids_under(
    names: Collection[Name], rows: RunQuerySet, order: str, count: int
) -> list[UUID]:
    """Return the ids of the first `count` rows under these names.

    1. Read a few of each name. What is behind the first `count` of all of them is of no interest any more.
    2. Read on under those names of which there may be more before that: under most of many names there is not.
    """
    descending = order.startswith("-")
    few = min(count, max(FEW, 4 * count // max(len(names), 1)))
    found = _first_of_each(names, rows, order, most_names=count, most=few)
    ids = _first(found, descending, count)
    unread = [name for name, some in found.items() if len(some) == few < count]
    if len(ids) == count:
        last = ids[-1]
        unread = [n for n in unread if (found[n][-1] > last if descending else found[n][-1] < last)]
        rows = rows.filter(**{"pk__gte" if descending else "pk__lte": last})
    if unread:
        found |= _first_of_each(unread, rows, order, most_names=count, most=count)
        ids = _first(found, descending, count)
    return [UUID(one) for one in ids]


def _first(found: dict[Name, list[str]], descending: bool, count: int) -> list[str]:
    # A run may be seen under two names.
    return sorted({one for some in found.values() for one in some}, reverse=descending)[:count]


def _first_of_each(
    names: Collection[Name], rows: RunQuerySet, order: str, *, most_names: int, most: int
) -> dict[Name, list[str]]:
    """Return the first ids of each name; of many names, those that lead. As text, whose order is that of UUIDs.

    Of the first rows of all, none is under a name that does not lead.
    """
    arms = []
    for kind, same in (
        ("op", rows.filter(op_definition=OuterRef("op_definition"))),
        (
            "ad hoc",
            rows.filter(op_definition=None, topic=OuterRef("topic")).exclude(topic=""),
        ),
        ("owner", rows.filter(created_by=OuterRef("created_by")).exclude(created_by="anonymous")),
    ):
        if samples := [name.run for name in names if name.kind == kind]:
            mine = same.order_by(order).values("pk")
            leading = OrderBy(Subquery(mine[:1]), descending=order.startswith("-"), nulls_last=True)
            # Making thousands of UUIDs to keep a hundred would cost more than finding them.
            ids = Cast(ArraySubquery(mine[:most]), TextField())
            first = Run.objects.filter(pk__in=samples).order_by(leading)[:most_names]
            arms.append(first.values_list(Value(kind, TextField()), "pk", ids))
    if not arms:
        return {}
    return {
        Name(kind, run): [one for one in ids[1:-1].split(",") if one]
        for kind, run, ids in arms[0].union(*arms[1:], all=True)
    }

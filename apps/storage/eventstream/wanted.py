"""What a request for the event stream asks for (pipelines-storage.md §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from apps.core.api.parameters import Parameters
from apps.core.sse.duration import Duration, read_duration
from apps.storage.events import CREATED, DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import QueryDict

    from apps.storage.eventstream.log import StoredEvent

MOST_EXECUTIONS = 100


class Filter(NamedTuple):
    """Which events are told: those of which all of it is true."""

    stage: str = ""
    path: str = ""
    extensions: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset({CREATED})

    def matches(self, event: StoredEvent) -> bool:
        """Say whether an event is told. A stage is held against the filter with a slash behind it."""
        return (
            event.type in self.types
            and f"{event.stage}/".startswith(self.stage)
            and event.path.startswith(self.path)
            and (not self.extensions or event.extension in self.extensions)
        )


class Wanted(NamedTuple):
    """What is asked for; `seen` is the last event that the client has, as a number."""

    executions: list[str]
    only: Filter
    lasts: Duration
    replay: bool
    seen: int | None


def read_wanted(query: QueryDict, headers: Mapping[str, str]) -> Wanted:
    """Read the parameters. Raises Invalid, which names all that are wrong."""
    read = Parameters(query)
    executions = list(dict.fromkeys(read.many("execution_id")))
    if not executions:
        read.fail("execution_id", "Field required")
    elif not all(executions):
        read.fail("execution_id", "must not be empty")
    elif len(executions) > MOST_EXECUTIONS:
        read.fail("execution_id", f"at most {MOST_EXECUTIONS} executions in one stream")
    lasts, replay = read_duration(read), read.boolean("replay")
    deletions = read.boolean("deletions")
    read.finish()
    return Wanted(
        executions=executions,
        only=Filter(
            stage=query.get("stage") or "",
            path=query.get("path") or "",
            extensions=_extensions(query.getlist("extension")),
            # Only to those who ask: the documented stream knows one kind of event.
            types=frozenset({CREATED, DELETED} if deletions else {CREATED}),
        ),
        lasts=lasts,
        replay=replay,
        seen=_event_id(headers.get("Last-Event-ID")),
    )


def _extensions(given: list[str]) -> frozenset[str]:
    """Read lists of extensions, with or without their dots, in any case."""
    named = (one.strip().lower() for some in given for one in some.split(","))
    return frozenset(f".{one.removeprefix('.')}" for one in named if one.strip("."))


def _event_id(given: str | None) -> int | None:
    """Read a Last-Event-ID; what is no UUID is as none at all."""
    try:
        return UUID(given).int if given else None
    except ValueError:
        return None

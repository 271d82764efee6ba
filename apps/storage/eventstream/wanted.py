"""What a request for the event stream asks for (pipelines-storage.md §5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from apps.core.errors import Invalid
from apps.storage.events import CREATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import QueryDict

    from apps.storage.eventstream.log import StoredEvent

MOST_EXECUTIONS = 100
SECONDS, SECONDS_MIN, SECONDS_MAX = 300.0, 1.0, 3600.0
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}


class Filter(NamedTuple):
    """Which events are told: those of which all of it is true."""

    stage: str = ""
    path: str = ""
    extensions: frozenset[str] = frozenset()

    def matches(self, event: StoredEvent) -> bool:
        """Say whether an event is told. A stage is held against the filter with a slash behind it."""
        return (
            event.type == CREATED
            and f"{event.stage}/".startswith(self.stage)
            and event.path.startswith(self.path)
            and (not self.extensions or event.extension in self.extensions)
        )


class Wanted(NamedTuple):
    """What is asked for; `seen` is the last event that the client has, as a number."""

    executions: list[str]
    only: Filter
    seconds: float
    keep_open: bool
    replay: bool
    seen: int | None


def read_wanted(query: QueryDict, headers: Mapping[str, str]) -> Wanted:
    """Read the parameters. Raises Invalid, which names all that are wrong."""
    wrong: list[tuple[str, str]] = []
    executions = list(dict.fromkeys(query.getlist("execution_id")))
    if not executions:
        wrong.append(("execution_id", "Field required"))
    elif not all(executions):
        wrong.append(("execution_id", "must not be empty"))
    elif len(executions) > MOST_EXECUTIONS:
        wrong.append(("execution_id", f"at most {MOST_EXECUTIONS} executions in one stream"))
    seconds = _seconds(query.get("timeout"))
    if seconds is None:
        wrong.append(("timeout", f"must be a number from {SECONDS_MIN:g} to {SECONDS_MAX:g}"))
    flags = {name: _flag(query.get(name)) for name in ("keep_open", "replay")}
    wrong += [(name, "must be true or false") for name, flag in flags.items() if flag is None]
    if wrong:
        raise Invalid.of(wrong, where="query")
    return Wanted(
        executions=executions,
        only=Filter(
            stage=query.get("stage") or "",
            path=query.get("path") or "",
            extensions=_extensions(query.getlist("extension")),
        ),
        seconds=seconds or SECONDS,
        keep_open=bool(flags["keep_open"]),
        replay=bool(flags["replay"]),
        seen=_event_id(headers.get("Last-Event-ID")),
    )


def _seconds(given: str | None) -> float | None:
    if given is None:
        return SECONDS
    try:
        seconds = float(given)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and SECONDS_MIN <= seconds <= SECONDS_MAX else None


def _flag(given: str | None) -> bool | None:
    return False if given is None else _BOOLEANS.get(given.lower())


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

"""What an adapter is: a step of a pipeline that Gyoza does itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.topics.services import NewEvent

JSON = Any


class AdapterFailed(Exception):
    """The step has failed; the message says why."""


def required(type_: str, description: str = "") -> dict[str, JSON]:
    """Return the spec of an input that must be given."""
    return {"type": type_, "required": True, "default": None, "description": description}


def optional(type_: str, default: JSON = None, description: str = "") -> dict[str, JSON]:
    """Return the spec of an input that may be left out."""
    return {"type": type_, "required": False, "default": default, "description": description}


def expression(description: str) -> dict[str, JSON]:
    """Return the spec of an input that must be JMESPath; one that is literal is checked when a document is saved."""
    return {**required("string", description), "is_expression": True}


@dataclass(frozen=True, slots=True)
class Call:
    """One step to be done: its execution, which is locked, and its inputs, which fit the adapter's specs."""

    execution: LiveExecution
    step: str
    stage: str
    inputs: Mapping[str, JSON]
    now: datetime
    # What `Waits.note` said when the step last waited; None the first time.
    note: JSON = None


@dataclass(frozen=True, slots=True)
class Done:
    """The step is done."""

    outputs: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class Waits:
    """The step waits: it is performed again when its execution is woken, at `until` at the latest."""

    note: JSON
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delegates:
    """The step is a run of one of our own callables, because it leaves the process."""

    python: str
    inputs: dict[str, JSON]
    timeout_s: float | None = None
    metadata: dict[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publishes:
    """The step is done once this message is in the log, which the engine writes last: topics' locks are short.

    Its output is `{"seq": n}`.
    """

    message: NewEvent


class Errand(ABC):
    """The step needs what is outside of the database, for a moment: done when the turn is committed, not in it.

    It may be run more than once, by processes that die or are slow; one of them settles it.
    """

    @abstractmethod
    def run(self) -> Any:
        """Do it, outside of any transaction, and return what it has brought. Raises AdapterFailed."""

    @abstractmethod
    def settle(self, brought: Any) -> dict[str, JSON]:
        """Return the outputs, in the transaction that completes the step and does nothing else. Raises AdapterFailed."""

    @abstractmethod
    def give_up(self, brought: Any) -> None:
        """Undo what `run` did: the step is not completed by it."""


Outcome = Done | Waits | Delegates | Publishes | Errand


class Adapter(ABC):
    """One kind of built-in step.

    `perform` runs inside the transaction that moves the execution: what it writes is committed with the step, or
    not at all, so it happens once. It must not leave the database; what does is an errand, or delegated to a run.
    """

    # The name in documents, and the specs of its inputs as op definitions have them (runs.md §1).
    name: ClassVar[str]
    inputs: ClassVar[Mapping[str, Mapping[str, JSON]]]

    @abstractmethod
    def perform(self, call: Call) -> Outcome:
        """Do the step, or say how it is done. Raises AdapterFailed."""

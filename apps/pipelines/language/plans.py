"""What a pipeline's document says, read and with its defaults: data for services and graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apps.pipelines.language.filters import Filter

JSON = Any


@dataclass(frozen=True, slots=True)
class Work:
    """Who does a step: exactly one of the members is given."""

    op: str | None = None
    op_version: str | None = None
    adapter: str | None = None
    image: str | None = None
    command: list[str] | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step, with everything that decides when and how it runs."""

    name: str
    work: Work
    inputs: dict[str, JSON]
    needs: tuple[str, ...]
    stage: str
    when: str | None = None
    for_each: str | None = None
    max_parallel: int = 10
    priority: int | None = None
    # None = as the op's definition says, else the default.
    retry_policy: dict[str, JSON] | None = None
    constraints: dict[str, JSON] | None = None
    has_timeout: bool = False
    timeout_s: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    output_specs: dict[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Several messages for one execution: at most `max`, waiting at most `wait_ms` for them."""

    max: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` executions started per `seconds`."""

    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """`options.trigger` (pipelines-storage.md §2)."""

    start: str | int = "latest"
    filters: tuple[Filter, ...] = ()
    max_concurrency: int = 4
    lag_threshold: int = 1
    # Field of the message; messages of one key are processed one at a time. None = unordered.
    key: str | None = None
    batch: Batch | None = None
    retry_policy: dict[str, JSON] = field(default_factory=dict)
    dead_letter: str | None = None
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """`options.schedule` and `options.timezone`."""

    cron: str
    timezone: str


@dataclass(frozen=True)
class Plan:
    """A whole document. Kept for many executions, so what follows from it is kept with it."""

    name: str
    steps: tuple[Step, ...]
    event: str
    trigger: TriggerPlan
    schedule: SchedulePlan | None
    max_concurrent_executions: int | None
    timeout_s: float | None
    # Whether independent branches go on after a failure (`options.on_failure: continue`).
    goes_on: bool

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        return {step.name: step.needs for step in self.steps}

    @cached_property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """Pairs (step, step whose outputs it may read)."""
        return tuple((step.name, need) for step in self.steps for need in step.needs)

    @cached_property
    def leaves(self) -> list[str]:
        """The steps that no other needs: their outputs are the execution's."""
        needed = {need for step in self.steps for need in step.needs}
        return [step.name for step in self.steps if step.name not in needed]

    @cached_property
    def has_adapters(self) -> bool:
        return any(step.work.adapter is not None for step in self.steps)

    def step(self, name: str) -> Step:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

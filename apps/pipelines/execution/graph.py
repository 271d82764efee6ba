"""Which steps are ready, and how an execution ends. Pure: names, needs and statuses in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apps.pipelines.states import ACTIVE, ENDED, UNDONE, ExecutionStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

S = StageStatus


@dataclass(slots=True)
class Decision:
    """What is to be done now: steps to start, to skip and to give up, and the end if this is it."""

    start: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    give_up: list[str] = field(default_factory=list)
    outcome: ExecutionStatus | None = None


def find_cycle(needs: Mapping[str, Collection[str]]) -> list[str] | None:
    """Return the names along a cycle, the first one again at the end; None if there is none.

    Names nobody defines are ignored: another rule complains about them.
    """
    settled: set[str] = set()
    for start in needs:
        trail: dict[str, None] = {}
        # A stack of its own: a chain of steps may be longer than Python's.
        stack = [(start, iter(sorted(needs.get(start, ()))))]
        if start in settled:
            continue
        trail[start] = None
        while stack:
            name, following = stack[-1]
            for need in following:
                if need in trail:
                    names = list(trail)
                    return [*names[names.index(need) :], need]
                if need in needs and need not in settled:
                    trail[need] = None
                    stack.append((need, iter(sorted(needs[need]))))
                    break
            else:
                stack.pop()
                del trail[name]
                settled.add(name)
    return None


def dependents(needs: Mapping[str, Collection[str]], name: str) -> set[str]:
    """Return every step that needs a step, directly or through others."""
    found: set[str] = set()
    news = {name}
    while news:
        news = {other for other, needed in needs.items() if news.intersection(needed)} - found
        found |= news
    return found


def decide(
    needs: Mapping[str, Collection[str]],
    statuses: Mapping[str, StageStatus],
    *,
    goes_on: bool,
    is_cancelled: bool = False,
) -> Decision:
    """Say what follows from where the steps are.

    A step starts when all it needs has ended well. It is skipped when all it needs was skipped, and given up when
    something it needs failed or was cancelled. After a failure nothing new starts, unless the pipeline goes on
    with what does not depend on it (`goes_on`). `outcome` is set once nothing is active and nothing will start.
    """
    decision = Decision()
    now = dict(statuses)
    failed = any(status == S.FAILED for status in now.values())
    stops = is_cancelled or (failed and not goes_on)
    undecided = [name for name in needs if now[name] == S.PENDING]
    moved = True
    while moved:
        moved = False
        left = []
        for name in undecided:
            verdict = S.CANCELLED if stops else _verdict([now[need] for need in needs[name]])
            if verdict is None:
                left.append(name)
                continue
            if verdict == S.PENDING:
                decision.start.append(name)
                continue
            (decision.skip if verdict == S.SKIPPED else decision.give_up).append(name)
            now[name] = verdict
            moved = True
        undecided = left
    is_busy = decision.start or any(status in ACTIVE for status in now.values())
    if not is_busy and all(status in ENDED for status in now.values()):
        decision.outcome = _outcome(now.values(), is_cancelled=is_cancelled)
    return decision


def _verdict(needed: list[StageStatus]) -> StageStatus | None:
    """Return PENDING for a step that may start, what else becomes of it, or None if that is open."""
    if any(status in UNDONE for status in needed):
        return S.CANCELLED
    if any(status not in ENDED for status in needed):
        return None
    return S.SKIPPED if needed and all(status == S.SKIPPED for status in needed) else S.PENDING


def _outcome(statuses: Collection[StageStatus], *, is_cancelled: bool) -> ExecutionStatus:
    if is_cancelled:
        return ExecutionStatus.CANCELLED
    if any(status == S.FAILED for status in statuses):
        return ExecutionStatus.FAILED
    if any(status == S.CANCELLED for status in statuses):
        return ExecutionStatus.CANCELLED
    return ExecutionStatus.COMPLETED

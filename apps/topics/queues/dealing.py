"""Who gets which job. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_turn(wanted: Sequence[int], jobs: int) -> list[int]:
    """Deal jobs to claimers in order of arrival, each as many as it wants; returns a claimer's number, from 1, per job."""
    dealt: list[int] = []
    for claimer, most in enumerate(wanted, 1):
        dealt += [claimer] * min(most, jobs - len(dealt))
        if len(dealt) == jobs:
            break
    return dealt


def round_robin(wanted: Sequence[int], jobs: int) -> list[int]:
    """Deal jobs one at a time to the claimers that want more (topics v0 §18.3, coalescing window)."""
    dealt: list[int] = []
    left = {claimer: most for claimer, most in enumerate(wanted, 1) if most}
    while left and len(dealt) < jobs:
        for claimer in list(left)[: jobs - len(dealt)]:
            dealt.append(claimer)
            left[claimer] -= 1
            if not left[claimer]:
                del left[claimer]
    return dealt

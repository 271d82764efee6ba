"""Which of the waiting runs a worker takes, and on which GPU (runs.md §4). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Demand:
    """What one run needs; None = nothing. Memory in MB."""

    run_id: UUID
    cpu: int | None = None
    ram_mb: int | None = None
    vram_mb: int | None = None
    gpu_id: int | None = None


@dataclass(slots=True)
class Capacity:
    """What a worker has to give: runs, CPUs, memory in MB, and video memory in MB by GPU id."""

    slots: int
    cpu: int
    ram_mb: int
    vram_mb: dict[int, int] = field(default_factory=dict)

    def minus(self, held: Iterable[tuple[Demand, int | None]]) -> Capacity:
        """Return what is left beside the held runs, each given with the GPU it was placed on."""
        free = Capacity(self.slots, self.cpu, self.ram_mb, dict(self.vram_mb))
        for demand, gpu in held:
            free.take(demand, gpu)
        return free

    def take(self, demand: Demand, gpu: int | None) -> None:
        """Subtract one run placed on `gpu`."""
        self.slots -= 1
        self.cpu -= demand.cpu or 0
        self.ram_mb -= demand.ram_mb or 0
        if gpu is not None and gpu in self.vram_mb:
            self.vram_mb[gpu] -= demand.vram_mb or 0

    def gpu_for(self, demand: Demand) -> int | None:
        """Return the GPU with the least video memory that still holds the run; None if none does."""
        need = demand.vram_mb or 0
        fitting = [
            (free, gpu)
            for gpu, free in self.vram_mb.items()
            if free >= need and demand.gpu_id in (None, gpu)
        ]
        return min(fitting)[1] if fitting else None

    def holds(self, demand: Demand) -> bool:
        """Say whether the run fits."""
        if self.slots < 1 or (demand.cpu or 0) > self.cpu or (demand.ram_mb or 0) > self.ram_mb:
            return False
        needs_gpu = demand.vram_mb is not None or demand.gpu_id is not None
        return not needs_gpu or self.gpu_for(demand) is not None


@dataclass(frozen=True, slots=True)
class Placed:
    """A run that is taken, and its GPU if it asked for one."""

    run_id: UUID
    gpu: int | None


def place(waiting: Sequence[Demand], free: Capacity) -> list[Placed]:
    """Take runs in the given order while they fit; one that does not fit never blocks those behind it.

    Changes `free` to what is left.
    """
    placed = []
    for demand in waiting:
        if free.slots < 1:
            break
        if not free.holds(demand):
            continue
        needs_gpu = demand.vram_mb is not None or demand.gpu_id is not None
        gpu = free.gpu_for(demand) if needs_gpu else None
        free.take(demand, gpu)
        placed.append(Placed(demand.run_id, gpu))
    return placed

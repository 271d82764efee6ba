"""Under which name a process is a worker, and with what."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psutil
from django.conf import settings

from apps.runs import turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apps.runs.executors.base import Executor

log = logging.getLogger(__name__)


class Presence:
    """The row of a worker. `instance` tells it from every other of its name, so that one that was restarted is known."""

    def __init__(self, *, worker_id: str, instance: str, spare_id: str) -> None:
        self.worker_id = worker_id
        self.instance = instance
        self._spare_id = spare_id  # for the case that the other one is taken

    def register(self, executors: Mapping[str, Executor]) -> bool:
        """Say that the worker is there; return False if its name is another worker's."""
        is_ours = turns.register_worker(
            worker_id=self.worker_id,
            instance=self.instance,
            executors=sorted(name for name, executor in executors.items() if not executor.check()),
            slots=settings.GYOZA_WORKER_SLOTS,
            cpu=settings.GYOZA_WORKER_CPU or psutil.cpu_count() or 1,
            ram_mb=settings.GYOZA_WORKER_RAM_MB or psutil.virtual_memory().total // 2**20,
            gpus=_gpus(settings.GYOZA_WORKER_GPUS),
            tags=settings.GYOZA_WORKER_TAGS,
            hostname=settings.GYOZA_HOSTNAME,
        )
        if not is_ours and self._spare_id:
            self.worker_id, self._spare_id = self._spare_id, ""
            return self.register(executors)
        if not is_ours:
            log.warning("another worker is called %s; waiting until it has gone", self.worker_id)
        return is_ours

    def leave(self) -> None:
        """Say that the worker is gone; what it still held goes back."""
        turns.leave(worker_id=self.worker_id, instance=self.instance)


def _gpus(words: list[str]) -> list[dict[str, int]]:
    pairs = [word.partition(":") for word in words]
    return [{"id": int(gpu), "vram_mb": int(vram or 0)} for gpu, _, vram in pairs]

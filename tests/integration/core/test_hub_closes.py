from __future__ import annotations

import asyncio

import pytest

from apps.core.sse import hub
from apps.core.sse.subscription import Subscription


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 9, 12, 16, 20, 30])
def test_it_closes_whatever_its_subscriber_is_doing(redis, steps):
    async def story() -> list[asyncio.Task[object]]:
        ours = hub.current()
        ours.add(Subscription(ours, ["any"]))
        for _ in range(steps):
            await asyncio.sleep(0)  # one step of the subscriber on its way to Redis
        async with asyncio.timeout(10):
            await ours.close()
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(story()) == []

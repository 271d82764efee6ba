"""Bringing a topic up to date before it is used: the copies that routers owe it, and the retention pass.

Neither has a clock of its own. What retention takes away is written down before anybody is told, so that a lost record
can't come back when clocks or configs change (topics v0 §8.1); copies of what was acknowledged are there before anybody
looks (§16.4).
"""

from __future__ import annotations

from apps.topics.keeping import eviction
from apps.topics.routers import forwarder, forwarding


def settle(name: str) -> None:
    """Copy what routers owe a topic, and write down what retention takes from it now."""
    forwarder.catch_up_now(name)
    eviction.evict_due(name)


async def settle_async(name: str) -> None:
    """Do as `settle` in the event loop."""
    await forwarding.catch_up(name)
    await eviction.evict_due_async(name)

"""Who waits for what in one event loop, and the subscriber that listens to Redis for them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4
from weakref import WeakKeyDictionary

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from apps.core.sse.subscription import BLIND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apps.core.sse.subscription import Subscription

log = logging.getLogger(__name__)

REDIS_CHANNEL = "gyoza:wakeups"
# First line of a message: who sent it, because the sender has woken its own waiters already.
_ME = uuid4().hex

# A message costs its sender, and everybody who hears it, as much as a record does: when there is news all the time, other
# processes hear of it so often. The first after a silence goes at once.
_REST_SECONDS = 0.005

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()
_hubs_lock = threading.Lock()


def current() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        with _hubs_lock:
            found = _hubs.setdefault(loop, Hub())
    return found


def wake_everywhere(channels: tuple[str, ...]) -> None:
    """Wake the waiters of every event loop of this process; from any thread."""
    with _hubs_lock:
        hubs = list(_hubs.items())
    for loop, hub in hubs:
        if not loop.is_closed():
            loop.call_soon_threadsafe(hub.wake, channels)


def message(channels: Iterable[str]) -> str:
    """Return the Redis message that wakes these channels."""
    return "\n".join((_ME, *channels))


class Hub:
    """Who waits for what in one event loop, and the subscriber that listens to Redis for them."""

    def __init__(self) -> None:
        self.hears = False
        self._waiters: dict[str, set[Subscription]] = {}
        # By beginning, for channels that end in `*`.
        self._wide_waiters: dict[str, set[Subscription]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._outbox: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self._sent_at = 0.0
        self._client: redis.asyncio.Redis | None = None
        self._asking: asyncio.Task[bool] | None = None

    def add(self, subscription: Subscription) -> None:
        """Register a waiter; the first one starts the subscriber."""
        for channel in subscription.channels:
            waiters, name = self._place(channel)
            waiters.setdefault(name, set()).add(subscription)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="wakeups")

    def remove(self, subscription: Subscription) -> None:
        """Forget a waiter."""
        for channel in subscription.channels:
            waiters, name = self._place(channel)
            waiting = waiters.get(name)
            if waiting is not None:
                waiting.discard(subscription)
                if not waiting:
                    del waiters[name]

    def wake(self, channels: Iterable[str]) -> None:
        """Wake the waiters of these channels; from this loop."""
        for channel in channels:
            for subscription in self._waiters.get(channel, ()):
                subscription.wake(channel)
            for beginning, waiting in self._wide_waiters.items():
                if channel.startswith(beginning):
                    for subscription in waiting:
                        subscription.wake(channel)

    def announce(self, channels: Iterable[str]) -> None:
        """Do as `announce` from the event loop: at once here, and soon elsewhere, many in one message."""
        names = tuple(channels)
        self.wake(names)
        self._outbox.update(names)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="wakeups-out")

    async def flush(self) -> None:
        """Wait until what was announced is out, or Redis is found to be away."""
        if self._sender is not None:
            await self._sender

    async def is_reached(self) -> bool:
        """Say whether other processes can be heard; one question for all who ask at once."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            return self.hears or bool(await self._redis().ping())
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        """Wake everybody and stop listening."""
        self.wake_all()
        running = {task for task in (self._listener, self._sender) if task is not None}
        while running:
            # More than once: while it connects, redis-py takes a cancellation for its own timeout, and we try again.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.1)
        self._listener = self._sender = None
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _send(self) -> None:
        """Publish what has gathered; what comes meanwhile or soon after goes into the next message."""
        while self._outbox:
            if (rest := self._sent_at + _REST_SECONDS - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            self._sent_at = time.monotonic()
            names, self._outbox = tuple(self._outbox), set()
            try:
                await self._redis().publish(REDIS_CHANNEL, message(names))
            except (RedisError, OSError) as exc:
                log.warning("wake-ups reach this process only, Redis is away: %s", exc)
                await asyncio.sleep(BLIND_SECONDS)

    async def _listen(self) -> None:
        """Listen for ever, whatever happens to Redis."""
        while True:
            try:
                async with self._redis().pubsub(ignore_subscribe_messages=False) as pubsub:
                    await pubsub.subscribe(REDIS_CHANNEL)
                    await self._hear(pubsub)
            except (RedisError, OSError) as exc:
                if self.hears:
                    log.warning("wake-ups of other processes are not heard, Redis is away: %s", exc)
                # Waiters sleep without a bound that they took while we could hear.
                self.hears = False
                self.wake_all()
                await asyncio.sleep(BLIND_SECONDS / 4)

    async def _hear(self, pubsub: redis.asyncio.client.PubSub) -> None:
        while True:
            # Wakes up to notice a connection that has gone without a word.
            message = await pubsub.get_message(timeout=15)
            if message is None:
                await pubsub.ping()
            elif message["type"] == "subscribe":
                self.hears = True
                # What was said before we could hear is unknown.
                self.wake_all()
            elif message["type"] == "message":
                sender, *channels = message["data"].decode().split("\n")
                if sender != _ME:
                    self.wake(channels)

    def wake_all(self) -> None:
        """Wake every waiter; from this loop."""
        self.wake([*self._waiters, *self._wide_waiters])

    def _place(self, channel: str) -> tuple[dict[str, set[Subscription]], str]:
        is_wide = channel.endswith("*")
        return (self._wide_waiters, channel[:-1]) if is_wide else (self._waiters, channel)

    def _redis(self) -> redis.asyncio.Redis:
        if self._client is None:
            self._client = redis.asyncio.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=15
            )
        return self._client

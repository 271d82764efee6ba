"""The /work streams of one queue in one event loop: who waits for jobs, and the one who looks for them on their behalf.

However many streams wait, an idle queue is looked at by one statement every quarter of a second and process (topics v0
§18.10). Jobs are claimed at the desk, like everybody's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec
import psycopg

from apps.core import lifespan, pgarray, sql
from apps.core.errors import GyozaError
from apps.core.sse import wakeups
from apps.core.sse.bell import Bell
from apps.core.sse.frames import Kind
from apps.core.sse.stream import Step
from apps.topics import names
from apps.topics.errors import NotAQueue, TopicNotFound
from apps.topics.keeping import eviction
from apps.topics.queues import desk
from apps.topics.queues.orders import Claim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apps.topics.queues.orders import Claimed, Leased

log = logging.getLogger(__name__)
_json = msgspec.json.encode

# topics v0 §4.1: how often a queue is looked at even if nobody says that there is news.
LOOK_SECONDS = 0.25

JOB = Kind(
    "job", "A job, leased for this stream: `topic` and the members of a claimed job.", "its seq"
)
ERROR = Kind(
    "error",
    "The stream ends: `code` is 409 when the queue is gone or another topic has its name, or `server_shutting_down`.",
)
KINDS = (JOB, ERROR)

_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Room]] = WeakKeyDictionary()


class Worker:
    """A connection that wants to hold up to `most` jobs; it hears of them by `wait` and `read`."""

    def __init__(self, topic: str, node: bytes, most: int, lease_ms: int | None) -> None:
        self.topic = topic
        self.node = node
        self.most = most
        self.lease_ms = lease_ms
        # What was delivered here, as far as it is known to be leased still.
        self.held: dict[int, Leased] = {}
        # Its claim that is under way.
        self.claiming: asyncio.Task[None] | None = None
        self._frames: list[bytes] = []
        self._is_over = False
        self._room: Room | None = None
        self._bell = Bell()
        self.wait = self._bell.wait

    async def open(self) -> Callable[[], Awaitable[Step]]:
        """Enter the queue's room, and return how to read what is delivered."""
        rooms = _rooms.setdefault(asyncio.get_running_loop(), {})
        lifespan.on_close(close)
        self._room = rooms.get(self.topic) or rooms.setdefault(self.topic, Room(rooms, self.topic))
        self._room.enter(self)
        return self.read

    def close(self) -> None:
        """Give back what was delivered here, at once, for whatever reason the connection ends."""
        self._bell.close()
        if self._room is not None:
            self._room.leave(self)

    @property
    def deficit(self) -> int:
        return 0 if self.claiming else self.most - len(self.held)

    def wake(self) -> None:
        """Let `wait` return."""
        self._bell.ring()

    async def read(self) -> Step:
        """Return the frames that are to be sent."""
        frames, self._frames = self._frames, []
        return Step(frames, is_over=self._is_over)

    def deliver(self, jobs: list[Leased]) -> None:
        """Have jobs sent."""
        start = b'{"topic":%b,' % _json(self.topic)
        for job in jobs:
            self.held[job.seq] = job
            self._frames.append(JOB.frame(b"%b%b}" % (start, job.members), id=str(job.seq)))
        self.wake()

    def end(self, reason: str) -> None:
        """End the stream, because the queue is no more what it was."""
        if self._is_over:
            return
        said = {"code": 409, "error": reason, "topic": self.topic}
        self._frames.append(ERROR.frame(_json(said)))
        self._is_over = True
        self.wake()

    def farewell(self) -> bytes:
        """Return the last frame of a stream that the server ends."""
        said = {
            "code": "server_shutting_down",
            "error": "the server is stopping",
            "topic": self.topic,
        }
        return ERROR.frame(_json(said))


class Room:
    """The workers of one queue, and the task that looks for jobs."""

    def __init__(self, rooms: dict[str, Room], name: str) -> None:
        self._rooms = rooms
        self._name = name
        # The topic it was when the first worker came.
        self._topic_id: int | None = None
        self._workers: dict[Worker, None] = {}
        self._news = wakeups.subscribe(names.channel(name), desk.channel(name))
        self._looking: asyncio.Task[None] | None = None
        self._claims: set[asyncio.Task[None]] = set()

    def enter(self, worker: Worker) -> None:
        """Look for jobs for a worker, too."""
        self._workers[worker] = None
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name=f"work {self._name}")
        self._news.wake(self._name)

    def leave(self, worker: Worker) -> None:
        """Look no more, and give back what the worker holds."""
        self._workers.pop(worker, None)
        if worker.claiming is not None:
            worker.claiming.cancel()
        desk.give_back(self._name, worker.node, list(worker.held.values()))
        if not self._workers:
            # The task ends by itself.
            self._news.wake(self._name)

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking, *self._claims}, timeout=desk.CLOSE_SECONDS)

    async def _look_on(self) -> None:
        try:
            with self._news:
                while self._workers and not lifespan.is_draining():
                    await self._try_to_look()
                    await self._news.wait(LOOK_SECONDS)
                for worker in self._workers:
                    # The process ends: let them say goodbye.
                    worker.wake()
        finally:
            if self._rooms.get(self._name) is self:
                del self._rooms[self._name]

    async def _try_to_look(self) -> None:
        try:
            await self._look()
        except psycopg.Error as exc:
            log.warning("%s: nobody could look for jobs, trying again: %s", self._name, exc)

    async def _look(self) -> None:
        found = await sql.run_async(
            "topics/queues/look_at_queue", name=self._name, now=eviction.now_ms()
        )
        if not found.rows:
            self._end(TopicNotFound.of(self._name))
            return
        [queue] = found.rows
        if self._topic_id is None:
            self._topic_id = queue["topic_id"]
        if not queue["is_queue"]:
            self._end(NotAQueue.of(self._name))
        elif queue["topic_id"] != self._topic_id:
            self._end(TopicNotFound(f'"{self._name}" was deleted, and another topic has its name'))
        elif queue["is_claimable"]:
            await self._forget_ended()
            self._claim()

    async def _forget_ended(self) -> None:
        """Learn which leases were acked, given back or have expired, so that their places are free."""
        held = [job for worker in self._workers for job in worker.held.values()]
        if not held:
            return
        found = await sql.run_async(
            "topics/queues/lasting_leases",
            topic_id=self._topic_id,
            now=eviction.now_ms(),
            seqs=pgarray.bigints([job.seq for job in held]),
            leases=pgarray.bigints([job.lease for job in held]),
        )
        lasting = {row["lease"] for row in found.rows}
        asked = {job.lease for job in held}
        for worker in self._workers:
            for job in list(worker.held.values()):
                # What was delivered since the question was asked is not in the answer.
                if job.lease in asked and job.lease not in lasting:
                    del worker.held[job.seq]

    def _claim(self) -> None:
        """Claim what the workers lack, those who have waited longest first."""
        for worker in [worker for worker in self._workers if worker.deficit > 0]:
            # To the end of the line.
            del self._workers[worker]
            self._workers[worker] = None
            order = Claim(worker.node, worker.deficit, worker.lease_ms, is_pushed=True)
            task = worker.claiming = asyncio.create_task(self._claim_for(worker, order))
            self._claims.add(task)
            task.add_done_callback(self._claims.discard)

    async def _claim_for(self, worker: Worker, order: Claim) -> None:
        claimed: Claimed | None = None
        try:
            claimed = await desk.claim(self._name, order)
        except (TopicNotFound, NotAQueue) as exc:
            self._end(exc)
        except (GyozaError, psycopg.Error) as exc:
            log.warning("%s: a stream got no jobs, trying again: %s", self._name, exc)
        finally:
            worker.claiming = None
        if claimed is not None and claimed.jobs:
            worker.deliver(claimed.jobs)

    def _end(self, exc: GyozaError) -> None:
        for worker in self._workers:
            worker.end(exc.message)


async def close() -> None:
    """Stop looking for jobs in this event loop, and give back what nobody was told of."""
    for room in list(_rooms.pop(asyncio.get_running_loop(), {}).values()):
        await room.close()
    await desk.close()

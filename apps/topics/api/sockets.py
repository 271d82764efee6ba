"""Following and writing topics on one connection both ways (topics v0 §19)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from apps.core import lifespan, slots
from apps.core.api import exception_handler
from apps.core.api.scope import ANY
from apps.core.dataplane import View
from apps.core.errors import Invalid, UnsupportedMessage, UpgradeRequired
from apps.core.held import FRAMES, Held
from apps.core.slim import PIECE_BYTES
from apps.core.sse import hub
from apps.core.sse.bell import Bell
from apps.core.sse.stream import HEARTBEAT_SECONDS
from apps.core.sse.subscription import Subscription
from apps.core.websocket import GOING_AWAY, SocketAnswer, is_asked_for
from apps.topics.api import bodies, commands, large_writes
from apps.topics.api.answers import seqs_member, written_members
from apps.topics.api.following import (
    require_few,
    require_seen,
    selection_of,
    start_of,
    told_starts,
)
from apps.topics.appending import groupcommit, writes
from apps.topics.watch import messages, sessions
from apps.topics.watch.following import Follower
from apps.topics.watch.messages import FAREWELL, Messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.websocket import Closing, Socket

_json = msgspec.json.encode

# §19: beyond that, delivery waits for the client.
MOST_WAITING = 4


class SocketView(View):
    # §3.3: any valid key; each command is checked.
    scope = {"GET": ANY}
    is_stream = True
    commands = commands.COMMANDS
    frames = messages.KINDS

    async def get(self, request: HttpRequest, caller: Caller) -> SocketAnswer:
        if not is_asked_for(request):
            raise UpgradeRequired

        async def identify() -> Caller:
            # Again for each command: what a key may do can have changed.
            return await self.identify(request)  # type: ignore[return-value]

        return SocketAnswer(lambda socket: Conversation(socket, identify).hold())


class Conversation:
    """What is said on one socket: one task hears commands, one tells what topics have, one sends what both say."""

    def __init__(self, socket: Socket, identify: Callable[[], Awaitable[Caller]]) -> None:
        self._socket = socket
        self._identify = identify
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        # What is in it or being sent; and set whenever that has become less.
        self._unsent = Held(FRAMES)
        self._sent = asyncio.Event()
        self._bell = Bell()
        self._follower = Follower(Messages(), self._bell, ends=False)
        # Held by whoever says something of a topic: nothing of an old subscription comes after the answer to a new one.
        self._telling = asyncio.Lock()
        self._commands: dict[str, Callable[[bytes, bytes, Caller], Awaitable[None]]] = {
            commands.SUBSCRIBE.event: self._subscribe,
            commands.UNSUBSCRIBE.event: self._unsubscribe,
            commands.PUBLISH.event: self._publish,
            commands.PING.event: self._ping,
        }

    async def hold(self) -> Closing:
        """Speak until the process stops; raises ClientGone."""
        tasks = [asyncio.ensure_future(work) for work in (self._hear(), self._send(), self._tell())]
        try:
            with _Drain(self._bell):
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._unsent.let_go()
            self._follower.close()
            self._bell.close()

    async def _send(self) -> Closing:
        while True:
            message = await self._outbox.get()
            await self._socket.send(message)
            self._outbox.task_done()
            self._unsent.keep(self._unsent.size - len(message))
            self._sent.set()

    async def _tell(self) -> Closing:
        while not lifespan.is_draining():
            while self._unsent.size > PIECE_BYTES and not self._outbox.empty():
                # Of long pages, one waits while one is sent.
                self._sent.clear()
                await self._sent.wait()
            step = await self._follower.read()
            if step.frames:
                async with self._telling:
                    for message in step.frames:
                        await self._say(message)
            if not step.has_more:
                await self._bell.wait(HEARTBEAT_SECONDS)
        async with self._telling:
            await self._say(FAREWELL)
        await self._outbox.join()
        return GOING_AWAY

    async def _say(self, message: bytes) -> None:
        self._unsent.note(len(message))
        await self._outbox.put(message)

    async def _hear(self) -> Closing:
        while True:
            message = await self._socket.receive()
            request_id = commands.NO_ID
            try:
                if isinstance(message, bytes):
                    raise UnsupportedMessage
                text = message.encode()
                command = commands.read_command(text)
                request_id = commands.id_of(command)
                await self._obey(commands.op_of(command), request_id, text)
            except Exception as exc:
                problem = exception_handler.told_of(exc, doing="a command on a socket")
                detail = b',"detail":%b' % _json(problem.detail) if problem.detail else b""
                await self._say(
                    b'{"op":"error","request_id":%b,"code":%b,"message":%b%b}'
                    % (request_id, _json(problem.code), _json(problem.message), detail)
                )

    async def _obey(self, op: str, request_id: bytes, text: bytes) -> None:
        obey = self._commands.get(op)
        if obey is None:
            raise Invalid(f"`op` is none of {', '.join(self._commands)}")
        await obey(text, request_id, await self._identify())

    async def _subscribe(self, text: bytes, request_id: bytes, caller: Caller) -> None:
        caller.require("read")
        body = bodies.parse_few(commands.read_subscribe, text)
        wanted = body.wanted()
        selection = selection_of(body)
        require_few(wanted.keys() | self._follower.names)
        require_seen(wanted, caller)
        # Not while an answer waits for a client that doesn't read: that is its own affair.
        with slots.held(caller.key_id):
            found = await sessions.find_topics(list(wanted), lenient=body.lenient)
        positions = {name: start_of(wanted[name], topic) for name, topic in found.items()}
        async with self._instead_of(found):
            await self._say(
                b'{"op":"subscribed","request_id":%b,"topics":%b}'
                % (request_id, _json(told_starts(found, positions)))
            )
            self._follower.add(positions, selection)

    async def _unsubscribe(self, text: bytes, request_id: bytes, caller: Caller) -> None:
        named = bodies.parse_few(commands.read_unsubscribe, text).named()
        require_seen(named, caller)
        async with self._instead_of(named):
            await self._say(
                b'{"op":"unsubscribed","request_id":%b,"topics":%b}' % (request_id, _json(named))
            )

    def _instead_of(self, names: Iterable[str]) -> asyncio.Lock:
        """Follow topics no longer, and return the lock under which to say so: by then, all that was read is told."""
        for name in names:
            self._follower.remove(name)
        return self._telling

    async def _publish(self, text: bytes, request_id: bytes, caller: Caller) -> None:
        started = time.perf_counter()
        caller.require("write")
        target = bodies.parse(commands.read_target, text)
        require_seen([target.topic], caller)
        body = large_writes.parse_write(text)
        if body.config is not None:
            caller.require("admin")
        append = writes.append_of(target.topic, body, text=text, key_header=None)
        with slots.held(caller.key_id):
            written = await groupcommit.write(append)
        seqs = seqs_member(written) if target.return_seqs else b',"seqs":null'
        members = written_members(target.topic, written, started, seqs=seqs)
        await self._say(b'{"op":"ack","request_id":%b,' % request_id + members)

    async def _ping(self, text: bytes, request_id: bytes, caller: Caller) -> None:
        await self._say(b'{"op":"pong","request_id":%b}' % request_id)


class _Drain(Subscription):
    """Rings a bell when the process stops, which wakes every channel."""

    __slots__ = ("_stops",)

    def __init__(self, bell: Bell) -> None:
        super().__init__(hub.current(), ["sockets"])
        self._stops = bell

    def wake(self, channel: str) -> None:
        self._stops.ring()

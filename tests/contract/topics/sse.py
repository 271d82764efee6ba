"""A client of server-sent events for the sync tests of /v0: blocks as they come, byte for byte."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.asgi_client import PATIENCE, opened

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


class Event(NamedTuple):
    """A frame with data."""

    id: str
    event: str
    data: Any


class Stream:
    """An open stream; leaving the block disconnects."""

    def __init__(self, api: Api, url: str, *, key: str | None = None, **headers: str) -> None:
        self._api = api
        self._opened = opened(url, key=key, **headers)
        self._rest = b""

    def __enter__(self) -> Self:
        self.answer = self._api.run(self._opened.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; the application has ended the stream when this returns."""
        self._api.run(self._opened.__aexit__(None, None, None))

    @property
    def status(self) -> int:
        return int(self.answer.status)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.answer.headers)

    def body(self) -> Any:
        """Return the JSON of an answer that is no stream."""
        return self._api.run(self.answer.json())

    def block(self) -> bytes | None:
        """Return what comes up to the next blank line; None at the end."""
        while b"\n\n" not in self._rest:
            part = self._api.run(self._next_part())
            if part is None:
                assert not self._rest
                return None
            self._rest += part
        block, _, self._rest = self._rest.partition(b"\n\n")
        return block + b"\n\n"

    def event(self) -> Event | None:
        """Return the next frame with data; None at the end."""
        while (block := self.block()) is not None:
            lines = dict(line.split(": ", 1) for line in block.decode().splitlines() if line)
            if "data" in lines:
                return Event(lines.get("id", ""), lines["event"], json.loads(lines["data"]))
        return None

    def expect(self, kind: str, **members: Any) -> Event:
        """Return the next frame, which is of this kind and has these members."""
        event = self.event()
        assert event is not None, f"the stream has ended; expected {kind}"
        assert event.event == kind, event
        assert {name: event.data[name] for name in members} == members, event
        return event

    def records(self, *data: Any, topic: str | None = None) -> Event:
        """Return the next frame, which has records with these data."""
        event = self.expect("record", **({} if topic is None else {"topic": topic}))
        assert [record["data"] for record in event.data["records"]] == list(data)
        return event

    def is_over(self) -> bool:
        """Wait until the stream ends; say whether nothing more came."""
        return self.block() is None

    async def _next_part(self) -> bytes | None:
        part: bytes | None = await asyncio.wait_for(self.answer.parts.get(), PATIENCE)
        return part


def cursors(event_id: str) -> Any:
    """Return what an id says."""
    assert "=" not in event_id
    return json.loads(urlsafe_b64decode(event_id + "=" * (-len(event_id) % 4)))


def id_of(said: Any) -> str:
    """Return the id that says so."""
    return urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")

"""Calls that come while one is under way go together into the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from apps.storage.writes.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Sequence


class Work:
    """Notes what it is asked to do together, and does it when it may."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.may_end = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def __call__(self, items: Sequence[Any]) -> Sequence[Any]:
        self.asked.append(list(items))
        self.has_begun.set()
        await self.may_end.wait()
        return [ValueError(item) if item == "bad" else f"{item}!" for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_starts_at_once_and_the_others_go_together():
    async def scene() -> None:
        work = Work()
        batches: Batches[str, str] = Batches(work, most=3)
        calls = [asyncio.create_task(batches.call("a"))]
        await work.has_begun.wait()
        calls += [asyncio.create_task(batches.call(one)) for one in "bcdef"]
        await settle()
        assert work.asked == [["a"]]
        work.may_end.set()
        assert await asyncio.gather(*calls) == ["a!", "b!", "c!", "d!", "e!", "f!"]
        assert work.asked == [["a"], ["b", "c", "d"], ["e", "f"]]
        # And it starts again.
        assert await batches.call("g") == "g!"

    asyncio.run(scene())


def test_each_has_its_own_outcome():
    async def scene() -> None:
        work = Work()
        work.may_end.set()
        batches: Batches[str, str] = Batches(work, most=9)
        found = await asyncio.gather(*map(batches.call, ("a", "bad")), return_exceptions=True)
        assert found[0] == "a!"
        assert isinstance(found[1], ValueError)

    asyncio.run(scene())


def test_what_fails_fails_for_all_and_the_next_is_tried():
    async def scene() -> None:
        refused = [True]

        async def work(items: Sequence[str]) -> Sequence[str]:
            if refused.pop():
                raise OSError("away")
            return items

        batches: Batches[str, str] = Batches(work, most=9)
        found = await asyncio.gather(*map(batches.call, "ab"), return_exceptions=True)
        assert [type(one) for one in found] == [OSError, OSError]
        refused.append(False)
        assert await batches.call("c") == "c"

    asyncio.run(scene())


def test_it_goes_on_without_who_gives_up():
    async def scene() -> None:
        work = Work()
        batches: Batches[str, str] = Batches(work, most=9)
        calls = [asyncio.create_task(batches.call(one)) for one in "ab"]
        await work.has_begun.wait()
        calls[0].cancel()
        await settle()
        work.may_end.set()
        assert await calls[1] == "b!"
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        assert work.asked == [["a", "b"]]

    asyncio.run(scene())


def test_a_batch_waits_for_calls_that_are_expected():
    async def scene() -> None:
        work = Work()
        work.may_end.set()
        batches: Batches[str, str] = Batches(work, most=9, patience=3600)
        is_ready = [asyncio.Event(), asyncio.Event()]

        async def come(item: str, ready: asyncio.Event) -> str:
            with batches.expected():
                await ready.wait()
            return await batches.call(item)

        calls = [asyncio.create_task(come(*one)) for one in zip("ab", is_ready, strict=True)]
        await settle()
        calls.append(asyncio.create_task(batches.call("c")))
        for ready in is_ready:
            await settle()
            assert not work.asked
            ready.set()
        assert await asyncio.gather(*calls) == ["a!", "b!", "c!"]
        assert work.asked == [["c", "a", "b"]]

    asyncio.run(scene())


def test_it_goes_on_when_one_that_was_expected_fails():
    async def scene() -> None:
        work = Work()
        work.may_end.set()
        batches: Batches[str, str] = Batches(work, most=9, patience=3600)

        async def fail() -> None:
            with batches.expected():
                await settle()
                raise OSError("away")

        failing = asyncio.create_task(fail())
        call = asyncio.create_task(batches.call("a"))
        with pytest.raises(OSError, match="away"):
            await failing
        assert await call == "a!"

    asyncio.run(scene())


def test_it_does_not_wait_for_long():
    async def scene() -> None:
        work = Work()
        work.may_end.set()
        batches: Batches[str, str] = Batches(work, most=9, patience=0.001)
        with batches.expected():
            assert await batches.call("a") == "a!"

    asyncio.run(scene())

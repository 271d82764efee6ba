"""What a process has written itself is told to its watchers without a read: the same bytes, each record once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import transaction

from apps.core.threads import in_thread
from apps.topics import queries
from apps.topics.appending import groupcommit, justwritten
from apps.topics.appending.admission import Append
from apps.topics.appending.batch import Record, escape
from apps.topics.predicates import TagPredicate
from apps.topics.watch import pages
from apps.topics.watch.readings import Reading, Selection
from tests.integration.topics.appending import make_append
from tests.integration.topics.pushing import (
    delete,
    opened,
    position,
    records,
    run,
    write,
)

pytestmark = pytest.mark.django_db(transaction=True)


def record(
    data: str, *, tag: str | None = None, node: str | None = None, meta: str | None = None
) -> Record:
    text = data.encode()
    return Record(
        data=text,
        size=len(text),
        tag=None if tag is None else escape(tag),
        node=None if node is None else escape(node),
        meta=None if meta is None else meta.encode(),
    )


KINDS = [
    record("1.50"),
    record('{ "b": 1, "a": [null, "\\u0000", "ü\\n"] }'),
    record('"x"', tag='a "tag" / ü', node="n\\1"),
    record("null", meta='{"k":  [1, 2]}'),
    record("[]", tag="t", node="n", meta="7"),
]


def reads() -> set[Reading]:
    """Return the reads whose pages are kept."""
    return set(pages.current().readings.values())


@pytest.mark.parametrize("with_tags", [True, False])
@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize("with_data", [True, False])
def test_it_is_told_as_it_is_read(with_tags: bool, with_meta: bool, with_data: bool):
    write("t", "10")
    where = position()
    shown: dict[str, Any] = {
        "with_tags": with_tags,
        "with_meta": with_meta,
        "with_data": with_data,
    }
    wanted = Selection(limit=100, budget=100_000, **shown)

    async def scene() -> None:
        async with opened(where, wanted=wanted) as [stream]:
            before = reads()
            written = Append(topic="t", records=KINDS, size=sum(r.size for r in KINDS))
            await groupcommit.write(written)
            await stream.until(b'"$seq":6')
            assert reads() == before
            page = await queries.read_records("t", after=1, limit=100, budget=100_000, **shown)
            assert page is not None
            assert b'"records":[%b],' % page.body in stream.sent
            assert b"".join(stream.pushed).endswith(b'data: {"topic":"t","head_seq":6}\n\n')

    run(scene())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Selection(limit=100, budget=100_000, nodes=("n",)), [2, 3, 4, 5]),
        (Selection(limit=100, budget=100_000, tag=TagPredicate("t", is_prefix=False)), [6]),
        (Selection(limit=1, budget=100_000), [2, 3, 4, 5, 6]),
        (Selection(limit=100, budget=3), [2, 3, 4, 5, 6]),
    ],
)
def test_who_wants_less_than_all_of_it_reads(wanted: Selection, expected: list[int]):
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where, wanted=wanted) as [stream]:
            before = reads()
            written = Append(topic="t", records=KINDS, size=sum(r.size for r in KINDS))
            await groupcommit.write(written)
            await stream.until(b'"topic":"t","head_seq":6}')
            assert records(stream) == expected
            assert reads() != before

    run(scene())


def test_what_is_long_is_read():
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where, wanted=Selection(limit=1000, budget=1_000_000)) as [stream]:
            await groupcommit.write(make_append("t", records=300))
            await stream.until(b'"$seq":301')
            assert records(stream) == list(range(2, 302))

    run(scene())


def test_of_several_writers_each_record_is_told_once_in_order():
    """Some write in this process and by its group commit, the others elsewhere, as far as the watchers know."""
    write("t", "10")
    where = [position() for _ in range(4)]

    async def here() -> None:
        for _ in range(100):
            await groupcommit.write(make_append("t"))

    async def elsewhere() -> None:
        for _ in range(50):
            await in_thread(write, "t", "2")

    async def scene() -> None:
        async with opened(*where) as streams:
            await asyncio.gather(here(), here(), elsewhere())
            for stream in streams:
                await stream.until(b'"$seq":251,')
                assert records(stream) == list(range(2, 252))

    run(scene())


def test_a_topic_made_anew_under_the_watchers_is_told_as_such():
    write("t", "10")
    where = position()

    def make_anew() -> None:
        with transaction.atomic():
            delete("t")
            write("t", "20")

    async def scene() -> None:
        async with opened(where) as [stream]:
            await in_thread(make_anew)
            # The seq that the watchers of the old one wait for.
            await groupcommit.write(make_append("t", b"21"))
            await stream.until(b'"$seq":2')
            assert b'"reason":"recreated"' in stream.sent
            assert records(stream) == [1, 2]

    run(scene())


def test_nothing_is_offered_to_those_who_have_gone():
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where):
            here = justwritten._takers[asyncio.get_running_loop()]
            assert here.keys() == {"t"}
        assert not here

    run(scene())

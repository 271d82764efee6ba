"""A process with more than a thousand clients still reaches Postgres."""

from __future__ import annotations

import os

import pytest

from apps.core import asyncdb
from tests import aio

pytestmark = pytest.mark.django_db(transaction=True)


def test_connections_beyond_the_1023rd_descriptor_are_lent_again():
    source = os.open(os.devnull, os.O_RDONLY)
    held = [source]
    try:
        while held[-1] < 1100:
            held.append(os.dup(source))

        async def twice() -> list[int]:
            used = []
            for _ in range(2):
                async with asyncdb.connection() as lent:
                    used.append(lent.fileno())
                    await lent.execute("SELECT 1")
            return used

        first, again = aio.run(twice())
        assert first == again > 1023
    finally:
        for descriptor in held:
            os.close(descriptor)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connection

from tests import servers

if TYPE_CHECKING:
    from redis import Redis


@pytest.mark.django_db
def test_it_is_postgres_18():
    assert connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        (number,) = cursor.fetchone()
    assert int(number) >= 180000


@pytest.mark.django_db
@pytest.mark.skipif(
    "gyoza-" not in servers.environment()["DATABASE_URL"], reason="DATABASE_URL given"
)
def test_it_listens_on_no_tcp_port():
    with connection.cursor() as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("",)


def test_it_speaks_redis(redis: Redis):
    redis.set("word", "gyoza")
    assert redis.get("word") == b"gyoza"

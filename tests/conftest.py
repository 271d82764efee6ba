"""Fixtures that every kind of test may use."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

pytest_plugins = ["tests.cast"] if find_spec("tests.cast") else []


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Start Postgres and Redis before the first test that uses the database."""
    servers.start()


@pytest.fixture
def redis() -> Iterator[Redis]:
    """Return a client of an empty Redis, left empty."""
    import redis
    from django.conf import settings

    servers.start()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return the list of nudges sent since the test began, as (task, arguments); none reaches a broker.

    They are sent on commit: use it with `django_capture_on_commit_callbacks(execute=True)`, or with
    `django_db(transaction=True)`.
    """
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr("apps.core.queue._send", lambda task, kwargs: sent.append((task, kwargs)))
    for send in ("_send_soon", "_send_later"):
        monkeypatch.setattr(f"apps.core.queue.{send}", lambda task: sent.append((task, {})))
    return sent


# A time limit is never a test: machines are busy.
hypothesis.settings.register_profile(
    "house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")

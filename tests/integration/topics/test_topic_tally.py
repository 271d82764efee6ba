"""The number of topics is known without counting them, and exactly."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction

from apps.core import sql
from apps.core.errors import Throttled
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.disk import sweep
from apps.topics.models import Topic, TopicTally
from tests.new_log import renew_log

pytestmark = pytest.mark.django_db(transaction=True)

COLUMNS = TopicConfig().columns()


def counted() -> int:
    with transaction.atomic():
        sql.run_bound("topics/lock_quota")
        return int(sql.run_bound("topics/count_topics").rows[0]["topics"])


def test_it_follows_every_way_to_create_and_delete():
    assert counted() == 0
    services.ensure_topics(["a", "b", "c"])
    services.ensure_topics(["a", "d"])
    with transaction.atomic():
        assert services.create_topic("e", COLUMNS)
        assert not services.create_topic("a", COLUMNS)
    assert counted() == 5
    services.delete_topic(topic="a", caller="test")
    services.delete_topic(topic="nothing", caller="test")
    Topic.objects.filter(name__in=["b", "c"]).delete()
    assert counted() == 2 == Topic.objects.count()


def test_what_is_rolled_back_does_not_count():
    services.ensure_topics(["a"])
    with transaction.atomic():
        services.ensure_topics(["b", "c"])
        Topic.objects.filter(name="a").delete()
        assert counted() == 2
        transaction.set_rollback(True)
    assert counted() == 1


def test_many_changes_become_one():
    for number in range(65):
        services.ensure_topics([f"t{number}"])
    assert TopicTally.objects.count() == 65
    assert counted() == 65
    assert [tally.change for tally in TopicTally.objects.all()] == [65]
    assert counted() == 65


def test_the_sweep_merges_them_too():
    for number in range(65):
        services.ensure_topics([f"t{number}"])
    try:
        assert sweep.trim_records()
        assert [str(tally) for tally in TopicTally.objects.all()] == ["+65"]
    finally:
        renew_log()


def test_the_cap_holds_however_many_create_and_delete_at_once(settings: Any):
    """Some within the cap, some beside it, some delete; changes are merged all the while."""
    settings.GYOZA_MAX_TOPICS = 60
    start = threading.Barrier(6)
    most = 0

    def create(number: int) -> None:
        nonlocal most
        start.wait()
        for turn in range(40):
            try:
                with transaction.atomic():
                    services.create_topic(f"{number}.{turn}", COLUMNS)
                    most = max(most, Topic.objects.exclude(name__startswith="beside").count())
            except Throttled:
                pass
            if turn % 3 == 2:
                services.delete_topic(topic=f"{number}.{turn - 2}", caller="test")
        connection.close()

    def create_beside() -> None:
        start.wait()
        for turn in range(10):
            services.ensure_topics([f"beside.{turn}"])
        connection.close()

    threads = [threading.Thread(target=create, args=(number,)) for number in range(5)]
    threads.append(threading.Thread(target=create_beside))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 40 < most <= 60
    assert counted() == Topic.objects.count()

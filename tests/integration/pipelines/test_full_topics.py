"""Messages that steps publish to topics that reject when they are full."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from apps.access.auth import ANONYMOUS
from apps.pipelines import services
from apps.pipelines.execution import advancing
from apps.pipelines.models import Execution
from apps.topics import queries as topics
from apps.topics import services as topic_services
from apps.topics.config import TopicConfig
from apps.topics.services import NewEvent

pytestmark = pytest.mark.django_db


def narrow(topic: str = "narrow", **config: Any) -> None:
    wanted = TopicConfig(cap_records=1, discard="reject", **config)
    topic_services.configure_topic(topic=topic, wanted=wanted, caller="test")


def test_a_message_that_a_full_topic_rejects_fails_its_step(driver):
    narrow()
    steps = [
        {"name": "one", "adapter": "publish", "inputs": {"topic": "narrow", "data": 1}},
        {
            "name": "two",
            "adapter": "publish",
            "inputs": {"topic": "narrow", "data": 2},
            "needs": ["one"],
        },
        {"name": "beside", "adapter": "publish", "inputs": {"topic": "wide", "data": 3}},
    ]
    execution = driver.advance(driver.start(steps, options={"on_failure": "continue"}))
    execution = driver.advance(execution)
    assert execution.status == "failed"
    assert driver.statuses(execution) == {
        "one": "completed",
        "two": "failed",
        "beside": "completed",
    }
    assert driver.stage(execution, "two").error == "topic_full: narrow has no room left"
    assert execution.error_info["message"] == "two: topic_full: narrow has no room left"
    heads = [topics.find_head(topic) for topic in ("narrow", "wide")]
    assert [head and head.seq for head in heads] == [1, 1]
    # Room has been made: the retry is taken.
    topic_services.delete_records(topic="narrow", before_seq=10, caller="test")
    services.retry_execution(named=str(execution.id), caller=ANONYMOUS)
    assert driver.advance(execution).status == "completed"


def test_a_message_that_the_log_has_no_room_for_fails_its_step(driver, settings):
    topic_services.append_events([NewEvent("wide", '"' + "x" * 3_000 + '"')])
    settings.GYOZA_MAX_TOTAL_BYTES = 2_000
    step = {"name": "one", "adapter": "publish", "inputs": {"topic": "wide", "data": 1}}
    execution = driver.advance(driver.start([step]))
    assert execution.status == "failed"
    assert driver.stage(execution, "one").error == "throttled: the log is full"
    settings.GYOZA_MAX_TOTAL_BYTES = 1_000_000
    assert driver.advance(driver.start([step])).status == "completed"


def test_what_has_expired_leaves_room(driver):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        narrow(ttl_ms=1_000)
        topic_services.append_events([NewEvent("narrow", "1")])
        step = {"name": "one", "adapter": "publish", "inputs": {"topic": "narrow", "data": 2}}
        assert driver.advance(driver.start([step])).status == "failed"
        clock.shift(2)
        assert driver.advance(driver.start([step])).status == "completed"


def test_the_refusal_of_one_message_keeps_back_no_other_execution(driver):
    narrow()
    topic_services.append_events([NewEvent("narrow", "1")])
    started = [
        driver.start([{"name": "a", "adapter": "publish", "inputs": {"topic": topic, "data": 1}}])
        for topic in ("wide", "narrow", "wide")
    ]
    advancing.advance_all([one.id for one in started], due=0)
    found = [Execution.objects.get(pk=one.pk).status for one in started]
    assert found == ["completed", "failed", "completed"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"data": 1, "tag": "x" * 257}, "`tag` is longer than 256 bytes"),
        ({"data": 1, "meta": {"x": "y" * 16_384}}, "`meta` has 16"),
        ({"data": 1, "meta": {str(n): n for n in range(64)}}, "`meta` has more than 64 keys"),
        ({"data": "x" * 1_048_576}, "a record has 1048"),
    ],
)
def test_a_message_over_a_limit_of_records_fails_its_step(driver, message, error):
    step = {"name": "one", "adapter": "publish", "inputs": {"topic": "wide", **message}}
    execution = driver.advance(driver.start([step]))
    assert execution.status == "failed"
    assert driver.stage(execution, "one").error.startswith(error)
    assert topics.find_head("wide") is None

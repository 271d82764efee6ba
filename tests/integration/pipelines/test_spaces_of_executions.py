"""The storage of an execution is opened, closed and opened again with it."""

from __future__ import annotations

import pytest

from apps.access.auth import ANONYMOUS
from apps.pipelines import services
from apps.storage.models import Space

pytestmark = pytest.mark.django_db

FAILS = [{"name": "a", "command": ["false"]}]


def test_it_is_open_while_the_execution_runs(driver):
    execution = driver.start(FAILS, tag="nightly")
    space = Space.objects.get(pk=execution.id)
    assert (space.tag, space.visible_as) == ("nightly", execution.pipeline_id)
    assert space.correlation_id == execution.root_correlation_id
    assert space.closed_at is None


def test_it_is_closed_when_the_execution_ends(driver):
    execution = driver.advance(driver.start([]))
    assert execution.status == "completed"
    assert Space.objects.get(pk=execution.id).closed_at is not None


def test_a_retry_opens_it_again(driver):
    execution = driver.advance(driver.start(FAILS))
    services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
    execution = driver.advance(execution)
    assert Space.objects.get(pk=execution.id).closed_at is not None
    services.retry_execution(named=str(execution.id), caller=ANONYMOUS)
    assert Space.objects.get(pk=execution.id).closed_at is None

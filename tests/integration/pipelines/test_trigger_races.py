"""Who starts, stops and deletes triggers at once gets an answer, and one subscription is what is left."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from apps.access.auth import ANONYMOUS
from apps.core.errors import NotFound
from apps.pipelines import services, triggers
from apps.pipelines.models import Pipeline, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*works: Callable[[], object]) -> list[Exception]:
    """Do all of it at the same moment; return what went wrong."""
    together = threading.Barrier(len(works))
    wrong: list[Exception] = []

    def work(one: Callable[[], object]) -> None:
        together.wait()
        try:
            one()
        except Exception as exc:
            wrong.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def start() -> Any:
    return triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)


@pytest.fixture(autouse=True)
def _pipeline() -> None:
    document = {"id": "p", "name": "p", "options": {"event": "orders"}, "steps": []}
    services.create_pipeline(body=document, caller=ANONYMOUS)


def test_of_several_first_starts_each_succeeds():
    assert at_once(*[start] * 6) == []
    assert Trigger.objects.get().is_started


@pytest.mark.parametrize("attempt", range(5))
def test_a_start_beside_a_delete_leaves_no_trigger_without_a_pipeline(attempt):
    wrong = at_once(
        start,
        lambda: services.delete_pipeline(pipeline_id="p", force=True, caller=ANONYMOUS),
        start,
    )
    # No such pipeline, or no such version any more.
    assert all(isinstance(exc, NotFound) for exc in wrong), wrong
    assert Pipeline.objects.count() == Trigger.objects.count() == 0

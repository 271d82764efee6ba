from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from apps.access.auth import ANONYMOUS
from apps.pipelines import queries, services
from apps.pipelines.execution import advancing
from tests.contract.storage.conftest import place

if TYPE_CHECKING:
    from apps.pipelines.models import Execution


__all__ = ["place"]


@pytest.fixture(autouse=True)
def _no_broker(enqueued: list[Any]) -> None:
    """Record nudges: nothing runs by itself."""


@pytest.fixture
def operator(admin_user: Any) -> Client:
    """Return the browser of a superuser."""
    return browser_of(admin_user)


@pytest.fixture
def looker(django_user_model: Any) -> Client:
    """Return the browser of somebody of the staff who may look."""
    return browser_of(django_user_model.objects.create_user("looker", is_staff=True))


@pytest.fixture
def outsider(django_user_model: Any) -> Client:
    """Return the browser of somebody who has an account, but is not of the staff."""
    return browser_of(django_user_model.objects.create_user("outsider"))


def browser_of(user: Any) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def start(pipeline_id: str = "team.p", steps: Any = None, **run: Any) -> Execution:
    """Make a pipeline if there is none, and start it; by default it waits for an answer."""
    ask = {"name": "ask", "adapter": "approve", "inputs": {"message": "Shall <it>?"}}
    body = {"id": pipeline_id, "name": pipeline_id, "steps": steps or [ask]}
    services.apply_pipeline(body=body, caller=ANONYMOUS)
    started = services.run_pipeline(pipeline_id=pipeline_id, caller=ANONYMOUS, **run)
    advancing.advance_execution(started.id)
    return queries.get_execution(named=str(started.id), caller=ANONYMOUS)

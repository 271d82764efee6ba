from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from apps.storage import services
from apps.storage.services import NewSpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.object_client import Answer


@pytest.fixture(autouse=True)
def place(tmp_path: Path, settings: Any) -> Path:
    """Keep objects in a directory of the test, and return it."""
    settings.STORAGES = {
        **settings.STORAGES,
        "gyoza": {**settings.STORAGES["gyoza"], "OPTIONS": {"location": tmp_path / "objects"}},
    }
    settings.GYOZA_STORAGE_INCOMING = tmp_path / "incoming"
    return tmp_path


@pytest.fixture
def opened(transactional_db: None) -> Callable[..., str]:
    """Return a function that opens the storage of an execution and returns its id."""

    def opened(tag: str | None = None, visible_as: str = "team.p") -> str:
        new = NewSpace(execution_id=uuid4(), tag=tag, visible_as=visible_as, correlation_id="c0")
        services.open_spaces([new])
        return str(new.execution_id)

    return opened


@pytest.fixture
def execution(opened: Callable[..., str]) -> str:
    """Return the id of an execution whose storage is open."""
    return opened()


def refused(answer: Answer, status: int, code: str) -> str:
    """Assert the error of /api/v1 with its four keys, and return what it says."""
    body = answer.json()
    assert (answer.status, body["error_code"]) == (status, code), body
    assert set(body) == {"detail", "error_code", "correlation_id", "timestamp"}
    return str(body["detail"])


def malformed(answer: Answer) -> list[Any]:
    """Assert the 422 of /api/v1, and return the place it is about."""
    assert answer.status == 422, answer.content
    (one,) = answer.json()["detail"]
    assert set(one) >= {"loc", "msg", "type"}
    return list(one["loc"])

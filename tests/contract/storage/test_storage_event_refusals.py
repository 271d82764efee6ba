"""GET /api/v1/storage/events: what is refused before the first byte, in the documented shape (pipelines-storage.md §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from apps.core import asyncdb
from apps.core.sse import hub
from tests import aio
from tests.asgi_client import get
from tests.contract.storage.conftest import malformed, refused
from tests.object_client import Answer, call
from tests.object_writer import close_spaces, open_space

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = "/api/v1/storage/events"


def ask(query: str, **options: Any) -> Answer:
    return call("GET", f"{EVENTS}?{query}", **options)


@pytest.fixture
def ended() -> str:
    """Return an execution whose stream ends at once."""
    execution = open_space("nightly")
    close_spaces(execution)
    return execution


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("", "execution_id"),
        ("execution_id=", "execution_id"),
        ("&".join(f"execution_id=e{number}" for number in range(101)), "execution_id"),
        ("execution_id=x&timeout=", "timeout"),
        ("execution_id=x&timeout=0.999", "timeout"),
        ("execution_id=x&timeout=3600.001", "timeout"),
        ("execution_id=x&timeout=-1", "timeout"),
        ("execution_id=x&timeout=nan", "timeout"),
        ("execution_id=x&timeout=inf", "timeout"),
        ("execution_id=x&timeout=soon", "timeout"),
        ("execution_id=x&timeout=1_0", "timeout"),
        ("execution_id=x&timeout=%D9%A3", "timeout"),
        ("execution_id=x&timeout=%2B5", "timeout"),
        ("execution_id=x&keep_open=maybe", "keep_open"),
        ("execution_id=x&keep_open=", "keep_open"),
        ("execution_id=x&replay=2", "replay"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(query, place):
    assert malformed(ask(query)) == ["query", place]


def test_all_that_are_wrong_are_named():
    answer = ask("timeout=0&keep_open=x&replay=x")
    assert answer.status == 422
    assert [one["loc"][1] for one in answer.json()["detail"]] == [
        "execution_id", "timeout", "keep_open", "replay",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        "timeout=1", "timeout=3600", "timeout=1.5", "keep_open=false", "keep_open=FALSE", "keep_open=0", "replay=true",
        "replay=1", "stage=a", "path=a", "extension=.md", "unknown=1",
    ],
)  # fmt: skip
def test_a_parameter_that_is_right_is_taken(ended, query):
    answer = ask(f"execution_id=nightly&{query}")
    assert answer.status == 200
    assert answer.content.endswith(b": end reason=all_terminal\n\n")


def test_eleven_executions_share_a_stream():
    """django-eventstream takes ten channels at most."""
    executions = [open_space() for _ in range(11)]
    close_spaces(*executions)
    assert ask("&".join(f"execution_id={one}" for one in executions)).status == 200


@pytest.mark.parametrize(
    "unknown", [str(uuid4()), "nope", "a%00b", "%F0%28", "x" * 4000, "' OR 1=1"]
)
def test_any_one_that_is_unknown_is_not_found(ended, unknown):
    answer = ask(f"execution_id={ended}&execution_id={unknown}")
    assert refused(answer, 404, "execution_not_found").startswith("Execution ")


def test_one_that_the_key_must_not_see_is_not_found(owner, reader, stranger):
    execution = open_space(visible_as="team.p")
    close_spaces(execution)
    query = f"execution_id={execution}"
    assert ask(query, key=owner).status == 200
    assert ask(query, key=reader).status == 200
    refused(ask(query, key=stranger), 404, "execution_not_found")
    refused(ask(query), 401, "unauthorized")
    refused(ask(query, key="wrong"), 401, "unauthorized")
    assert ask(f"{query}&token={reader}").status == 200


def test_a_key_that_may_only_write_is_forbidden(key_maker):
    key = key_maker("writer", "write", "team.")
    refused(ask("execution_id=x", key=key), 403, "forbidden")


def test_other_methods_are_refused():
    for method in ("POST", "PUT", "DELETE"):
        refused(call(method, EVENTS), 405, "method_not_allowed")


def test_a_slash_behind_it_changes_nothing(ended):
    assert call("GET", f"{EVENTS}/?execution_id={ended}").status == 200


# --- 503 ------------------------------------------------------------------------------------------


@pytest.fixture
def no_bus(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no statement of the event loop reach Postgres."""

    def away() -> Any:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(asyncdb, "connection", away)
    yield
    monkeypatch.undo()


def unavailable(answer: Answer) -> None:
    told = refused(answer, 503, "storage_event_streamer_unavailable")
    assert told == "Storage event streamer not available"


def test_without_its_bus_it_is_not_available(no_bus, ended):
    unavailable(ask(f"execution_id={ended}"))


def test_without_its_log_it_is_not_available(no_log, ended):
    unavailable(ask(f"execution_id={ended}"))


def test_422_goes_before_503_and_503_before_404(no_bus, ended):
    assert malformed(ask("execution_id=nope&timeout=0")) == ["query", "timeout"]
    unavailable(ask("execution_id=nope"))


def test_404_goes_before_the_first_byte(ended):
    status, body = aio.run(get(f"{EVENTS}?execution_id=nope&replay=true"))
    assert (status, body["error_code"]) == (404, "execution_not_found")


def test_a_bus_that_is_heard_is_not_asked_again(ended):
    async def scene() -> bool:
        hub.current().hears = True
        return await hub.current().is_reached()

    assert aio.run(scene())

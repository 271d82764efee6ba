from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import connection

from apps.access import services
from apps.access.caller import Caller
from apps.access.models import IdempotencyRecord
from apps.access.scopes import ALL
from apps.core import clock
from apps.core.errors import Invalid
from tests.sessions import wait_for_a_blocked_session

if TYPE_CHECKING:
    from collections.abc import Callable

CALLER = Caller(name="one", scopes=ALL)
OTHER = Caller(name="run:x", scopes=ALL, user_id=7)


def make(made: list[int], answer: Any = None) -> Callable[[], tuple[int, Any]]:
    def create() -> tuple[int, Any]:
        made.append(1)
        return 201, answer if answer is not None else {"id": len(made)}

    return create


def once(
    create: Callable[[], tuple[int, Any]],
    *,
    key: str | None = "k",
    caller: Caller = CALLER,
    fingerprint: bytes = b"f",
) -> tuple[int, Any, bool]:
    return services.once(caller=caller, key=key, fingerprint=fingerprint, create=create)


@pytest.mark.django_db
def test_a_repeat_answers_the_first_result():
    made: list[int] = []
    assert once(make(made)) == (201, {"id": 1}, False)
    assert once(make(made)) == (201, {"id": 1}, True)
    assert made == [1]


@pytest.mark.django_db
def test_an_answer_may_be_given_as_json_text():
    assert once(make([], b'{"b":1,"a":2}')) == (201, {"b": 1, "a": 2}, False)
    assert list(once(make([]))[1]) == ["b", "a"]


@pytest.mark.django_db
def test_without_a_key_each_is_new():
    made: list[int] = []
    assert once(make(made), key=None) == (201, {"id": 1}, False)
    assert once(make(made), key=None) == (201, {"id": 2}, False)
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_owners_do_not_share_keys():
    made: list[int] = []
    once(make(made))
    assert once(make(made), caller=OTHER) == (201, {"id": 2}, False)


@pytest.mark.django_db
def test_the_same_key_for_another_request_is_a_conflict():
    once(make([]))
    with pytest.raises(services.IdempotencyConflict) as refused:
        once(make([]), fingerprint=b"g")
    assert refused.value.code == "idempotency_conflict"


@pytest.mark.django_db
def test_a_failure_remembers_nothing():
    def fail():
        raise Invalid("no")

    with pytest.raises(Invalid):
        once(fail)
    assert once(make([])) == (201, {"id": 1}, False)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 256, "\u00e9" * 256])
def test_a_key_may_have_256_bytes(key):
    assert once(make([]), key=key)[2] is False
    assert once(make([]), key=key)[2] is True


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 257, ""])
def test_a_key_that_is_longer_or_none_is_refused(key):
    with pytest.raises(Invalid, match="256 bytes"):
        once(make([]), key=key)


@pytest.mark.django_db
def test_a_day_later_the_key_is_free():
    made: list[int] = []
    now = clock.now()
    with time_machine.travel(now, tick=False) as traveller:
        once(make(made))
        traveller.shift(timedelta(hours=24))
        assert once(make(made))[2] is True
        traveller.shift(timedelta(seconds=1))
        assert once(make(made), fingerprint=b"g") == (201, {"id": 2}, False)
        assert once(make(made), fingerprint=b"g") == (201, {"id": 2}, True)


@pytest.mark.django_db
def test_trimming_removes_what_is_older_than_a_day(monkeypatch):
    monkeypatch.setattr(services, "_TRIM_BATCH", 2)
    now = clock.now()
    with time_machine.travel(now - timedelta(hours=25), tick=False):
        for key in "abcde":
            once(make([]), key=key)
    once(make([]), key="young")
    assert services.trim_idempotency() == 5
    assert [r.key for r in IdempotencyRecord.objects.all()] == ["young"]


def race(
    first_ends: Callable[[], tuple[int, Any]], *, fingerprints: tuple[bytes, bytes] = (b"f", b"f")
) -> tuple[dict[str, Any], list[str]]:
    """Run two requests with one key: the second starts while the first is inside `create`."""
    inside, asked = threading.Event(), threading.Event()
    answers: dict[str, Any] = {}
    made: list[str] = []

    def slow():
        inside.set()
        assert asked.wait(10)
        made.append("first")
        return first_ends()

    def attempt(name, create, fingerprint):
        try:
            answers[name] = once(create, fingerprint=fingerprint)
        except Exception as exc:
            answers[name] = exc
        finally:
            connection.close()

    def second():
        made.append("second")
        return 201, {"by": "second"}

    one = threading.Thread(target=attempt, args=("first", slow, fingerprints[0]))
    one.start()
    assert inside.wait(10)
    two = threading.Thread(target=attempt, args=("second", second, fingerprints[1]))
    two.start()
    wait_for_a_blocked_session()
    asked.set()
    one.join(10)
    two.join(10)
    return answers, made


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_creates_and_the_other_repeats():
    answers, made = race(lambda: (201, {"by": "first"}))
    assert answers == {
        "first": (201, {"by": "first"}, False),
        "second": (201, {"by": "first"}, True),
    }
    assert made == ["first"]


@pytest.mark.django_db(transaction=True)
def test_if_the_first_fails_the_second_creates():
    def fail():
        raise Invalid("no")

    answers, made = race(fail)
    assert isinstance(answers["first"], Invalid)
    assert answers["second"] == (201, {"by": "second"}, False)
    assert made == ["first", "second"]


@pytest.mark.django_db(transaction=True)
def test_of_two_different_requests_at_once_the_second_conflicts():
    answers, made = race(lambda: (201, {"by": "first"}), fingerprints=(b"f", b"g"))
    assert answers["first"][2] is False
    assert isinstance(answers["second"], services.IdempotencyConflict)
    assert made == ["first"]

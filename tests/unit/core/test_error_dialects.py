from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest

from apps.core import correlation, errors
from apps.core.api import dialects
from apps.core.api.exception_handler import FOLDS, STATUS, fold, problem_of, rendered, status_of
from tests.asserts import present

if TYPE_CHECKING:
    from collections.abc import Iterator


def descendants(kind: type[errors.GyozaError]) -> Iterator[type[errors.GyozaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)


def render(path: str, error: Exception) -> Any:
    return rendered(path, present(problem_of(error)))


@pytest.mark.parametrize(
    "kind", sorted(set(descendants(errors.GyozaError)), key=attrgetter("__qualname__"))
)
def test_every_error_has_a_status_and_a_sentence(kind):
    assert 400 <= STATUS[next(k for k in kind.__mro__ if k in STATUS)] <= 599
    assert (kind.__doc__ or "").strip().endswith(".")


def test_a_subclass_answers_like_its_nearest_ancestor():
    class TopicGone(errors.NotFound):
        """No such topic."""

        code = "topic_gone"

    assert status_of(TopicGone()) == 404
    assert render("/v0/topics/x", TopicGone("no topic x", topic="x"))[:2] == (
        404,
        {"error": {"code": "topic_gone", "message": "no topic x", "detail": {"topic": "x"}}},
    )


def test_topics_leave_detail_out_when_there_is_none():
    body = render("/v0/topics/x", errors.NotFound())[1]
    assert body == {"error": {"code": "not_found", "message": "No such thing, or not for you."}}


def test_runs_have_their_three_keys_always():
    body = render("/runs", errors.NotFound())[1]
    assert list(body["error"]) == ["code", "message", "detail"]
    assert body["error"]["detail"] == {}


@pytest.mark.parametrize(("where", "field"), [("body", "body"), ("query", "query")])
def test_a_complaint_about_no_field_is_listed_as_well(where, field):
    error = errors.Invalid("a string contains NUL (U+0000)", where=where)
    detail = render("/runs", error)[1]["error"]["detail"]
    assert detail == {"errors": [{"field": field, "message": error.message}]}
    assert "errors" not in render("/v0/topics", error)[1]["error"].get("detail", {})


def test_field_errors_are_listed_in_both_dialects():
    error = errors.Invalid.of([("runs.3.priority", "is too high"), ("body", "is odd")])
    assert render("/runs", error)[:2] == (
        400,
        {
            "error": {
                "code": "invalid_request",
                "message": "runs.3.priority: is too high (and 1 more)",
                "detail": {
                    "errors": [
                        {"field": "runs.3.priority", "message": "is too high"},
                        {"field": "body", "message": "is odd"},
                    ]
                },
            }
        },
    )
    assert render("/api/v1/pipelines/", error)[:2] == (
        422,
        {
            "detail": [
                {
                    "loc": ["body", "runs", 3, "priority"],
                    "msg": "is too high",
                    "type": "value_error",
                },
                {"loc": ["body"], "msg": "is odd", "type": "value_error"},
            ]
        },
    )


def test_a_bad_parameter_says_query_under_v1_only():
    error = errors.Invalid.of([("limit", "is too high")], where="query")
    assert render("/api/v1/x", error)[1]["detail"][0]["loc"] == ["query", "limit"]
    assert render("/runs", error)[1]["error"]["detail"] == {
        "errors": [{"field": "limit", "message": "is too high"}]
    }


def test_v1_has_its_four_keys_always():
    with correlation.bound("abc"):
        status, body, _ = render("/api/v1/pipelines/x", errors.Conflict("taken"))
    assert status == 409
    assert list(body) == ["detail", "error_code", "correlation_id", "timestamp"]
    assert (body["detail"], body["error_code"], body["correlation_id"]) == (
        "taken",
        "conflict",
        "abc",
    )


def test_a_body_too_large_stays_413_under_v1():
    assert render("/api/v1/pipelines/", errors.TooLarge())[0] == 413


@pytest.mark.parametrize(
    ("path", "v1"),
    [
        ("/api/v1", True),
        ("/api/v1/x", True),
        ("/api/v10", False),
        ("/runs", False),
        ("/v0/x", False),
    ],
)
def test_the_prefix_chooses_the_dialect(path, v1):
    assert dialects.speaks_v1(path) is v1


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/", True),
        ("/admin/x", True),
        ("/console/", True),
        ("/administer", False),
        ("/runs", False),
    ],
)
def test_html_is_for_people_only(path, page):
    assert dialects.is_page(path) is page


def test_whoever_must_wait_is_told_how_long():
    assert render("/runs", errors.Throttled(retry_after=7))[2] == {"Retry-After": "7"}
    assert render("/runs", errors.Unavailable())[2] == {"Retry-After": "1"}


def test_whoever_has_no_key_is_told_how_to_give_one():
    assert render("/runs", errors.Unauthorized())[2] == {"WWW-Authenticate": "Bearer"}


def test_the_first_row_of_the_folds_is_never_shadowed():
    for index, (kind, _) in enumerate(FOLDS):
        assert not any(issubclass(kind, earlier) for earlier, _ in FOLDS[:index]), kind


def test_postgres_being_away_is_unavailable():
    import psycopg
    from django.db import OperationalError
    from psycopg_pool import PoolTimeout

    for gone in (OperationalError("gone"), psycopg.OperationalError("gone"), PoolTimeout("full")):
        problem = present(problem_of(gone))
        assert (problem.status, problem.code) == (503, "unavailable")
        assert "gone" not in problem.message


def test_nested_errors_of_a_serializer_are_flattened():
    from rest_framework.exceptions import ValidationError

    error = fold(
        ValidationError({"runs": [{}, {"inputs": {"a": ["bad"]}}], "x": ["worse", "still"]})
    )
    assert present(error).detail["errors"] == [
        {"field": "runs.1.inputs.a", "message": "bad"},
        {"field": "x", "message": "worse"},
        {"field": "x", "message": "still"},
    ]


def test_a_bug_is_not_folded():
    assert problem_of(KeyError("secret")) is None

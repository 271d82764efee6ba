"""runs.md §2: bodies that no reader should have to survive."""

from __future__ import annotations

from typing import Any

import pytest

from apps.definitions.models import Definition
from tests.asserts import assert_problem
from tests.cast import client_for

START = '{"id":"team.op","version":"1","command":["true"],"description":'


def post(key: str, text: str | bytes, content_type: str = "application/json") -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    return client_for(key).post("/definitions", data, content_type=content_type)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        START + '"a\\u0000b"}',
        START + '"\\ud800"}',
        START + '"x","description":"y"}',
        START.replace("description", "timeout_s") + "NaN}",
        START.replace("description", "timeout_s") + "1e999}",
        START.replace("description", "timeout_s") + "99999999999999999999}",
        START.replace("description", "event_delivery")
        + '{"attributes":{"a":'
        + "[" * 64
        + "]" * 64
        + "}}}",
        START.encode() + b'"\xff"}',
    ],
)
def test_it_is_refused_and_nothing_is_stored(admin_key, text):
    assert_problem(post(admin_key, text), 400, "invalid_request")
    assert not Definition.objects.exists()


@pytest.mark.django_db
def test_a_body_over_one_mebibyte_is_too_large(admin_key):
    text = START + '"' + "x" * (1024 * 1024) + '"}'
    assert_problem(post(admin_key, text), 413, "payload_too_large")
    assert not Definition.objects.exists()


@pytest.mark.django_db
def test_other_content_types_are_refused(admin_key):
    answer = post(admin_key, START + '"x"}', content_type="text/plain")
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.django_db
@pytest.mark.parametrize("deep", [61])
def test_what_is_just_allowed_is_stored(admin_key, deep):
    attributes = '{"attributes":{"a":' + "[" * deep + "]" * deep + "}}}"
    text = START.replace("description", "event_delivery") + attributes
    assert post(admin_key, text).status_code == 201

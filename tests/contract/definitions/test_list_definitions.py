"""runs.md §2: GET /definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.asserts import assert_problem
from tests.cast import client_for
from tests.factories import make_definition

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def names(client: APIClient, query: str = "") -> tuple[list[str], bool]:
    answer = client.get(f"/definitions{query}").json()
    return [f"{row['id']}@{row['version']}" for row in answer["data"]], answer["has_more"]


@pytest.fixture
def five(owner):
    for version in ("1", "2"):
        make_definition("team.a", version)
        make_definition("team.b", version)
    make_definition("team.a", "1")
    make_definition("other.c", "1")
    return client_for(owner)


@pytest.mark.django_db
def test_every_version_newest_deployment_first(five):
    assert names(five) == (["team.a@1", "team.b@2", "team.a@2", "team.b@1"], False)


@pytest.mark.django_db
def test_a_page_holds_a_hundred_unless_less_is_asked_for(owner):
    for number in range(101):
        make_definition("team.a", str(number))
    listed, has_more = names(client_for(owner))
    assert (len(listed), has_more) == (100, True)


@pytest.mark.django_db
def test_latest_versions_only(five):
    assert names(five, "?latest=true") == (["team.a@1", "team.b@2"], False)


@pytest.mark.django_db
def test_versions_of_one_op(five):
    assert names(five, "?id=team.b") == (["team.b@2", "team.b@1"], False)
    assert names(five, "?id=team.b&latest=1") == (["team.b@2"], False)


@pytest.mark.django_db
def test_pages_follow_each_other(five):
    assert names(five, "?limit=3") == (["team.a@1", "team.b@2", "team.a@2"], True)
    assert names(five, "?limit=3&starting_after=team.a@2") == (["team.b@1"], False)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("latest=maybe", "latest"),
        ("starting_after=team.a", "starting_after"),
        ("starting_after=other.c@1", "starting_after"),
    ],
)
def test_it_refuses(five, query, field):
    assert_problem(five.get(f"/definitions?{query}"), 400, "invalid_request", field)


@pytest.mark.django_db
def test_a_stranger_sees_only_its_own(five, stranger):
    assert names(client_for(stranger)) == (["other.c@1"], False)


@pytest.mark.django_db
def test_a_page_costs_the_same_whatever_its_length(five):
    five.get("/definitions")
    counts = []
    for limit in (1, 4):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            five.get(f"/definitions?limit={limit}")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 2

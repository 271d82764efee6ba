"""runs.md §2: GET /definitions/{name}?version=."""

from __future__ import annotations

import pytest

from tests.asserts import assert_problem
from tests.cast import client_for
from tests.factories import make_definition


@pytest.mark.django_db
def test_without_a_version_it_is_the_one_deployed_last(owner):
    for version in ("2", "10", "1"):
        make_definition("team.op.v", version)
    client = client_for(owner)
    assert client.get("/definitions/team.op.v").json()["version"] == "1"
    assert client.get("/definitions/team.op.v?version=10").json()["version"] == "10"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["team.none", "team.op?version=9", "team.op/"])
def test_what_does_not_exist_is_not_found(owner, path):
    make_definition("team.op")
    assert_problem(client_for(owner).get(f"/definitions/{path}"), 404, "not_found")


@pytest.mark.django_db
def test_a_reader_may(reader):
    make_definition("team.op")
    assert client_for(reader).get("/definitions/team.op").status_code == 200


@pytest.mark.django_db
def test_to_a_stranger_it_does_not_exist(stranger):
    make_definition("team.op")
    assert_problem(client_for(stranger).get("/definitions/team.op"), 404, "not_found")


@pytest.mark.django_db
def test_nobody_without_a_key(owner):
    assert_problem(client_for().get("/definitions/team.op"), 401, "unauthorized")

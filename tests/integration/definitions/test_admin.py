from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.models import AuditEntry
from apps.definitions.models import Definition
from tests.factories import make_definition

FORM = {
    "name": "team.op",
    "version": "1",
    "description": "",
    "image": "",
    "command": '["true"]',
    "python": "",
    "env": "{}",
    "input_specs": json.dumps({"n": {"type": "integer", "default": 3}}),
    "output_specs": "{}",
    "constraints": "{}",
    "retry_policy": "{}",
    "event_delivery": "{}",
    "timeout_s": "60",
}


@pytest.fixture
def operator(admin_user) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.mark.django_db
def test_a_definition_is_deployed_through_the_service(operator):
    answer = operator.post("/admin/definitions/definition/add/", FORM)
    assert answer.status_code == 302, answer.context["errors"]
    stored = Definition.objects.get()
    assert stored.input_specs["n"] == {"type": "int", "required": True, "default": 3}
    assert (stored.command, stored.image, stored.timeout_s) == (["true"], None, 60)
    assert AuditEntry.objects.get(action="definition.deploy").actor_name == "admin"


@pytest.mark.django_db
def test_errors_stand_beside_their_fields(operator):
    form = {
        **FORM,
        "name": "team op",
        "python": "os:system",
        "input_specs": '{"n": {"type": "int", "default": "3"}}',
        "retry_policy": '{"max_attempts": 0}',
        "env": "{",
    }
    answer = operator.post("/admin/definitions/definition/add/", form)
    errors = answer.context["adminform"].form.errors
    assert set(errors) == {"name", "python", "command", "input_specs", "retry_policy", "env"}
    assert errors["input_specs"] == ['n.default: must be an integer, got "3"']
    assert not Definition.objects.exists()


@pytest.mark.django_db
def test_an_edit_replaces_and_deploys_again(operator):
    one = make_definition("team.op", "1")
    make_definition("team.op", "2")
    form = {**FORM, "description": "better"}
    answer = operator.post(f"/admin/definitions/definition/{one.pk}/change/", form)
    assert answer.status_code == 302
    stored = Definition.objects.order_by("-deployment").first()
    assert stored is not None
    assert (stored.version, stored.description) == ("1", "better")


@pytest.mark.django_db
def test_it_is_deleted_through_the_service(operator):
    definition = make_definition()
    operator.post(f"/admin/definitions/definition/{definition.pk}/delete/", {"post": "yes"})
    assert not Definition.objects.exists()
    assert AuditEntry.objects.filter(action="definition.delete").exists()


@pytest.mark.django_db
def test_the_list_costs_the_same_whatever_its_length(operator):
    counts = []
    for round_ in range(2):
        for index in range(5):
            make_definition(f"op{round_}{index}")
        operator.get("/admin/definitions/definition/")
        with CaptureQueriesContext(connection) as captured:
            assert operator.get("/admin/definitions/definition/").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 8


@pytest.mark.django_db
def test_who_may_only_look_changes_nothing(django_user_model):
    client = Client()
    client.force_login(django_user_model.objects.create_user("onlooker", is_staff=True))
    definition = make_definition()
    assert client.get(f"/admin/definitions/definition/{definition.pk}/change/").status_code in {
        200,
        403,
    }
    assert client.post("/admin/definitions/definition/add/", FORM).status_code == 403


@pytest.mark.django_db
def test_json_is_edited_over_several_lines_and_what_is_no_json_comes_back(operator):
    definition = make_definition("team.op", input_specs={"n": {"type": "int"}})
    path = f"/admin/definitions/definition/{definition.pk}/change/"
    assert "{\n  &quot;n&quot;: {" in operator.get(path).content.decode()
    again = operator.post(path, {**FORM, "env": "{oops"})
    assert "{oops" in again.content.decode()

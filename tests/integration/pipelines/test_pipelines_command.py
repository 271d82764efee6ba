"""manage.py pipelines apply|run|export (pipelines-storage.md §1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from apps.core import strictyaml
from apps.pipelines.models import Execution, Pipeline

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db

DOCUMENT = """\
id: team.orders
name: Bestellungen – täglich
options:
  event: team.topic
  custom: {yes: 'no', when: 2030-01-01, empty: '', number: 1.0}
steps:
- name: a
  command: [sh, -c, "echo one\\necho two\\n"]
  inputs:
    text: |
      two
      lines
    ref: {$ref: trigger.data."odd name"}
tags: [x, '1', 'null']
"""


def call(*arguments: str, capsys: Any) -> str:
    call_command("pipelines", *arguments)
    return str(capsys.readouterr().out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path


def test_what_is_applied_is_exported_without_loss(file, tmp_path, capsys):
    assert call("apply", str(file), capsys=capsys) == "team.orders  created\n"
    text = call("export", "team.orders", capsys=capsys)
    assert strictyaml.read_object(text.encode()) == strictyaml.read_object(DOCUMENT.encode())
    again = tmp_path / "again.yaml"
    again.write_text(text, encoding="utf-8")
    assert call("apply", str(again), capsys=capsys) == "team.orders  version 1\n"
    assert call("export", "team.orders", capsys=capsys) == text
    as_json = json.loads(call("export", "team.orders", "--json", capsys=capsys))
    assert as_json == strictyaml.read_object(DOCUMENT.encode())


def test_a_change_makes_a_new_version(file, capsys):
    call("apply", str(file), capsys=capsys)
    file.write_text(DOCUMENT.replace("one", "eins"), encoding="utf-8")
    assert call("apply", str(file), capsys=capsys) == "team.orders  version 2\n"
    assert "one" in call("export", "team.orders", "--pipeline-version", "1", capsys=capsys)


def test_a_file_that_is_wrong_is_named_with_all_its_mistakes(file):
    file.write_text("name: ''\nsteps: [{name: a}]\n", encoding="utf-8")
    with pytest.raises(CommandError) as caught:
        call_command("pipelines", "apply", str(file))
    assert str(file) in str(caught.value)
    assert "name: must not be empty" in str(caught.value)
    assert "steps.0.op: one of" in str(caught.value)
    assert not Pipeline.objects.exists()


def test_one_unreadable_file_keeps_all_from_being_applied(file, tmp_path):
    with pytest.raises(CommandError, match=r"gone\.yaml: No such file"):
        call_command("pipelines", "apply", str(file), str(tmp_path / "gone.yaml"))
    assert not Pipeline.objects.exists()


def test_run_starts_an_execution(file, capsys):
    call("apply", str(file), capsys=capsys)
    printed = call("run", "team.orders", "--inputs", '{"x": 1}', "--tag", "t", capsys=capsys)
    execution = Execution.objects.get()
    assert printed == f"{execution.id}\n"
    assert (execution.inputs, execution.tag, execution.created_by) == (
        {"x": 1},
        "t",
        "command line",
    )


@pytest.mark.parametrize(
    "arguments", [("run", "nope"), ("export", "nope"), ("run", "team.orders", "--inputs", "[1]")]
)
def test_what_can_t_be_done_is_said(arguments, file):
    call_command("pipelines", "apply", str(file))
    with pytest.raises(CommandError):
        call_command("pipelines", *arguments)


@pytest.mark.parametrize("tag", ["a/b", "a,b", "", "00000000-0000-0000-0000-000000000000"])
def test_a_tag_that_can_be_none_is_refused(tmp_path, capsys, tag):
    path = tmp_path / "p.yaml"
    path.write_text(DOCUMENT)
    call("apply", str(path), capsys=capsys)
    with pytest.raises(CommandError, match="not a UUID"):
        call("run", "team.orders", "--tag", tag, capsys=capsys)
    assert not Execution.objects.exists()

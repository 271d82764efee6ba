from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from apps.runs.executors.environment import SDK_DIR
from tests.asserts import present

SOURCE = Path(SDK_DIR) / "gyoza_op.py"


@pytest.fixture
def gyoza_op():
    spec = present(importlib.util.spec_from_file_location("gyoza_op", SOURCE))
    module = importlib.util.module_from_spec(spec)
    present(spec.loader).exec_module(module)
    return module


def test_it_is_python_3_8():
    ast.parse(SOURCE.read_text(), feature_version=(3, 8))


def test_inputs_are_read(gyoza_op, tmp_path, monkeypatch):
    monkeypatch.delenv("GYOZA_INPUTS", raising=False)
    assert gyoza_op.inputs() == {}
    (tmp_path / "in").write_text('{"a": "é"}', "utf-8")
    monkeypatch.setenv("GYOZA_INPUTS", str(tmp_path / "in"))
    assert gyoza_op.inputs() == {"a": "é"}


def test_it_speaks_in_lines(gyoza_op, capfd):
    print("before", end="\n")
    gyoza_op.progress(5)
    gyoza_op.info("hello\nthere", rows=1)
    gyoza_op.output("n", [1])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "before"
    assert [json.loads(line) for line in lines[1:]] == [
        {"gyoza": "progress", "value": 5},
        {"gyoza": "info", "msg": "hello\nthere", "payload": {"rows": 1}},
        {"gyoza": "output", "name": "n", "value": [1]},
    ]


def test_what_is_not_json_is_refused(gyoza_op):
    with pytest.raises(ValueError):
        gyoza_op.progress(float("nan"))


def test_it_writes_whole_files(gyoza_op, tmp_path, monkeypatch):
    monkeypatch.setenv("GYOZA_STORAGE_DIR", str(tmp_path))
    gyoza_op.write("a/b.txt", "é")
    gyoza_op.write("a/b.txt", b"\xff")
    assert (tmp_path / "a/b.txt").read_bytes() == b"\xff"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize("path", ["", ".", "..", "/etc/x", "a/../../x", "a//b", "a/", "a\0b"])
def test_it_stays_inside_the_storage_directory(gyoza_op, tmp_path, monkeypatch, path):
    monkeypatch.setenv("GYOZA_STORAGE_DIR", str(tmp_path))
    with pytest.raises(ValueError):
        gyoza_op.write(path, "x")


def test_it_follows_no_link_that_leads_out(gyoza_op, tmp_path, monkeypatch):
    storage, outside = tmp_path / "storage", tmp_path / "outside"
    storage.mkdir()
    outside.mkdir()
    (storage / "link").symlink_to(outside)
    monkeypatch.setenv("GYOZA_STORAGE_DIR", str(storage))
    with pytest.raises(ValueError):
        gyoza_op.write("link/deeper/x", "x")
    assert list(outside.iterdir()) == []

from __future__ import annotations

from pathlib import Path

import pytest

from apps.runs.executors import load
from apps.runs.executors.base import ExecutorFailure
from tests.fakes.scripted_executor import ScriptedExecutor

SCRIPTED = "tests.fakes.scripted_executor.ScriptedExecutor"


def test_executors_are_loaded_by_dotted_path():
    found = load({"fake": {"BACKEND": SCRIPTED, "OPTIONS": {"a": 1}}}, Path("/root"))
    assert isinstance(found["fake"], ScriptedExecutor)
    assert found["fake"].root == Path("/root/fake")
    assert found["fake"].options == {"a": 1}


@pytest.mark.parametrize("backend", ["", "x", "no.such.Thing", "os.path.Nothing", "os.path.join"])
def test_a_bad_entry_is_named(backend):
    with pytest.raises(ExecutorFailure, match="executor 'odd'") as failure:
        load({"odd": {"BACKEND": backend}}, Path("/root"))
    assert failure.value.permanent

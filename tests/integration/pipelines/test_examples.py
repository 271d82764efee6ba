"""What newcomers are shown is right: the documents of `examples/` can be applied as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.access.auth import ANONYMOUS
from apps.core import strictyaml
from apps.pipelines import services

pytestmark = pytest.mark.django_db

FILES = sorted((Path(__file__).resolve().parents[3] / "examples/pipelines").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_can_be_applied(file, settings):
    settings.GYOZA_PYTHON_OPS = ["examples.ops.*"]
    body = strictyaml.read_object(file.read_bytes())
    assert services.validate_pipeline(body=body, caller=ANONYMOUS) == []

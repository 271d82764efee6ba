"""manage.py storage: objects from a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.access.models import AuditEntry
from apps.storage import services
from apps.storage.models import Object

pytestmark = pytest.mark.django_db(transaction=True)


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("storage", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def source(place, opened) -> Any:
    """Return a file to be stored, in a service with an execution tagged `nightly`."""
    opened(tag="nightly")
    path = place / "a.md"
    path.write_bytes(b"# A")
    return path


def test_what_is_put_is_listed_got_and_removed(source, place):
    said("put", "nightly/s/t/a.md", str(source), "--stage", "s/t")
    found = Object.objects.get()
    assert (found.stage, found.content_type) == ("s/t", "text/markdown")
    assert said("list", "nightly").split()[-1] == found.key
    assert json.loads(said("list", "nightly", "s/", "--json"))["etag"] == found.etag
    assert said("list", "nightly", "x") == ""
    said("get", "nightly/s/t/a.md", str(place / "b.md"))
    assert (place / "b.md").read_bytes() == b"# A"
    assert found.key in said("rm", "nightly/s/t/a.md")
    assert AuditEntry.objects.get().actor == "command line"
    assert said("sweep") == "removed 0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "nightly/s/nothing"], "not found"),
        (["get", "nobody/s/a"], "not found"),
        (["put", "nightly/../a", "x"], '"."'),
        (["rm", "nightly/s"], "must be"),
    ],
)
def test_what_it_cannot_do_is_told(source, arguments, message):
    with pytest.raises(CommandError, match=message):
        said(*arguments)


def test_nothing_is_put_under_an_execution_that_has_ended(source):
    said("put", "nightly/s/a.md", str(source))
    services.close_spaces([Object.objects.get().space_id])
    with pytest.raises(CommandError, match="has ended"):
        said("put", "nightly/s/b.md", str(source))

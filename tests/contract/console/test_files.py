"""Objects of an execution in the console: levels, previews, and nothing of them runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from apps.storage import services
from tests.contract.console.conftest import start

if TYPE_CHECKING:
    from apps.pipelines.models import Execution

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> Execution:
    made = start(tag="nightly-1")
    for name, content_type, content in (
        ("out/report.md", "text/markdown", b"# Title\n\n<script>x</script>"),
        ("out/page.html", "text/html", b"<script>x</script>"),
        ("out/table.csv", "text/csv", b"a,b\n1,<2>\n"),
        ("out/deep/a b#?.json", "application/json", b'{"n":1}'),
        ("out/chart.png", "image/png", b"png"),
    ):
        new = services.NewObject(name=name, stage="out", content_type=content_type)
        uploaded = services.upload_bytes(content, name=name)
        services.attach(execution_id=made.id, new=new, uploaded=uploaded)
    return made


def files(operator: Any, row: Execution, **asked: str) -> str:
    answer = operator.get(f"/console/executions/{row.id}/files", asked)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_levels_are_shown(operator, row):
    assert "?folder=out%2F" in files(operator, row)
    said = files(operator, row, folder="out/")
    assert "?folder=out%2Fdeep%2F" in said
    assert "?object=out%2Freport.md" in said


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("out/report.md", "<h1>Title</h1>"),
        ("out/page.html", "&lt;script&gt;x&lt;/script&gt;"),
        ("out/table.csv", "<td>&lt;2&gt;</td>"),
        ("out/deep/a b#?.json", "&quot;n&quot;: 1"),
        ("out/chart.png", '<img class="gz-image" src="/api/v1/storage/objects/'),
    ],
)
def test_previews_are_shown_as_a_page_and_as_a_part_of_one(operator, row, name, shown):
    whole, part = files(operator, row, object=name), files(operator, row, object=name, pane="")
    assert shown in whole
    assert shown in part
    assert "<html" in whole
    assert "<html" not in part
    assert "<script>" not in whole + part


def test_a_link_to_the_content_survives_any_name(operator, row):
    said = files(operator, row, object="out/deep/a b#?.json")
    assert f'href="/api/v1/storage/objects/{row.id}/out/deep/a%20b%23%3F.json"' in said


@pytest.mark.parametrize("asked", [{"object": "out/none"}, {"object": "../x"}, {"object": "\0"}])
def test_an_object_that_is_not_there_is_a_page(operator, row, asked):
    answer = operator.get(f"/console/executions/{row.id}/files", asked)
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("asked", [{"page": "x"}, {"page": "-1"}, {"folder": "\0"}])
def test_an_odd_level_is_an_empty_one(operator, row, asked):
    assert files(operator, row, **asked)


def test_a_level_takes_few_queries(operator, row, django_assert_max_num_queries):
    # The session, who it belongs to, the execution, its space, sums by stage, folders, objects, how many.
    with django_assert_max_num_queries(8):
        files(operator, row, folder="out/")


def test_nobody_elses_objects(operator):
    assert operator.get(f"/console/executions/{uuid4()}/files").status_code == 404

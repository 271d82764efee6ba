"""GET /api/v1/storage/objects and …/{key}/metadata (pipelines-storage.md §4)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.contract.storage.conftest import malformed, refused
from tests.object_client import OBJECTS, call, get, put

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = [
    "boost/a.md",
    "boost/b.json",
    "boost/deep/c.md",
    "boost/deep/er/d.txt",
    "boost/routines/e.MD",
    "other/a.md",
    "other/deep/a",
]


@pytest.fixture
def filled(opened):
    """Return the id of an execution, tagged `full`, with objects."""
    execution = opened(tag="full")
    for name in NAMES:
        stage = {"x_stage": "boost/routines"} if "routines" in name else {}
        put(f"{execution}/{name}", name.encode(), x_meta_n=name, **stage)
    return execution


def listed(**query: Any) -> Any:
    answer = call("GET", f"{OBJECTS}?{urlencode(query)}")
    assert answer.status == 200, answer.content
    return answer.json()


def names(page: Any) -> list[str]:
    return [one["key"].partition("/")[2] for one in page["objects"]]


def test_it_lists_all_by_key(filled):
    page = listed(execution_id=filled)
    assert names(page) == NAMES
    assert {
        name: page[name] for name in ("common_prefixes", "total", "limit", "offset", "has_more")
    } == {
        "common_prefixes": [],
        "total": 7,
        "limit": 100,
        "offset": 0,
        "has_more": False,
    }
    assert "metadata" not in page["objects"][0]
    assert page["objects"][0]["key"] == f"{filled}/boost/a.md"
    assert listed(execution_id="full") == page


def test_a_slash_behind_it_changes_nothing(filled):
    answer = call("GET", f"{OBJECTS}/?execution_id=full")
    assert names(answer.json()) == NAMES


def test_metadata_comes_when_asked_for(filled):
    page = listed(execution_id=filled, include_metadata="true")
    assert page["objects"][0]["metadata"] == {"n": "boost/a.md"}


def test_it_pages(filled):
    seen: list[str] = []
    for offset in range(0, 8, 3):
        page = listed(execution_id=filled, limit=3, offset=offset)
        seen += names(page)
        assert (page["total"], page["has_more"]) == (7, offset < 6)
    assert seen == NAMES


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("boost", NAMES[:5]),
        ("boost/", NAMES[:5]),
        ("boost/routines", NAMES[4:5]),
        ("boost/routines/", NAMES[4:5]),
        ("boost/deep", []),  # a folder, no stage
        ("bo", NAMES[:5]),
        ("other", NAMES[5:]),
        ("nothing", []),
    ],
)
def test_stage_is_the_beginning_of_a_stage(filled, stage, expected):
    page = listed(execution_id=filled, stage=stage)
    assert (names(page), page["total"]) == (expected, len(expected))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", NAMES),
        ("boost/deep/", NAMES[2:4]),
        ("boost/d", NAMES[2:4]),
        ("o", NAMES[5:]),
        ("boost/a.md", NAMES[:1]),
        ("boost/a.mdx", []),
    ],
)
def test_prefix_is_the_beginning_of_the_key(filled, prefix, expected):
    page = listed(execution_id=filled, prefix=prefix)
    assert (names(page), page["total"]) == (expected, len(expected))
    assert listed(execution_id=filled, prefix=f"{filled}/{prefix}") == page
    assert listed(prefix=f"{filled}/{prefix}") == page


def test_extensions_are_a_list_in_any_case(filled):
    assert names(listed(execution_id=filled, extension=".md")) == [
        name for name in NAMES if name.lower().endswith(".md")
    ]
    page = listed(execution_id=filled, extension="JSON, .txt")
    assert names(page) == ["boost/b.json", "boost/deep/er/d.txt"]
    assert page["total"] == 2
    assert names(
        listed(execution_id=filled, extension="md", stage="boost", prefix="boost/deep/")
    ) == ["boost/deep/c.md"]


@pytest.mark.parametrize(
    ("prefix", "folders", "files"),
    [
        ("", ["boost/", "other/"], []),
        ("boost/", ["boost/deep/", "boost/routines/"], ["boost/a.md", "boost/b.json"]),
        ("boost/d", ["boost/deep/"], []),
        ("boost/deep/", ["boost/deep/er/"], ["boost/deep/c.md"]),
        ("bo", ["boost/"], []),
        ("boost/a", [], ["boost/a.md"]),
        ("boost/deep/er/", [], ["boost/deep/er/d.txt"]),
    ],
)
def test_a_delimiter_shows_one_level(filled, prefix, folders, files):
    page = listed(execution_id=filled, prefix=prefix, delimiter="/")
    assert page["common_prefixes"] == [f"{filled}/{folder}" for folder in folders]
    assert names(page) == files
    assert (page["total"], page["has_more"]) == (len(folders) + len(files), False)


def test_a_level_pages_over_folders_and_objects(filled):
    seen: list[str] = []
    for offset in range(4):
        page = listed(execution_id=filled, prefix="boost/", delimiter="/", limit=1, offset=offset)
        assert (page["total"], page["has_more"]) == (4, offset < 3)
        seen += [*page["common_prefixes"], *(one["key"] for one in page["objects"])]
    assert [key.removeprefix(f"{filled}/boost/") for key in seen] == [
        "deep/",
        "routines/",
        "a.md",
        "b.json",
    ]


def test_a_level_shows_only_folders_that_hold_what_is_asked_for(filled):
    page = listed(execution_id=filled, prefix="boost/", delimiter="/", extension="txt")
    assert (page["common_prefixes"], names(page)) == ([f"{filled}/boost/deep/"], [])
    page = listed(execution_id=filled, prefix="boost/", delimiter="/", stage="boost/routines/")
    assert (page["common_prefixes"], names(page)) == ([f"{filled}/boost/routines/"], [])


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({}, "execution_id"),
        ({"prefix": "boost/"}, "execution_id"),
        ({"execution_id": "full", "limit": 0}, "limit"),
        ({"execution_id": "full", "limit": 1001}, "limit"),
        ({"execution_id": "full", "offset": -1}, "offset"),
        ({"execution_id": "full", "delimiter": "-"}, "delimiter"),
        ({"execution_id": "full", "include_metadata": "perhaps"}, "include_metadata"),
        ({"execution_id": "full", "extension": ",".join("abc" * 20)}, "extension"),
    ],
)
def test_what_it_cannot_mean_is_refused(filled, query, place):
    answer = call("GET", f"{OBJECTS}?{urlencode(query)}")
    assert malformed(answer) == ["query", place]


def test_who_may_list(filled, owner, stranger, reader):
    url = f"{OBJECTS}?execution_id=full"
    assert call("GET", url, key=reader).json()["total"] == 7
    refused(call("GET", url, key=stranger), 404, "execution_not_found")
    refused(call("GET", url), 401, "unauthorized")
    refused(call("GET", f"{OBJECTS}?execution_id=nobody", key=owner), 404, "execution_not_found")


def test_metadata_of_one(filled, owner, stranger):
    answer = get(f"{filled}/boost/routines/e.MD/metadata", key=owner)
    body = answer.json()
    assert answer.headers["etag"] == f'"{body["etag"]}"'
    assert (body["stage"], body["path"], body["metadata"]) == (
        "boost/routines",
        "e.MD",
        {"n": "boost/routines/e.MD"},
    )
    assert get("full/boost/routines/e.MD/metadata/", key=owner).json() == body
    refused(get(f"{filled}/boost/nothing/metadata", key=owner), 404, "object_not_found")
    refused(get(f"{filled}/boost/a.md/metadata", key=stranger), 404, "execution_not_found")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("name", ["s/metadata", "s/a/%6detadata", "s/a/metadata/"])
def test_metadata_is_no_name(execution, method, name):
    assert malformed(call(method, f"{OBJECTS}/{execution}/{name}")) == ["path", "key"]


def test_metadata_of_what_is_no_key_is_refused(execution):
    assert malformed(get(f"{execution}/s/%2e%2e/a/metadata")) == ["path", "key"]

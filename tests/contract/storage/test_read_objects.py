"""GET and HEAD …/{key}: ranges, conditions, and what a browser must not run (pipelines-storage.md §4)."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

import pytest

from apps.storage.models import Object
from tests.asserts import assert_runs_nowhere
from tests.contract.storage.conftest import malformed, refused
from tests.object_client import OBJECTS, call, get, put

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(execution):
    """Return the key of an object of ten bytes."""
    put(f"{execution}/s/a.txt", b"0123456789")
    return f"{execution}/s/a.txt"


def test_it_gives_the_bytes(key):
    answer = get(key)
    found = Object.objects.get()
    assert (answer.status, answer.content) == (200, b"0123456789")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{found.etag}"'
    moment = parsedate_to_datetime(answer.headers["last-modified"])
    assert moment == found.modified_at.replace(microsecond=0)
    assert_runs_nowhere(answer.headers)


def test_head_gives_the_same_without_the_bytes(key):
    whole, head = get(key), call("HEAD", f"{OBJECTS}/{key}")
    assert (head.status, head.content) == (200, b"")
    del whole.headers["x-correlation-id"], head.headers["x-correlation-id"]
    assert head.headers == whole.headers


def test_many_pieces_make_the_whole(execution):
    content = bytes(range(256)) * 5000
    put(f"{execution}/s/big", [content[i : i + 70_000] for i in range(0, len(content), 70_000)])
    assert get(f"{execution}/s/big").content == content
    assert get(f"{execution}/s/big", range="bytes=300000-899999").content == content[300000:900000]


def test_an_empty_object_is_one(execution):
    assert put(f"{execution}/s/a", b"").json()["content_length"] == 0
    assert (get(f"{execution}/s/a").status, get(f"{execution}/s/a").content) == (200, b"")
    assert refused(get(f"{execution}/s/a", range="bytes=0-"), 416, "range_not_satisfiable")


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-99", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("Bytes=2-4", b"234", "bytes 2-4/10"),
    ],
)
def test_a_range_gives_a_part(key, asked, content, told):
    answer = get(key, range=asked)
    assert (answer.status, answer.content) == (206, content)
    assert answer.headers["content-range"] == told
    assert answer.headers["content-length"] == str(len(content))
    head = call("HEAD", f"{OBJECTS}/{key}", range=asked)
    assert (head.status, head.headers["content-range"]) == (206, told)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=9999999999999-"])
def test_a_range_beyond_the_end_is_refused(key, asked):
    answer = get(key, range=asked)
    refused(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=4-2", "bytes=-", "lines=1-2", "bytes=a-b", "bytes 1-2"]
)
def test_a_range_that_is_not_understood_is_none(key, asked):
    answer = get(key, range=asked)
    assert (answer.status, answer.content) == (200, b"0123456789")


def test_what_the_client_has_is_not_sent_again(key):
    headers = get(key).headers
    etag, modified = headers["etag"], headers["last-modified"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = get(key, if_none_match=known)
        assert (answer.status, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["last-modified"] == modified
        # It would be taken for the object's.
        assert "content-length" not in answer.headers
    assert get(key, if_none_match='"x"').status == 200
    assert get(key, if_modified_since=modified).status == 304
    assert get(key, if_modified_since="Mon, 01 Jan 2001 00:00:00 GMT").status == 200
    for unread in ("nonsense", "Mon, 01 Jan 99999999999 00:00:00 GMT"):
        assert get(key, if_modified_since=unread).status == 200
    assert get(key, if_none_match='"x"', if_modified_since=modified).status == 200
    assert call("HEAD", f"{OBJECTS}/{key}", if_none_match=etag).status == 304


def test_another_version_than_the_one_that_is_wanted_is_not_given(key):
    headers = get(key).headers
    etag, modified = headers["etag"], headers["last-modified"]
    long_ago = "Mon, 01 Jan 2001 00:00:00 GMT"
    for wanted in (etag, f'"x", {etag}', "*"):
        assert get(key, if_match=wanted).status == 200
        assert get(key, if_match=wanted, if_unmodified_since=long_ago).status == 200
    for other in ('"x"', f"W/{etag}"):
        refused(get(key, if_match=other, if_none_match=etag), 412, "precondition_failed")
    assert get(key, if_unmodified_since=modified).status == 200
    assert get(key, if_unmodified_since="nonsense").status == 200
    refused(get(key, if_unmodified_since=long_ago), 412, "precondition_failed")


def test_the_rest_of_another_version_is_not_given(key):
    headers = get(key).headers
    assert get(key, range="bytes=2-3", if_range=headers["etag"]).status == 206
    assert get(key, range="bytes=2-3", if_range=headers["last-modified"]).status == 206
    assert get(key, range="bytes=2-3", if_range=f"W/{headers['etag']}").status == 200
    put(key, b"9876543210")
    assert get(key, range="bytes=2-3", if_range=headers["etag"]).content == b"9876543210"


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/xml",
        "text/javascript",
        "application/pdf",
        "application/x-unheard-of",
    ],
)
def test_what_a_browser_might_run_is_saved_instead(execution, kind):
    put(f"{execution}/s/a b.html", b"<script>", content_type=kind)
    headers = get(f"{execution}/s/a b.html").headers
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
    assert_runs_nowhere(headers)
    part = get(f"{execution}/s/a b.html", range="bytes=0-1").headers
    assert_runs_nowhere(part)
    assert part["content-disposition"] == headers["content-disposition"]


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "image/png", "application/json"])
def test_what_runs_nowhere_is_shown(execution, kind):
    put(f"{execution}/s/a", b"x", content_type=kind)
    headers = get(f"{execution}/s/a").headers
    assert headers["content-disposition"] == "inline; filename*=UTF-8''a"
    assert "sandbox" in headers["content-security-policy"]


def test_what_is_not_there_is_not_found(execution):
    refused(get(f"{execution}/s/a"), 404, "object_not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "name",
    ["s/../a", "s/%2e%2e/a", "s/%252e%252e/a", "s/%c0%ae/a", "s%5ca/b", "s//a", "s/a%0ab", "s"],
)
def test_what_is_no_key_is_refused_by_every_method(execution, method, name):
    answer = call(method, f"{OBJECTS}/{execution}/{name}")
    if method == "HEAD":
        assert answer.status == 422
    else:
        assert malformed(answer) == ["path", "key"]


def test_a_method_it_does_not_have_is_refused(execution):
    answer = call("POST", f"{OBJECTS}/{execution}/s/a")
    refused(answer, 405, "method_not_allowed")
    assert re.split(", ", answer.headers["allow"]) == ["GET", "PUT", "DELETE", "HEAD"]

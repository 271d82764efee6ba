"""The admin pages of what executions have stored: level by level, each object with a preview."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core.contentpolicy import HEADER
from apps.storage import blobs, previews, services
from tests.asserts import assert_runs_nowhere
from tests.object_client import call

if TYPE_CHECKING:
    from collections.abc import Callable

SPACES = "/admin/storage/space/"

pytestmark = [
    pytest.mark.django_db,
    # The test client gathers an asynchronous answer.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous:Warning"),
]


@pytest.fixture
def operator(admin_user: Any) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def put(execution: str) -> Callable[..., str]:
    """Return a function that stores an object and returns its name."""

    def put(name: str, content: bytes | str = b"x", content_type: str = "text/plain") -> str:
        stage = name.partition("/")[0]
        new = services.NewObject(name=name, stage=stage, content_type=content_type)
        data = content.encode() if isinstance(content, str) else content
        uploaded = services.upload_bytes(data, name=name)
        services.attach(execution_id=UUID(execution), new=new, uploaded=uploaded)
        return name

    return put


def page(client: Client, execution: str, **asked: Any) -> Any:
    return client.get(f"{SPACES}{execution}/change/", asked)


def body(answer: Any) -> str:
    assert answer.status_code == 200, answer.content[:500]
    text = answer.content.decode()
    return str(text[text.index('<nav aria-label="Folders"') :])


def test_a_space_is_looked_at_level_by_level(operator, execution, put):
    for name in ("fetch/a b.txt", "fetch/deep/er/c.txt", "boost/d.txt"):
        put(name)
    top = body(page(operator, execution))
    assert "3 objects" in top
    assert f'href="{SPACES}{execution}/change/?folder=fetch%2F">fetch/</a>' in top
    assert "boost/" in top
    assert "c.txt" not in top
    fetch = body(page(operator, execution, folder="fetch/"))
    assert f"?object={quote('fetch/a b.txt', safe='')}" in fetch
    assert "deep/</a>" in fetch
    assert "boost" not in fetch
    assert "c.txt" in body(page(operator, execution, folder="fetch/deep/er"))


def test_a_level_has_pages(operator, execution, put):
    for number in range(101):
        put(f"s/{number:03}.txt")
    first = body(page(operator, execution, folder="s/"))
    assert "1–100 of 101" in first
    assert 'rel="next"' in first
    last = body(page(operator, execution, folder="s/", page="2"))
    assert "101–101 of 101" in last
    assert "100.txt" in last
    for odd in ("0", "-1", "x", "9" * 30, "99"):
        assert page(operator, execution, folder="s/", page=odd).status_code == 200


def test_a_level_costs_the_same_whatever_lies_in_it(operator, execution, put):
    put("s/a/1")
    with CaptureQueriesContext(connection) as of_few:
        page(operator, execution, folder="s/")
    for number in range(20):
        put(f"s/{number}/1")
        put(f"s/{number}.txt")
    with CaptureQueriesContext(connection) as of_many:
        page(operator, execution, folder="s/")
    assert len(of_many) == len(of_few)


def test_text_is_shown_as_it_is(operator, execution, put):
    put("s/a.txt", "<script>alert(1)</script> né")
    shown = body(page(operator, execution, object="s/a.txt"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt; né</pre>" in shown
    assert "<script>alert" not in shown


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "application/xhtml+xml"])
def test_what_a_browser_would_run_is_shown_as_its_source_and_sent_as_a_file(
    operator, execution, put, content_type
):
    put("s/a", '<svg onload="alert(1)">', content_type)
    assert "&lt;svg onload=" in body(page(operator, execution, object="s/a"))
    answer = operator.get(f"{SPACES}{execution}/content/?object=s/a")
    assert b"".join(answer) == b'<svg onload="alert(1)">'
    assert answer["Content-Disposition"].startswith("attachment")
    assert_runs_nowhere(answer.headers)


def test_markdown_is_laid_out(operator, execution, put):
    put("s/a.md", "# Né\n\n- **b**\n\n| x |\n|---|\n| 1 |\n\n[l](https://e.org)", "text/markdown")
    shown = body(page(operator, execution, object="s/a.md"))
    for part in ("<h1>Né</h1>", "<strong>b</strong>", "<td>1</td>"):
        assert part in shown
    assert '<a href="https://e.org" rel="noopener noreferrer nofollow">l</a>' in shown


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        '<a href="javascript:alert(1)">x</a>',
        '<div x-data="{}" x-init="alert(1)">x</div>',
        "![x](https://evil.example/p.png)",
        "<iframe src=https://evil.example></iframe>",
        "<style>*{display:none}</style>",
        "[x](https://e.org \"onclick='alert(1)'\")",
        "```<script>\nx\n```",
        "<svg><script>alert(1)</script></svg>",
    ],
)
def test_nothing_in_markdown_runs_or_calls_anybody(operator, execution, put, evil):
    put("s/a.md", f"before\n\n{evil}\n\nafter", "text/markdown")
    shown = body(page(operator, execution, object="s/a.md"))
    [inside] = [shown[shown.index("gz-markdown") : shown.index("after")]]
    assert "before" in inside
    for never in (
        "<script",
        "<img",
        "<iframe",
        "<style",
        "<svg",
        "<div",
        '<a href="javascript',
        '<a href="data',
    ):
        assert never not in inside.lower()


def test_json_is_laid_out(operator, execution, put):
    put("s/a.json", '{"a":[1,"é"]}', "application/json")
    shown = html.unescape(body(page(operator, execution, object="s/a.json")))
    assert '{\n  "a": [\n    1,\n    "é"\n  ]\n}</pre>' in shown


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, "9" * 5000, "[" * 500 + "1," * 9000 + "1" + "]" * 500]
)
def test_json_that_can_t_be_laid_out_is_shown_as_it_is(operator, execution, put, content):
    put("s/a.json", content, "application/json")
    shown = body(page(operator, execution, object="s/a.json"))
    assert content[:400] in shown
    assert len(shown) < 2 * previews.MOST_BYTES


def test_csv_is_a_table_of_two_hundred_rows(operator, execution, put):
    lines = ["name,n"] + [f'"<b>, {n}",{n}' for n in range(201)]
    put("s/a.csv", "\n".join(lines), "text/csv")
    shown = body(page(operator, execution, object="s/a.csv"))
    assert '<th scope="col">name</th>' in shown
    assert "<td>&lt;b&gt;, 199</td><td>199</td>" in shown
    assert "200</td>" not in shown
    assert "Only the first 200 rows are shown." in shown


def test_content_comes_in_pieces_through_the_application(operator, execution, put):
    put("s/a.png", b"\x89PNG" * 200_000, "image/png")
    cookie = f"sessionid={operator.cookies['sessionid'].value}"
    answer = call("GET", f"{SPACES}{execution}/content/?object=s%2Fa.png", cookie=cookie)
    assert (answer.status, len(answer.content)) == (200, 800_000)
    assert_runs_nowhere(answer.headers)


def test_an_image_is_shown(operator, execution, put):
    put("s/a.png", b"\x89PNG", "image/png")
    url = f"{SPACES}{execution}/content/?object=s%2Fa.png"
    assert f'<img class="gz-image" src="{url}"' in body(page(operator, execution, object="s/a.png"))
    answer = operator.get(url)
    assert (answer["Content-Type"], b"".join(answer)) == ("image/png", b"\x89PNG")
    assert answer["Content-Disposition"].startswith("inline")


def test_anything_else_can_be_had_as_a_file(operator, execution, put):
    put("s/a.bin", b"\xff\x00", "application/octet-stream")
    shown = body(page(operator, execution, object="s/a.bin"))
    assert "There is no preview of what is application/octet-stream." in shown
    assert "Download</a>" in shown
    assert b"".join(operator.get(f"{SPACES}{execution}/content/?object=s/a.bin")) == b"\xff\x00"


def test_text_that_is_none_has_no_preview(operator, execution, put):
    put("s/a.txt", b"\xff\xfe\xfa")
    assert "It is not UTF-8." in body(page(operator, execution, object="s/a.txt"))


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/markdown", "application/json", "text/csv"]
)
def test_no_more_than_256_kib_are_read_and_it_is_said(
    operator, execution, put, content_type, monkeypatch
):
    # The limit is in the middle of a character.
    put("s/a", "é1,\n" * 200_000 + "THE END", content_type)
    asked: list[int] = []
    open_at = blobs.open_at

    def opened(name: str, start: int) -> Any:
        found = open_at(name, start)
        read = found.read

        class Counting:
            close = staticmethod(found.close)

            def read(self, size: int = -1) -> bytes:
                asked.append(size)
                return read(size)

        return Counting()

    monkeypatch.setattr(blobs, "open_at", opened)
    shown = body(page(operator, execution, object="s/a"))
    assert "Only the first 256 KiB are shown." in shown
    assert "THE END" not in shown
    assert asked == [256 * 1024]


def test_a_backend_that_is_away_is_told(operator, execution, put, place):
    put("s/a.txt")
    for one in (place / "objects").rglob("*"):
        if one.is_file():
            one.unlink()
    shown = body(page(operator, execution, object="s/a.txt"))
    assert "has gone" in shown
    assert operator.get(f"{SPACES}{execution}/content/?object=s/a.txt").status_code == 404


@pytest.mark.parametrize("name", ["s/none", "../a", "s/\0", "a", "s/metadata"])
def test_what_is_not_there_is_not_found(operator, execution, put, name):
    put("s/a.txt")
    assert page(operator, execution, object=name).status_code == 404
    assert operator.get(f"{SPACES}{execution}/content/", {"object": name}).status_code == 404


@pytest.mark.parametrize(
    "execution_id", ["0190b7a4-0000-7000-8000-000000000000", "nobody", "a_5Fb", "%00"]
)
def test_an_execution_that_is_not_there_is_not_found(operator, execution_id):
    assert operator.get(f"{SPACES}{execution_id}/change/").status_code == 404


def test_spaces_are_listed_and_found_by_tag(operator, opened):
    one = opened("nightly")
    other = opened()
    listed = operator.get(SPACES).content.decode()
    assert "nightly" in listed
    assert other in listed
    found = operator.get(SPACES, {"q": "nightly"}).content.decode()
    assert one in found
    assert other not in found


def test_nobody_else_gets_in(client, execution, put, django_user_model):
    put("s/a.txt")
    for path in ("change/?object=s/a.txt", "content/?object=s/a.txt"):
        answer = client.get(f"{SPACES}{execution}/{path}")
        assert answer.status_code == 302
        assert "/login/" in answer["Location"]


def test_an_object_s_page_has_the_policy_of_all_pages(operator, execution, put):
    put("s/a.md", "x", "text/markdown")
    assert "default-src 'self'" in page(operator, execution, object="s/a.md")[HEADER]

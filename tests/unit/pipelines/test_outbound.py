"""Where an `http` step may go (design.md §8)."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings

from apps.core.allowlist import is_allowed
from apps.pipelines.adapters.http import SENDER
from apps.pipelines.adapters.outbound import MOST_BYTES, Refused, address_of, perform, send

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = ["example.test", "*.inner.test", "port.test:8443"]


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the addresses that names resolve to."""
    known: dict[str, list[str]] = {}
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, port, **_: [(0, 0, 0, "", (one, port)) for one in known[host]],
    )
    return known


@pytest.mark.parametrize(
    "url",
    [
        "http://example.test/x",
        "https://EXAMPLE.test./",
        "http://a.inner.test",
        "https://port.test:8443/",
    ],
)
def test_listed_hosts_at_public_addresses_may_be_reached(url, resolves):
    resolves.update(
        {"example.test": ["93.184.216.34"], "a.inner.test": ["1.1.1.1"], "port.test": ["8.8.8.8"]}
    )
    address_of(url, ALLOWED, allows_private=False)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.test/", "not an http"),
        ("http:///x", "not an http"),
        ("http://example.test:99999/", "no valid port"),
        ("http://user:pw@example.test/", "must not carry a password"),
        ("http://other.test/", "not on this server's list"),
        ("http://example.test.evil.test/", "not on this server's list"),
        ("http://inner.test.evil/", "not on this server's list"),
        ("https://port.test/", "not on this server's list"),
        ("http://127.0.0.1/", "not on this server's list"),
    ],
)
def test_other_urls_are_refused(url, why, resolves):
    with pytest.raises(Refused, match=why):
        address_of(url, ALLOWED, allows_private=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "fec0::1",
    ],
)
def test_an_address_that_is_not_public_is_refused_whatever_else_the_name_has(address, resolves):
    resolves["example.test"] = ["93.184.216.34", address]
    with pytest.raises(Refused, match="not a public address"):
        address_of("http://example.test/", ALLOWED, allows_private=False)


@contextmanager
def serving(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[Any]]]:
    """Serve these answers in turn on loopback; yield the URL and the requests that came."""
    seen: list[Any] = []
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_HEAD = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def request(url: str, **over: Any) -> dict[str, Any]:
    return send(
        {
            "method": "GET",
            "url": url,
            "headers": None,
            "json": None,
            "body": None,
            "timeout_s": 30,
            "expect": None,
            "allowed_hosts": ["127.0.0.1"],
            "allows_private": True,
            **over,
        }
    )


def test_json_goes_and_comes():
    with serving((201, {"Content-Type": "application/json"}, b'{"ok": true}')) as (url, seen):
        answer = request(url + "/x?y=1", method="POST", json={"n": 1}, headers={"X-A": "b"})
    assert (answer["status"], answer["json"]) == (201, {"ok": True})
    [(method, path, headers, body)] = seen
    assert (method, path, headers["X-A"], json.loads(body)) == ("POST", "/x?y=1", "b", {"n": 1})
    assert headers["Host"] == url.removeprefix("http://")


def test_a_status_that_was_not_expected_fails_with_what_was_said():
    with (
        serving((500, {}, b"out of order")) as (url, _),
        pytest.raises(Refused, match="out of order"),
    ):
        request(url)
    with serving((404, {}, b"no")) as (url, _):
        assert request(url, expect=[404])["body"] == "no"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_without_content_is_no_broken_json(method):
    with serving((200, {"Content-Type": "application/json"}, b"")) as (url, _):
        answer = request(url, method=method)
    assert (answer["status"], answer["body"]) == (200, "")


def test_a_redirect_that_is_expected_is_not_followed():
    with serving((302, {"Location": "/next"}, b"")) as (url, seen):
        answer = request(url, expect=[302])
    assert (answer["status"], answer["headers"]["location"]) == (302, "/next")
    assert len(seen) == 1


def test_what_an_unexpected_answer_says_is_told_in_one_line():
    with (
        serving((500, {}, b"\n <p>out\r\nof  order\n")) as (url, _),
        pytest.raises(Refused) as told,
    ):
        request(url)
    assert str(told.value) == "the answer is 500: <p>out of order"


def test_a_redirect_is_judged_like_the_first_url():
    with (
        serving((302, {"Location": "http://localhost:1/"}, b"")) as (url, _),
        pytest.raises(Refused, match="not on this server's list"),
    ):
        request(url)


def test_a_redirect_elsewhere_takes_no_secrets_along():
    with (
        serving((200, {}, b"done")) as (second, seen),
        serving((303, {"Location": second + "/next"}, b"")) as (first, _),
    ):
        answer = request(first, method="POST", body="x", headers={"Authorization": "secret"})
    assert answer["body"] == "done"
    [(method, path, headers, body)] = seen
    assert (method, path, body) == ("GET", "/next", b"")
    assert "Authorization" not in headers


def test_redirects_end():
    loop = (302, {"Location": "/again"}, b"")
    with serving(*[loop] * 10) as (url, seen), pytest.raises(Refused, match="more than 5"):
        request(url)
    assert len(seen) == 6


def test_an_answer_that_is_too_long_is_not_taken():
    with (
        serving((200, {}, b"x" * (MOST_BYTES + 1))) as (url, _),
        pytest.raises(Refused, match="more"),
    ):
        request(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://elsewhere.test/", "the host elsewhere.test is not on this server's list"),
        ("http://[", "'http://\\[' could not be asked: ValueError"),
    ],
)
def test_the_error_of_a_step_is_one_line(url, why):
    inputs = {"method": "GET", "url": url, "headers": None, "json": None, "body": None}
    limits: dict[str, Any] = {
        "timeout_s": 5,
        "expect": None,
        "allowed_hosts": [],
        "allows_private": False,
    }
    with pytest.raises(SystemExit, match=why) as told:
        perform({**inputs, **limits})
    assert "\n" not in str(told.value)


def test_workers_may_call_what_the_adapter_asks_for():
    executors: Any = settings.GYOZA_EXECUTORS
    assert is_allowed(SENDER, executors["python"]["OPTIONS"]["allowed"])

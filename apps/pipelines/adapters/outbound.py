"""One HTTP request of an op, kept from where it must not go. Runs in a child of the worker; knows nothing of Django.

The host must be on the list, and every address it resolves to must be a public one; the connection is made to the very
address that was judged. Both are judged again at each redirect.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON = Any

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MOST_BYTES = 1024 * 1024
MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
# All public IPv6 addresses are among these.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Not for another host to see.
_PRIVATE_HEADERS = {"authorization", "cookie", "proxy-authorization"}


class Refused(Exception):
    """The request may not be sent, or its answer not be taken."""


def perform(inputs: dict[str, JSON]) -> dict[str, JSON]:
    """Send the request of a step; what went wrong is told in one line, which is the error of the step."""
    try:
        return send(inputs)
    except Refused as exc:
        raise SystemExit(str(exc)) from exc
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        raise SystemExit(f"{inputs['url']!r} could not be asked: {exc!r}") from exc


def send(inputs: dict[str, JSON]) -> dict[str, JSON]:
    """Send the request and return status, headers and body; raises Refused, or what httpx raises."""
    deadline = time.monotonic() + inputs["timeout_s"]
    method, url = inputs["method"], inputs["url"]
    headers = {str(name): str(value) for name, value in (inputs["headers"] or {}).items()}
    content = _content(inputs, headers)
    for _ in range(MOST_REDIRECTS + 1):
        status, found, body = _send_once(method, url, headers, content, inputs, deadline)
        is_wanted = status in (inputs["expect"] or ())
        if is_wanted or status not in _REDIRECTS or "location" not in found:
            return _answer(status, found, body, inputs["expect"])
        target = urljoin(url, found["location"])
        if urlsplit(target).netloc != urlsplit(url).netloc:
            headers = {k: v for k, v in headers.items() if k.lower() not in _PRIVATE_HEADERS}
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, content = "GET", None
        url = target
    raise Refused(f"more than {MOST_REDIRECTS} redirects")


def address_of(url: str, allowed: Sequence[str], *, allows_private: bool) -> tuple[str, str, int]:
    """Return (host, address, port) to connect to for a URL; raises Refused for one that may not be reached.

    `allowed` holds host names, `*.example.org` for all below one, and host:port for one port only.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{url!r} is not an http or https URL")
    if parts.username or parts.password:
        raise Refused("a URL must not carry a password: use headers")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as exc:
        raise Refused(f"{url!r} has no valid port") from exc
    if not any(_fits(host, port, rule) for rule in allowed):
        raise Refused(f"the host {host} is not on this server's list (GYOZA_HTTP_HOSTS)")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise Refused(f"the host {host} has no address: {exc}") from exc
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        if not allows_private and not _is_public(address):
            raise Refused(f"{host} is at {address}, which is not a public address")
    return host, addresses[0], port


def _fits(host: str, port: int, rule: str) -> bool:
    name, _, only = rule.lower().partition(":")
    if only and only != str(port):
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6 and not (found.ipv4_mapped or found in _GLOBAL_UNICAST):
        # Site-local ones, and those that stand for an IPv4 address behind a translator.
        return False
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    if inner is not None:
        found = inner
    return found.is_global and not found.is_multicast


def _send_once(
    method: str,
    url: str,
    headers: dict[str, str],
    content: bytes | None,
    inputs: dict[str, JSON],
    deadline: float,
) -> tuple[int, dict[str, str], bytes]:
    host, address, port = address_of(
        url, inputs["allowed_hosts"], allows_private=inputs["allows_private"]
    )
    parts = urlsplit(url)
    at = f"[{address}]" if ":" in address else address
    target = httpx.URL(url).copy_with(host=at, port=port)
    sent = {**headers, "Host": parts.netloc.rpartition("@")[2]}
    left = deadline - time.monotonic()
    if left <= 0:
        raise Refused(f"no answer within {inputs['timeout_s']:g} s")
    body = bytearray()
    with (
        httpx.Client(trust_env=False, timeout=left) as client,
        client.stream(
            method,
            target,
            headers=sent,
            content=content,
            # The certificate is the host's, whatever address it is reached at.
            extensions={"sni_hostname": host},
        ) as answer,
    ):
        for part in answer.iter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise Refused(f"the answer has more than {MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise Refused(f"no answer within {inputs['timeout_s']:g} s")
        found = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status_code, found, bytes(body)


def _content(inputs: dict[str, JSON], headers: dict[str, str]) -> bytes | None:
    if inputs["json"] is not None:
        if "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/json"
        return json.dumps(inputs["json"]).encode()
    return None if inputs["body"] is None else str(inputs["body"]).encode()


def _answer(
    status: int, headers: dict[str, str], body: bytes, expect: list[int] | None
) -> dict[str, JSON]:
    text = body.decode("utf-8", "replace")
    wanted = status in expect if expect else 200 <= status < 300
    if not wanted:
        raise Refused(f"the answer is {status}: {' '.join(text[:500].split())}")
    found: dict[str, JSON] = {"status": status, "headers": headers}
    # Nothing is no JSON, whatever is said of it: the answer to HEAD, and 204.
    if body and "json" in headers.get("content-type", ""):
        try:
            return {**found, "json": json.loads(text)}
        except ValueError as exc:
            raise Refused("the answer says it is JSON, and is not") from exc
    return {**found, "body": text}

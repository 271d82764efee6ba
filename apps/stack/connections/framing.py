"""What a head says about its message: where it ends, and for whom it is. Two readings of that are how requests are smuggled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from apps.core.errors import GyozaError, Invalid, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSIONS = frozenset({"1.0", "1.1", "2"})
# RFC 9113 §6.5.2: what each header counts besides its letters; as much does it cost, over HTTP/1.1 too.
OVERHEAD_BYTES = 32
# So much of a request's beginning tells its path, and with it the dialect.
ENOUGH_BYTES = 1024
# A path; behind a scheme and a host, if it is written as for a proxy.
_TARGET = re.compile(rb"(?:[a-zA-Z][a-zA-Z0-9+.-]*://([^/?#]*))?(/[^?#]*)")


def fault_of(
    method: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> GyozaError | None:
    """Return what is wrong with a head that the parser has let through; None if nothing is."""
    hosts = 0
    codings: list[bytes] | None = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings = [*(codings or ()), *(coding.strip() for coding in value.lower().split(b","))]
    if version not in _VERSIONS:
        return Invalid("HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here")
    # RFC 9112 §3.2
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        return Invalid("a request has one host")
    if method == b"CONNECT":
        return Unimplemented("CONNECT is for proxies")
    return None if codings is None else _fault_of_codings(codings, version)


def _fault_of_codings(codings: list[bytes], version: str) -> GyozaError | None:
    """RFC 9112 §6.1, §6.3."""
    if version == "1.0":
        return Invalid("HTTP/1.0 has no Transfer-Encoding")
    if codings[-1] != b"chunked":
        return Invalid("the last transfer coding of a request is chunked")
    if len(codings) > 1:
        return Unimplemented("of transfer codings, chunked alone is read")
    return None


def target_in(line: bytes) -> bytes:
    """Return what a request asks for, of as much of its first line as has come."""
    return next(iter(line.split(maxsplit=2)[1:]), b"")


def path_of(target: bytes) -> str:
    """Return the path of a request's target, be it incomplete or malformed; the root if it has none. A long one is cut."""
    found = _TARGET.match(target[:ENOUGH_BYTES])
    return unquote((found[2] if found else b"/").decode("latin-1"))


def host_in(target: bytes) -> bytes | None:
    """Return the host of a target that names one: it counts, and not the header Host (RFC 9112 §3.2.2)."""
    found = None if target.startswith(b"/") else _TARGET.match(target)
    return found and found[1]

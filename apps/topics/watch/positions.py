"""Where a reader of several topics stands, and the id by which it comes back there (topics v0 §17.4). Pure.

The id says for each topic of the session the seq up to which it was told. A seq alone is ambiguous once a topic has been
deleted and created again under its name: for such topics the id also carries the incarnation, in a member `$` (no topic
can be called that), and there the position is exact.

An id comes back as one header. Where names would make it too long for that, it leaves them out (⚑33): `["digest of the
names", [seq, …], {place: incarnation}]`, in the order of the names, for sessions whose topics don't come and go.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# topics v0 §4.1: topics per watch.
MAX_TOPICS = 256
# 256 topics with the longest names there are make 90 KB, where all of them are named.
MAX_ID_LENGTH = 128 * 1024
# What proxies take as a header is 8 KiB, and a third more than what is encoded.
MAX_NAMED_BYTES = 5 * 1024
# Of a topic in an id, besides its name: quotes, a colon, a comma, and a seq as long as they get.
_BESIDE_NAME_BYTES = 16
# The first incarnation of a topic that joined later: none, so that its ids always carry the one it has.
JOINED = -1

Told = tuple[int | None, int]

# What is beyond a bigint was never told; stored, it could not be read again.
_MOST = 2**63 - 1
_Seq = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_Incarnation = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


@dataclass(slots=True)
class Position:
    """How far a topic was told: in which incarnation of it, up to which seq, and where its head was then."""

    incarnation: int
    seq: int
    head: int = 0
    # The incarnation that the session began with.
    first_incarnation: int = 0

    def __post_init__(self) -> None:
        self.first_incarnation = self.first_incarnation or self.incarnation


class Unnamed(msgspec.Struct, array_like=True, frozen=True):
    """What an id tells that leaves the names out."""

    digest: str
    seqs: list[_Seq]
    # By place, of those that were told in another incarnation than the session began with.
    incarnations: dict[int, _Incarnation]

    def named(self, names: Iterable[str]) -> dict[str, Told]:
        """Return it by the names of its session; of another session it tells nothing."""
        ordered = sorted(names)
        if len(ordered) != len(self.seqs) or _digest(ordered) != self.digest:
            return {}
        told = [(self.incarnations.get(place), seq) for place, seq in enumerate(self.seqs)]
        return dict(zip(ordered, told, strict=True))


def is_long(names: Iterable[str]) -> bool:
    """Say whether an id that names all of these would be too long for a header."""
    return sum([len(name) + _BESIDE_NAME_BYTES for name in names]) > MAX_NAMED_BYTES


def encode_unnamed(
    positions: Mapping[str, Position], *, said: Mapping[str, int] | None = None
) -> str:
    """Return the id of these positions without their names."""
    said = said or {}
    names = sorted(positions)
    ordered = [positions[name] for name in names]
    exact = {
        place: position.incarnation
        for place, (name, position) in enumerate(zip(names, ordered, strict=True))
        if name in said or position.incarnation != position.first_incarnation
    }
    unnamed = Unnamed(_digest(names), [position.seq for position in ordered], exact)
    return _token(msgspec.json.encode(unnamed))


def encode_id(positions: Mapping[str, Position], *, said: Mapping[str, int] | None = None) -> str:
    """Return the id of these positions; `said` gives seqs that stand for positions elsewhere (§17.6 `recreated`)."""
    said = said or {}
    if len(positions) == 1 and not said:
        [(name, position)] = positions.items()
        if position.incarnation == position.first_incarnation:
            return _simple_id(name, position.seq)
    plain = [b'"%b":%d' % (n.encode(), said.get(n, p.seq)) for n, p in sorted(positions.items())]
    exact = [
        b'"%b":[%d,%d]' % (name.encode(), position.incarnation, position.seq)
        for name, position in sorted(positions.items())
        if name in said or position.incarnation != position.first_incarnation
    ]
    if exact:
        plain.append(b'"$":{%b}' % b",".join(exact))
    return _token(b"{%b}" % b",".join(plain))


def decode_id(text: str) -> dict[str, Told] | Unnamed | None:
    """Return incarnation, where it was told, and seq by topic; None for what is no id."""
    if not text or len(text) > MAX_ID_LENGTH:
        return None
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        if raw.startswith(b"["):
            return _unnamed.decode(raw)
        members = _members.decode(raw)
        exact = _exact.decode(members.pop("$", b"{}"))
        told: dict[str, Told] = {
            name: (None, _seq.decode(seq)) for name, seq in members.items() if name not in exact
        }
    except (UnicodeError, binascii.Error, msgspec.MsgspecError, RecursionError):
        return None
    return told | exact


def resumed(stored: Position, told: Told, *, is_exact: bool) -> Position:
    """Return where a stream goes on whose client was told so much: it may rewind, never advance.

    Not exact are positions of a session whose last stream ended unseen: they lag behind what was sent, so that the
    client knows better.
    """
    incarnation, seq = told[0] or stored.first_incarnation, told[1]
    is_behind = (incarnation, seq) < (stored.incarnation, stored.seq)
    if is_exact and not is_behind:
        return stored
    return Position(incarnation, seq, stored.head, stored.first_incarnation)


def joined(told: Told, *, is_exact: bool) -> Position:
    """Return where a topic goes on that the session does not have, while its client was told of it.

    It joined, and the positions lag behind that; or it was deleted, and the client may not have heard so: it is told
    again, and if another topic has the name now, of that.
    """
    incarnation, seq = told
    if incarnation is None:
        return Position(JOINED, 0)
    return Position(incarnation, 0 if is_exact else seq, 0, JOINED)


def _digest(ordered: list[str]) -> str:
    return sha256("\n".join(ordered).encode()).hexdigest()[:16]


def _token(text: bytes) -> str:
    return urlsafe_b64encode(text).rstrip(b"=").decode()


@lru_cache(maxsize=4096)
def _simple_id(name: str, seq: int) -> str:
    """Return the id of a session of one topic; the watchers at a topic's end share it, as one object."""
    return _token(b'{"%b":%d}' % (name.encode(), seq))


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_seq = msgspec.json.Decoder(_Seq)
_exact = msgspec.json.Decoder(dict[str, tuple[_Incarnation, _Seq]])
_unnamed = msgspec.json.Decoder(Unnamed)

"""Every valid key, in this process's memory for a few seconds: one query serves thousands of requests.

A change to the keys is announced to all processes, which forget what they know at once; the few seconds are for the
case that the message is lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import hmac
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakSet

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, transaction

from apps.access import queries, tokens
from apps.access.caller import Caller
from apps.access.scopes import parse_prefixes, parse_scopes
from apps.core import clock
from apps.core.errors import Invalid
from apps.core.sse import connections, hub, wakeups
from apps.core.sse.subscription import Subscription
from apps.core.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

log = logging.getLogger(__name__)

CHANNEL = "access:keys"
# A key's last use is written at most this often by one process: an UPDATE per request would cost more than the check.
NOTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as requests need it."""

    digest: bytes
    caller: Caller
    expires_at: datetime | None = None
    is_stored: bool = True
    secret_length: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the keys were at one moment."""

    entries: tuple[Entry, ...]
    is_open: bool
    taken_at: float
    recognised: dict[bytes, Entry]

    def find(self, secret: str) -> Entry | None:
        """Return the key of this secret, if it is one and has not expired.

        An unknown digest is compared with every stored one, in constant time and to the end (topics v0 §3.1). Only
        digests that have passed this once are then looked up directly.
        """
        digest = tokens.digest_of(secret)
        found = self.recognised.get(digest)
        if found is None:
            for entry in self.entries:
                if hmac.compare_digest(entry.digest, digest):
                    found = entry
            if found is None:
                return None
            self.recognised[digest] = found
        if found.expires_at is not None and found.expires_at <= clock.now():
            return None
        return found

    def standing(self) -> set[UUID | None]:
        """Return the keys that may be used; None among them while no key is needed."""
        now = clock.now()
        keys: set[UUID | None] = {
            entry.caller.key_id
            for entry in self.entries
            if entry.expires_at is None or entry.expires_at > now
        }
        return keys | {None} if self.is_open else keys


_reading = threading.Lock()  # held during the query, by whoever asks it for all
_storing = threading.Lock()  # held for a moment only: the event loop takes it
_generation = object()
_snapshot: Snapshot | None = None
_noted: dict[UUID, float] = {}
_listening: WeakSet[hub.Hub] = WeakSet()
_env_entries: tuple[Entry, ...] = ()
_refreshing: set[asyncio.Future[None]] = set()  # the loop itself holds tasks weakly


def fresh() -> Snapshot | None:
    """Return what this process knows, if that is recent enough to act on."""
    known = _snapshot
    if known is None or time.monotonic() - known.taken_at >= settings.GYOZA_KEY_CACHE_SECONDS:
        return None
    return known


def load() -> Snapshot:
    """Return what this process knows, asking Postgres when that is too old; many callers cost one query."""
    global _snapshot
    with _reading:
        known = fresh()
        while known is None:
            asked = _generation
            read = _read()
            with _storing:
                # A revocation heard during the read may be missing from it: read again.
                if asked is _generation:
                    known = _snapshot = read
                    connections.end_all_but(read.standing())
        return known


def drop() -> None:
    """Forget the keys; the next request reads them again."""
    global _snapshot, _generation
    with _storing:
        _generation = object()
        _snapshot = None


def changed() -> None:
    """Make every process forget the keys, once the present transaction has committed."""
    transaction.on_commit(drop, robust=True)
    wakeups.announce_on_commit(CHANNEL)


def listen() -> None:
    """Forget the keys whenever another process says so; for the running event loop, from here on."""
    ours = hub.current()
    if ours not in _listening:
        _listening.add(ours)
        ours.add(_News(ours, [CHANNEL]))


def is_due(key_id: UUID) -> bool:
    """Say whether this use of a key should be written down, and take note that it was."""
    now = time.monotonic()
    if now - _noted.get(key_id, -NOTE_SECONDS) < NOTE_SECONDS:
        return False
    _noted[key_id] = now
    return True


def forget_uses() -> None:
    """Forget when keys were last used, as a new process would."""
    _noted.clear()


def use_environment_keys(text: str) -> None:
    """Take the keys given at start; of their secrets only digests stay. Raises ImproperlyConfigured."""
    global _env_entries
    _env_entries = tuple(parse_environment_keys(text))
    drop()


def environment_keys_shorter_than(characters: int) -> list[str]:
    """Return the names of the keys given at start whose secret is shorter."""
    return [
        entry.caller.name
        for entry in _env_entries
        if entry.secret_length is not None and entry.secret_length < characters
    ]


def parse_environment_keys(text: str) -> Iterable[Entry]:
    """Read `secret[:scopes[:prefixes]],…` (topics v0 §3.1); raises ImproperlyConfigured, never naming a secret."""
    entries: dict[bytes, Entry] = {}
    for number, item in enumerate(text.split(","), start=1):
        secret, _, rest = item.strip().partition(":")
        scopes, _, prefixes = rest.partition(":")
        if not (secret := secret.strip()):
            continue
        try:
            digest = tokens.digest_of(secret)
            caller = Caller(
                name=f"environment key {number}",
                scopes=parse_scopes(scopes),
                prefixes=parse_prefixes(prefixes),
                # Stable over restarts, so that what it owns stays its own; tells nothing of the secret.
                key_id=UUID(
                    bytes=tokens.digest_of(f"environment key {digest.hex()}")[:16], version=5
                ),
            )
        except Invalid as exc:
            raise ImproperlyConfigured(f"TOPICS_API_KEYS: entry {number}: {exc.message}") from exc
        entries.setdefault(
            digest, Entry(digest, caller, is_stored=False, secret_length=len(secret))
        )
    return entries.values()


class _News(Subscription):
    """Nobody waits on this subscription: being woken is all it does."""

    __slots__ = ()

    def wake(self, channel: str) -> None:
        drop()
        if connections.any_ends_with_a_key():
            # Now, and not with the next request: streams of a key that is gone must end.
            # In a context of its own: that of whoever has woken us may be a thread that waits for this loop.
            loop = asyncio.get_running_loop()
            refreshing = loop.create_task(_refresh(), context=contextvars.Context())
            _refreshing.add(refreshing)
            refreshing.add_done_callback(_refreshing.discard)


async def _refresh() -> None:
    try:
        await in_thread(load)
    except DatabaseError as exc:
        log.warning("keys are read again with the next request: %s", exc)


def _read() -> Snapshot:
    # Before the read, so that what is known never looks fresher than it is.
    taken_at = time.monotonic()
    stored = [
        Entry(
            digest=bytes(key.digest),
            caller=Caller(
                name=key.name,
                scopes=frozenset(key.scopes),
                prefixes=tuple(key.prefixes),
                key_id=key.pk,
            ),
            expires_at=key.expires_at,
        )
        for key in queries.standing_keys()
    ]
    entries = (*stored, *_env_entries)
    is_open = not entries and not queries.any_key_ever()
    return Snapshot(entries, is_open, taken_at, {})

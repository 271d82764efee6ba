from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import IntegrityError, transaction

from apps.access import keyring, queries, tokens
from apps.access.models import ApiKey, AuditEntry, IdempotencyRecord
from apps.access.scopes import Scope
from apps.core import clock, correlation, sql
from apps.core.api.renderers import encode
from apps.core.errors import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from apps.access.caller import Caller

JSON = Any

REMEMBERED = timedelta(hours=24)
MAX_IDEMPOTENCY_KEY_BYTES = 256
_TRIM_BATCH = 1000


class KeyNameTaken(Conflict):
    """A standing key has this name."""

    code = "key_name_taken"


class IdempotencyConflict(Conflict):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_conflict"


def create_key(
    *,
    name: str,
    scopes: Iterable[str],
    prefixes: Iterable[str] = (),
    expires_at: datetime | None = None,
    caller: Caller | str,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is kept nowhere; the first key closes the doors everywhere.

    Raises Invalid with every bad field, or KeyNameTaken.
    """
    name, granted, seen = name.strip(), sorted(set(scopes)), sorted({p for p in prefixes if p})
    errors = [
        ("name", "must be 1 to 100 characters") if not 0 < len(name) <= 100 else None,
        ("scopes", "must name at least one scope") if not granted else None,
        ("scopes", "must be of read, write, delete, admin") if set(granted) - set(Scope) else None,
        ("expires_at", "is in the past") if expires_at and expires_at <= clock.now() else None,
    ]
    if found := [error for error in errors if error]:
        raise Invalid.of(found)
    secret = tokens.new_secret()
    try:
        with transaction.atomic():
            key = ApiKey.objects.create(
                name=name,
                digest=tokens.digest_of(secret),
                hint=secret[: len(tokens.KEY_PREFIX) + 4],
                scopes=granted,
                prefixes=seen,
                expires_at=expires_at,
                created_by=_owner(caller),
            )
            audit(
                caller=caller,
                action="key.create",
                target=f"key:{key.pk}",
                name=name,
                scopes=granted,
                prefixes=seen,
                expires_at=None if expires_at is None else clock.rfc3339(expires_at),
            )
            keyring.changed()
    except IntegrityError as exc:
        cause = exc.__cause__
        if (
            not isinstance(cause, psycopg.Error)
            or cause.diag.constraint_name != "access_apikey_standing_name_is_unique"
        ):
            raise
        raise KeyNameTaken(f"there is a key named {name}") from exc
    return key, secret


def revoke_key(*, key: UUID | str, caller: Caller | str) -> ApiKey:
    """Revoke a key, by id or name, at once in every process; revoking it again changes nothing. Raises NotFound."""
    with transaction.atomic():
        found = queries.get_key(key=key)
        # Guarded: of two people who revoke at once, one does.
        if ApiKey.objects.standing().filter(pk=found.pk).update(revoked_at=clock.now()):
            audit(caller=caller, action="key.revoke", target=f"key:{found.pk}", name=found.name)
            keyring.changed()
        found.refresh_from_db()
    return found


def note_use(*, key_id: UUID) -> None:
    """Write down that a key was used just now, to the minute."""
    now = clock.now()
    stale = now - timedelta(seconds=keyring.NOTE_SECONDS)
    # Several processes note the same key: whoever comes second in a minute changes nothing.
    ApiKey.objects.filter(pk=key_id).exclude(last_used_at__gt=stale).update(last_used_at=now)


def issue_run_token(run_id: UUID, attempt: int) -> str:
    """Return the token with which an op reads and reports on its own run, and on nothing else."""
    return tokens.sign_run_token(run_id, attempt)


def audit(*, caller: Caller | str, action: str, target: str, **detail: JSON) -> None:
    """Record a change in the present transaction: no change without its entry, no entry without its change."""
    AuditEntry.objects.create(
        actor=_owner(caller),
        actor_name=str(caller),
        action=action,
        target=target,
        detail=detail,
        correlation_id=correlation.current() or "",
    )


def once(
    *,
    caller: Caller,
    key: str | None,
    fingerprint: bytes,
    create: Callable[[], tuple[int, bytes | JSON]],
) -> tuple[int, JSON, bool]:
    """Create something once per Idempotency-Key: return status, body, and whether this is the first answer again.

    A creation that raises is not remembered. Raises Invalid for an empty key or one over 256 bytes, IdempotencyConflict if the key was
    used for another request.

    1. Claim the key; a concurrent request with the same key waits here until this transaction ends.
    2. Create, and store the answer in the same transaction.
    3. If the key is taken, compare fingerprints and repeat the stored answer.
    """
    if key is None:
        # In the transaction that the service opens, without a savepoint inside one of ours.
        status, body = create()
        return status, _parsed(body), False
    if not 0 < len(key.encode("latin-1", "replace")) <= MAX_IDEMPOTENCY_KEY_BYTES:
        rule = f"must be 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes"
        raise Invalid.of([("Idempotency-Key", rule)])
    with transaction.atomic():
        owner = caller.owner
        while not (mine := claim_idempotency(owner=owner, key=key, fingerprint=fingerprint)):
            first = IdempotencyRecord.objects.filter(owner=owner, key=key).first()
            # None: trimmed between the two statements, so it is free now.
            if first is not None:
                return _repeated(first, fingerprint)
        status, body = create()
        IdempotencyRecord.objects.filter(pk=mine).update(status=status, body=_written(body))
    return status, _parsed(body), False


def claim_idempotency(*, owner: str, key: str, fingerprint: bytes) -> int | None:
    """Take an Idempotency-Key; return the row's id, or None if it is taken."""
    now = clock.now()
    claimed = sql.run(
        "access/claim_idempotency",
        owner=owner,
        key=key,
        fingerprint=fingerprint,
        now=now,
        forgotten_before=now - REMEMBERED,
    )
    return claimed.rows[0]["id"] if claimed.rows else None


def trim_idempotency() -> int:
    """Forget answers older than a day, a batch per transaction; return how many."""
    forgotten = 0
    while True:
        old = IdempotencyRecord.objects.filter(created_at__lt=clock.now() - REMEMBERED)
        count, _ = IdempotencyRecord.objects.filter(
            pk__in=list(old.order_by("created_at").values_list("pk", flat=True)[:_TRIM_BATCH])
        ).delete()
        forgotten += count
        if count < _TRIM_BATCH:
            return forgotten


def _repeated(first: IdempotencyRecord, fingerprint: bytes) -> tuple[int, JSON, bool]:
    if bytes(first.fingerprint) != fingerprint:
        raise IdempotencyConflict
    if first.status is None or first.body is None:
        raise IdempotencyConflict("this Idempotency-Key is being used by the present request")
    return first.status, json.loads(bytes(first.body)), True


def _written(body: bytes | JSON) -> bytes:
    return body if isinstance(body, bytes) else encode(body)


def _parsed(body: bytes | JSON) -> JSON:
    return json.loads(body) if isinstance(body, bytes) else body


def _owner(caller: Caller | str) -> str:
    return caller if isinstance(caller, str) else caller.owner

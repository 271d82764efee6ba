"""Secrets: how a key is made and recognised, and the signed token by which an op acts for its run."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from uuid import UUID

from django.conf import settings
from django.core import signing

# Prefixes let secret scanners, and our own logs, recognise what must not be shown.
KEY_PREFIX = "gyk_"
RUN_TOKEN_PREFIX = "gyr_"  # noqa: S105 - the word in front of one, not one
_SALT = "gyoza.access.run_token"


def new_secret() -> str:
    """Return a new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """Return what is stored of a key. A plain hash is enough for 256 random bits (ADR 0012)."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def sign_run_token(run_id: UUID, attempt: int) -> str:
    """Return a token that says "I am attempt n of this run"; there is no row, the signature is the proof."""
    signed = _signer(settings.SECRET_KEY).sign(f"{run_id.hex}.{attempt}")
    return f"{RUN_TOKEN_PREFIX}{signed}"


@lru_cache(maxsize=1)
def _signer(key: str) -> signing.Signer:
    return signing.Signer(key=key, salt=_SALT)


def read_run_token(token: str) -> tuple[UUID, int] | None:
    """Return run and attempt of a token that we signed; None for anything else."""
    try:
        said = signing.Signer(salt=_SALT).unsign(token.removeprefix(RUN_TOKEN_PREFIX))
    except signing.BadSignature:
        return None
    run, _, attempt = said.partition(".")
    return UUID(hex=run), int(attempt)

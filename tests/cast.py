"""Who calls the API in tests, and how: keys with relations to each other, and clients that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from apps.access import keyring, services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apps.access.auth import Caller


@pytest.fixture(autouse=True)
def _no_key_remembered() -> Iterator[None]:
    """Let each test see its own keys, whatever an earlier one left in this process's memory."""
    keyring.use_environment_keys("")
    keyring.forget_uses()
    yield
    keyring.use_environment_keys("")


def make_key(name: str = "someone", scopes: str = "read+write+delete+admin", *prefixes: str) -> str:
    """Make a key and return its secret; in effect at once."""
    _, secret = services.create_key(
        name=name, scopes=scopes.split("+"), prefixes=prefixes, caller="test"
    )
    # A test's transaction never commits, so nobody else tells.
    keyring.drop()
    return secret


def caller_for(secret: str) -> Caller:
    """Return who the doors take the holder of this secret for."""
    entry = (keyring.fresh() or keyring.load()).find(secret)
    assert entry is not None
    return entry.caller


def client_for(key: str | None = None, **extra: Any) -> APIClient:
    """Return an HTTP client that presents a key, or none. A server error is answered, not raised."""
    client = APIClient(raise_request_exception=False, **extra)
    if key is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


@pytest.fixture
def key_maker(db: None) -> Callable[..., str]:
    """Return `make_key`, with a database."""
    return make_key


@pytest.fixture
def owner(db: None) -> str:
    """Return a key that may do everything, under the names `team.`."""
    return make_key("owner", "read+write+delete+admin", "team.")


@pytest.fixture
def teammate(owner: str) -> str:
    """Return a key of the owner's team, with the same rights."""
    return make_key("teammate", "read+write+delete+admin", "team.")


@pytest.fixture
def stranger(owner: str) -> str:
    """Return a key with every scope, under other names."""
    return make_key("stranger", "read+write+delete+admin", "other.")


@pytest.fixture
def reader(owner: str) -> str:
    """Return a key of the owner's team that may only look."""
    return make_key("reader", "read", "team.")


@pytest.fixture
def admin_key(db: None) -> str:
    """Return a key that may do everything, whatever the name."""
    return make_key("admin")

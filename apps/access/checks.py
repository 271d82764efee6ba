from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from apps.access import auth, keyring
from apps.access.models import ApiKey

if TYPE_CHECKING:
    from collections.abc import Sequence

# 16 random characters of base64 are 96 bits. Keys given at start are hashed plainly, as ours are (ADR 0012), but nobody
# has made them random for their owner.
MIN_SECRET_CHARACTERS = 16


def check_environment_keys(**_: Any) -> list[checks.CheckMessage]:
    """access.W002: a key of TOPICS_API_KEYS is so short that it can be guessed."""
    weak = keyring.environment_keys_shorter_than(MIN_SECRET_CHARACTERS)
    return [
        checks.Warning(
            f"TOPICS_API_KEYS: {name} has less than {MIN_SECRET_CHARACTERS} characters.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            id="access.W002",
        )
        for name in weak
    ]


def check_open_bind(
    *, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """access.W001: the configured address is open to others and there is no key, so the server will refuse to start."""
    connection = connections["default"]
    if "default" not in (databases or ()) or (
        ApiKey._meta.db_table not in connection.introspection.table_names()
    ):
        return []
    try:
        auth.refuse_open_bind(settings.GYOZA_HOST)
    except ImproperlyConfigured as exc:
        return [checks.Warning(str(exc), id="access.W001")]
    return []

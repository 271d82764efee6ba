from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


class AccessConfig(AppConfig):
    name = "apps.access"
    label = "access"

    def ready(self) -> None:
        from apps.access import keyring
        from apps.access.checks import check_environment_keys, check_open_bind
        from apps.core import lifespan

        checks.register(check_environment_keys, checks.Tags.security)
        checks.register(check_open_bind, checks.Tags.database)
        # At the start: a process that has only served sync views has to hear of a revocation too.
        lifespan.on_open(keyring.listen)
        # Here and not on first use: an entry that can't be read must stop the process (topics v0 §3.1).
        keyring.use_environment_keys(settings.GYOZA_API_KEYS)
        # Nobody needs the plaintext any more.
        settings.GYOZA_API_KEYS = ""

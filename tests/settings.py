"""Settings of the tests: the service's own, with a handful of overrides."""

from __future__ import annotations

from gyoza_site.settings import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

"""Settings of the tests: the service's own, with a handful of overrides."""

from __future__ import annotations

import os

from tests import servers

# Before the service's settings read them. The servers themselves start with the first test that needs one.
os.environ.update(servers.environment())

from gyoza_site.settings import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

"""A connection to Postgres whose packets are swallowed fails before its worker counts as lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import connection

from apps.core import asyncdb

SHOW = "from django.conf import settings; print(settings.DATABASES['default']['OPTIONS']['tcp_user_timeout'])"


@pytest.mark.parametrize("params", [connection.get_connection_params, asyncdb._parameters])
def test_it_is_given_up_in_time(params):
    given = params()
    lost_ms = settings.GYOZA_LOST_SECONDS * 1000
    assert given["tcp_user_timeout"] < lost_ms
    silence = given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"]
    assert silence * 1000 < lost_ms


def test_a_pool_is_back_soon_after_postgres():
    """While it tries it waits twice as long each time, by default for five minutes, and every request with it."""
    pool = settings.GYOZA_DB_POOL_OPTIONS
    assert pool["timeout"] + pool["reconnect_timeout"] < settings.GYOZA_LOST_SECONDS


def test_the_address_may_say_otherwise():
    url = "postgresql://u@h/d?tcp_user_timeout=60000"
    env = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "gyoza_site.settings"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "60000"

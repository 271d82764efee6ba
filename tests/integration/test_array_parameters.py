from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import django; django.setup()
from django.db import connection
connection.ensure_connection()
from apps.core import pgarray, sql
print(sql.run_bound("topics/missing_topics", names=pgarray.texts([b"a"])).rows)
"""


@pytest.mark.django_db
def test_arrays_are_known_to_a_connection_that_was_made_before_their_first_use():
    from django.db import connection

    options = connection.get_connection_params()
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PGDATABASE": options["dbname"],
        **__import__("os").environ,
    }
    code = "from django.conf import settings\nsettings.DATABASES['default']['NAME'] = %r\n%s"
    done = subprocess.run(
        [sys.executable, "-c", code % (options["dbname"], CODE)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[{'name': 'a'}]\n"

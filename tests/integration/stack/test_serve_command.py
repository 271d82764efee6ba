"""`manage.py serve` begins, or says in one line why it can't."""

from __future__ import annotations

import os
import subprocess
import sys

from django.conf import settings


def test_without_postgres_it_says_so_in_one_line():
    env = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    done = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        env=env,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "CommandError: Postgres does not answer" in done.stderr
    assert "Traceback" not in done.stderr

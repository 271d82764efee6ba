"""What `up` runs, in the order in which it starts: the servers that were not given, then the service's processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from apps.stack import client
from apps.stack.children import Child, ChildSpec
from apps.stack.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apps.stack.valkey import Valkey

CELERY = (sys.executable, "-m", "celery", "-A", "gyoza_site.celery")
# Ten times what a slow machine needs. What does not answer by then never will.
PATIENCE_S = 90.0
# Longer than `serve` lets open requests go on.
WEB_GRACE_S = 15.0
# Beyond the drain: reporting, and SIGKILL for ops that ignore SIGTERM.
WORKER_MARGIN_S = 10.0


def environment(servers: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the service's processes; ops find the same `python` first in PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    own = {
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "PORT": str(settings.GYOZA_PORT),
        "GYOZA_HOME": str(settings.GYOZA_HOME),
    }
    return {**os.environ, **own, **servers}


def server(embedded: Postgres | Valkey, home: Path) -> Child:
    """Return the child that runs an embedded server."""
    is_postgres = isinstance(embedded, Postgres)
    return Child(
        ChildSpec(
            name=embedded.name,
            prepare=embedded.prepare,
            argv=lambda: embedded.argv,
            env=embedded.env,
            cwd=Path("/"),
            is_ready=embedded.ready,
            account=lambda: embedded.account,
            stop_signal=embedded.stop_signal,
            # SIGKILL would leave Postgres's sessions and shared memory behind.
            force_signal=signal.SIGQUIT if is_postgres else signal.SIGKILL,
            grace_s=60 if is_postgres else 10,
            is_server=True,
        ),
        home,
    )


def web(home: Path, env: Mapping[str, str]) -> Child:
    """Return the child that answers HTTP."""
    argv = [sys.executable, "manage.py", "serve"]
    return _process(home, "web", argv, env, is_ready=is_healthy, grace_s=WEB_GRACE_S)


def worker(home: Path, env: Mapping[str, str]) -> Child:
    """Return the child that executes runs."""
    argv = [*CELERY, "worker", "-P", "threads", "-c", "4", "-Q", "gyoza,gyoza.wake"]
    argv += [
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "-l",
        settings.GYOZA_LOG_LEVEL,
    ]
    grace = settings.GYOZA_DRAIN_SECONDS + settings.GYOZA_CANCEL_GRACE_SECONDS + WORKER_MARGIN_S
    return _process(home, "worker", argv, env, is_ready=has_worker, grace_s=grace)


def beat(home: Path, env: Mapping[str, str]) -> Child:
    """Return the child that starts the sweeps."""
    argv = [*CELERY, "beat", "-l", settings.GYOZA_LOG_LEVEL, "--pidfile="]
    mark: Path = settings.GYOZA_BEAT_MARK

    def forget() -> None:
        mark.unlink(missing_ok=True)

    return _process(home, "beat", argv, env, is_ready=mark.exists, prepare=forget, grace_s=5)


def is_healthy() -> bool:
    """Say whether the web process answers."""
    try:
        return client.get("/health").get("status") == "ok"
    except client.Refused:
        return False


def has_worker() -> bool:
    """Say whether a worker has reported that it takes runs."""
    try:
        workers = client.get("/workers")["data"]
    except client.Refused as refused:
        return refused.status in {401, 403}  # keys are in use: we may not look
    return any(worker["state"] == "READY" for worker in workers)


def _process(
    home: Path,
    name: str,
    argv: list[str],
    env: Mapping[str, str],
    *,
    is_ready: Callable[[], bool],
    prepare: Callable[[], object] | None = None,
    grace_s: float,
) -> Child:
    return Child(
        ChildSpec(
            name=name,
            argv=lambda: argv,
            env=env,
            cwd=settings.BASE_DIR,
            prepare=prepare or (lambda: None),
            is_ready=is_ready,
            grace_s=grace_s,
            patience_s=PATIENCE_S,
        ),
        home,
    )

"""Starting child processes that never outlive the process that answers for them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1

# Looked up here because nothing may be imported or loaded between fork and exec.
_prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """The system user a child runs as."""

    uid: int
    gid: int


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: IO[bytes],
    orphan_signal: signal.Signals,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session, its output going to `log`.

    The child gets `orphan_signal` when the thread that called this dies, `kill -9` included; so call it from the
    main thread. Where the system has no such signal (macOS), the next start finds the leftovers instead.
    """
    return subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A Ctrl-C at the terminal must reach the supervisor alone, which stops its children in order.
        start_new_session=True,
        preexec_fn=_die_with_parent(orphan_signal),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _die_with_parent(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    return partial(_ask_for_signal, os.getpid(), orphan_signal) if _prctl else None


def _ask_for_signal(parent: int, orphan_signal: signal.Signals) -> None:
    assert _prctl is not None  # noqa: S101  only installed where it exists
    _prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
    if os.getppid() != parent:  # it died between fork and prctl: nobody will send the signal
        os.kill(os.getpid(), signal.SIGKILL)

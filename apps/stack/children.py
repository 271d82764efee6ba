"""The processes that `up` answers for: start, watch, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from apps.stack.spawn import Account, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
# A child that has run this long had started well: its next death begins a new count.
STEADY_AFTER_S = 60.0
LOG_LIMIT_BYTES = 10 * 1024 * 1024


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait before the restart after so many deaths in a row."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (deaths - 1))


def describe_exit(code: int) -> str:
    """Say in words how a process ended; negative is a signal, as `subprocess` counts."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_lines(path: Path, count: int = 5) -> list[str]:
    """Return the last lines of a log that say something."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 8192))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def limit_log(path: Path, limit: int = LOG_LIMIT_BYTES) -> None:
    """Keep a log that has grown past the limit as `<name>.1` and let it begin anew; its writer appends and goes on."""
    if path.exists() and path.stat().st_size > limit:
        path.with_suffix(".log.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What it takes to run one child."""

    name: str
    argv: Callable[[], list[str]]
    env: Mapping[str, str]
    cwd: Path
    is_ready: Callable[[], bool]
    prepare: Callable[[], object] = _nothing
    account: Callable[[], Account | None] = lambda: None
    stop_signal: signal.Signals = signal.SIGTERM
    force_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10
    is_server: bool = False
    # None: a Postgres that was killed may replay its log for as long as that takes.
    patience_s: float | None = None


@dataclass
class Child:
    """One child and what has become of it."""

    spec: ChildSpec
    home: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0
    deaths: int = 0
    restart_at: float | None = None
    is_announced: bool = False

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.home / "logs" / f"{self.spec.name}.log"

    @property
    def record(self) -> Path:
        """Where its identity is kept while it runs."""
        return record_of(self.home, self.spec.name)

    def start(self) -> None:
        """Start it; raises CannotStart if what it needs can't be had."""
        self.spec.prepare()
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        limit_log(self.log)
        with self.log.open("ab") as log:
            self.process = spawn(
                self.spec.argv(),
                env=self.spec.env,
                cwd=self.spec.cwd,
                log=log,
                orphan_signal=self.spec.stop_signal,
                account=self.spec.account(),
            )
        self.started_at = time.monotonic()
        self.restart_at = None
        self.is_announced = False
        self.record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.record.write_text(identity(self.process.pid), encoding="ascii")

    def exit_code(self) -> int | None:
        """Return how the process ended; None while it runs."""
        return None if self.process is None else self.process.poll()

    def note_death(self, now: float) -> float:
        """Count a death and return the seconds until the restart that is now due."""
        self.process = None
        self.deaths = 1 if now - self.started_at >= STEADY_AFTER_S else self.deaths + 1
        delay = restart_delay(self.deaths)
        self.restart_at = now + delay
        return delay

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def bury(self) -> None:
        """Clear away what is left of an ended process: its group and its record."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
        self.record.unlink(missing_ok=True)


def record_of(home: Path, name: str) -> Path:
    """Return where the identity of a child is kept."""
    return home / "run" / f"{name}.pid"


def identity(pid: int) -> str:
    """Return what names a process for good: its number and the moment it began."""
    try:
        return f"{pid} {psutil.Process(pid).create_time()}"
    except psutil.NoSuchProcess:
        return f"{pid} 0"


def stop_left_over(record: Path, *, grace_s: float) -> bool:
    """Stop the process of a supervisor that was killed, if it still runs; say whether it did."""
    if not record.exists():
        return False
    pid = record.read_text("ascii").partition(" ")[0]
    is_left = (
        pid.isdigit()
        and identity(int(pid)) == record.read_text("ascii")
        and psutil.pid_exists(int(pid))
    )
    if is_left:
        process = psutil.Process(int(pid))
        process.terminate()
        if psutil.wait_procs([process], timeout=grace_s)[1]:
            process.kill()
            psutil.wait_procs([process], timeout=5)
    record.unlink()
    return is_left

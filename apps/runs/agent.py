"""The part of a worker process that executes runs: one thread that takes turns (turns.take_turn) with Postgres.

Nudges only wake it. Each turn is a heartbeat; it reports what the executors have seen, learns what it must stop, and
claims what fits. Nothing is remembered here that could not be read again: a turn that fails (Postgres is away)
is simply taken again, and offsets move only when it has been committed.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import psutil
from django import db
from django.conf import settings

from apps.access import services as access
from apps.core.nudges import Ear
from apps.runs import sweeps, turns
from apps.runs.executors import load
from apps.runs.executors.base import Executor, ExecutorFailure, Handle, LaunchSpec, Outcome
from apps.runs.models import LogChunk, Run
from apps.runs.scheduling import Claim
from apps.runs.services import CLAIM_TASK
from apps.runs.states import HOLDS_RESOURCES, RunState, WorkerState
from apps.runs.turns import Ended, Report, Said

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# How often running ops are asked for log and messages: what a reader sees is at most this late.
LISTEN_SECONDS = 0.25
# Log shipped per attempt and turn while it runs; the rest follows in the next turns.
LOG_BYTES_PER_TURN = 1024 * 1024
# Short python runs are claimed ahead of need, so that the children have work while a turn is under way: as many as
# would end in this time, but not more than this many per slot. One that waits for long is given back.
AHEAD_SECONDS = 0.1
AHEAD_PER_SLOT = 3
WAIT_SECONDS = 2.0
# What a supervisor may need for SIGKILL and clearing up, beyond the grace.
FORCE_SECONDS = 5.0
# Wait after a turn that failed: Postgres is away or restarting.
PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class Held:
    """An attempt this worker executes."""

    claim: Claim
    executor: Executor
    handle: Handle | None = None
    is_reported: bool = False
    failure: Ended | None = None
    message_offset: int = 0
    log_offset: int = 0
    launched_at: float = 0.0
    is_stopping: bool = False
    is_disowned: bool = False

    @property
    def id(self) -> str:
        return attempt_id(self.claim)


def attempt_id(claim: Claim) -> str:
    """Return the name under which executors know an attempt."""
    return f"{claim.run_id}-{claim.attempt}-{claim.lease}"


class Agent:
    """Executes runs for one worker id. Start it once per process."""

    def __init__(self, *, worker_id: str, root: Path) -> None:
        self.worker_id = worker_id
        self.executors = load(settings.GYOZA_EXECUTORS, root)
        self.held: dict[str, Held] = {}
        self._news: set[str] = set()
        self._wake = threading.Event()
        self._drain_until: float | None = None
        self._nudged = False
        self._usual_seconds = 1.0  # how long python runs took lately
        self._listen_at = 0.0
        self._beat_at = 0.0
        self._thread = threading.Thread(target=self._run, name="gyoza-agent", daemon=True)
        for executor in self.executors.values():
            executor.on_news = self._hear
        self._ear = Ear({CLAIM_TASK: self.nudge})

    def start(self) -> None:
        """Register the worker, take up what it held before a restart, and begin to claim."""
        self._register()
        self._adopt()
        self._thread.start()
        self._ear.start()

    @property
    def hears(self) -> bool:
        """Whether a nudge reaches this agent without Celery."""
        return self._ear.hears

    def nudge(self) -> None:
        """Take a turn soon."""
        self._nudged = True
        self._wake.set()

    def drain(self) -> None:
        """Claim nothing more; what runs has GYOZA_DRAIN_SECONDS to end."""
        if self._drain_until is None:
            self._drain_until = time.monotonic() + settings.GYOZA_DRAIN_SECONDS
            self.nudge()

    def stop(self) -> None:
        """Drain, give back what has not ended by then, and say that the worker has left."""
        self.drain()
        # Told to end before it had begun: there is no thread, and nothing is held.
        if self._thread.ident is not None:
            self._thread.join()
            self._ear.close()

    # --- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait(self._seconds_to_wait())
            self._wake.clear()
            if self._drain_until is not None and (
                not self.held or time.monotonic() >= self._drain_until
            ):
                break
            try:
                if self._take_turn():
                    self._wake.set()
            except db.Error as exc:
                log.warning("turn failed, taken again in %.0f s: %s", PAUSE_SECONDS, exc)
                db.connections.close_all()
                time.sleep(PAUSE_SECONDS)
                self._wake.set()
            except Exception:
                # The loop must outlive a mistake in one turn: other runs depend on the heartbeat.
                log.exception("turn failed")
                db.connections.close_all()
                time.sleep(PAUSE_SECONDS)
        self._leave()

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        until = self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS
        if self.held:
            until = min(until, self._listen_at + LISTEN_SECONDS)
        return max(0.0, until - now)

    def _take_turn(self) -> bool:
        """Take one turn if there is a reason to; return whether another should follow at once."""
        now = time.monotonic()
        reports = self._collect(now)
        is_beat = now >= self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS
        if not (reports or is_beat or self._nudged):
            return False
        # Before the turn: what a later nudge announces may be missing in this turn's snapshot.
        self._nudged = False
        self._beat_at = now
        is_draining = self._drain_until is not None
        turn = turns.take_turn(
            worker_id=self.worker_id,
            reports=reports,
            limit=0 if is_draining else settings.GYOZA_WORKER_SLOTS,
            ahead=0 if is_draining else self._ahead(),
        )
        if is_beat:
            sweeps.sweep_runs()
        for report in reports:
            self._settle(report)
        for report in turn.refused:
            self._disown(f"{report.run_id}-{report.attempt}-{report.lease}")
        self._obey(turn)
        with ExitStack() as together:
            for executor in self.executors.values():
                together.enter_context(executor.together())
            for claim in turn.claims:
                self._launch(claim)
        if turn.state == WorkerState.LOST:
            self._register()
        return bool(turn.claims) or any(report.ended or report.given_back for report in reports)

    def _ahead(self) -> int:
        slots = settings.GYOZA_WORKER_SLOTS
        if self._usual_seconds >= 1:
            return 0
        return min(slots * AHEAD_PER_SLOT, int(slots * AHEAD_SECONDS / self._usual_seconds))

    # --- what executors have seen -------------------------------------------------------------

    def _hear(self, one: str) -> None:
        self._news.add(one)
        self._wake.set()

    def _collect(self, now: float) -> list[Report]:
        news, self._news = self._news, set()
        listen = now >= self._listen_at + LISTEN_SECONDS
        if listen:
            self._listen_at = now
        reports = []
        for one, held in list(self.held.items()):
            if held.is_disowned:
                self._bury(held)
            elif listen or one in news or not held.is_reported:
                report = self._look(held)
                if report is not None:
                    reports.append(report)
        return reports

    def _look(self, held: Held) -> Report | None:
        claim = held.claim
        if held.failure is not None or held.handle is None:
            return Report(claim.run_id, claim.attempt, claim.lease, ended=held.failure)
        # The outcome first: whatever the op said and printed is complete once it is there.
        outcome = held.executor.poll(held.handle)
        if outcome is None and not held.is_reported and held.executor.is_waiting(held.handle):
            return self._give_back(held)
        messages, message_offset = held.executor.read_messages(held.handle, held.message_offset)
        logged = self._read_log(held, is_last=outcome is not None)
        if outcome is None and not messages and not logged and held.is_reported:
            return None
        if outcome is not None and claim.python is not None:
            self._usual_seconds += 0.2 * (outcome.duration_ms / 1000 - self._usual_seconds)
        return Report(
            run_id=claim.run_id,
            attempt=claim.attempt,
            lease=claim.lease,
            handle=None if held.is_reported else held.handle.to_dict(),
            said=[_said(message) for message in messages],
            message_offset=message_offset,
            log_start=held.log_offset,
            log=logged,
            ended=None if outcome is None else _ended(outcome),
        )

    def _give_back(self, held: Held) -> Report | None:
        if time.monotonic() < held.launched_at + WAIT_SECONDS or held.handle is None:
            return None
        held.executor.forget(held.handle)
        claim = held.claim
        why = "those ahead of it took long"
        return Report(claim.run_id, claim.attempt, claim.lease, given_back=why)

    def _read_log(self, held: Held, *, is_last: bool) -> bytes:
        assert held.handle is not None  # noqa: S101 - for the type checker
        pieces: list[bytes] = []
        size = 0
        while piece := held.executor.read_log(held.handle, held.log_offset + size):
            pieces.append(piece)
            size += len(piece)
            if not is_last and size >= LOG_BYTES_PER_TURN:
                break
        return b"".join(pieces)

    def _settle(self, report: Report) -> None:
        """Remember what has been committed."""
        held = self.held[f"{report.run_id}-{report.attempt}-{report.lease}"]
        held.is_reported = True
        held.message_offset = max(held.message_offset, report.message_offset)
        held.log_offset += len(report.log)
        if report.ended is not None or report.given_back:
            self._forget(held)

    # --- what is to be done -------------------------------------------------------------------

    def _obey(self, turn: turns.Turn) -> None:
        for one, held in self.held.items():
            mine = turn.held.get(held.claim.run_id)
            if mine is None or mine.lease != held.claim.lease:
                self._disown(one)
            elif mine.cancel_requested_at is not None and not held.is_stopping:
                self._stop(held)

    def _launch(self, claim: Claim) -> None:
        held = Held(claim, self.executors[claim.executor], launched_at=time.monotonic())
        self.held[held.id] = held
        try:
            held.handle = held.executor.launch(self._spec(claim))
        except ExecutorFailure as exc:
            held.failure = Ended({}, None, str(exc), stopped=False, permanent=exc.permanent)

    def _spec(self, claim: Claim) -> LaunchSpec:
        token = access.issue_run_token(claim.run_id, claim.attempt)
        return LaunchSpec(
            attempt_id=attempt_id(claim),
            run_id=str(claim.run_id),
            attempt=claim.attempt,
            command=None if claim.command is None else tuple(claim.command),
            python=claim.python,
            image=claim.image,
            env={**claim.env, "GYOZA_URL": settings.GYOZA_URL, "GYOZA_RUN_TOKEN": token},
            inputs_json=claim.inputs_json,
            timeout_s=claim.timeout_s,
            cpu=claim.cpu,
            ram_mb=claim.ram_mb,
            gpu_id=claim.gpu,
            grace_s=settings.GYOZA_CANCEL_GRACE_SECONDS,
        )

    def _disown(self, one: str) -> None:
        """Stop an op whose run is no longer ours; whatever it still says is of no interest."""
        held = self.held.get(one)
        if held is not None and not held.is_disowned:
            log.warning("run %s was taken away, its op is stopped", held.claim.run_id)
            held.is_disowned = True
            self._stop(held)

    def _bury(self, held: Held) -> None:
        if held.handle is None or held.executor.poll(held.handle) is not None:
            self._forget(held)

    def _stop(self, held: Held) -> None:
        held.is_stopping = True
        if held.handle is not None:
            held.executor.stop(held.handle, grace=settings.GYOZA_CANCEL_GRACE_SECONDS)

    def _forget(self, held: Held) -> None:
        del self.held[held.id]
        if held.handle is not None:
            held.executor.forget(held.handle)

    # --- coming and going ---------------------------------------------------------------------

    def _register(self) -> None:
        turns.register_worker(
            worker_id=self.worker_id,
            executors=sorted(
                name for name, executor in self.executors.items() if not executor.check()
            ),
            slots=settings.GYOZA_WORKER_SLOTS,
            cpu=settings.GYOZA_WORKER_CPU or psutil.cpu_count() or 1,
            ram_mb=settings.GYOZA_WORKER_RAM_MB or psutil.virtual_memory().total // 2**20,
            gpus=_gpus(settings.GYOZA_WORKER_GPUS),
            tags=settings.GYOZA_WORKER_TAGS,
            hostname=settings.GYOZA_HOSTNAME,
        )

    def _adopt(self) -> None:
        """Take up the runs this worker still holds after a restart, and stop what it no longer does."""
        runs = Run.objects.filter(worker_id=self.worker_id, state__in=HOLDS_RESOURCES)
        for run in runs:
            claim = _claim_of(run)
            if run.state == RunState.ASSIGNED or run.handle is None:
                # It may have been launched without our having said so: launching again finds it.
                self._launch(claim)
                continue
            held = Held(claim, self.executors[claim.executor], Handle.from_dict(run.handle))
            held.is_reported, held.message_offset = True, run.message_offset
            last = LogChunk.objects.filter(run=run, attempt=run.current_attempt).order_by("-start")
            if chunk := last.first():
                held.log_offset = chunk.start + len(chunk.content)
            self.held[held.id] = held
            log.info("run %s goes on under its lease", run.id)
        for executor in self.executors.values():
            for handle in executor.leftovers():
                if handle.attempt_id not in self.held:
                    log.warning("attempt %s is not ours any more, it is ended", handle.attempt_id)
                    executor.forget(handle)

    def _leave(self) -> None:
        """Stop what has not ended, wait until it has, and give it back."""
        for held in self.held.values():
            self._stop(held)
        deadline = time.monotonic() + settings.GYOZA_CANCEL_GRACE_SECONDS + FORCE_SECONDS
        while self._alive() and time.monotonic() < deadline:
            self._wake.wait(LISTEN_SECONDS)
            self._wake.clear()
            self._beat()
        try:
            turns.take_turn(worker_id=self.worker_id, reports=self._last_words(), limit=0)
            turns.leave(worker_id=self.worker_id)
        except db.Error as exc:
            log.warning("could not say good-bye, runs go back when the worker is lost: %s", exc)
        for held in list(self.held.values()):
            self._forget(held)
        for executor in self.executors.values():
            executor.close()
        db.connections.close_all()

    def _last_words(self) -> list[Report]:
        """Report what has ended by itself; what we have stopped goes back, with its log."""
        reports = []
        for held in self.held.values():
            report = None if held.is_disowned else self._look(held)
            if report is not None and report.ended is not None and report.ended.stopped:
                report = replace(report, ended=None, given_back="the worker was shut down")
            if report is not None:
                reports.append(report)
        return reports

    def _alive(self) -> bool:
        return any(
            held.handle is not None and held.executor.poll(held.handle) is None
            for held in self.held.values()
        )

    def _beat(self) -> None:
        """Stay alive in the eyes of the sweep while ops are ending."""
        now = time.monotonic()
        if now >= self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS:
            self._beat_at = now
            try:
                turns.take_turn(worker_id=self.worker_id, reports=[], limit=0)
            except db.Error as exc:
                log.warning("no heartbeat while leaving: %s", exc)


def _said(message: Any) -> Said:
    return Said(
        message.kind, message.value, message.name or message.msg, dict(message.payload or {})
    )


def _ended(outcome: Outcome) -> Ended:
    return Ended(
        outcome.outputs or {},
        outcome.exit_code,
        outcome.error,
        outcome.stopped,
        lost=outcome.lost,
    )


def _claim_of(run: Run) -> Claim:
    return Claim(
        run_id=run.id,
        attempt=run.current_attempt,
        lease=run.lease or "",
        executor=run.executor,
        image=run.image,
        command=run.command,
        python=run.python,
        env=run.env,
        inputs_json=msgspec.json.encode(run.inputs),
        timeout_s=run.timeout_s,
        cpu=run.cpu,
        ram_mb=run.ram_mb,
        gpu=run.gpu,
    )


def _gpus(words: list[str]) -> list[dict[str, int]]:
    pairs = [word.partition(":") for word in words]
    return [{"id": int(gpu), "vram_mb": int(vram or 0)} for gpu, _, vram in pairs]


# --- the process's one agent ---------------------------------------------------------------------


@contextmanager
def _slot(root: Path) -> Iterator[tuple[str, Path]]:
    """Take the first free worker slot of this machine and hold it: a restart gets the same name again."""
    number = 0
    while True:
        number += 1
        directory = root / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = (directory / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        try:
            yield f"{settings.GYOZA_HOSTNAME}-{number}", directory / "attempts"
        finally:
            lock.close()
        return


_agent: Agent | None = None
_held_slot: Any = None


def start() -> None:
    """Start this process's agent."""
    global _agent, _held_slot
    _held_slot = _slot(Path(settings.GYOZA_HOME) / "workers")
    name, root = _held_slot.__enter__()
    _agent = Agent(worker_id=settings.GYOZA_WORKER_NAME or name, root=root)
    _agent.start()
    log.info("worker %s is ready", _agent.worker_id)


def nudge() -> None:
    """Wake this process's agent, if it has one."""
    if _agent is not None:
        _agent.nudge()


def hears() -> bool:
    """Say whether this process's agent hears nudges without Celery."""
    return _agent is not None and _agent.hears


def drain() -> None:
    """Let this process's agent claim nothing more."""
    if _agent is not None:
        _agent.drain()


def stop() -> None:
    """Stop this process's agent; returns when it has left."""
    global _agent
    if _agent is not None:
        _agent.stop()
        _agent = None
        _held_slot.__exit__(None, None, None)

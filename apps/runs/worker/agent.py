"""The part of a worker process that executes runs: one thread that takes turns (turns.take_turn) with Postgres.

Nudges only wake it. Each turn is a heartbeat; it reports what the executors have seen, learns what it must stop, and
claims what fits. Nothing is remembered here that could not be read again: a turn that fails (Postgres is away)
is simply taken again, and offsets move only when it has been committed.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from django import db
from django.conf import settings

from apps.core.nudges import Ear
from apps.core.sql import AWAY
from apps.runs import sweeps, turns
from apps.runs.executors import load
from apps.runs.executors.base import ExecutorFailure, Handle
from apps.runs.models import Run
from apps.runs.pickup.watcher import Watcher
from apps.runs.scheduling import CLAIM_TASK, claim_of
from apps.runs.states import HOLDS_RESOURCES, RunState, WorkerState
from apps.runs.turns import Report
from apps.runs.worker.held import Held, Room, taken_up
from apps.runs.worker.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apps.runs.scheduling import Claim
    from apps.runs.turns import Turn

log = logging.getLogger(__name__)

# How often running ops are asked for log and messages: what a reader sees is at most this late.
LISTEN_SECONDS = 0.25
# Short python runs are claimed ahead of need, so that the children have work while a turn is under way: as many as
# would end in this time, but not more than this many per slot. One that waits for long is given back.
AHEAD_SECONDS = 0.1
AHEAD_PER_SLOT = 3
# What a supervisor may need for SIGKILL and clearing up, beyond the grace.
FORCE_SECONDS = 5.0
# A worker that can't start what it is given (a full disk, no process left) would fail a whole queue in no time: it leaves
# the work to others for so long.
UNFIT_SECONDS = 10.0
# Wait after a turn that failed: Postgres is away or restarting.
PAUSE_SECONDS = 1.0


class Agent:
    """Executes runs for one worker id. Start it once per process."""

    def __init__(
        self, *, worker_id: str, root: Path, instance: str = "", spare_id: str = ""
    ) -> None:
        self._presence = Presence(worker_id=worker_id, instance=instance, spare_id=spare_id)
        self.executors = load(settings.GYOZA_EXECUTORS, root)
        self.held: dict[str, Held] = {}
        self._watcher = Watcher(self._hear)
        self._strays: list[Report] = []
        self._news: set[str] = set()
        self._wake = threading.Event()
        self._drain_until: float | None = None
        self._nudged = False
        self._has_come = False
        self._come_at = 0.0  # when to try (again) to come
        self._usual_seconds = 1.0  # how long python runs took lately
        self._listen_at = 0.0
        self._beat_at = 0.0
        self._claim_at = 0.0
        self._thread = threading.Thread(target=self._run, name="gyoza-agent", daemon=True)
        for executor in self.executors.values():
            executor.on_news = self._hear
        self._ear = Ear({CLAIM_TASK: self.nudge})

    def start(self) -> None:
        """Register the worker, take up what it held before a restart, and begin to claim; as soon as Postgres is there."""
        self._thread.start()
        self._ear.start()

    @property
    def worker_id(self) -> str:
        """The name of the worker, which may be the spare one."""
        return self._presence.worker_id

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
        while not self._is_drained():
            self._wake.wait(self._seconds_to_wait())
            self._wake.clear()
            try:
                if self.tick():
                    self._wake.set()
            except AWAY as exc:
                log.warning("turn failed, taken again in %.0f s: %s", PAUSE_SECONDS, exc)
                self._pause()
            except Exception:
                # The loop must outlive a mistake in one turn: other runs depend on the heartbeat.
                log.exception("turn failed")
                self._pause()
        self._leave()

    def _is_drained(self) -> bool:
        until = self._drain_until
        return until is not None and (not self.held or time.monotonic() >= until)

    def _pause(self) -> None:
        db.connections.close_all()
        time.sleep(PAUSE_SECONDS)
        self._wake.set()

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        if not self._has_come:
            return max(0.0, self._come_at - now)
        until = self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS
        if self.held:
            until = min(until, self._listen_at + LISTEN_SECONDS)
        return max(0.0, until - now)

    def tick(self) -> bool:
        """Come if it has not yet, take one turn if there is a reason to; return whether another should follow at once."""
        now = time.monotonic()
        if not self._has_come:
            if self.held:
                self._collect(now)  # only to bury: whoever lost its name holds nothing any more
            self._has_come = now >= self._come_at and self._come()
            return self._has_come
        reports = [*self._collect(now), *self._strays]
        is_beat = now >= self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS
        if not (reports or is_beat or self._nudged):
            return False
        # Before the turn: what a later nudge announces may be missing in this turn's snapshot.
        self._nudged = False
        self._beat_at = now
        turn, told = self._take_turn(reports)
        # From here on nothing may raise: a claim that is not launched now would wait for ever.
        self._strays.clear()
        for report in told:
            self._settle(report)
        for report in turn.refused:
            self._disown(report.attempt_id)
        self._obey(turn)
        with ExitStack() as together:
            for executor in self.executors.values():
                together.enter_context(executor.together())
            for claim in turn.claims:
                self._launch(claim)
        if is_beat:
            sweeps.sweep_runs()
        if turn.state == WorkerState.LOST:
            self._has_come = self._register()
        has_more = any(held.has_more for held in self.held.values())
        is_free = any(report.ended or report.given_back for report in told)
        return bool(turn.claims) or is_free or has_more

    def _take_turn(self, reports: list[Report]) -> tuple[Turn, list[Report]]:
        """Take a turn and return what was told in it. A report that can't be stored doesn't keep back the others."""
        may_claim = self._drain_until is None and time.monotonic() >= self._claim_at
        limit = settings.GYOZA_WORKER_SLOTS if may_claim else 0
        ahead = self._ahead() if may_claim else 0
        try:
            return self._turn(reports, limit=limit, ahead=ahead), reports
        except AWAY:
            raise
        except Exception:
            if not reports:
                raise
            log.exception("a report can't be stored; they are told one by one")
        told: list[Report] = []
        refused: list[Report] = []
        for report in reports:
            try:
                refused += self._turn([report]).refused
            except AWAY:
                raise
            except Exception as exc:
                log.exception("run %s: the report can't be stored", report.run_id)
                if held := self.held.get(report.attempt_id):
                    held.give_up(exc)
            else:
                told.append(report)
        return replace(self._turn([], limit=limit, ahead=ahead), refused=refused), told

    def _turn(self, reports: list[Report], *, limit: int = 0, ahead: int = 0) -> Turn:
        return turns.take_turn(
            worker_id=self.worker_id,
            instance=self._presence.instance,
            reports=reports,
            limit=limit,
            ahead=ahead,
        )

    def _ahead(self) -> int:
        slots = settings.GYOZA_WORKER_SLOTS
        if self._usual_seconds >= 1:
            return 0
        return min(slots * AHEAD_PER_SLOT, int(slots * AHEAD_SECONDS / self._usual_seconds))

    @contextmanager
    def _about(self, held: Held) -> Iterator[None]:
        """Let a mistake that is about one attempt cost that attempt, and no other."""
        try:
            yield
        except Exception as exc:
            log.exception("run %s can't be followed", held.claim.run_id)
            held.give_up(exc)

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
        room = Room()
        # Whoever had room of late stands behind: one that tells without end leaves some to the others.
        for held in sorted(self.held.values(), key=lambda one: one.told_at):
            is_new = not held.is_reported or held.failure is not None
            if held.is_disowned:
                self._bury(held)
            elif listen or held.id in news or held.has_more or is_new:
                report = self._look(held, room)
                if report is not None:
                    reports.append(report)
        return reports

    def _look(self, held: Held, room: Room) -> Report | None:
        report = None
        with self._about(held):
            report = held.look(room)
        if held.failure is not None:
            report = held.look(room)
        if not held.could_begin:
            log.warning("nothing is claimed for %.0f s: %s", UNFIT_SECONDS, report and report.ended)
            self._claim_at = time.monotonic() + UNFIT_SECONDS
        if held.seconds is not None and held.claim.python is not None:
            self._usual_seconds += 0.2 * (held.seconds - self._usual_seconds)
        return report

    def _settle(self, report: Report) -> None:
        held = self.held.get(report.attempt_id)
        if held is None:
            return  # a stray
        held.settle(report)
        if report.ended is not None or report.given_back:
            self._forget(held)

    # --- what is to be done -------------------------------------------------------------------

    def _obey(self, turn: Turn) -> None:
        mine = {run.attempt_id: run for run in turn.held.values()}
        for one, held in self.held.items():
            if one not in mine:
                self._disown(one)
            elif mine[one].cancel_requested_at is not None and not held.is_stopping:
                self._stop(held)
        for one in mine.keys() - self.held.keys():
            # It was claimed in a turn whose answer was lost on its way, with Postgres or the connection to it.
            run, why = mine[one], "its worker did not hear that it got it"
            self._strays.append(Report(run.id, run.attempt, run.lease, given_back=why))

    def _launch(self, claim: Claim) -> None:
        held = Held(claim, self.executors[claim.executor], launched_at=time.monotonic())
        self.held[held.id] = held
        with self._about(held):
            try:
                held.handle = held.executor.launch(held.spec())
                held.files = self._watcher.begin(claim, held.executor.storage_dir(held.handle))
            except ExecutorFailure as exc:
                held.refuse(exc)

    def _disown(self, one: str) -> None:
        """Stop an op whose run is no longer ours; whatever it still says is of no interest."""
        held = self.held.get(one)
        if held is not None and not held.is_disowned:
            log.warning("run %s was taken away, its op is stopped", held.claim.run_id)
            held.is_disowned = True
            self._stop(held)

    def _bury(self, held: Held) -> None:
        with self._about(held):
            if held.failure is None and not held.has_ended():
                return
        self._forget(held)

    def _stop(self, held: Held) -> None:
        with self._about(held):
            held.stop()

    def _forget(self, held: Held) -> None:
        del self.held[held.id]
        if held.files is not None:
            self._watcher.end(held.files)
        with self._about(held):
            held.forget()

    # --- coming and going ---------------------------------------------------------------------

    def _come(self) -> bool:
        """Register and take up what was held before a restart; return False if the name is another worker's."""
        if not self._register():
            return False
        self._adopt()
        log.info("worker %s is ready", self.worker_id)
        return True

    def _register(self) -> bool:
        is_ours = self._presence.register(self.executors)
        if not is_ours:
            # Nobody else may be there to notice that the other has gone.
            sweeps.sweep_runs()
            self._come_at = time.monotonic() + PAUSE_SECONDS
        return is_ours

    def _adopt(self) -> None:
        """Take up the runs this worker still holds after a restart, and stop what it no longer does."""
        runs = Run.objects.filter(worker_id=self.worker_id, state__in=HOLDS_RESOURCES)
        for run in runs:
            claim = claim_of(run)
            if run.state == RunState.ASSIGNED or run.handle is None:
                # It may have been launched without our having said so: launching again finds it.
                self._launch(claim)
                continue
            handle = Handle.from_dict(run.handle)
            held = taken_up(run, claim, self.executors[claim.executor], handle)
            held.files = self._watcher.begin(claim, held.executor.storage_dir(handle))
            if held.files is not None:
                held.files.recall()
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
        has_left = False
        try:
            while self._say_last_words():
                pass
            self._presence.leave()
            has_left = True
        except AWAY as exc:
            log.warning("could not say good-bye, runs go back when the worker is lost: %s", exc)
        for held in list(self.held.values()):
            # A worker that starts here in time finds what has ended by itself, and tells it.
            if has_left or held.is_disowned or not held.has_ended_itself:
                self._forget(held)
        self._watcher.close()
        for executor in self.executors.values():
            executor.close()
        db.connections.close_all()

    def _say_last_words(self) -> bool:
        """Report what has ended by itself; what we have stopped goes back, with its log. Return if there is more."""
        reports = []
        room = Room()
        for held in self.held.values():
            report = None if held.is_disowned else self._look(held, room)
            if report is not None and report.ended is not None and report.ended.stopped:
                report = replace(report, ended=None, given_back="the worker was shut down")
            if report is not None:
                reports.append(report)
        for report in self._take_turn(reports)[1]:
            self._settle(report)
        return any(held.has_more for held in self.held.values())

    def _alive(self) -> bool:
        alive = False
        for held in self.held.values():
            with self._about(held):
                alive = alive or not held.has_ended() or held.waits_for_files()
        return alive

    def _beat(self) -> None:
        """Stay alive in the eyes of the sweep while ops are ending."""
        now = time.monotonic()
        if now >= self._beat_at + settings.GYOZA_HEARTBEAT_SECONDS:
            self._beat_at = now
            try:
                self._turn([])
            except AWAY as exc:
                log.warning("no heartbeat while leaving: %s", exc)

"""The dispatcher: what messages of topics start (pipelines-storage.md §2).

One for all triggers. A turn locks one trigger, reads after its cursor and commits what it starts together with the
cursor: so each message starts exactly one execution, whoever else dispatches and whenever somebody dies.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import ProgrammingError, transaction

from apps.core import clock, sql
from apps.core.sql import AWAY
from apps.pipelines import queries
from apps.pipelines.execution import advancing, settling, starting
from apps.pipelines.execution.starting import Start
from apps.pipelines.language import documents, filters
from apps.pipelines.triggering import (
    conditions,
    deadletters,
    messages,
    origins,
    stumbles,
    subscriptions,
)
from apps.pipelines.triggering.conditions import Condition
from apps.topics import queries as topics
from apps.topics import services as topic_services

if TYPE_CHECKING:
    from datetime import datetime

    from apps.pipelines.language.plans import Plan, TriggerPlan
    from apps.topics.queries import Stored
    from apps.topics.services import NewEvent

log = logging.getLogger(__name__)
JSON = Any

# Messages of one turn: those looked at, and those that start something; the next turn follows at once.
MOST_READ = 2_000
MOST_STARTED = 250
PAGE = 500
# Messages held at a time, those that were read and those that start something, a message more at most. A batch of
# messages is full with half of it.
MOST_BYTES = 16 * 1024 * 1024
# Executions that wait for their key are made this many ahead, per place a trigger has.
AHEAD = 10


@dataclass(slots=True)
class Dispatched:
    """How many executions were started, which triggers have more to start at once, and which have had a turn."""

    count: int = 0
    more: set[str] = field(default_factory=set)
    turns: set[str | None] = field(default_factory=set)


def dispatch_due() -> Dispatched:
    """Give each trigger that has something to look at one turn.

    One at a time, so that what was started goes on meanwhile: by other triggers, and by those that end.
    """
    done = Dispatched()
    for row in sql.run("pipelines/triggers_due", now=clock.now()).rows:
        try:
            # Brings the topic up to date before the turn: its lock must not be held as long as a turn takes.
            topics.read_after(row["topic"], row["position"], 1)
            turn = _dispatch_or_note(row["pipeline_id"])
            done.count += len(turn.started)
            if turn.more:
                done.more.add(row["pipeline_id"])
            if turn.is_taken:
                done.turns.add(row["pipeline_id"])
        except AWAY:
            raise
        except Exception as exc:
            # One trigger's trouble must not be all triggers'.
            log.exception("the trigger of %s stumbled", row["pipeline_id"])
            stumbles.postpone(row["pipeline_id"], f"{type(exc).__name__}: {exc}")
    return done


def _dispatch_or_note(pipeline_id: str) -> Turn:
    """Give a trigger a turn; a message that makes it fail is found by and by, and given up."""
    try:
        return dispatch(pipeline_id)
    except (*AWAY, ProgrammingError):
        # Nothing of a message's: Postgres is away, or of another release than we are.
        raise
    except Exception as exc:
        log.exception("a turn of the trigger of %s stumbled", pipeline_id)
        return Turn(more=stumbles.note(pipeline_id, f"{type(exc).__name__}: {exc}"))


@dataclass(slots=True)
class Turn:
    """What came of a turn: ids of executions, records to be appended, and whether there is more to do at once.

    It is not taken if another dispatcher is at it, or if it failed.
    """

    started: list[str] = field(default_factory=list)
    records: list[NewEvent] = field(default_factory=list)
    more: bool = False
    is_taken: bool = False


def dispatch(pipeline_id: str) -> Turn:
    """Give one trigger a turn; nothing if another dispatcher is at it.

    Should a first step stumble over a fault of ours, they are left to a turn of their own: nothing may keep back the
    messages.
    """
    try:
        return _take_turn(pipeline_id, with_first_steps=True)
    except AWAY:
        raise
    except Exception:
        log.exception("the executions of %s take their first steps later", pipeline_id)
        return _take_turn(pipeline_id, with_first_steps=False)


def _take_turn(pipeline_id: str, *, with_first_steps: bool) -> Turn:
    with transaction.atomic():
        found = queries.lock_listening(pipeline_id)
        if found is None:
            return Turn()
        # What has ended has made room for what is begun now. Should somebody be queueing an execution at this very moment,
        # who does not see that room, the sweep lets it begin.
        ends = settling.tell_trigger(found.trigger)
        dispatcher = _Dispatch(found, with_first_steps=with_first_steps)
        turn = dispatcher.run()
        found.trigger.save()
        if ends is not None and dispatcher.has_queued:
            starting.release_queued(pipeline_id)
        # The last step: whoever else writes to these topics waits until the end.
        topic_services.append_events([*(ends or []), *turn.records])
    turn.is_taken = True
    return turn


class _Dispatch:
    """One turn of one locked trigger."""

    def __init__(self, found: queries.Listening, *, with_first_steps: bool) -> None:
        self.trigger = found.trigger
        self.with_first_steps = with_first_steps
        self.now = clock.now()
        self.document = found.document
        self.plan: Plan = documents.plan_of(self.document)
        self.rules: TriggerPlan = self.plan.trigger
        self.starts: list[Start] = []
        self.letters: list[deadletters.Letter] = []
        self.held_bytes = 0
        self.caused: dict[
            int, int
        ] = {}  # hops, of what executions have caused without publishing it
        self.has_queued = False
        self.page = PAGE
        self.most_read = stumbles.most_read(self.trigger.stumbles, MOST_READ)

    def run(self) -> Turn:
        trigger = self.trigger
        trigger.wake_at = None
        # What it may start is counted under its lock.
        room = queries.read_room(trigger)
        self.has_queued = room.has_queued
        head = room.head
        if head is None or head.topic_id != trigger.topic_id or trigger.position is None:
            # After the start a topic that appears is new: all of it is for this trigger.
            subscriptions.pin(trigger, start="earliest")
        if trigger.position is None or trigger.topic_id is None:
            return Turn()
        if head is not None and head.largest:
            self.page = min(PAGE, max(1, MOST_BYTES // head.largest))
        if stumbles.is_hopeless(trigger.stumbles):
            return self._give_up()
        places = self._places(room.under_way)
        more = places > 0 and self._take(places)
        records = deadletters.keep(trigger, self.letters)
        trigger.stumbles = stumbles.after_good_turn(trigger.stumbles)
        return Turn(self._begin(records), records, more=more and trigger.wake_at is None)

    def _give_up(self) -> Turn:
        """Make a dead letter of the next message, which nothing can be done with."""
        trigger = self.trigger
        trigger.stumbles = 0
        page = topics.read_after(trigger.topic, int(trigger.position or 0), 1)
        if page is None or not page.records:
            return Turn()
        record = page.records[0]
        text = messages.text_of(trigger.topic, record)
        to = self.rules.dead_letter if messages.can_be_read(text) else None
        letter = deadletters.Letter(to, record.seq, text, trigger.last_error, stumbles.ATTEMPTS)
        self._settle(record.seq, 1)
        return Turn(records=deadletters.keep(trigger, [letter]), more=True)

    def _begin(self, records: list[NewEvent]) -> list[str]:
        """Store what is started, with its first steps taken; return the ids."""
        trigger = self.trigger
        # One that was stopped and started from the beginning comes by what it has started before.
        seqs = [one.source_seq for one in self.starts if one.source_seq is not None]
        known = queries.seqs_started(trigger, seqs) if seqs else set()
        starts = [one for one in self.starts if one.source_seq not in known]
        if not starts:
            return []
        together = starting.prepare(starts, source=trigger)
        if self.with_first_steps:
            advancing.advance_new(together)
        starting.store(together)
        records += [event for moves in together for event in moves.events]
        trigger.started += len(together)
        trigger.last_execution_id = together[-1].execution.id
        return [str(moves.execution.id) for moves in together]

    # --- how much -----------------------------------------------------------------------------

    def _places(self, under_way: int) -> int:
        """Return how many executions may be started now."""
        rules = self.rules
        most = rules.max_concurrency * (AHEAD if rules.key is not None else 1)
        places = most - under_way
        return places if rules.rate_limit is None else min(places, self._left_in_window())

    def _left_in_window(self) -> int:
        """Return how many the rate limit still allows; if none, note when it will."""
        trigger, limit = self.trigger, self.rules.rate_limit
        if limit is None:
            return 0
        window = timedelta(seconds=limit.seconds)
        if trigger.window_at is None or trigger.window_at + window <= self.now:
            trigger.window_at, trigger.window_count = self.now, 0
        left = limit.count - trigger.window_count
        if left <= 0:
            self._wake_at(trigger.window_at + window)
        return left

    def _wake_at(self, moment: datetime) -> None:
        trigger = self.trigger
        trigger.wake_at = moment if trigger.wake_at is None else min(trigger.wake_at, moment)

    # --- what ---------------------------------------------------------------------------------

    def _take(self, room: int) -> bool:
        """Read messages until the room is used up or there are none; return whether there may be more."""
        trigger = self.trigger
        looked_at = 0
        pending: list[tuple[Stored, str]] = []
        position = int(trigger.position or 0)
        looks = bool(self.rules.filters) or self.rules.key is not None
        while looked_at < self.most_read:
            if not pending and self._is_full(room):
                return self._stop(room, position, looked_at)
            page = topics.read_after(trigger.topic, position, self._page_size(room, looked_at))
            if page is None:
                break
            if page.gap is not None and page.gap.reason != "recreated":
                lost = f"{page.gap.missed_estimate} messages before {page.gap.gap_to + 1} were lost: {page.gap.reason}"
                trigger.last_error = lost
                conditions.set_condition(
                    trigger, Condition.CURSOR_PINNED, True, "MessagesLost", lost
                )
            self.caused |= origins.hops_by_seq(trigger.topic, page.records)
            for record in page.records:
                if not pending and self._is_full(room):
                    return self._stop(room, position, looked_at)
                position = record.seq
                looked_at += 1
                text = messages.text_of(trigger.topic, record)
                # One that nobody looks into needn't be read.
                message = msgspec.json.decode(text) if looks or record.meta is not None else {}
                if not self._is_wanted(record, text, message):
                    continue
                if self.rules.batch is None:
                    self._start(record, text, message)
                else:
                    pending.append((record, text))
                    size = sum(len(one) for _, one in pending)
                    if len(pending) == self.rules.batch.max or size > MOST_BYTES // 2:
                        self._start_batch(pending)
                        pending = []
            if not page.has_more:
                # What was deleted behind the last record is passed over with it.
                position = max(position, page.next_after)
                break
        if pending:
            position = self._end_of_batch(pending, position)
        self._settle(position, looked_at)
        return looked_at >= self.most_read

    def _page_size(self, room: int, looked_at: int) -> int:
        """Return how many messages are worth reading: those that are filtered need no room."""
        most = min(self.page, self.most_read - looked_at)
        if self.rules.filters or self.rules.batch is not None:
            return most
        return max(1, min(most, min(room, MOST_STARTED) - len(self.starts)))

    def _is_full(self, room: int) -> bool:
        return len(self.starts) >= min(room, MOST_STARTED) or self.held_bytes >= MOST_BYTES

    def _stop(self, room: int, position: int, looked_at: int) -> bool:
        """Leave what is behind the cursor to later turns; return whether one is to follow at once."""
        self._settle(position, looked_at)
        # Without room, the next turn is when something has ended, or the window has.
        self._left_in_window()
        return len(self.starts) < room

    def _settle(self, position: int, looked_at: int) -> None:
        self.trigger.position = position
        self.trigger.received += looked_at
        if looked_at:
            self.trigger.last_event_at = self.now

    def _is_wanted(self, record: Stored, text: str, message: JSON) -> bool:
        """Say whether a message is to start something."""
        if filters.refusal(self.rules.filters, message) is not None:
            self.trigger.filtered += 1
            return False
        if self._hops_of(record, message) >= messages.MOST_HOPS:
            self.held_bytes += len(text)
            self.letters.append(
                deadletters.Letter(self.rules.dead_letter, record.seq, text, "loop", attempts=0)
            )
            return False
        return True

    def _start(self, record: Stored, text: str, message: JSON) -> None:
        key = None
        if self.rules.key is not None:
            # Everything has a key: what lacks the field shares one.
            key = msgspec.json.encode(filters.field_of(message, self.rules.key)).decode()
        self._add(record.seq, text, self._hops_of(record, message), key)

    def _hops_of(self, record: Stored, message: JSON) -> int:
        return max(messages.hops_of(message), self.caused.get(record.seq, 0))

    def _start_batch(self, pending: list[tuple[Stored, str]]) -> None:
        texts = [text for _, text in pending]
        hops = max(self._hops_of(one, msgspec.json.decode(text)) for one, text in pending)
        self._add(pending[-1][0].seq, messages.batch_text(texts), hops, None)

    def _end_of_batch(self, pending: list[tuple[Stored, str]], position: int) -> int:
        """Start a batch that is not full if its first message has waited long enough; else leave it for later."""
        batch = self.rules.batch
        assert batch is not None  # noqa: S101 - for the type checker
        first = pending[0][0]
        due_ms = first.ts + batch.wait_ms
        now_ms = clock.milliseconds(self.now)
        if due_ms <= now_ms or self.trigger.stumbles:
            self._start_batch(pending)
            return position
        self._wake_at(self.now + timedelta(milliseconds=due_ms - now_ms))
        # Looked at again then: counted once, when they are taken.
        left = len(pending)
        self.trigger.received -= left
        return first.seq - 1

    def _add(self, seq: int, text: str, hops: int, key: str | None) -> None:
        self.trigger.window_count += 1
        self.held_bytes += len(text)
        self.starts.append(
            Start(
                pipeline_id=self.trigger.pipeline_id,
                version=self.trigger.version,
                document=self.document,
                created_by=self.trigger.created_by,
                prefixes=tuple(self.trigger.prefixes),
                trigger=text,
                hops=hops,
                source_topic_id=self.trigger.topic_id,
                source_seq=seq,
                source_key=key,
            )
        )

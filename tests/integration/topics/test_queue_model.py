"""A queue against a small model, with a clock that is moved (topics v0 §18)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.core import asyncdb
from apps.core.sse import hub
from apps.topics import predicates, services
from apps.topics.config import TopicConfig
from apps.topics.models import Topic
from apps.topics.queues import passes, queries
from apps.topics.queues import services as queue_services
from apps.topics.queues.orders import Ack, Claim, Extend, Nack
from apps.topics.services import NewEvent, append_events
from tests.integration.topics.queue_state import assert_sound

START = datetime(2026, 1, 1, tzinfo=UTC)
NODES = st.sampled_from([b"a", b"b"])
LEASES = st.sampled_from([100, 1000, 30_000])


@dataclass
class ModelJob:
    """A job as the specification speaks of it."""

    tag: str
    deliveries: int = 0
    holder: tuple[bytes, int] | None = None
    until: int = 0
    is_delayed: bool = False


class Model:
    """Live jobs by seq, what has lingered of deleted ones, and the two counters that only rise."""

    def __init__(self, exhausted_at: int | None) -> None:
        self.exhausted_at = exhausted_at
        self.now = int(START.timestamp() * 1000)
        self.jobs: dict[int, ModelJob] = {}
        self.lingering: dict[int, ModelJob] = {}
        self.head = self.last_lease = self.dead = 0
        self.is_paused = False

    def is_held(self, job: ModelJob) -> bool:
        return job.holder is not None and self.now <= job.until

    def is_waiting(self, job: ModelJob) -> bool:
        return job.is_delayed and self.now < job.until

    def claimable(self) -> list[int]:
        free = [s for s, j in self.jobs.items() if not self.is_held(j) and not self.is_waiting(j)]
        return sorted(free, key=lambda seq: (self.jobs[seq].deliveries == 0, seq))

    def claim(self, node: bytes, most: int, lease_ms: int) -> list[tuple[int, int, int]]:
        given: list[tuple[int, int, int]] = []
        for seq in [] if self.is_paused else self.claimable():
            if len(given) == most:
                break
            job = self.jobs[seq]
            if self.exhausted_at is not None and job.deliveries >= self.exhausted_at:
                del self.jobs[seq]
                self.dead += 1
                continue
            given.append((seq, job.deliveries + 1, 0))
        ordered = sorted(given)
        for place, (seq, deliveries, _) in enumerate(ordered, 1):
            lease = self.last_lease + place
            ordered[place - 1] = (seq, deliveries, lease)
            tag = self.jobs[seq].tag
            self.jobs[seq] = ModelJob(tag, deliveries, (node, lease), self.now + lease_ms)
        self.last_lease += len(ordered)
        return ordered

    def held_by(self, seq: int, node: bytes, lease: int) -> ModelJob | None:
        job = self.jobs.get(seq) or self.lingering.get(seq)
        if job is None or job.holder is None or not self.is_held(job):
            return None
        return job if job.holder[0] == node and lease in (0, job.holder[1]) else None

    def delete(self, seqs: list[int]) -> None:
        for seq in seqs:
            job = self.jobs.pop(seq)
            if self.is_held(job):
                self.lingering[seq] = job


class QueueMachine(RuleBasedStateMachine):
    """Does the same to a queue and to the model."""

    @initialize(
        exhausted_at=st.sampled_from([None, None, 2, 4]),
        durability=st.sampled_from(["disk", "fsync"]),
    )
    def open(self, exhausted_at: int | None, durability: Any) -> None:
        self.name = f"q-{uuid4().hex}"
        self.model = Model(exhausted_at)
        self.loop = asyncio.new_event_loop()
        self.travel = time_machine.travel(START, tick=False)
        self.clock = self.travel.start()
        config = TopicConfig(
            kind="queue",
            durability=durability,
            max_deliveries=exhausted_at or 0,
            dead_letter=None if exhausted_at is None else f"dead-{self.name}",
        )
        services.configure_topic(topic=self.name, wanted=config, caller="test")
        self.put(3, "x")
        self.put(3, "y")

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.travel.stop()
            self.loop.run_until_complete(self._close())
            self.loop.close()

    async def _close(self) -> None:
        await hub.current().close()
        await asyncdb.close()

    def carry_out(self, order: Any) -> Any:
        outcomes, _ = self.loop.run_until_complete(passes.carry_out(self.name, [order]))
        return outcomes[order]

    @rule(count=st.integers(1, 4), tag=st.sampled_from(["x", "y"]))
    def put(self, count: int, tag: str) -> None:
        append_events([NewEvent(self.name, "1", tag=tag)] * count)
        for _ in range(count):
            self.model.head += 1
            self.model.jobs[self.model.head] = ModelJob(tag)

    @rule(node=NODES, most=st.integers(1, 5), lease_ms=LEASES)
    def claim_and_wait(self, node: bytes, most: int, lease_ms: int) -> None:
        """To the very end of the leases, which is theirs still, or a millisecond more."""
        self.claim(node, most, lease_ms)
        self.counters_agree()
        self.wait(lease_ms)
        self.counters_agree()
        if most > 2:
            self.wait(1)

    @rule(node=NODES, most=st.integers(1, 5), lease_ms=LEASES)
    def claim(self, node: bytes, most: int, lease_ms: int) -> None:
        claimed = self.carry_out(Claim(node, most, lease_ms))
        expected = self.model.claim(node, most, lease_ms)
        assert [(job.seq, job.lease) for job in claimed.jobs] == [(s, n) for s, _, n in expected]
        for job, (_, deliveries, _) in zip(claimed.jobs, expected, strict=True):
            assert job.deadline == self.model.now + lease_ms
            assert b'"deliveries":%d,' % deliveries in job.members

    @rule(
        verb=st.sampled_from(["ack", "nack", "extend"]),
        node=NODES,
        delay_ms=st.sampled_from([0, 500]),
        lease_ms=LEASES,
        data=st.data(),
    )
    def decide(self, verb: str, node: bytes, delay_ms: int, lease_ms: int, data: Any) -> None:
        model = self.model
        known = [*model.jobs, *model.lingering]
        held = [seq for seq in known if model.held_by(seq, node, 0)]
        pool = held * 4 + known + [model.head + 1]
        seqs = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5))
        leases = []
        for seq in seqs:
            job = model.jobs.get(seq) or model.lingering.get(seq)
            now = job.holder[1] if job is not None and job.holder is not None else 0
            leases.append(data.draw(st.sampled_from([0, now, now, now + 1])))
        if verb == "ack":
            outcome = self.carry_out(Ack(node, seqs, leases))
        elif verb == "nack":
            outcome = self.carry_out(Nack(node, seqs, leases, delay_ms))
        else:
            outcome = self.carry_out(Extend(node, seqs, leases, lease_ms))
        done: list[int] = []
        for seq, lease in zip(seqs, leases, strict=True):
            job = model.held_by(seq, node, lease)
            if job is None or seq in done:
                continue
            done.append(seq)
            if verb == "extend":
                job.until = model.now + lease_ms
                continue
            job.holder = None
            model.lingering.pop(seq, None)
            if verb == "ack":
                model.jobs.pop(seq, None)
            elif delay_ms:
                job.is_delayed, job.until = True, model.now + delay_ms
        assert outcome.done == done
        assert sorted(outcome.done + outcome.skipped) == sorted(seqs)

    @rule(ms=st.sampled_from([1, 99, 101, 400, 1001, 31_000]))
    def wait(self, ms: int) -> None:
        self.model.now += ms
        self.clock.shift(timedelta(milliseconds=ms))

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def delete_before(self, data: Any) -> None:
        before = data.draw(st.sampled_from(sorted(self.model.jobs)))
        services.delete_records(topic=self.name, before_seq=before, caller="test")
        self.model.delete([seq for seq in self.model.jobs if seq < before])

    @rule()
    def delete_tagged(self) -> None:
        match = predicates.parse("y")
        services.delete_records(topic=self.name, match=match, caller="test")
        self.model.delete([seq for seq, job in self.model.jobs.items() if job.tag == "y"])

    @rule()
    def pause(self) -> None:
        queue_services.pause_queue(name=self.name, caller="test")
        self.model.is_paused = True
        self.claim(b"a", 5, 1000)
        queue_services.resume_queue(name=self.name, caller="test")
        self.model.is_paused = False

    @invariant()
    def counters_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        topic = Topic.objects.get(name=self.name)
        counters = self.loop.run_until_complete(queries.queue_counters({topic.pk: topic.count}))
        told, model = counters[topic.pk], self.model
        assert topic.count == len(model.jobs)
        assert told.in_flight == sum(map(model.is_held, model.jobs.values()))
        assert told.delayed == sum(map(model.is_waiting, model.jobs.values()))
        assert told.ready == len(model.claimable())
        assert told.dead_lettered == model.dead
        assert told.ready + told.in_flight + told.delayed == topic.count
        assert_sound(self.name)


@pytest.mark.django_db(transaction=True)
def test_a_queue_does_what_the_model_does():
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

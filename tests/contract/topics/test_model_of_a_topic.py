"""One topic under random commands, compared with its model after each: topics v0 §2.10, §6, §8, §11–§15."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.contract.topics.conftest import refused
from tests.contract.topics.log_model import Log
from tests.contract.topics.test_06_config import DEFAULTS

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

# Enough to find what an edit breaks; to look for more, raise it.
EXAMPLES = 40
NAMES = count()
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)

tags = st.sampled_from([None, "", "a", "ab", "b", "b*", "ü\0"])
nodes = st.sampled_from([None, "n", "m"])
records = st.lists(
    st.fixed_dictionaries({"data": st.text("xy", max_size=12), "tag": tags, "node": nodes}),
    min_size=1,
    max_size=8,
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "ttl_ms": st.sampled_from([0, 50, 100, 1_000, 2**64 - 1]),
        "cap_records": st.sampled_from([0, 1, 3, 10, 2**64 - 1]),
        "cap_bytes": st.sampled_from([0, 5, 40, 2**64 - 1]),
        "discard": st.sampled_from(["old", "reject"]),
        "durability": st.sampled_from(["ephemeral", "memory", "disk", "fsync"]),
        "dedupe_node": st.booleans(),
        "idempotency_window_ms": st.sampled_from([0, 100, 120_000]),
    },
)
seqs = st.one_of(st.integers(0, 40), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]))
matches = st.sampled_from(["a", "a*", "*", "", "b*", "ü\0", "none", ["tag", "Eq", "b*"]])


class Topic(RuleBasedStateMachine):
    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api
        self.path = f"/v0/topics/model-{next(NAMES)}"
        self.log: Log | None = None
        self.travel = time_machine.travel(BEGIN, tick=False)
        self.clock = self.travel.start()

    def teardown(self) -> None:
        self.look()
        self.travel.stop()

    @property
    def now(self) -> int:
        return int(datetime.now(UTC).timestamp() * 1000)

    @property
    def known(self) -> Log:
        assert self.log is not None
        return self.log

    @rule(milliseconds=st.sampled_from([1, 50, 100, 101, 1_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.shift(milliseconds / 1000)

    @initialize(config=configs)
    def begin(self, config: Any) -> None:
        self.configure(config)

    @precondition(lambda self: self.log is not None and self.log.live)
    @rule(config=configs)
    def reconfigure(self, config: Any) -> None:
        self.configure(config)

    def configure(self, config: Any) -> None:
        answer = self.api.put(self.path, config)
        assert answer.status_code == (200 if self.log else 201)
        kept = {**DEFAULTS, **config}
        kept["durable"] = kept["durability"] == "fsync"
        assert answer.json()["config"] == kept
        self.log = self.log or Log(kept)
        self.log.config = kept
        self.log.settle(self.now)

    @rule(batch=records, key=st.sampled_from([None, None, "k", "l"]))
    def append(self, batch: Any, key: str | None) -> None:
        answer = self.api.post(self.path, {"records": batch, "idempotency_key": key})
        is_new = self.log is None
        self.log = self.log or Log(DEFAULTS)
        expected = self.log.append(batch, key, self.now)
        if isinstance(expected[1], str):
            refused(answer, *expected)
            return
        found = answer.json()
        assert (found["first_seq"], found["last_seq"], found["deduped"]) == expected
        assert (answer.status_code, found["created"]) == (201 if is_new else 200, is_new)

    @precondition(lambda self: self.log is None or self.log.head > 0)
    @rule(
        after=seqs,
        limit=st.sampled_from([0, 1, 2, 5]),
        hidden=st.sampled_from([[], ["n"], ["n", "m"]]),
        budget=st.sampled_from([0, 1, 20, 60]),
    )
    def diff(self, after: int, limit: int, hidden: list[str], budget: int) -> None:
        asked = {"from_seq": after, "limit": limit, "node": hidden, "max_batch_bytes": budget}
        answer = self.api.post(f"{self.path}/diff", {**asked, "include_tags": True})
        if self.log is None:
            refused(answer, 404, "topic_not_found")
            return
        page = answer.json()
        gap, found, following = self.log.diff(
            after, limit or 256, hidden, budget or 2**20, self.now
        )
        told = page["tombstone"] and tuple(
            page["tombstone"][name] for name in ("gap_from", "gap_to", "reason")
        )
        assert told == gap
        got = [
            (r["$seq"], r["$ts"], r["data"], r.get("$tag"), r.get("$node")) for r in page["records"]
        ]
        assert got == [(r.seq, r.ts, r.data, r.tag, r.node) for r in found]
        log = self.log
        marks = (following, log.head, log.earliest, following == log.head, log.head - following)
        names = ("next_from_seq", "head_seq", "earliest_seq", "caught_up", "lag")
        assert tuple(page[name] for name in names) == marks

    @precondition(lambda self: self.log is not None and self.log.live)
    @rule(before=seqs)
    def delete_before(self, before: int) -> None:
        gone = self.known.delete(self.now, lambda record: record.seq < before)
        self._deleted({"before_seq": before}, gone)

    @precondition(lambda self: self.log is not None and self.log.live)
    @rule(match=matches, before=st.one_of(st.none(), seqs))
    def delete_by_tag(self, match: Any, before: int | None) -> None:
        text = match if isinstance(match, str) else match[2]
        is_prefix = isinstance(match, str) and text.endswith("*")

        def has_tag(record: Any) -> bool:
            if record.tag is None:
                return False
            return bool(record.tag.startswith(text[:-1]) if is_prefix else record.tag == text)

        gone = self.known.delete(
            self.now, has_tag, lambda record: before is None or record.seq < before
        )
        self._deleted({"match": match, "before_seq": before}, gone)

    def _deleted(self, body: Any, gone: int) -> None:
        found = self.api.post(f"{self.path}/delete", body).json()
        log = self.known
        marks = (gone, log.earliest, log.head, len(log.live), log.bytes)
        names = ("deleted", "earliest_seq", "head_seq", "count", "bytes")
        assert tuple(found[name] for name in names) == marks

    # Only a topic with a past is worth deleting.
    @precondition(lambda self: self.log is None or self.log.head > 20)
    @rule(if_empty=st.booleans())
    def delete_topic(self, if_empty: bool) -> None:
        answer = self.api.delete(f"{self.path}?if_empty={str(if_empty).lower()}")
        if self.log is not None and if_empty:
            self.log.settle(self.now)
            if self.log.live:
                assert refused(answer, 409, "topic_not_empty")["count"] == len(self.log.live)
                return
        assert answer.json()["deleted"] == (self.log is not None)
        self.log = None

    @rule()
    def look(self) -> None:
        answer = self.api.get(self.path)
        if self.log is None:
            refused(answer, 404, "topic_not_found")
            return
        found, log = answer.json(), self.log
        log.settle(self.now)
        marks = (log.head, log.earliest, log.head + 1, len(log.live), log.bytes)
        names = ("head_seq", "earliest_seq", "next_seq", "count", "bytes")
        assert tuple(found[name] for name in names) == marks


def test_a_topic_is_what_its_model_says(api: Api):
    run_state_machine_as_test(
        lambda: Topic(api),  # type: ignore[arg-type]  # anything that makes one
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

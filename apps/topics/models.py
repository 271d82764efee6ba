"""The event log: topics, their records, and the idempotency keys of writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

from apps.topics.keeping.tally import TopicTally
from apps.topics.queues.models import Job, Queue, WaitingClaim
from apps.topics.states import Discard, Durability, Guarantee, RecordKind, TopicKind

if TYPE_CHECKING:
    from decimal import Decimal

    _U64 = models.DecimalField[Decimal | int, int]
else:
    _U64 = models.DecimalField

# Django looks for the models of an app here.
__all__ = [
    "DeletedTopic",
    "Event",
    "Gap",
    "IdempotencyKey",
    "Job",
    "Queue",
    "QueueTopic",
    "Remains",
    "Router",
    "Topic",
    "TopicTally",
    "Unsigned64Field",
    "WaitingClaim",
    "WatchSession",
]


class Unsigned64Field(_U64):
    """An integer in 0 … 2^64−1; bigint holds half of that (topics v0 Appendix B.6)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "max_digits": 20, "decimal_places": 0})

    def from_db_value(self, value: Decimal | None, *_: object) -> int | None:
        return None if value is None else int(value)


class Topic(models.Model):
    """A named append-only log. The row is its counter, its lock and its retention state in one.

    `id` names the incarnation: a topic deleted and created again has another. Whoever appends holds this row's lock
    until commit, so that commit order is seq order; nobody may hold it while doing anything else.
    """

    # Bytewise order and prefix tests everywhere (Appendix B.5).
    name = models.TextField(db_collation="C")

    # Config (§6), all of it with database defaults, because appends create topics in SQL.
    kind = models.TextField(
        choices=[(kind, kind.capitalize()) for kind in TopicKind], db_default=TopicKind.LOG
    )
    ttl_ms = Unsigned64Field(db_default=0, help_text="0 = never expire.")
    cap_records = Unsigned64Field(db_default=0, help_text="0 = no limit.")
    cap_bytes = Unsigned64Field(db_default=0, help_text="0 = no limit.")
    discard = models.TextField(
        choices=[(discard, discard.capitalize()) for discard in Discard], db_default=Discard.OLD
    )
    durability = models.TextField(
        choices=[(durability, durability.capitalize()) for durability in Durability],
        db_default=Durability.DISK,
    )
    priority = models.IntegerField(null=True, blank=True)
    auto_priority = models.BooleanField(db_default=True)
    auto_create = models.BooleanField(db_default=True)
    idempotency_window_ms = Unsigned64Field(db_default=120_000)
    dedupe_node = models.BooleanField(db_default=True)
    lease_ms = models.BigIntegerField(db_default=30_000)
    claim_jitter_ms = models.IntegerField(db_default=0)
    max_deliveries = Unsigned64Field(db_default=0, help_text="0 = unlimited.")
    dead_letter = models.TextField(null=True, blank=True)
    leases_durable = models.BooleanField(db_default=False)

    # Watermarks (§8.1).
    head = models.BigIntegerField(db_default=0, help_text="Newest seq; 0 when nothing was written.")
    reserved = models.BigIntegerField(
        db_default=0,
        help_text="Seqs up to here may have been acknowledged without waiting for the disk.",
    )
    cap_floor = models.BigIntegerField(db_default=0, help_text="C: newest seq lost to a cap.")
    ttl_floor = models.BigIntegerField(db_default=0, help_text="T: newest seq lost to age.")
    source_floor = models.BigIntegerField(
        db_default=0, help_text="S: newest seq that a router's source lost first."
    )
    earliest = models.BigIntegerField(db_default=1, help_text="Oldest live seq, else head + 1.")
    swept = models.BigIntegerField(
        db_default=1, help_text="Records below this seq have been removed from the disk."
    )
    earliest_ts = models.BigIntegerField(
        null=True, help_text="When the oldest live record was written, in ms; tells if age is due."
    )
    count = models.BigIntegerField(db_default=0, help_text="Live records.")
    bytes = models.BigIntegerField(db_default=0, help_text="Their size (§7.4).")

    written = models.BigIntegerField(
        db_default=0, help_text="Bytes of all records that were ever written."
    )
    largest = models.IntegerField(
        db_default=0,
        help_text="Most bytes a record ever had; tells if a page can outgrow its budget.",
    )

    has_listeners = models.BooleanField(
        db_default=False, help_text="A router or a follower reads this topic: appends wake it."
    )
    is_followed = models.BooleanField(
        db_default=False, help_text="Something outside of the log reads it: an event trigger."
    )
    is_fed = models.BooleanField(
        db_default=False, help_text="A router copies into this topic: reads wait for its copies."
    )
    has_gaps = models.BooleanField(
        db_default=False, help_text="Seqs between live records were lost: see `Gap`."
    )
    created_at = models.DateTimeField(db_default=Now())
    last_write_ts = models.BigIntegerField(null=True, help_text="In ms; never goes back.")
    last_read_ts = models.BigIntegerField(null=True, help_text="In ms, written lazily.")
    last_consumed_ts = models.BigIntegerField(null=True, help_text="The priority clock (§10).")

    class Meta:
        constraints = [
            # append, every read: by name.
            # Not `unique=True`: that would add a second index for LIKE, which COLLATE "C" already serves.
            models.UniqueConstraint(fields=["name"], name="topic_once_per_name"),
            models.CheckConstraint(
                name="topic_kind_known", condition=Q(kind__in=[str(kind) for kind in TopicKind])
            ),
            models.CheckConstraint(
                name="topic_discard_known", condition=Q(discard__in=[str(item) for item in Discard])
            ),
            models.CheckConstraint(
                name="topic_durability_known",
                condition=Q(durability__in=[str(item) for item in Durability]),
            ),
            # §8.1: L < earliest ≤ head + 1, and an empty live set has neither records nor bytes.
            models.CheckConstraint(
                name="topic_floors_below_earliest",
                condition=Q(
                    cap_floor__lt=F("earliest"),
                    ttl_floor__lt=F("earliest"),
                    source_floor__lt=F("earliest"),
                    earliest__lte=F("head") + 1,
                ),
            ),
            models.CheckConstraint(
                name="topic_counters_agree",
                condition=Q(count=0, bytes=0, earliest=F("head") + 1)
                | Q(count__gt=0, bytes__gt=0, earliest_ts__isnull=False),
            ),
        ]
        # No index on what changes with appends, acks and evictions: each of them would have to write to all indexes.

    def __str__(self) -> str:
        return self.name

    @property
    def durable(self) -> bool:
        return self.durability == Durability.FSYNC

    @property
    def floor(self) -> int:
        """L: everything at or below it was lost without anyone asking."""
        return max(self.cap_floor, self.ttl_floor, self.source_floor)


class DeletedTopic(models.Model):
    """A topic that was deleted while its records and keys are still on disk; the sweep removes them, then this row.

    Its `id` is the topic's: the next topic of this name has another, and so never sees them.
    """

    id = models.BigIntegerField(primary_key=True)
    name = models.TextField(db_collation="C")
    head = models.BigIntegerField(help_text="Newest seq it had.")
    deleted_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """One record. `data` and `meta` are the client's own JSON text, byte for byte.

    Built for a hundred million rows: 64 bytes of fixed cost, columns ordered so that nothing is padded, and one
    B-tree. Partitioned by `id` into segments, which the sweep drops when nothing in them is live (ADR 0023). JSON text
    is `text`: U+0000 can only be in it as an escape, so nothing is lost, a page of records is joined in Postgres twice
    as fast as from bytea, and it is stored half as fast again as json, which parses it once more.
    """

    pk = models.CompositePrimaryKey("topic_id", "seq")
    # In insertion order over all topics, until the sweep moves the record. Indexed as BRIN: kilobytes.
    # NOT commit order: only (topic, seq) is a cursor that misses nothing.
    id = models.BigIntegerField(
        db_default=Func(Value("topics_event_id_seq"), function="nextval"), editable=False
    )
    seq = models.BigIntegerField()
    ts = models.BigIntegerField(
        help_text="Milliseconds since the Unix epoch; never falls with seq."
    )
    # No constraint: the append holds the topic's lock, and checking every row again costs more than inserting it.
    # Deleting a topic leaves its records to the sweep.
    topic = models.ForeignKey(
        Topic, models.DO_NOTHING, related_name="events", db_index=False, db_constraint=False
    )
    total = models.BigIntegerField(
        help_text="Bytes of the topic up to here, whatever was deleted since: differences are the bytes of ranges."
    )
    size = models.IntegerField(help_text="Length of compact data and meta (§7.4).")
    kind = models.SmallIntegerField(db_default=RecordKind.MESSAGE)
    # As inside a JSON string (`batch.escape`): any text fits, U+0000 too, and goes into answers as it is. Equality and
    # prefixes are those of the original, since every character has one spelling.
    tag = models.TextField(null=True, db_collation="C")
    node = models.TextField(null=True, db_collation="C")
    data = models.TextField()
    meta = models.TextField(null=True)
    # Null for what was written here, which costs nothing. Told from the present routers it would be wrong once one of
    # them is replaced.
    trail = models.TextField(
        null=True, help_text="Ids of the topics a copy came through, oldest first (§16.7, ★29)."
    )

    topic_id: int

    class Meta:
        indexes = [
            # The console's feed over all topics.
            BrinIndex(fields=["id"], name="event_by_id", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.topic_id}@{self.seq}"


class IdempotencyKey(models.Model):
    """A write that was made under a key (§2.10), stored in the transaction that made it."""

    pk = models.CompositePrimaryKey("topic_id", "key")
    topic = models.ForeignKey(
        Topic, models.DO_NOTHING, related_name="keys", db_index=False, db_constraint=False
    )
    key = models.BinaryField()
    created_ts = models.BigIntegerField(help_text="In ms; judged with the topic's present window.")
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()

    topic_id: int

    class Meta:
        indexes = [
            # delete_expired_keys: windows differ by topic.
            models.Index(fields=["topic_id", "created_ts"], name="idempotency_key_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.topic_id} {bytes(self.key)!r}"


class Remains(models.Model):
    """Records of a topic that nobody can read any more, from `first` to before `below`, and that may still be on disk.

    When they are due, the sweep deletes what has not been dropped with its segment by then. They outlive their topic.
    """

    topic_id = models.BigIntegerField(primary_key=True)
    first = models.BigIntegerField()
    below = models.BigIntegerField()
    due_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "remains"

    def __str__(self) -> str:
        return f"{self.topic_id} below {self.below}"


class Router(models.Model):
    """Copies each new record of one topic into another (§16). Its row's lock is the turn to do so."""

    name = models.TextField(db_collation="C")
    # Restrained by the database: a topic goes after its routers, in one transaction.
    source = models.ForeignKey(Topic, models.DO_NOTHING, related_name="routers_from")
    dest = models.ForeignKey(Topic, models.DO_NOTHING, related_name="routers_into")
    preserve_node = models.BooleanField(default=True)
    preserve_tag = models.BooleanField(default=True)
    # A tag predicate, escaped as tags are; null = every record.
    filter_text = models.TextField(null=True, db_collation="C")
    filter_is_prefix = models.BooleanField(default=False)
    allow_cycle = models.BooleanField(default=False)
    guarantee = models.TextField(
        choices=[(guarantee, guarantee.replace("_", " ").capitalize()) for guarantee in Guarantee],
        default=Guarantee.AT_LEAST_ONCE,
    )
    position = models.BigIntegerField(
        help_text="Newest seq of the source that is dealt with. Moves in the transaction that copies."
    )
    forwarded_total = models.BigIntegerField(
        default=0, help_text="Copies made, and records that the source lost before (§16.2)."
    )
    lost_hops = models.IntegerField(
        db_default=0, help_text="Routers that the newest loss it told of has come through."
    )
    is_paused = models.BooleanField(
        db_default=False, help_text="An operator holds it; what it has not copied waits."
    )
    created_at = models.DateTimeField(db_default=Now())

    source_id: int
    dest_id: int

    class Meta:
        constraints = [
            # by name: GET, PUT, DELETE, and the list in name order.
            models.UniqueConstraint(fields=["name"], name="router_once_per_name"),
            models.CheckConstraint(
                name="router_guarantee_known",
                condition=Q(guarantee__in=[str(item) for item in Guarantee]),
            ),
            models.CheckConstraint(name="router_goes_elsewhere", condition=~Q(source=F("dest"))),
        ]

    def __str__(self) -> str:
        return self.name


class Gap(models.Model):
    """Seqs of a topic whose records a router's source had lost before they could be copied (§16.6).

    Where older live records stand below it, a floor can't tell (★28). Below `earliest` it counts as part of the floor.
    """

    pk = models.CompositePrimaryKey("topic_id", "last_seq")
    topic = models.ForeignKey(
        Topic, models.DO_NOTHING, related_name="gaps", db_index=False, db_constraint=False
    )
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()

    topic_id: int

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="gap_is_a_range", condition=Q(first_seq__lte=F("last_seq"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic_id} {self.first_seq}…{self.last_seq}"


class WatchSession(models.Model):
    """A subscription to several topics, and how far it was told (§17); whichever process has a stream open on it.

    Positions are written down lazily while a stream is open, and exactly when it ends. A stream that ended unseen, with
    its process, stays counted in `streams`: then the client knows better than the row where it stands.
    """

    wid = models.TextField(primary_key=True, db_collation="C")
    key_id = models.UUIDField(null=True, help_text="Whose it is; nobody's while no key exists.")
    subscription = models.JSONField()
    positions = models.JSONField(
        help_text="By topic: incarnation at first, incarnation, seq, head."
    )
    # Rises when a stream takes the session over: what older streams still write down is ignored then.
    epoch = models.IntegerField(db_default=0)
    streams = models.IntegerField(db_default=0)
    created_at = models.DateTimeField(db_default=Now())
    expires_ts = models.BigIntegerField(help_text="In ms; moved on while a stream is open (§17.2).")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="watchsession_streams_not_negative", condition=Q(streams__gte=0)
            ),
        ]
        indexes = [
            # forget_watches: sessions whose time has passed.
            models.Index(fields=["expires_ts"], name="watchsession_by_expiry"),
        ]

    def __str__(self) -> str:
        return self.wid


class QueueTopic(Topic):
    """A topic that is a queue, for a list of its own in the admin."""

    class Meta:
        proxy = True
        verbose_name = "queue"

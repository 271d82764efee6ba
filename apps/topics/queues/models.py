"""What a queue knows beside its records: where the claims are, and the jobs that have been delivered before."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from apps.topics.states import HELD, JobState


class Queue(models.Model):
    """The lock and the counters of a queue's jobs; made when the first job is claimed.

    Whoever changes jobs of a queue holds this row's lock until commit. It is taken before any topic's.
    """

    # No constraint, as for records: deleting a topic leaves this to the sweep.
    topic = models.OneToOneField(
        "topics.Topic",
        models.DO_NOTHING,
        primary_key=True,
        db_constraint=False,
        related_name="queue",
    )
    claimed = models.BigIntegerField(
        db_default=0, help_text="Newest seq that was ever delivered; fresh jobs are those after it."
    )
    last_lease = models.BigIntegerField(db_default=0, help_text="Newest lease number; only rises.")
    leased = models.BigIntegerField(db_default=0, help_text="Rows that are LEASED.")
    delayed = models.BigIntegerField(db_default=0, help_text="Rows that are DELAYED.")
    dead_lettered = models.BigIntegerField(db_default=0, help_text="Jobs moved away (§18.7).")
    # Both say how far the two scans of `return_jobs` have come, so that no scan walks over the dead index entries of
    # jobs that are long finished.
    swept_due = models.BigIntegerField(
        db_default=0, help_text="No leased, delayed or gone job is due at this time or before."
    )
    reaped = models.BigIntegerField(
        db_default=1, help_text="Jobs below this seq whose record is gone have been dealt with."
    )
    window_until = models.BigIntegerField(
        db_default=0, help_text="When the open coalescing window ends, in ms; 0 when none is open."
    )
    is_paused = models.BooleanField(db_default=False, help_text="Claims get nothing.")

    topic_id: int

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="queue_counts_jobs", condition=Q(leased__gte=0, delayed__gte=0)
            )
        ]

    def __str__(self) -> str:
        return f"queue {self.topic_id}"


class Job(models.Model):
    """A job that has been delivered at least once and is not finished; nobody has a row before that."""

    pk = models.CompositePrimaryKey("topic_id", "seq")
    topic = models.ForeignKey(
        "topics.Topic", models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False
    )
    seq = models.BigIntegerField()
    due = models.BigIntegerField(
        help_text="From when on, in ms, it may be claimed: a lease's deadline + 1, a delay's end, else 0."
    )
    lease = models.BigIntegerField(null=True)
    deliveries = models.IntegerField(help_text="How often it was delivered.")
    state = models.SmallIntegerField(
        choices=[(state.value, state.name.capitalize()) for state in JobState]
    )
    is_pushed = models.BooleanField(
        db_default=False, help_text="Leased by a /work stream, which wants to know when it ends."
    )
    # Escaped as the nodes of records are (`batch.escape`).
    node = models.TextField(null=True, db_collation="C")

    topic_id: int

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="job_lease_iff_held",
                condition=Q(state__in=sorted(HELD), lease__isnull=False, node__isnull=False)
                | (
                    ~Q(state__in=sorted(HELD))
                    & Q(lease__isnull=True, node__isnull=True, is_pushed=False)
                ),
            ),
            models.CheckConstraint(
                name="job_returned_iff_due_at_once",
                condition=Q(state=JobState.RETURNED, due=0)
                | (~Q(state=JobState.RETURNED) & Q(due__gt=0)),
            ),
            models.CheckConstraint(name="job_was_delivered", condition=Q(deliveries__gt=0)),
        ]
        indexes = [
            # claim_jobs, exhausted_jobs: returned jobs by seq.
            models.Index(
                fields=["topic", "seq"], name="job_returned", condition=Q(state=JobState.RETURNED)
            ),
            # return_jobs, queue_counters: whose lease or delay has ended.
            models.Index(
                fields=["topic", "due"], name="job_by_due", condition=~Q(state=JobState.RETURNED)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic_id}@{self.seq}"


class WaitingClaim(models.Model):
    """A claimer in a coalescing window (§18.3), of whatever web process; whoever ends the window serves them all.

    Unlogged: after a crash of Postgres nobody waits any more.
    """

    topic = models.ForeignKey(
        "topics.Topic", models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False
    )
    node = models.TextField(db_collation="C")
    most = models.IntegerField()
    lease_ms = models.BigIntegerField()
    is_pushed = models.BooleanField()
    filed_ts = models.BigIntegerField(help_text="In ms.")
    # What it was given, until its own process fetches it.
    seqs = ArrayField(models.BigIntegerField(), null=True)
    leases = ArrayField(models.BigIntegerField(), null=True)

    topic_id: int

    def __str__(self) -> str:
        return f"claim {self.pk}"

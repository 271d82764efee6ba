"""Pipelines and their versions, executions and their stages, event triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core import clock, ids
from apps.pipelines.states import ACTIVE, FINAL, ExecutionStatus, StageStatus

if TYPE_CHECKING:
    from uuid import UUID

_FINAL = sorted(FINAL)
_ACTIVE = sorted(ACTIVE)


class Pipeline(models.Model):
    """A named chain of steps. What it says is in its versions, which never change."""

    id = models.TextField(primary_key=True, db_collation="C")
    name = models.TextField()
    latest = models.PositiveIntegerField(default=1, help_text="Number of the newest version.")
    event = models.TextField(
        default="", blank=True, help_text="options.event of the newest version."
    )
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [
            # GET /pipelines/?event=
            models.Index("event", "id", name="pipeline_by_event", condition=~Q(event="")),
        ]

    def __str__(self) -> str:
        return self.id


class Autostart(Pipeline):
    """A pipeline as what starts it by itself: its event trigger and its schedule."""

    class Meta:
        proxy = True
        verbose_name = "trigger"

    def __str__(self) -> str:
        return self.id


class Version(models.Model):
    """One immutable version of a pipeline; the document is JSON text as its author wrote it, in his order."""

    pk = models.CompositePrimaryKey("pipeline_id", "number")
    pipeline = models.ForeignKey(Pipeline, models.CASCADE, related_name="versions", db_index=False)
    number = models.PositiveIntegerField()
    document = models.TextField()
    created_at = models.DateTimeField(default=clock.now)
    created_by = models.TextField(default="", blank=True)

    pipeline_id: str

    def __str__(self) -> str:
        return f"{self.pipeline_id} v{self.number}"


class Trigger(models.Model):
    """The event trigger of a pipeline: its subscription, its cursor and what came of the messages."""

    pipeline = models.OneToOneField(
        Pipeline, models.CASCADE, primary_key=True, related_name="trigger"
    )
    version = models.PositiveIntegerField(help_text="The version that is started.")
    topic = models.TextField()
    # The incarnation the cursor belongs to; empty until the topic exists.
    topic_id = models.BigIntegerField(null=True, blank=True)
    position = models.BigIntegerField(
        null=True, blank=True, help_text="Newest seq that was taken; empty = not pinned."
    )
    # False once it was deleted: what was taken still runs.
    is_started = models.BooleanField(default=True)
    is_paused = models.BooleanField(default=False)
    # When the dispatcher has to look without being woken: a batch to fill, a rate limit, a topic to appear.
    wake_at = models.DateTimeField(null=True, blank=True)
    window_at = models.DateTimeField(
        null=True, blank=True, help_text="Begin of the rate limit's window."
    )
    window_count = models.PositiveIntegerField(default=0)

    received = models.PositiveBigIntegerField(default=0)
    filtered = models.PositiveBigIntegerField(default=0)
    started = models.PositiveBigIntegerField(default=0)
    succeeded = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    retried = models.PositiveBigIntegerField(default=0)
    dead_lettered = models.PositiveBigIntegerField(default=0)
    last_event_at = models.DateTimeField(null=True, blank=True)
    last_execution_id = models.UUIDField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    stumbles = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="Turns that have failed where the cursor is."
    )
    conditions = models.JSONField(
        default=dict, help_text="By type: status, reason, message, since."
    )
    created_by = models.TextField(default="", blank=True)
    prefixes = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Names its steps may use, as its maker's key.",
    )
    created_at = models.DateTimeField(default=clock.now)

    pipeline_id: str

    class Meta:
        indexes = [
            # dispatcher: who listens to a topic that has grown.
            models.Index(
                "topic", name="trigger_listening", condition=Q(is_started=True, is_paused=False)
            ),
            # sweep: whose time has come.
            models.Index("wake_at", name="trigger_due", condition=Q(wake_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.pipeline_id


class Schedule(models.Model):
    """The schedule of a pipeline's newest version, and when it is due next."""

    pipeline = models.OneToOneField(
        Pipeline, models.CASCADE, primary_key=True, related_name="schedule"
    )
    cron = models.TextField(help_text="options.schedule")
    timezone = models.TextField(help_text="options.timezone")
    is_paused = models.BooleanField(default=False)
    next_at = models.DateTimeField(
        null=True, blank=True, help_text="The next due time; empty while paused."
    )
    last_at = models.DateTimeField(
        null=True, blank=True, help_text="The newest due time that was started."
    )
    last_execution_id = models.UUIDField(null=True, blank=True)
    started = models.PositiveBigIntegerField(default=0)
    created_by = models.TextField(default="", blank=True)
    prefixes = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Names its steps may use, as its maker's key.",
    )
    created_at = models.DateTimeField(default=clock.now)

    pipeline_id: str

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="schedule_due_iff_not_paused",
                condition=Q(is_paused=True, next_at__isnull=True)
                | Q(is_paused=False, next_at__isnull=False),
            ),
        ]
        indexes = [
            # sweep: what is due.
            models.Index("next_at", name="schedule_due", condition=Q(next_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.pipeline_id


class Execution(models.Model):
    """One run of a pipeline's version from beginning to end. It outlives its pipeline."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    pipeline_id = models.TextField(db_collation="C")
    pipeline_version = models.PositiveIntegerField()
    status = models.TextField(
        choices=[(s, s.capitalize()) for s in ExecutionStatus], default=ExecutionStatus.RUNNING
    )
    # Waits for its turn: its pipeline runs as many as it may, or its key is busy.
    is_queued = models.BooleanField(default=False)
    tag = models.TextField(null=True, blank=True)
    # JSON texts: messages are the client's own, whatever is in them.
    document = models.TextField(help_text="config_snapshot: the version it runs.")
    trigger = models.TextField(null=True, blank=True, help_text="What steps see as `trigger`.")
    inputs = models.JSONField(default=dict, blank=True)
    outputs = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    error_info = models.JSONField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=1)
    counted_attempts = models.PositiveIntegerField(
        default=1, db_default=1, help_text="Attempts its trigger knows of."
    )
    hops = models.PositiveIntegerField(
        default=0, help_text="Executions that led to this by messages."
    )
    parent = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="children", db_index=False
    )
    parent_stage = models.TextField(
        null=True, blank=True, help_text="The stage that waits for this."
    )
    root_correlation_id = models.TextField(default="", blank=True)
    created_by = models.TextField(default="", blank=True)
    prefixes = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Names its steps may use, as its maker's key.",
    )

    created_at = models.DateTimeField(default=clock.now)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    # It failed, and its trigger tries again then: not an end, so not FAILED.
    retry_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_reason = models.TextField(default="", blank=True)
    # When it has to be looked at without news: a retry, a timeout, a step that sleeps.
    wake_at = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="options.timeout_s")

    # The message that started it. A message starts one execution: a batch is named by its last.
    source = models.ForeignKey(
        Trigger, models.SET_NULL, null=True, blank=True, related_name="executions", db_index=False
    )
    source_topic_id = models.BigIntegerField(null=True, blank=True)
    source_seq = models.BigIntegerField(null=True, blank=True)
    source_key = models.TextField(null=True, blank=True, help_text="Ordering key of the message.")
    # The due time that started it.
    scheduled_at = models.DateTimeField(null=True, blank=True)

    parent_id: UUID | None
    source_id: str | None

    class Meta:
        constraints = [
            # Partial: most have none, and each version of a row would be noted in the index as one more without.
            models.UniqueConstraint(
                fields=["tag"], name="execution_once_per_tag", condition=Q(tag__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["pipeline_id", "source_topic_id", "source_seq"],
                name="execution_once_per_message",
                condition=Q(source_seq__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["pipeline_id", "scheduled_at"],
                name="execution_once_per_due_time",
                condition=Q(scheduled_at__isnull=False),
            ),
            models.CheckConstraint(
                name="execution_completed_iff_final",
                condition=Q(status__in=_FINAL, completed_at__isnull=False)
                | (~Q(status__in=_FINAL) & Q(completed_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="execution_queued_only_while_running",
                condition=Q(is_queued=False) | Q(status=ExecutionStatus.RUNNING),
            ),
        ]
        indexes = [
            # GET /executions/, newest first.
            models.Index("pipeline_id", F("id").desc(), name="execution_by_pipeline"),
            models.Index("status", F("id").desc(), name="execution_by_status"),
            # dispatcher and limits: what a pipeline has under way, and whose turn is next.
            models.Index(
                "pipeline_id",
                "is_queued",
                "id",
                name="execution_under_way",
                condition=Q(status=ExecutionStatus.RUNNING),
            ),
            # sweep: whose time has come.
            models.Index("wake_at", name="execution_due", condition=Q(wake_at__isnull=False)),
            models.Index("parent", name="execution_by_parent", condition=Q(parent__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.tag or str(self.id)


class Ending(models.Model):
    """Executions that have ended in one turn, until those who wait for it were told: their trigger, parents, the next in
    the queue.

    A row for many, since a mark on each execution would be another version of its row.
    """

    id = models.BigAutoField(primary_key=True)
    pipeline_id = models.TextField(db_collation="C")
    # No foreign key: the trigger's row would be locked after the executions'.
    source_id = models.TextField(null=True, help_text="The trigger that has started them.")
    execution_ids = ArrayField(models.UUIDField())
    parent_ids = ArrayField(models.UUIDField(), help_text="Executions that wait for them.")

    class Meta:
        indexes = [
            # dispatcher: what its trigger has not been told.
            models.Index(
                "source_id", name="ending_by_source", condition=Q(source_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{len(self.execution_ids)} of {self.pipeline_id}"


class DeadLetter(models.Model):
    """A message whose execution finally failed, or that went round in a loop; kept until somebody redrives it."""

    pk = models.CompositePrimaryKey("pipeline_id", "topic_id", "seq")
    pipeline_id = models.TextField(db_collation="C")
    topic_id = models.BigIntegerField()
    topic = models.TextField()
    seq = models.BigIntegerField()
    reason = models.TextField()
    attempts = models.PositiveIntegerField()
    execution_id = models.UUIDField(null=True, blank=True)
    message = models.TextField(help_text="JSON text, as steps see it.")
    created_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.topic}@{self.seq}"


class Stage(models.Model):
    """One step of one execution."""

    pk = models.CompositePrimaryKey("execution_id", "position")
    execution = models.ForeignKey(Execution, models.CASCADE, related_name="stages", db_index=False)
    position = models.PositiveIntegerField(help_text="Of its step in the document, from 0.")
    name = models.TextField()
    status = models.TextField(
        choices=[(s, s.capitalize()) for s in StageStatus], default=StageStatus.PENDING
    )
    outputs = models.JSONField(null=True, blank=True)
    error = models.TextField(default="", blank=True)
    attempts = models.PositiveIntegerField(default=0)
    # By item; a step without for_each has one at most.
    run_ids = ArrayField(models.UUIDField(), default=list, blank=True)
    items = models.JSONField(null=True, blank=True, help_text="What for_each gave.")
    # What an adapter remembers while it waits.
    note = models.JSONField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    execution_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["execution", "name"], name="stage_once_per_name"),
        ]
        indexes = [
            # sweep: stages whose runs may have ended without our hearing of it.
            models.Index("execution", name="stage_active", condition=Q(status__in=_ACTIVE)),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id}/{self.name}"

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core import clock, ids, jsonb
from apps.runs.states import FINAL, HOLDS_RESOURCES, RunState, WorkerKind, WorkerState

if TYPE_CHECKING:
    from uuid import UUID

_FINAL = sorted(FINAL)
_HOLDS_RESOURCES = sorted(HOLDS_RESOURCES)


class Worker(models.Model):
    """Something that claims runs: a Celery worker process, or a pull worker in any language."""

    id = models.TextField(primary_key=True)
    instance = models.TextField(
        default="", blank=True, help_text="Tells a worker of ours from another one of its name."
    )
    kind = models.TextField(choices=[(k, k) for k in WorkerKind])
    state = models.TextField(
        choices=[(s, s.capitalize()) for s in WorkerState], default=WorkerState.READY
    )
    executors = ArrayField(models.TextField(), default=list)
    slots = models.PositiveIntegerField(
        null=True, help_text="Most runs at a time; empty = no limit."
    )
    cpu = models.PositiveIntegerField(default=0)
    ram_mb = models.PositiveIntegerField(default=0)
    gpus = models.JSONField(default=list, help_text="[{id, vram_mb}]")
    tags = ArrayField(models.TextField(), default=list)
    hostname = models.TextField(default="", blank=True)
    owner = models.TextField(default="", blank=True, help_text="Key that registered a pull worker.")
    registered_at = models.DateTimeField(default=clock.now)
    heartbeat_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [
            # sweep_lost_workers: workers whose last heartbeat is too old.
            # Not by heartbeat_at: a heartbeat that changes no index writes one row and leaves nothing to clear away.
            models.Index(fields=["id"], name="worker_alive", condition=~Q(state=WorkerState.LOST)),
        ]

    def __str__(self) -> str:
        return self.id


class RunQuerySet(models.QuerySet["Run"]):
    def in_states(self, *states: RunState) -> RunQuerySet:
        return self.filter(state__in=states)

    def visible_to(self, prefixes: tuple[str, ...], owner: str) -> RunQuerySet:
        """Keep what a key limited to `prefixes` may see: by op name, else by topic, else its own."""
        if not prefixes:
            return self
        allowed = Q(created_by=owner)
        for prefix in prefixes:
            allowed |= Q(op_definition__startswith=prefix) | Q(
                op_definition__isnull=True, topic__startswith=prefix
            )
        return self.filter(allowed)


class Run(models.Model):
    """One execution of an op, and its live attempt. Attempts it has moved on from are `Attempt` rows."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    state = models.TextField(
        choices=[(s, s.capitalize()) for s in RunState], default=RunState.PENDING
    )
    priority = models.IntegerField(default=5)
    progress = models.PositiveSmallIntegerField(default=0)
    current_attempt = models.PositiveIntegerField(default=1)

    executor = models.TextField()
    image = models.TextField(null=True, blank=True)
    command = ArrayField(models.TextField(), null=True, blank=True)
    python = models.TextField(null=True, blank=True)
    env = models.JSONField(default=dict, blank=True)
    inputs = models.JSONField(default=dict, blank=True)
    outputs = models.JSONField(default=dict, blank=True)
    output_specs = models.JSONField(default=dict, blank=True)
    # Names are compared byte by byte: a key's prefix is a range of them (visible_names).
    op_definition = models.TextField(null=True, blank=True, db_collation="C")
    op_version = models.TextField(null=True, blank=True)

    cpu = models.PositiveIntegerField(null=True, blank=True)
    ram_mb = models.PositiveIntegerField(null=True, blank=True)
    vram_mb = models.PositiveIntegerField(null=True, blank=True)
    gpu_id = models.PositiveIntegerField(null=True, blank=True, help_text="The GPU it must have.")
    tags = ArrayField(models.TextField(), default=list, blank=True)

    retry_policy = models.JSONField(default=dict)
    failures = models.PositiveIntegerField(default=0, help_text="Attempts the policy has counted.")
    losses = models.PositiveIntegerField(default=0, help_text="Workers lost in a row.")
    topic = models.TextField(
        default="", blank=True, help_text="event_delivery.topic", db_collation="C"
    )
    attributes = models.JSONField(default=dict, blank=True, help_text="event_delivery.attributes")
    timeout_s = models.FloatField(null=True, blank=True)
    metadata = jsonb.Field(default=dict, blank=True)
    execution_id = models.UUIDField(null=True, blank=True)
    step = models.TextField(null=True, blank=True)
    stage = models.TextField(
        null=True,
        blank=True,
        help_text="What its files become objects of; empty = they are not kept.",
    )
    created_by = models.TextField(default="", blank=True)

    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)
    queued_at = models.DateTimeField(
        default=clock.now, help_text="Became PENDING for this attempt."
    )
    scheduled_at = models.DateTimeField(null=True, blank=True, help_text="Not before.")
    assigned_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    # Looked up only while the worker holds the run (run_held); an index of all would be written with every move.
    worker = models.ForeignKey(
        Worker, models.SET_NULL, null=True, blank=True, related_name="runs", db_index=False
    )
    lease = models.TextField(null=True, blank=True, help_text="Fences the reports of this attempt.")
    gpu = models.PositiveIntegerField(null=True, blank=True, help_text="The GPU it was given.")
    handle = models.JSONField(
        null=True, blank=True, help_text="Where the executor finds the attempt."
    )
    message_offset = models.BigIntegerField(default=0, help_text="Op messages already reported.")
    event_count = models.PositiveIntegerField(default=0, help_text="Events of the live attempt.")
    exit_code = models.IntegerField(null=True, blank=True)
    error_message = models.TextField(default="", blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_reason = models.TextField(default="", blank=True)

    objects: ClassVar[models.Manager[Run]] = RunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="run_finished_iff_final",
                condition=Q(state__in=_FINAL, finished_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(finished_at__isnull=True)),
            ),
            # A lease exists exactly while somebody may report.
            models.CheckConstraint(
                name="run_leased_iff_held",
                condition=Q(state__in=_HOLDS_RESOURCES, lease__isnull=False)
                | (~Q(state__in=_HOLDS_RESOURCES) & Q(lease__isnull=True)),
            ),
            models.CheckConstraint(
                name="run_priority_in_range", condition=Q(priority__gte=-1000, priority__lte=1000)
            ),
            models.CheckConstraint(name="run_progress_in_range", condition=Q(progress__lte=100)),
            models.CheckConstraint(
                name="run_has_work",
                condition=Q(image__isnull=False)
                | Q(command__isnull=False)
                | Q(python__isnull=False),
            ),
        ]
        indexes = [
            # claim: the next due run, highest priority first, then oldest (ids rise with time).
            models.Index(
                F("priority").desc(),
                "id",
                name="run_claimable",
                condition=Q(state=RunState.PENDING),
            ),
            # find_starving_run: waiting runs that declare a need.
            models.Index(
                F("priority").desc(),
                "id",
                name="run_demanding",
                condition=Q(state=RunState.PENDING)
                & (
                    Q(cpu__isnull=False)
                    | Q(ram_mb__isnull=False)
                    | Q(vram_mb__isnull=False)
                    | Q(gpu_id__isnull=False)
                ),
            ),
            # sweep: which waiting runs have become due.
            models.Index(
                fields=["scheduled_at"],
                name="run_due",
                condition=Q(state=RunState.PENDING, scheduled_at__isnull=False),
            ),
            # claim and heartbeat: what a worker holds.
            models.Index(
                fields=["worker"], name="run_held", condition=Q(state__in=_HOLDS_RESOURCES)
            ),
            # GET /runs?topic=&state=, newest first.
            models.Index("topic", "state", F("id").desc(), name="run_by_topic_state"),
            # GET /runs?topic=, GET /runs?state= and GET /runs?op_definition=, newest first.
            models.Index("topic", F("id").desc(), name="run_by_topic", condition=~Q(topic="")),
            models.Index("state", F("id").desc(), name="run_by_state"),
            models.Index(
                "op_definition",
                F("id").desc(),
                name="run_by_op",
                condition=Q(op_definition__isnull=False),
            ),
            # GET /runs?op_definition=&state=, and with a state what a key limited to prefixes sees of each op.
            models.Index(
                "op_definition",
                "state",
                F("id").desc(),
                name="run_by_op_state",
                condition=Q(op_definition__isnull=False),
            ),
            models.Index(
                "image", F("id").desc(), name="run_by_image", condition=Q(image__isnull=False)
            ),
            # GET /runs of a key limited to prefixes: runs without an op count by their topic, and its own always.
            models.Index(
                "topic",
                F("id").desc(),
                name="run_by_ad_hoc_topic",
                condition=Q(op_definition__isnull=True) & ~Q(topic=""),
            ),
            models.Index(
                "created_by",
                F("id").desc(),
                name="run_by_owner",
                condition=~Q(created_by="anonymous"),
            ),
            # GET /runs?execution_id= and the executions of pipelines.
            models.Index(
                "execution_id",
                "id",
                name="run_by_execution",
                condition=Q(execution_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_final(self) -> bool:
        return RunState(self.state) in FINAL


class Attempt(models.Model):
    """An attempt a run has moved on from: written once, when the run is retried or loses its worker."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="past_attempts", db_index=False)
    number = models.PositiveIntegerField()
    state = models.TextField(choices=[(s, s.capitalize()) for s in RunState])
    progress = models.PositiveSmallIntegerField()
    outputs = models.JSONField(default=dict)
    worker_name = models.TextField(null=True)
    gpu = models.PositiveIntegerField(null=True)
    exit_code = models.IntegerField(null=True)
    error_message = models.TextField(default="")
    queued_at = models.DateTimeField()
    assigned_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="attempt_once_per_number"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.number}"


class RunEvent(models.Model):
    """One entry of an attempt's timeline. A move of state and its entry are one statement."""

    pk = models.CompositePrimaryKey("run_id", "attempt", "number")
    run = models.ForeignKey(Run, models.CASCADE, related_name="timeline", db_index=False)
    attempt = models.PositiveIntegerField()
    number = models.PositiveIntegerField(help_text="0, 1, 2 … within the attempt.")
    at = models.DateTimeField()
    type = models.TextField()
    msg = models.JSONField(help_text="Text, or 0–100 for PROGRESS.")
    state = models.TextField(choices=[(s, s.capitalize()) for s in RunState])
    payload = models.JSONField(default=dict)

    run_id: UUID

    def __str__(self) -> str:
        return f"{self.run_id} #{self.attempt}.{self.number} {self.type}"


class LogChunk(models.Model):
    """A piece of an attempt's log; `start` is its first byte's offset in the whole."""

    pk = models.CompositePrimaryKey("run_id", "attempt", "start")
    run = models.ForeignKey(Run, models.CASCADE, related_name="log_chunks", db_index=False)
    attempt = models.PositiveIntegerField()
    start = models.BigIntegerField()
    content = models.BinaryField()

    run_id: UUID

    def __str__(self) -> str:
        return f"{self.run_id} #{self.attempt} @{self.start}"


class Sweep(models.Model):
    """When a sweep last ran: one process at a time does it, and it can tell since when nobody paused."""

    name = models.TextField(primary_key=True)
    ran_at = models.DateTimeField()
    steady_since = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

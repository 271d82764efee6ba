"""What executions have written: their spaces, the objects in them, and blobs that belong to no object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from apps.core import clock, ids

if TYPE_CHECKING:
    from uuid import UUID


class Space(models.Model):
    """The storage of one execution, opened with it and closed with it.

    The row is the lock of all that is in it. Who writes holds it until commit, and so does who closes it: what was
    written before the end is in the log before the end is.
    """

    execution_id = models.UUIDField(primary_key=True)
    tag = models.TextField(null=True, blank=True, unique=True)
    visible_as = models.TextField(
        db_collation="C", help_text="The name that the prefixes of keys are held against."
    )
    correlation_id = models.TextField(default="", blank=True)
    reads = ArrayField(
        models.UUIDField(),
        default=list,
        blank=True,
        help_text="Executions whose objects its ops may read, too: what a replay does not do again.",
    )
    count = models.BigIntegerField(default=0, help_text="Objects.")
    bytes = models.BigIntegerField(default=0, help_text="Their size.")
    created_at = models.DateTimeField(default=clock.now)
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty while it may be written to."
    )

    class Meta:
        indexes = [
            # sweep: whose objects have been kept for long enough.
            models.Index(
                "closed_at",
                name="space_with_old_objects",
                condition=Q(closed_at__isnull=False, count__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.tag or str(self.execution_id)


class StageTotal(models.Model):
    """How much a stage of a space holds, so that nobody has to count."""

    pk = models.CompositePrimaryKey("space_id", "stage")
    space = models.ForeignKey(Space, models.CASCADE, related_name="stages", db_index=False)
    stage = models.TextField(db_collation="C")
    count = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.space_id}/{self.stage}"


class Object(models.Model):
    """One object: what is known of it, and which blob holds its content."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    space = models.ForeignKey(Space, models.CASCADE, related_name="contents", db_index=False)
    # The key without the execution: stage and path. Two stages may write under one name; it is one object.
    name = models.TextField(db_collation="C")
    stage = models.TextField(db_collation="C")
    folder = models.TextField(
        db_collation="C", help_text="The name up to its last slash, which is included."
    )
    extension = models.TextField(default="", blank=True, help_text="Lower case, with its dot.")
    content_type = models.TextField()
    content_length = models.BigIntegerField()
    sha256 = models.TextField()
    blob = models.TextField(help_text="Its name in the backend; another one for each write.")
    run_id = models.UUIDField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    modified_at = models.DateTimeField(default=clock.now)

    space_id: UUID

    class Meta:
        constraints = [
            # find one; list a space by name, with filters, without touching the rows that are passed over.
            models.UniqueConstraint(
                fields=["space", "name"],
                name="object_once_per_name",
                include=["stage", "extension"],
            ),
        ]
        indexes = [
            # list with a delimiter: what lies in a folder, and from one folder to the next.
            models.Index(fields=["space", "folder", "name"], name="object_by_folder"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        return f"{self.space_id}/{self.name}"

    @property
    def path(self) -> str:
        return self.name[len(self.stage) + 1 :]

    @property
    def etag(self) -> str:
        return self.blob.rpartition("/")[2]


class Leftover(models.Model):
    """A blob that no object has: one being written, or one whose object was replaced or deleted.

    It stands before the blob does, and goes after it, so that a sweep need not search the backend.
    """

    blob = models.TextField(primary_key=True)
    due_at = models.DateTimeField(help_text="When a sweep may remove the blob.")

    class Meta:
        indexes = [
            # sweep: whose time has come.
            models.Index("due_at", name="leftover_due"),
        ]

    def __str__(self) -> str:
        return self.blob


class EventClock(models.Model):
    """The one row from which ids of storage events come: whoever takes one holds it until commit.

    So it can say how much there is in all, too, without anybody waiting for that.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    tick = models.BigIntegerField(help_text="Milliseconds · 4096 + a count within the millisecond.")
    count = models.BigIntegerField(db_default=0, help_text="Objects of all spaces.")
    bytes = models.BigIntegerField(db_default=0, help_text="Their size.")

    def __str__(self) -> str:
        return str(self.tick)

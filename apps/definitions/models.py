from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core import clock


class Definition(models.Model):
    """One version of an op: what can be run. The wire name is OpDefinition (runs.md §1)."""

    name = models.TextField()
    version = models.TextField()
    description = models.TextField(default="", blank=True)
    image = models.TextField(null=True, blank=True)
    command = ArrayField(models.TextField(), null=True, blank=True)
    python = models.TextField(null=True, blank=True)
    env = models.JSONField(default=dict, blank=True)
    input_specs = models.JSONField(default=dict, blank=True)
    output_specs = models.JSONField(default=dict, blank=True)
    constraints = models.JSONField(default=dict, blank=True)
    retry_policy = models.JSONField(default=dict, blank=True)
    event_delivery = models.JSONField(default=dict, blank=True)
    timeout_s = models.FloatField(null=True, blank=True, default=3600)
    created_at = models.DateTimeField(default=clock.now)
    # Rises with every deployment of any definition: "latest" is the highest of a name, whatever the clock does.
    deployment = models.BigIntegerField(unique=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="definition_once_per_version"),
            models.CheckConstraint(
                name="definition_has_work",
                condition=Q(image__isnull=False) | Q(command__isnull=False) | Q(python__isnull=False),
            ),
        ]
        indexes = [
            # The latest version of a name.
            models.Index("name", F("deployment").desc(), name="definition_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.core import clock, jsonb


class DefinitionQuerySet(models.QuerySet["Definition"]):
    def visible_to(self, prefixes: tuple[str, ...]) -> DefinitionQuerySet:
        """Keep what a key limited to `prefixes` may see."""
        if not prefixes:
            return self
        allowed = Q()
        for prefix in prefixes:
            allowed |= Q(name__startswith=prefix)
        return self.filter(allowed)

    def latest_of_each_name(self) -> DefinitionQuerySet:
        """Keep the version of each name that was deployed last."""
        newest = self.order_by("name", F("deployment").desc()).distinct("name")
        return self.filter(pk__in=newest.values("pk"))


class Definition(models.Model):
    """One version of an op: what can be run. The wire name is OpDefinition (runs.md §1)."""

    name = models.TextField()
    version = models.TextField()
    description = models.TextField(default="", blank=True)
    image = models.TextField(null=True, blank=True)
    command = ArrayField(models.TextField(), null=True, blank=True)
    python = models.TextField(null=True, blank=True)
    env = models.JSONField(default=dict, blank=True)
    input_specs = jsonb.Field(default=dict, blank=True)
    output_specs = models.JSONField(default=dict, blank=True)
    constraints = models.JSONField(default=dict, blank=True)
    retry_policy = jsonb.Field(default=dict, blank=True)
    event_delivery = jsonb.Field(default=dict, blank=True)
    timeout_s = models.FloatField(null=True, blank=True, default=3600)
    created_at = models.DateTimeField(default=clock.now)
    # Rises with every deployment of any definition: "latest" is the highest of a name, whatever the clock does.
    deployment = models.BigIntegerField(unique=True)

    objects: ClassVar[models.Manager[Definition]] = DefinitionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="definition_once_per_version"),
            # runs.md §1: an image, with or without a command; a command; or a Python callable.
            models.CheckConstraint(
                name="definition_has_work",
                condition=Q(python__isnull=False, image__isnull=True, command__isnull=True)
                | (Q(python__isnull=True) & (Q(image__isnull=False) | Q(command__isnull=False))),
            ),
        ]
        indexes = [
            # The latest version of a name.
            models.Index("name", F("deployment").desc(), name="definition_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

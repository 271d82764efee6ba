from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from apps.access.scopes import Scope
from apps.core import clock, ids


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def standing(self) -> ApiKeyQuerySet:
        """Keep the keys that nobody has revoked; they may have expired."""
        return self.filter(revoked_at__isnull=True)


class ApiKey(models.Model):
    """A key of the API. Rows are never deleted: whether one has ever existed decides if the doors are open."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100, help_text="Who uses it, for what.")
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the secret.")
    hint = models.CharField(max_length=16, help_text="The first characters of the secret.")
    scopes = ArrayField(models.CharField(max_length=6, choices=[(s, s) for s in Scope]))
    prefixes = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Names it sees begin with one of these; empty = every name.",
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.TextField(editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="To the minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]
        constraints = [
            # A secret is one key.
            models.UniqueConstraint(fields=["digest"], name="access_apikey_secret_is_one_key"),
            # A plaintext, or a digest of another kind, can't slip in.
            models.CheckConstraint(
                condition=Exact(Length("digest"), 32), name="access_apikey_digest_is_sha256"
            ),
            models.CheckConstraint(
                condition=Q(scopes__len__gt=0, scopes__contained_by=sorted(Scope)),
                name="access_apikey_scopes_are_known",
            ),
            # Two standing keys of one name could not be told apart when one of them leaks.
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(revoked_at__isnull=True),
                name="access_apikey_standing_name_is_unique",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()


class AuditEntry(models.Model):
    """One change made by a person or a key; written in the transaction that made it, never changed."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=clock.now)
    actor = models.TextField(
        help_text="key:<id>, user:<id>, run:<id>, anonymous, or the command line."
    )
    actor_name = models.TextField()
    action = models.TextField()
    target = models.TextField()
    detail = models.JSONField(default=dict)
    correlation_id = models.TextField(default="")

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        ordering = ["-id"]
        indexes = [
            # The trail of one thing, newest first; failed logins of one account or address.
            models.Index("target", F("id").desc(), name="access_audit_of_target"),
            models.Index("actor", F("id").desc(), name="access_audit_of_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.action} {self.target}"


class IdempotencyRecord(models.Model):
    """What a POST answered when its Idempotency-Key was first used; remembered for a day."""

    owner = models.TextField()
    key = models.TextField()
    fingerprint = models.BinaryField()
    status = models.PositiveSmallIntegerField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            # claim_idempotency: the second of two requests waits here for the first.
            models.UniqueConstraint(
                fields=["owner", "key"], name="access_idempotencyrecord_key_is_used_once"
            ),
        ]
        indexes = [
            # trim_idempotency: rows older than a day.
            models.Index(fields=["created_at"], name="access_idempotency_age"),
        ]

    def __str__(self) -> str:
        return f"{self.owner} {self.key}"

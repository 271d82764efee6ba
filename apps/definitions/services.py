"""What can be done with definitions: one function per intention (runs.md §1–2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from apps.access import services as access
from apps.core import clock, sql
from apps.core.errors import Forbidden
from apps.definitions import work
from apps.definitions.models import Definition
from apps.definitions.specs import check_outputs, fill_inputs
from apps.definitions.work import (
    Work,
    read_constraints,
    read_event_delivery,
    read_retry_policy,
    read_timeout,
)

if TYPE_CHECKING:
    from apps.access.auth import Caller
    from apps.core.body import JSON, Body

# The pure rules that runs share: other apps reach them through here.
__all__ = [
    "Work",
    "check_outputs",
    "delete_definitions",
    "deploy_definition",
    "fill_inputs",
    "read_constraints",
    "read_event_delivery",
    "read_retry_policy",
    "read_timeout",
    "read_work",
    "require_topic",
]


def deploy_definition(*, body: JSON, caller: Caller) -> tuple[Definition, bool]:
    """Create a definition, or replace the one of the same (id, version); either way it becomes the latest.

    Returns it and whether it is new. Raises Invalid with every error at once, Forbidden for an id or a topic outside
    the key's prefixes.
    """
    blueprint = work.read_definition(body, python_ops=settings.GYOZA_PYTHON_OPS)
    if not caller.sees(blueprint.name):
        raise Forbidden(f"this key may not deploy {blueprint.name}")
    require_topic(caller, blueprint.work.event_delivery["topic"])
    with transaction.atomic():
        sql.run("definitions/lock_deployments")
        newest = Definition.objects.aggregate(n=Max("deployment"))["n"] or 0
        definition, is_new = Definition.objects.update_or_create(
            name=blueprint.name,
            version=blueprint.version,
            defaults={
                "description": blueprint.description,
                **asdict(blueprint.work),
                "created_at": clock.now(),
                "deployment": newest + 1,
            },
        )
        access.audit(
            caller=caller, action="definition.deploy", target=str(definition), created=is_new
        )
    return definition, is_new


def delete_definitions(*, name: str, version: str | None, caller: Caller) -> int:
    """Delete one version, or all without `version`, and return how many there were; runs keep their copies."""
    if not caller.sees(name):
        return 0
    chosen = Definition.objects.filter(name=name)
    if version is not None:
        chosen = chosen.filter(version=version)
    with transaction.atomic():
        count, _ = chosen.delete()
        if count:
            access.audit(
                caller=caller,
                action="definition.delete",
                target=name,
                version=version,
                deleted=count,
            )
    return count


def read_work(body: Body) -> Work:
    """Read the members of an ad-hoc run that say what there is to do, leaving complaints in the body."""
    return work.read_work(body, python_ops=settings.GYOZA_PYTHON_OPS)


def require_topic(caller: Caller, topic: str) -> None:
    """Raise Forbidden for a topic outside the key's prefixes; "" is no topic."""
    if topic and not caller.sees(topic):
        raise Forbidden(f"this key may not publish to the topic {topic}", topic=topic)

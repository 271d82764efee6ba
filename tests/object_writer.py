"""Objects of executions, written by the services themselves: rows and events, without bytes in a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.db import transaction

from apps.core import clock
from apps.storage import services
from apps.storage.models import Leftover, Object
from apps.storage.services import NewObject, NewSpace, Uploaded
from apps.storage.writes import ledger

if TYPE_CHECKING:
    from collections.abc import Sequence


def open_space(tag: str | None = None, visible_as: str = "team.p") -> str:
    """Open the storage of an execution and return its id."""
    new = NewSpace(execution_id=uuid4(), tag=tag, visible_as=visible_as, correlation_id="c0")
    services.open_spaces([new])
    return str(new.execution_id)


def close_spaces(*executions: str) -> None:
    """Close the storage of executions, as their end does."""
    with transaction.atomic():
        services.close_spaces([UUID(one) for one in executions])


def reopen_space(execution: str) -> None:
    """Open the storage of an execution that goes on."""
    with transaction.atomic():
        services.reopen_space(UUID(execution))


def write(execution: str, *names: str, stage: str | None = None, **more: Any) -> list[str]:
    """Write objects one after another, each in its own transaction; return their names."""
    for name in names:
        new = NewObject(
            name=name,
            stage=name.partition("/")[0] if stage is None else stage,
            content_type="text/plain",
            **more,
        )
        with transaction.atomic():
            blob = f"{uuid4().hex[:2]}/{uuid4().hex}"
            Leftover.objects.create(blob=blob, due_at=clock.now())
            services.attach(
                execution_id=UUID(execution), new=new, uploaded=Uploaded(blob, 1, "0" * 64)
            )
    return list(names)


def delete(execution: str, names: Sequence[str]) -> None:
    """Delete objects of an execution."""
    with transaction.atomic():
        space = ledger.lock_space(UUID(execution))
        ledger.remove(space, list(Object.objects.filter(space=space, name__in=names)))

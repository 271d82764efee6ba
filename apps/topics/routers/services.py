"""Creating, changing and deleting routers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from apps.access import services as access
from apps.core.errors import Forbidden, Invalid, Throttled
from apps.topics import services as topics
from apps.topics.appending import batch, listeners
from apps.topics.config import TopicConfig
from apps.topics.errors import TopicExistsIncompatible, TopicNotFound
from apps.topics.models import Router, Topic
from apps.topics.names import can_be_looked_up, is_router_name, is_topic_name, require_unreserved
from apps.topics.routers import topology
from apps.topics.routers.errors import RouterCycle, RouterNotFound

if TYPE_CHECKING:
    from apps.access.auth import Caller
    from apps.topics.routers.config import RouterConfig


@dataclass(frozen=True, slots=True)
class Configured:
    """A router as it is now, and whether this call made it."""

    router: Router
    created: bool


def configure_router(*, router: str, wanted: RouterConfig, caller: Caller | str) -> Configured:
    """Create a router, from its source's head on, or change all of an existing one but its ends; durable on return.

    Missing topics are created with it. Raises, in this order (§16.1): Invalid, TopicNotFound for a `dest` that is not to
    be created, TopicExistsIncompatible, Throttled when there are too many routers, RouterCycle, Throttled when there are
    too many topics.
    """
    _check_names(router, wanted)
    with transaction.atomic():
        topology.hold()
        # Waits for a pass under way: the next one goes by what this call says.
        existing = Router.objects.select_for_update().filter(name=router).first()
        _check_ends(existing, router, wanted)
        if existing is None:
            _check_number()
        if not wanted.allow_cycle and (existing is None or existing.allow_cycle):
            _check_cycle(router, wanted)
        members = _members(wanted)
        if existing is not None:
            _update(existing, members, caller)
            return Configured(existing, created=False)
        return Configured(_create(router, wanted, members, caller), created=True)


def delete_router(*, router: str, caller: Caller | str) -> bool:
    """Delete a router and say whether there was one; its copies stay, and what it has not copied is not copied.

    Raises Forbidden if the caller may not see the topics at its ends.
    """
    if not can_be_looked_up(router):
        return False
    with transaction.atomic():
        topology.hold()
        existing = Router.objects.select_for_update().filter(name=router).first()
        if existing is None:
            return False
        if not isinstance(caller, str):
            require_sight(caller, existing.source.name, existing.dest.name)
        access.audit(
            caller=caller,
            action="router.delete",
            target=f"router:{router}",
            source=existing.source.name,
            dest=existing.dest.name,
            position=existing.position,
        )
        existing.delete()
        topology.mark({existing.source_id, existing.dest_id})
    return True


def pause_router(*, router: str, caller: Caller | str) -> None:
    """Have a router copy nothing, once what it does now is done; readers don't wait for it. Raises RouterNotFound."""
    _hold_or_release(router, caller, is_paused=True)


def resume_router(*, router: str, caller: Caller | str) -> None:
    """Have a router go on where it was. Raises RouterNotFound."""
    _hold_or_release(router, caller, is_paused=False)
    listeners.nudge_on_commit()


def require_sight(caller: Caller, *topics: str) -> None:
    """Raise Forbidden for the first topic that is not within the caller's prefixes (§3.4)."""
    for topic in topics:
        if not caller.sees(topic):
            raise Forbidden("this topic is not within the key's prefixes", topic=topic)


def _hold_or_release(router: str, caller: Caller | str, *, is_paused: bool) -> None:
    if not can_be_looked_up(router):
        raise RouterNotFound.of(router)
    with transaction.atomic():
        existing = Router.objects.select_for_update().filter(name=router).first()
        if existing is None:
            raise RouterNotFound.of(router)
        if existing.is_paused is is_paused:
            return
        existing.is_paused = is_paused
        existing.save(update_fields=["is_paused"])
        access.audit(
            caller=caller,
            action="router.pause" if is_paused else "router.resume",
            target=f"router:{router}",
            position=existing.position,
        )


def _check_names(router: str, wanted: RouterConfig) -> None:
    if not is_router_name(router):
        raise Invalid(f'"{router}" is not a valid router name')
    if wanted.source == wanted.dest:
        raise Invalid("a router goes from one topic to another")
    for topic in (wanted.source, wanted.dest):
        if not is_topic_name(topic):
            raise Invalid(f'"{topic}" is not a valid topic name')
    require_unreserved(wanted.dest)


def _check_ends(existing: Router | None, router: str, wanted: RouterConfig) -> None:
    if not wanted.create_dest and not Topic.objects.filter(name=wanted.dest).exists():
        raise TopicNotFound.of(wanted.dest)
    into = Router.objects.filter(dest__name=wanted.dest).exclude(name=router)
    if into.exclude(source__name=wanted.source).exists():
        raise TopicExistsIncompatible(
            f"{wanted.dest} is fed from another topic",
            topic=wanted.dest,
            reason="router_dest_fan_in",
        )
    if existing is None:
        return
    ends = (existing.source.name, existing.dest.name)
    if ends != (wanted.source, wanted.dest):
        raise TopicExistsIncompatible(
            f"{router} goes from {ends[0]} to {ends[1]}; delete it to make another",
            router=router,
            reason="router_repoint_forbidden",
            existing_source=ends[0],
            existing_dest=ends[1],
        )


def _check_number() -> None:
    most = settings.GYOZA_MAX_ROUTERS
    if most and Router.objects.count() >= most:
        raise Throttled("there are too many routers", limit="max_routers", max=most)


def _check_cycle(router: str, wanted: RouterConfig) -> None:
    circle = topology.cycle(router=router, source=wanted.source, dest=wanted.dest)
    if circle is not None:
        raise RouterCycle(f"{router} would close a circle: {' → '.join(circle)}", cycle=circle)


def _members(wanted: RouterConfig) -> dict[str, Any]:
    predicate = wanted.predicate()
    return {
        "preserve_node": wanted.preserve_node,
        "preserve_tag": wanted.preserve_tag,
        "filter_text": None if predicate is None else batch.escape(predicate.text).decode(),
        "filter_is_prefix": predicate is not None and predicate.is_prefix,
        "allow_cycle": wanted.allow_cycle,
        "guarantee": wanted.guarantee,
    }


def _update(existing: Router, members: dict[str, Any], caller: Caller | str) -> None:
    changed = {name: value for name, value in members.items() if getattr(existing, name) != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(existing, name, value)
    existing.save(update_fields=list(changed))
    access.audit(
        caller=caller, action="router.configure", target=f"router:{existing.name}", **changed
    )


def _create(
    router: str, wanted: RouterConfig, members: dict[str, Any], caller: Caller | str
) -> Router:
    ends = sorted([wanted.source, wanted.dest])
    missing = topics.missing_topics(ends)
    for topic in missing:
        # False: somebody else was faster, and it is there now.
        topics.create_topic(topic, TopicConfig().columns())
    # In name order, as every append. From here to commit the source doesn't grow: its head is where the router begins.
    locked = {
        t.name: t
        for t in Topic.objects.select_for_update(no_key=True).filter(name__in=ends).order_by("name")
    }
    source, dest = locked[wanted.source], locked[wanted.dest]
    made = Router.objects.create(
        name=router, source=source, dest=dest, position=source.head, **members
    )
    topology.mark({source.pk, dest.pk})
    access.audit(
        caller=caller,
        action="router.create",
        target=f"router:{router}",
        source=wanted.source,
        dest=wanted.dest,
        topics_created=missing,
        **members,
    )
    return made

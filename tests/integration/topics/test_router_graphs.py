"""Any graph of routers, any writes: what settles is what a small model says (topics v0 §16, ★29)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core.errors import GyozaError
from apps.topics import queries, services
from apps.topics.models import Event, Router, Topic
from apps.topics.routers import forwarder
from apps.topics.routers import services as routers
from apps.topics.routers.config import RouterConfig
from apps.topics.routers.copies import MAX_HOPS
from apps.topics.services import NewEvent, append_events

if TYPE_CHECKING:
    from collections.abc import Callable

TOPICS = "abcde"
TAGS = (None, "x", "xy", "z")
FILTERS = (None, "x", "x*", "*")

worlds = count(1)


class Record(NamedTuple):
    data: int
    tag: str | None
    node: str | None
    trail: tuple[str, ...]


class Route(NamedTuple):
    source: str
    dest: str
    filter: str | None
    preserve_node: bool
    preserve_tag: bool

    def takes(self, tag: str | None) -> bool:
        if self.filter is None:
            return True
        if tag is None:
            return False
        return tag.startswith(self.filter[:-1]) if self.filter.endswith("*") else tag == self.filter


@dataclass
class Model:
    """Routers that copy at once."""

    routes: dict[str, Route] = field(default_factory=dict)
    topics: dict[str, list[Record]] = field(default_factory=dict)

    def write(self, topic: str, record: Record) -> None:
        self.topics.setdefault(topic, []).append(record)
        trail = (*record.trail, topic)
        for route in self.routes.values():
            if route.source != topic or not route.takes(record.tag):
                continue
            if route.dest in trail or len(trail) > MAX_HOPS:
                continue
            tag = record.tag if route.preserve_tag else None
            node = record.node if route.preserve_node else None
            self.write(route.dest, Record(record.data, tag, node, trail))


topics = st.sampled_from(TOPICS)
steps = st.one_of(
    st.tuples(st.just("write"), topics, st.sampled_from(TAGS), st.sampled_from((None, "n"))),
    st.tuples(st.just("read"), topics),
    st.tuples(
        st.just("route"), st.integers(0, 6), topics, topics,
        st.sampled_from(FILTERS), st.booleans(), st.booleans(),
    ),
    st.tuples(st.just("remove"), st.integers(0, 6)),
    st.tuples(st.just("delete"), topics),
)  # fmt: skip


class World:
    """The real thing, under names of its own."""

    def __init__(self) -> None:
        self.prefix = f"w{next(worlds)}."
        self.model = Model()
        self.written = count(1)

    def do(self, step: tuple[Any, ...]) -> None:
        kind, *rest = step
        acts: dict[str, Callable[..., None]] = {
            "write": self.write,
            "read": self.read,
            "route": self.route,
            "remove": self.remove,
            "delete": self.delete,
        }
        acts[kind](*rest)

    def write(self, topic: str, tag: str | None, node: str | None) -> None:
        number = next(self.written)
        append_events([NewEvent(self.prefix + topic, str(number), tag=tag, node=node)])
        self.model.write(topic, Record(number, tag, node, ()))

    def read(self, topic: str) -> None:
        queries.read_after(self.prefix + topic, 0, 100)

    def route(
        self, number: int, source: str, dest: str, only: str | None, node: bool, tag: bool
    ) -> None:
        # The model copies at once, so what is owed is copied before the routers change.
        forwarder.sweep()
        try:
            routers.configure_router(
                router=f"{self.prefix}r{number}",
                wanted=RouterConfig(
                    source=self.prefix + source,
                    dest=self.prefix + dest,
                    filter=only,
                    preserve_node=node,
                    preserve_tag=tag,
                    allow_cycle=True,
                ),
                caller="test",
            )
        except GyozaError:
            return
        self.model.routes[f"r{number}"] = Route(source, dest, only, node, tag)

    def remove(self, number: int) -> None:
        forwarder.sweep()
        routers.delete_router(router=f"{self.prefix}r{number}", caller="test")
        self.model.routes.pop(f"r{number}", None)

    def delete(self, topic: str) -> None:
        forwarder.sweep()
        done = services.delete_topic(topic=self.prefix + topic, caller="test")
        gone = [name for name, route in self.model.routes.items() if topic in route[:2]]
        assert done.routers_removed == sorted(self.prefix + name for name in gone)
        for name in gone:
            del self.model.routes[name]
        self.model.topics.pop(topic, None)

    def check(self) -> None:
        forwarder.sweep()
        for topic in TOPICS:
            expected = self.model.topics.get(topic, [])
            found = Event.objects.filter(topic__name=self.prefix + topic).order_by("seq")
            assert Counter((event.data, event.tag, event.node) for event in found) == Counter(
                (str(record.data), record.tag, record.node) for record in expected
            )
            self.check_flags(topic)
        self.check_order()

    def check_flags(self, topic: str) -> None:
        for row in Topic.objects.filter(name=self.prefix + topic):
            routes = self.model.routes.values()
            assert row.has_listeners is any(route.source == topic for route in routes)
            assert row.is_fed is any(route.dest == topic for route in routes)
            assert row.head == row.count == len(self.model.topics.get(topic, []))

    def check_order(self) -> None:
        """Each router copies in the order of its source."""
        for route in self.model.routes.values():
            twins = [r for r in self.model.routes.values() if r[:2] == route[:2]]
            if len(twins) > 1:
                continue
            source, dest = (
                list(
                    Event.objects.filter(topic__name=self.prefix + topic)
                    .order_by("seq")
                    .values_list("data", "trail")
                )
                for topic in (route.source, route.dest)
            )
            came = [data for data, trail in dest if trail]
            order = [data for data, _ in source if data in came]
            if len(set(came)) == len(came) and set(came) <= set(order):
                assert came == order


@pytest.mark.django_db(transaction=True)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(steps, max_size=25))
def test_it_settles_to_what_the_model_says(script: list[tuple[Any, ...]]) -> None:
    services.forget()
    world = World()
    for step in script:
        world.do(step)
    world.check()
    assert all(router.position <= router.source.head for router in Router.objects.all())

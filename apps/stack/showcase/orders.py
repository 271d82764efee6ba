"""Shows the pipeline of `examples/pipelines/orders.yaml`: messages are published, and what they start is told as it happens."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.conf import settings

from apps.core import strictyaml
from apps.stack import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apps.stack.client import JSON
    from apps.stack.terminal import Terminal

PIPELINE = "orders"
EVENTS = "system.executions.events"
ORDERS: list[JSON] = [
    {
        "id": "A-1",
        "items": [
            {"name": "pen", "price": 2, "count": 3},
            {"name": "ink", "price": 7, "count": 1},
            {"name": "paper", "price": 4, "count": 2},
        ],
    },
    {"id": "A-2", "items": [{"name": "catalogue", "price": 0, "count": 1}]},
]
# The executions take a second. Nobody is served by waiting longer for a worker that has no room.
PATIENCE_S = 60
# Short enough that the end of the process is noticed, long enough to be a long poll.
WAIT_MS = 5_000
PAUSE_S = 0.1


def show(terminal: Terminal, is_over: Callable[[], bool]) -> None:
    """Apply the pipeline, start its trigger, publish orders and tell what becomes of them. Raises Refused."""
    how = set_up()
    after = _head(EVENTS)
    body = {"records": [{"data": order} for order in ORDERS]}
    answer = client.post(f"/v0/topics/{PIPELINE}", body)
    mine = range(answer["first_seq"], answer["last_seq"] + 1)
    title = terminal.paint("strong", "Pipeline")
    terminal.line(f"\n  {title}  {PIPELINE} {how}; a message on the topic {PIPELINE} starts it")
    terminal.line(f"  published {len(mine)} orders; what they start, as it happens:\n")
    for event, order in _follow(after, mine, is_over):
        if line := describe(event, order, terminal):
            terminal.line(line)
    terminal.line()
    page = client.get(f"/api/v1/executions/?pipeline_id={PIPELINE}&limit={len(mine)}")
    for found in reversed(page["executions"]):
        order = found["trigger"]["data"]["id"]
        terminal.line(f"  order {order:9} {found['status']}: {client.base_url()}{_path(found)}")


def set_up() -> str:
    """Apply the pipeline and start its trigger, unless both have been done before; say what was done."""
    path = settings.BASE_DIR / "examples/pipelines/orders.yaml"
    document = strictyaml.read_object(path.read_bytes())
    stored = _find(f"/api/v1/pipelines/{PIPELINE}")
    if stored is None:
        stored = client.post("/api/v1/pipelines/", document)
    elif any(stored.get(name) != value for name, value in document.items()):
        stored = client.put(f"/api/v1/pipelines/{PIPELINE}", document)
    status = client.get(f"/api/v1/events/{PIPELINE}/status")
    if status["state"] != "stopped" and status["pipeline_version"] == stored["version"]:
        return "is listening"
    client.post(f"/api/v1/events/{PIPELINE}", {})
    return "was applied and listens"


def describe(event: JSON, order: str, terminal: Terminal) -> str:
    """Return what became of a stage or an execution as one line for a person; nothing for what is under way."""
    what = event["stage_status"] or event["status"]
    if what not in {"completed", "failed", "cancelled", "skipped"}:
        return ""
    colour = {"completed": "good", "skipped": "quiet"}.get(what, "bad")
    moment = event["timestamp"][11:23].rstrip("Z")
    where = event["stage"] or "the whole"
    said = (event["error"] or "").split("\n", 1)[0]
    line = f"  {terminal.paint('quiet', moment)} order {order:9} {where:10} {terminal.paint(colour, what)} {said}"
    return line.rstrip()


def _follow(after: int, mine: range, is_over: Callable[[], bool]) -> Iterator[tuple[JSON, str]]:
    """Yield the events of what these messages start, each with its order, until all has ended."""
    orders: dict[str, str | None] = {}
    unfinished = len(mine)
    deadline = time.monotonic() + PATIENCE_S
    while unfinished and not is_over():
        if time.monotonic() > deadline:
            raise client.Refused(0, f"no end after {PATIENCE_S} s; see the worker's log")
        page = _page(after)
        after = page["next_from_seq"]
        for record in page["records"]:
            event = record["data"]
            one = event["execution_id"]
            if one not in orders:
                orders[one] = _order_of(one, mine)
            order = orders[one]
            if order is None:
                continue
            yield event, order
            unfinished -= event["stage"] is None


def _page(after: int) -> JSON:
    body = {"from_seq": after, "wait_ms": WAIT_MS}
    try:
        return client.post(f"/v0/topics/{EVENTS}/diff", body, timeout=WAIT_MS / 1000 + 10)
    except client.Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        # The first execution of all makes the topic.
        time.sleep(PAUSE_S)
        return {"records": [], "next_from_seq": after}


def _order_of(execution_id: str, mine: range) -> str | None:
    """Return the order that started an execution, if it is one of these messages."""
    found = _find(f"/api/v1/executions/{execution_id}")
    trigger = (found or {}).get("trigger") or {}
    if trigger.get("topic") != PIPELINE or trigger.get("seq") not in mine:
        return None
    return str(trigger["data"]["id"])


def _head(topic: str) -> int:
    return int((_find(f"/v0/topics/{topic}") or {"head_seq": 0})["head_seq"])


def _find(path: str) -> JSON | None:
    try:
        return client.get(path)
    except client.Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:
            raise
        return None


def _path(execution: JSON) -> str:
    return f"/api/v1/executions/{execution['id']}"

"""Shows a newcomer real runs: registers the ops of `examples/`, runs them, prints each event as it arrives."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from django.conf import settings

from apps.runs.states import FINAL
from apps.stack import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from apps.stack.client import JSON
    from apps.stack.terminal import Terminal

TOPIC = "showcase"
REQUESTS: list[tuple[str, JSON]] = [
    ("word-count", {}),
    ("monte-carlo-pi", {"samples": 1_000_000}),
    ("flaky", {}),
    ("classify", {"texts": ["what a great day", "the disk is slow and broken", "a text"]}),
]
# The runs take a few seconds. Nobody is served by waiting longer for a worker that has no room.
PATIENCE_S = 60
# Short enough that the end of the process is noticed, long enough to be a long poll.
WAIT_S = 5


def show(terminal: Terminal, is_over: Callable[[], bool]) -> None:
    """Register the ops, run them, and print what each has given. Raises Refused."""
    names = [
        _register(path)
        for path in sorted((settings.BASE_DIR / "examples/definitions").glob("*.json"))
    ]
    terminal.line(f"\n  {terminal.paint('strong', 'Showcase')}  registered {', '.join(names)}")
    after = _end_of_feed()
    runs = {}
    for name, inputs in REQUESTS:
        body = {"inputs": inputs, "event_delivery": {"topic": TOPIC, "attributes": {}}}
        runs[client.post(f"/definitions/{name}/runs", body)["id"]] = name
    terminal.line(
        f"  submitted {len(runs)} runs; their events, as they arrive at /events?topic={TOPIC}:\n"
    )
    for event in _follow(after, set(runs), is_over):
        terminal.line(describe(event, runs[event["run_id"]], terminal))
    terminal.line()
    for run_id, name in runs.items():
        found = client.get(f"/runs/{run_id}")
        said = f"{found['state']}: see {client.base_url()}/runs/{run_id}"
        outputs = json.dumps(found["outputs"], ensure_ascii=False)
        terminal.line(f"  {name:15} {outputs if found['state'] == 'COMPLETED' else said}")


def _register(path: Path) -> str:
    definition = json.loads(path.read_text("utf-8"))
    # A command runs in a directory of its own; a file of this clone needs its whole path.
    words = definition.get("command", [])
    if words:
        definition["command"] = [
            str(settings.BASE_DIR / word) if word.startswith("examples/") else word
            for word in words
        ]
    return str(client.post("/definitions", definition)["id"])


def _end_of_feed() -> str:
    """Return the cursor behind everything that earlier showcases have left."""
    page: JSON = {"next_cursor": "0", "has_more": True}
    while page["has_more"]:
        page = client.get(f"/events?topic={TOPIC}&limit=500&after={page['next_cursor']}")
    return str(page["next_cursor"])


def _follow(after: str, runs: set[str], is_over: Callable[[], bool]) -> Iterator[JSON]:
    """Yield the events of these runs until each has finished; the cursor alone decides what was seen."""
    unfinished = set(runs)
    deadline = time.monotonic() + PATIENCE_S
    while unfinished and not is_over():
        if time.monotonic() > deadline:
            raise client.Refused(
                0, f"no end after {PATIENCE_S} s; what the worker does is in its log"
            )
        page = client.get(f"/events?topic={TOPIC}&after={after}&wait={WAIT_S}", timeout=WAIT_S + 10)
        after = page["next_cursor"]
        for event in page["events"]:
            if event["run_id"] in runs:
                yield event
                if event["state"] in FINAL:
                    unfinished.discard(event["run_id"])


def describe(event: JSON, name: str, terminal: Terminal) -> str:
    """Return an event as one line for a person."""
    kind = event["type"]
    colour = {"COMPLETED": "good", "FAILED": "bad", "ERROR": "warn", "RETRIED": "warn"}.get(
        kind, "accent"
    )
    said = f"{event['msg']} %" if kind == "PROGRESS" else str(event["msg"] or "").split("\n", 1)[0]
    moment = event["t"][11:23].rstrip("Z")
    attempt = f"#{event['attempt']}"
    line = f"  {terminal.paint('quiet', moment)} {name:15} {attempt:3} {terminal.paint(colour, f'{kind:10}')} {said}"
    return line.rstrip()

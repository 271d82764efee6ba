"""Kills the engine at every point where it could die: before each statement, and before and after each commit.

    python -m tests.crash_points

A process forks a child per point; the child takes the engine's turn and kills itself there. Messages are published, and
runs ended, before each turn, so there is always something to dispatch, to advance and to settle. In the end a
last child lives, everything is brought to its end, and what has come of the messages is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import django

django.setup()

from django.db import connection  # noqa: E402 - the apps first

from apps.access.auth import ANONYMOUS  # noqa: E402
from apps.pipelines import services, triggers  # noqa: E402
from apps.pipelines.execution import engine  # noqa: E402
from apps.pipelines.models import Execution, Trigger  # noqa: E402
from apps.runs import transitions as run_moves  # noqa: E402
from apps.runs.models import Run  # noqa: E402
from apps.runs.states import RunState  # noqa: E402
from apps.runs.turns import register_worker  # noqa: E402
from apps.topics import queries as topics  # noqa: E402
from apps.topics.services import NewEvent, append_events  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = 3
MOST_POINTS = 200
WORKER = "crash-points"
PIPELINE = {
    "id": "p",
    "name": "p",
    "options": {"event": "orders", "trigger": {"max_concurrency": 1000, "dead_letter": "dead"}},
    "steps": [
        {"name": "a", "command": ["true"], "inputs": {"n": {"$ref": "trigger.data.n"}}},
        {"name": "b", "command": ["true"], "needs": ["a"]},
    ],
}


class Reaper:
    """Counts the points a process passes, and kills it at one of them."""

    def __init__(self, point: int) -> None:
        self._left = point

    def pass_by(self, what: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.write(sys.stdout.fileno(), f"{what}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, execute: Callable[..., Any], query: Any, *rest: Any) -> Any:
        words = [line for line in str(query).splitlines() if line and not line.startswith("--")]
        self.pass_by(f"before {words[0][:60]}")
        return execute(query, *rest)


def turn(point: int) -> None:
    """Take the engine's turn in this process, which dies at a point."""
    reaper = Reaper(point)
    link: Any = connection
    commit = link._commit

    def reaped_commit() -> None:
        reaper.pass_by("before a commit")
        commit()
        reaper.pass_by("after a commit")

    link._commit = reaped_commit
    with connection.execute_wrapper(reaper.execute):
        engine.run_once()


def is_killed_at(point: int) -> bool:
    """Let a child take the engine's turn; say whether it died at the point. If it has none, it has lived."""
    connection.close()
    child = os.fork()
    if child == 0:
        try:
            turn(point)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the engine failed instead of dying at point {point}")
    return False


def publish(numbers: list[int]) -> None:
    append_events([NewEvent(topic="orders", data=json.dumps({"n": number})) for number in numbers])


def end_runs(*, but: int) -> None:
    """Complete all runs but the youngest, and let those of every seventh message fail."""
    waiting = list(Run.objects.filter(state=RunState.PENDING).order_by("id"))
    with run_moves.batch() as moves:
        lives = moves.lock([run.id for run in waiting[: len(waiting) - but]])
        for run in waiting[: len(waiting) - but]:
            live = lives[run.id]
            run_moves.assign(moves, live, worker_id=WORKER, gpu=None)
            run_moves.start(moves, live)
            if run.inputs.get("n", 1) % 7 == 0:
                run_moves.fail(moves, live, error="boom")
            else:
                run_moves.complete(moves, live, outputs={})


def told(topic: str) -> list[Any]:
    """Return the data of all records of a topic."""
    found: list[Any] = []
    after = 0
    while (page := topics.read_after(topic, after, 500)) is not None and page.records:
        found += [json.loads(record.data) for record in page.records]
        after = page.records[-1].seq
    return found


def main() -> None:
    # What is pooled would be shared with the children.
    connection.settings_dict["OPTIONS"].pop("pool", None)
    services.create_pipeline(body=PIPELINE, caller=ANONYMOUS)
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    register_worker(
        worker_id=WORKER, executors=["process"], slots=1, cpu=1, ram_mb=1, gpus=[], tags=[],
        hostname="here",
    )  # fmt: skip
    published = 0
    for point in range(1, MOST_POINTS):
        publish([published + n for n in range(MESSAGES)])
        published += MESSAGES
        end_runs(but=MESSAGES)
        if not is_killed_at(point):
            break
    while engine.run_once().was_busy or Run.objects.filter(state=RunState.PENDING).exists():
        end_runs(but=0)
    trigger = Trigger.objects.get(pk="p")
    executions = Execution.objects.all()
    ends = Counter(
        event["execution_id"]
        for event in told("system.executions.events")
        if event["type"] in {"execution.completed", "execution.failed"}
    )
    answer = {
        "published": published,
        "taken": sorted(json.loads(str(one.trigger))["data"]["n"] for one in executions),
        "statuses": Counter(one.status for one in executions),
        "runs": Run.objects.count(),
        "ends": Counter(ends.values()),
        "dead": sorted(letter["n"] for letter in told("dead")),
        "counters": {
            name: getattr(trigger, name)
            for name in ("received", "started", "succeeded", "failed", "dead_lettered")
        },
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import clock
from apps.core.errors import GyozaError
from apps.topics.queues import queries, services

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

    from apps.topics.queues.queries import DeadLetter, Overview, Peeked

BY = "command line"


class Command(BaseCommand):
    help = "Look at queues, pause and resume them, give back leases, and redrive dead letters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="Show queues by name, with their depth.")
        listing.add_argument("prefix", nargs="?", default="", help="How the names begin.")
        peek = verbs.add_parser("peek", help="Show the oldest jobs of a queue, untouched.")
        dead = verbs.add_parser("dead", help="Show the oldest dead letters of a queue.")
        for verb in (peek, dead):
            verb.add_argument("queue")
            verb.add_argument(
                "-n", "--limit", type=int, default=10, help="How many; 10 by default."
            )
        redrive = verbs.add_parser("redrive", help="Move dead letters back into their queue.")
        redrive.add_argument("queue")
        redrive.add_argument("seqs", nargs="*", type=int, help="Which ones; all by default.")
        release = verbs.add_parser("release", help="Give back leased jobs at once.")
        release.add_argument("queue")
        release.add_argument("--node", help="Those of this holder only.")
        pause = verbs.add_parser("pause", help="Have claims get nothing.")
        resume = verbs.add_parser("resume", help="Have claims get jobs again.")
        for verb in (pause, resume):
            verb.add_argument("queue")
        for verb in (listing, peek, dead, redrive, release, pause, resume):
            verb.add_argument("--json", action="store_true", help="Print JSON, one value per line.")

    def handle(self, **options: Any) -> None:
        verbs: dict[str, Callable[..., None]] = {
            "list": self.list_all,
            "peek": self.peek,
            "dead": self.dead,
            "redrive": self.redrive,
            "release": self.release,
            "pause": self.pause,
            "resume": self.resume,
        }
        try:
            verbs[options["verb"]](**options)
        except GyozaError as exc:
            raise CommandError(exc.message) from exc

    def list_all(self, *, prefix: str, **options: Any) -> None:
        for queue in queries.list_queues(prefix):
            shown = {
                "queue": queue.name,
                **asdict(queue.counters),
                "oldest_age_ms": queue.oldest_age_ms,
            }
            self._print(options, shown, _line(queue))

    def peek(self, *, queue: str, limit: int, **options: Any) -> None:
        for job in queries.peek_jobs(queue, limit=limit):
            self._print(options, {**asdict(job), "data": json.loads(job.data)}, _job_line(job))

    def dead(self, *, queue: str, limit: int, **options: Any) -> None:
        for letter in self._letters(queue, limit):
            shown = {
                "seq": letter.seq,
                "src_seq": letter.src_seq,
                "deliveries": letter.deliveries,
                "data": json.loads(letter.data),
            }
            said = f"{letter.seq}  was {letter.src_seq}, delivered {letter.deliveries} times  {letter.data}"
            self._print(options, shown, said)

    def redrive(self, *, queue: str, seqs: list[int], **options: Any) -> None:
        moved, is_over = 0, False
        while not is_over:
            done = services.redrive_dead_letters(name=queue, seqs=seqs or None, caller=BY)
            moved += len(done.seqs)
            is_over = bool(seqs) or done.caught_up or not done.seqs
        shown = {"queue": queue, "redriven": moved, "skipped": done.skipped}
        self._print(options, shown, f"Moved {moved} jobs back into {queue}.")

    def release(self, *, queue: str, node: str | None, **options: Any) -> None:
        released = services.release_leases(name=queue, node=node, caller=BY)
        self._print(options, {"queue": queue, "released": released}, f"Gave back {released} jobs.")

    def pause(self, *, queue: str, **options: Any) -> None:
        services.pause_queue(name=queue, caller=BY)
        self._print(options, {"queue": queue, "paused": True}, f"Paused {queue}.")

    def resume(self, *, queue: str, **options: Any) -> None:
        services.resume_queue(name=queue, caller=BY)
        self._print(options, {"queue": queue, "paused": False}, f"Resumed {queue}.")

    def _letters(self, queue: str, limit: int) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        after, is_over = 0, False
        while not is_over and len(found) < limit:
            page = queries.read_dead_letters(queue, from_seq=after, limit=limit - len(found))
            found += page.letters
            after, is_over = page.next_from_seq, page.caught_up
        return found

    def _print(self, options: dict[str, Any], shown: dict[str, Any], said: str) -> None:
        self.stdout.write(json.dumps(shown) if options["json"] else said)


def _line(queue: Overview) -> str:
    counters = queue.counters
    age = (
        ""
        if queue.oldest_age_ms is None
        else f", the oldest {queue.oldest_age_ms / 1000:.0f} s old"
    )
    paused = "  PAUSED" if counters.is_paused else ""
    return (
        f"{queue.name}  {counters.ready} ready, {counters.in_flight} in flight, {counters.delayed} delayed,"
        f" {counters.dead_lettered} dead-lettered{age}{paused}"
    )


def _job_line(job: Peeked) -> str:
    until = "" if job.until is None else f" until {clock.rfc3339_of_milliseconds(job.until)}"
    holder = "" if job.node is None else f" by {job.node}"
    return f"{job.seq}  {job.state}{holder}{until}, delivered {job.deliveries} times  {job.data}"

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from apps.core import clock
from apps.core.errors import GyozaError, Invalid
from apps.core.threads import run_here
from apps.topics import predicates, queries, services
from apps.topics.appending import groupcommit, writes
from apps.topics.appending.writes import RecordBody, WriteBody
from apps.topics.config import TopicConfig
from apps.topics.descriptions import list_topics
from apps.topics.errors import TopicNotFound
from apps.topics.names import name_ranges

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterator

    from apps.topics.queries import Page, Stored

BY = "command line"
_PAGE = 500
# A follower looks again after so many seconds even if nobody wakes it.
_WAIT_SECONDS = 15


class Command(BaseCommand):
    help = "Create, list, follow, fill and trim topics."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="Create a topic.")
        create.add_argument("topic")
        create.add_argument(
            "config",
            nargs="*",
            metavar="KEY=VALUE",
            help="type=queue ttl_ms=900000 durability=fsync",
        )
        create.add_argument(
            "--replace",
            action="store_true",
            help="If it exists, replace its whole config: what is left out returns to its default.",
        )
        listing = verbs.add_parser("list", help="Show topics by name.")
        listing.add_argument("prefix", nargs="?", default="", help="How the names begin.")
        tail = verbs.add_parser("tail", help="Show the end of a topic.")
        tail.add_argument("topic")
        tail.add_argument("-n", "--records", type=int, default=10, help="How many; 10 by default.")
        tail.add_argument("-f", "--follow", action="store_true", help="Go on until interrupted.")
        publish = verbs.add_parser("publish", help="Append records, one for each JSON value.")
        publish.add_argument("topic")
        publish.add_argument(
            "data", nargs="*", help="JSON; without any, a value per line of stdin."
        )
        publish.add_argument("--tag")
        publish.add_argument("--node")
        trim = verbs.add_parser("trim", help="Delete records, for good.")
        trim.add_argument("topic")
        trim.add_argument("--before", type=int, metavar="SEQ", help="Those with a smaller seq.")
        trim.add_argument("--match", metavar="TAG", help="Those with this tag, or prefix*.")
        for verb in (create, listing, tail, publish, trim):
            verb.add_argument("--json", action="store_true", help="Print JSON, one value per line.")

    def handle(self, **options: Any) -> None:
        verbs: dict[str, Callable[..., None]] = {
            "create": self.create,
            "list": self.list_all,
            "tail": self.tail,
            "publish": self.publish,
            "trim": self.trim,
        }
        try:
            verbs[options["verb"]](**options)
        except GyozaError as exc:
            raise CommandError(exc.message) from exc

    def create(self, *, topic: str, config: list[str], replace: bool, **options: Any) -> None:
        done = services.configure_topic(
            topic=topic, wanted=config_of(config), caller=BY, replace=replace
        )
        said = f"{'Created' if done.created else 'Configured'} {topic}."
        self._print(options, {"topic": topic, "created": done.created}, said)

    def list_all(self, *, prefix: str, **options: Any) -> None:
        ranges, after = name_ranges(prefix, []), ""
        while rows := run_here(list_topics(ranges, after=after, limit=_PAGE)):
            for row in rows:
                said = (
                    f"{row.name}  {row.earliest}…{row.head}  {row.count} records, {row.bytes} bytes"
                )
                shown = {
                    "topic": row.name,
                    "head_seq": row.head,
                    "earliest_seq": row.earliest,
                    "count": row.count,
                    "bytes": row.bytes,
                }
                self._print(options, shown, said)
            after = rows[-1].name

    def tail(self, *, topic: str, records: int, follow: bool, **options: Any) -> None:
        head = queries.find_head(topic)
        if head is None:
            raise TopicNotFound.of(topic)
        after, more = max(head.seq - max(records, 0), 0), True
        while more and (page := queries.read_after(topic, after, _PAGE)) is not None:
            self._show(page, options)
            after, more = page.next_after, page.has_more
        if follow:
            with suppress(KeyboardInterrupt):
                run_here(self._follow(topic, after, options))

    def publish(
        self, *, topic: str, data: list[str], tag: str | None, node: str | None, **options: Any
    ) -> None:
        values = [value.encode() for value in data] or list(lines_of(sys.stdin.buffer.read()))
        for start in range(0, max(len(values), 1), writes.MAX_RECORDS):
            batch = values[start : start + writes.MAX_RECORDS]
            body = WriteBody([RecordBody(json_of(one), tag) for one in batch], node)
            append = writes.append_of(topic, body, text=b"".join(batch), key_header=None)
            written = run_here(groupcommit.write(append))
            shown = {"topic": topic, "first_seq": written.first_seq, "last_seq": written.last_seq}
            self._print(options, shown, f"{topic}  {written.first_seq}…{written.last_seq}")

    def trim(self, *, topic: str, before: int | None, match: str | None, **options: Any) -> None:
        if before is not None and before < 0:
            raise CommandError("--before takes a seq, which is not negative")
        removed = services.delete_records(
            topic=topic,
            before_seq=before,
            match=None if match is None else predicates.parse(match),
            caller=BY,
        )
        shown = {"topic": topic, "deleted": removed.deleted, "earliest_seq": removed.earliest}
        self._print(options, shown, f"Deleted {removed.deleted} records of {topic}.")

    async def _follow(self, topic: str, after: int, options: dict[str, Any]) -> None:
        while True:
            page = await queries.read_feed(topic, after, _PAGE, wait=_WAIT_SECONDS)
            self._show(page, options)
            after = page.next_after

    def _show(self, page: Page, options: dict[str, Any]) -> None:
        if page.gap is not None:
            gap = page.gap
            self.stderr.write(f"{gap.gap_from}…{gap.gap_to} are lost: {gap.reason}")
        for record in page.records:
            said = (
                str(record.seq),
                clock.rfc3339_of_milliseconds(record.ts),
                record.node or "-",
                record.tag or "-",
                record.data,
            )
            self._print(options, shown_record(record), "  ".join(said))

    def _print(self, options: dict[str, Any], shown: dict[str, Any], said: str) -> None:
        self.stdout.write(json.dumps(shown) if options["json"] else said)


def config_of(pairs: list[str]) -> TopicConfig:
    """Read KEY=VALUE pairs, values as JSON or else as text; raises CommandError."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if (
            not is_pair
            or name not in msgspec.json.schema(TopicConfig)["$defs"]["TopicConfig"]["properties"]
        ):
            raise CommandError(f"{pair}: no setting of a topic")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    try:
        return msgspec.convert(given, TopicConfig)
    except msgspec.ValidationError as exc:
        raise CommandError(str(exc)) from exc


def lines_of(text: bytes) -> Iterator[bytes]:
    """Return the lines that are not blank."""
    return (line for line in map(bytes.strip, text.splitlines()) if line)


def json_of(value: bytes) -> msgspec.Raw:
    """Take JSON text as it is; raises CommandError for what is none."""
    try:
        return writes.read_value(value)
    except Invalid as exc:
        shown = value[:60].decode("utf-8", "replace")
        raise CommandError(f"{shown}: {exc.message} (text is JSON in quotes)") from exc


def shown_record(record: Stored) -> dict[str, Any]:
    """Return a record for printing, as /v0 writes it."""
    shown: dict[str, Any] = {"$seq": record.seq, "$ts": record.ts}
    if record.node is not None:
        shown["$node"] = record.node
    if record.tag is not None:
        shown["$tag"] = record.tag
    shown["data"] = json.loads(record.data)
    if record.meta is not None:
        shown["meta"] = json.loads(record.meta)
    return shown

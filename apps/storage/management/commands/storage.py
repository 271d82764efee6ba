from __future__ import annotations

import json
import shutil
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from apps.access.auth import COMMAND_LINE
from apps.core.errors import GyozaError
from apps.storage import blobs, keys, listing, queries, services, sweeps, wire
from apps.storage.keys import Key
from apps.storage.services import NewObject

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

_PIECE_BYTES = 1024 * 1024


class Command(BaseCommand):
    help = "List, get, put and remove objects of executions, and sweep what was left behind."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listed = verbs.add_parser("list", help="Show the objects of an execution, by key.")
        listed.add_argument("execution", help="Id or tag.")
        listed.add_argument("prefix", nargs="?", default="", help="How keys go on after it.")
        listed.add_argument("--stage", help="Only of stages that begin so.")
        listed.add_argument("--json", action="store_true", help="Print JSON, one object per line.")
        get = verbs.add_parser("get", help="Write an object to a file, or to standard output.")
        put = verbs.add_parser("put", help="Store a file, or standard input, as an object.")
        remove = verbs.add_parser("rm", help="Delete an object.")
        for verb in (get, put, remove):
            verb.add_argument("key", help="<execution>/<stage>/<path>; the execution by id or tag.")
        for verb in (get, put):
            verb.add_argument("file", nargs="?", default="-", help="- by default.")
        put.add_argument("--stage", help="The stage, if it has slashes.")
        put.add_argument("--type", help="The media type; told by the name by default.")
        verbs.add_parser("sweep", help="Remove what is due now, as beat does every minute.")

    def handle(self, **options: Any) -> None:
        verbs: dict[str, Callable[..., None]] = {
            "list": self.list_all,
            "get": self.get,
            "put": self.put,
            "rm": self.remove,
            "sweep": self.sweep,
        }
        try:
            verbs[options["verb"]](**options)
        except GyozaError as exc:
            raise CommandError(exc.message) from exc
        except blobs.BlobGone as exc:
            raise CommandError("it was replaced or deleted just now; try again") from exc

    def list_all(
        self, *, execution: str, prefix: str, stage: str | None, json: bool, **_: Any
    ) -> None:
        space = queries.get_space(named=execution, caller=COMMAND_LINE)
        for one in listing.walk(space, prefix=prefix, stage=stage):
            self.stdout.write(_as_json(wire.object_body(one)) if json else _as_line(one))

    def get(self, *, key: str, file: str, **_: Any) -> None:
        found = queries.get_object(key=_key(key), caller=COMMAND_LINE)
        opened = blobs.open_at(found.blob, 0)
        try:
            if file == "-":
                shutil.copyfileobj(opened, sys.stdout.buffer, _PIECE_BYTES)
            else:
                with Path(file).open("wb") as target:
                    shutil.copyfileobj(opened, target, _PIECE_BYTES)
        finally:
            opened.close()

    def put(self, *, key: str, file: str, stage: str | None, type: str | None, **_: Any) -> None:
        wanted = _key(key)
        space = services.admit_write(key=wanted, caller=COMMAND_LINE)
        new = NewObject(
            name=wanted.name,
            stage=keys.split(wanted.name, stage)[0],
            content_type=type or keys.type_of(wanted.name),
        )
        with (
            nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as source,
            services.gathered(iter(partial(source.read, _PIECE_BYTES), b"")) as content,
        ):
            stored = services.put_object(execution_id=space.pk, new=new, content=content)[0]
        self.stdout.write(_as_line(stored))

    def remove(self, *, key: str, **_: Any) -> None:
        deleted = services.delete_object(key=_key(key), caller=COMMAND_LINE)
        self.stdout.write(f"deleted {deleted.key}")

    def sweep(self, **_: Any) -> None:
        self.stdout.write(f"removed {sweeps.sweep()}")


def _key(text: str) -> Key:
    execution, _, name = text.partition("/")
    keys.check_name(name)
    return Key(execution, name)


def _as_line(one: Any) -> str:
    return f"{one.content_length:>12}  {one.modified_at:%Y-%m-%d %H:%M:%S}  {one.key}"


def _as_json(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)

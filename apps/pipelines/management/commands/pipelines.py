from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from apps.access.auth import COMMAND_LINE
from apps.core import strictjson
from apps.core.errors import GyozaError, Invalid
from apps.pipelines import queries, services, wire
from apps.pipelines.language import yamltext

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Apply, run and export pipelines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        apply = verbs.add_parser(
            "apply", help="Create or replace pipelines from YAML or JSON files."
        )
        apply.add_argument("files", nargs="+", metavar="FILE", help="- is standard input.")
        run = verbs.add_parser("run", help="Start an execution and print its id.")
        run.add_argument("pipeline")
        run.add_argument("--inputs", default="{}", help="JSON object.")
        run.add_argument("--tag")
        run.add_argument("--pipeline-version", type=int, help="The newest without it.")
        export = verbs.add_parser("export", help="Print a pipeline as YAML, or as JSON.")
        export.add_argument("pipeline")
        export.add_argument("--pipeline-version", type=int, help="The newest without it.")
        export.add_argument("--json", action="store_true")

    def handle(self, **options: Any) -> None:
        verbs = {"apply": self.apply, "run": self.run, "export": self.export}
        try:
            verbs[options["verb"]](options)
        except GyozaError as exc:
            raise CommandError(said(exc)) from exc

    def apply(self, options: dict[str, Any]) -> None:
        # All are read before one is applied: a file that can't be read changes nothing.
        documents = [(name, read_document(name)) for name in options["files"]]
        for name, document in documents:
            try:
                pipeline, version, created = services.apply_pipeline(
                    body=document, caller=COMMAND_LINE
                )
            except GyozaError as exc:
                raise CommandError(f"{name}: {said(exc)}") from exc
            done = "created" if created else f"version {version.number}"
            self.stdout.write(f"{pipeline.id}  {done}")

    def run(self, options: dict[str, Any]) -> None:
        execution = services.run_pipeline(
            pipeline_id=options["pipeline"],
            version=options["pipeline_version"],
            inputs=strictjson.read_object(options["inputs"].encode()),
            tag=options["tag"],
            caller=COMMAND_LINE,
        )
        self.stdout.write(str(execution.id))

    def export(self, options: dict[str, Any]) -> None:
        pipeline = queries.get_pipeline(pipeline_id=options["pipeline"], caller=COMMAND_LINE)
        version = queries.get_version(pipeline, options["pipeline_version"])
        document = wire.document(pipeline, version)
        text = (
            json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            if options["json"]
            else yamltext.dump(document)
        )
        self.stdout.write(text, ending="")


def read_document(name: str) -> dict[str, Any]:
    """Read a file of one document; raises CommandError naming it."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return yamltext.read(content, is_json=name.endswith(".json"))
    except OSError as exc:
        raise CommandError(f"{name}: {exc.strerror}") from exc
    except Invalid as exc:
        raise CommandError(f"{name}: {exc.message}") from exc


def said(exc: GyozaError) -> str:
    """Return every complaint of an error, a line each."""
    errors = exc.detail.get("errors")
    if not errors:
        return exc.message
    return "\n".join(["", *(f"  {one['field']}: {one['message']}" for one in errors)])

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.core.reference import commands, errors, events, openapi
from apps.core.reference import settings as variables

if TYPE_CHECKING:
    from argparse import ArgumentParser

PAGES = {
    "commands.md": commands.page,
    "errors.md": errors.page,
    "events.md": events.page,
    "openapi.yaml": openapi.page,
    "settings.md": variables.page,
}


class Command(BaseCommand):
    help = "Write the reference pages that are generated from the code."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="Write nothing; fail if one is stale."
        )

    def handle(self, **options: Any) -> None:
        reference = Path(settings.BASE_DIR) / "docs" / "reference"
        stale = [
            name
            for name, write in PAGES.items()
            if not (path := reference / name).exists() or path.read_text("utf-8") != write()
        ]
        if options["check"] and stale:
            raise CommandError(f"stale: {', '.join(stale)}; run manage.py docs")
        for name in stale:
            (reference / name).write_text(PAGES[name](), "utf-8")
            self.stdout.write(f"wrote docs/reference/{name}")

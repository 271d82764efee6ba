from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from apps.stack import up

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Run everything on this machine: Postgres, Redis, web, worker, beat. Stops on Ctrl-C."
    # What it would check is checked by each process it starts, against servers that run by then.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--no-showcase", action="store_true", help="Don't run the examples at the end."
        )

    def handle(self, **options: Any) -> None:
        sys.exit(up.run(with_showcase=not options["no_showcase"]))

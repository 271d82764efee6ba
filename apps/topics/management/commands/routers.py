from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from apps.core import clock
from apps.core.errors import GyozaError
from apps.topics.routers import queries, services
from apps.topics.routers.config import RouterConfig
from apps.topics.states import Guarantee

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Sequence

    from apps.topics.routers.queries import RouterLag

BY = "command line"


class Command(BaseCommand):
    help = "List, make, pause, resume and delete routers, and show which are behind."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="Show routers by name.")
        lag = verbs.add_parser("lag", help="Show the routers that are behind, the furthest first.")
        for verb in (listing, lag):
            verb.add_argument("prefix", nargs="?", default="", help="How the names begin.")
        create = verbs.add_parser("create", help="Copy each new record of SOURCE into DEST.")
        create.add_argument("router", help="Its name, such as 'source->dest'.")
        create.add_argument("source", help="Made if it is missing.")
        create.add_argument("dest", help="Made if it is missing.")
        create.add_argument(
            "--filter", help="Only this tag; with a * at the end, tags that begin so."
        )
        create.add_argument("--exactly-once", action="store_true", help="Stamp the copies' meta.")
        create.add_argument("--allow-cycle", action="store_true", help="It may close a circle.")
        create.add_argument("--drop-node", action="store_true", help="Copies carry no node.")
        create.add_argument("--drop-tag", action="store_true", help="Copies carry no tag.")
        pause = verbs.add_parser("pause", help="Have a router copy nothing.")
        resume = verbs.add_parser("resume", help="Have a router go on where it was.")
        delete = verbs.add_parser("delete", help="Delete a router; its copies stay.")
        for verb in (pause, resume, delete):
            verb.add_argument("router")
        for verb in (listing, lag, create, pause, resume, delete):
            verb.add_argument("--json", action="store_true", help="Print JSON, one value per line.")

    def handle(self, **options: Any) -> None:
        verbs: dict[str, Callable[..., None]] = {
            "list": self.list_all,
            "lag": self.show_lag,
            "create": self.create,
            "pause": self.pause,
            "resume": self.resume,
            "delete": self.delete,
        }
        try:
            verbs[options["verb"]](**options)
        except GyozaError as exc:
            raise CommandError(exc.message) from exc

    def list_all(self, *, prefix: str, **options: Any) -> None:
        self._print_all(options, queries.router_lags_now(prefix))

    def show_lag(self, *, prefix: str, **options: Any) -> None:
        behind = [router for router in queries.router_lags_now(prefix) if router.lag]
        self._print_all(options, sorted(behind, key=lambda router: -router.lag))

    def create(self, *, router: str, source: str, dest: str, **options: Any) -> None:
        wanted = RouterConfig(
            source=source,
            dest=dest,
            filter=options["filter"],
            preserve_node=not options["drop_node"],
            preserve_tag=not options["drop_tag"],
            allow_cycle=options["allow_cycle"],
            guarantee="exactly_once" if options["exactly_once"] else "at_least_once",
        )
        done = services.configure_router(router=router, wanted=wanted, caller=BY)
        said = "Made" if done.created else "Changed"
        shown = {"router": router, "created": done.created}
        self._print(options, shown, f"{said} {router}: {source} → {dest}.")

    def pause(self, *, router: str, **options: Any) -> None:
        services.pause_router(router=router, caller=BY)
        self._print(options, {"router": router, "paused": True}, f"Paused {router}.")

    def resume(self, *, router: str, **options: Any) -> None:
        services.resume_router(router=router, caller=BY)
        self._print(options, {"router": router, "paused": False}, f"Resumed {router}.")

    def delete(self, *, router: str, **options: Any) -> None:
        deleted = services.delete_router(router=router, caller=BY)
        said = f"Deleted {router}." if deleted else f"There is no router {router}."
        self._print(options, {"router": router, "deleted": deleted}, said)

    def _print_all(self, options: dict[str, Any], routers: Sequence[RouterLag]) -> None:
        for router in routers:
            self._print(options, asdict(router), _line(router))

    def _print(self, options: dict[str, Any], shown: dict[str, Any], said: str) -> None:
        self.stdout.write(json.dumps(shown) if options["json"] else said)


def _line(router: RouterLag) -> str:
    stamps = ", exactly once" if router.guarantee == Guarantee.EXACTLY_ONCE else ""
    behind = "up to date"
    if router.lag:
        behind = f"{router.lag} behind"
        if router.waiting_since is not None:
            behind += f" since {clock.rfc3339_of_milliseconds(router.waiting_since)}"
    why = "  PAUSED" if router.is_paused else ""
    if router.is_full:
        why += f"  {router.dest} IS FULL"
    return (
        f"{router.name}  {router.source} → {router.dest}{stamps}, {router.forwarded_total} forwarded,"
        f" {behind}{why}"
    )

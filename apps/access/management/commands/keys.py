from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from apps.access import queries, services
from apps.access.scopes import parse_prefixes, parse_scopes
from apps.core import clock
from apps.core.errors import GyozaError, Invalid

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from apps.access.models import ApiKey

BY = "command line"


class Command(BaseCommand):
    help = "Make, list and revoke API keys. The first key turns authentication on, everywhere, at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="Make a key and print its secret, once.")
        create.add_argument("name", help="Who uses it, for what.")
        create.add_argument(
            "--scopes",
            action="append",
            default=[],
            help="read+write+delete+admin, or read,write; all by default. May be repeated.",
        )
        create.add_argument(
            "--prefixes",
            action="append",
            default=[],
            help="a.|b. : only names that begin so. May be repeated.",
        )
        create.add_argument("--expires", type=moment, help="2027-01-31, or with a time of day.")
        listing = verbs.add_parser("list", help="Show the keys that stand.")
        revoke = verbs.add_parser("revoke", help="Revoke a key, at once and for good.")
        revoke.add_argument("key", help="Its name or id.")
        for verb in (create, listing, revoke):
            verb.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, **options: Any) -> None:
        verbs = {"create": self.create, "list": self.list, "revoke": self.revoke}
        try:
            verbs[options["verb"]](options)
        except GyozaError as exc:
            raise CommandError(exc.message) from exc

    def create(self, options: dict[str, Any]) -> None:
        key, secret = services.create_key(
            name=options["name"],
            scopes=parse_scopes(re.sub(r"[,\s]", "+", said(options, "scopes", "+"))),
            prefixes=parse_prefixes(said(options, "prefixes", "|")),
            expires_at=options["expires"],
            caller=BY,
        )
        if options["json"]:
            self.stdout.write(json.dumps({**described(key), "secret": secret}))
            return
        self.stderr.write(f"Made the key {key.name}. This is its secret; it won't be shown again:")
        self.stdout.write(secret)

    def list(self, options: dict[str, Any]) -> None:
        keys = [described(key) for key in queries.standing_keys()]
        if options["json"]:
            self.stdout.write(json.dumps(keys))
            return
        for key in keys:
            scopes, names = "+".join(key["scopes"]), "|".join(key["prefixes"]) or "every name"
            used = key["last_used_at"] or "never used"
            ends = f"  expires {key['expires_at']}" if key["expires_at"] else ""
            self.stdout.write(f"{key['hint']}…  {key['name']}  {scopes}  {names}  {used}{ends}")

    def revoke(self, options: dict[str, Any]) -> None:
        key = services.revoke_key(key=name_or_id(options["key"]), caller=BY)
        self.stdout.write(json.dumps(described(key)) if options["json"] else f"Revoked {key.name}.")


def said(options: dict[str, Any], name: str, separator: str) -> str:
    """Return what an option was given, as one text; "" without it. Raises Invalid if it was given nothing.

    Left out, it means all there is. Given and empty, it is most likely a variable that was not set.
    """
    given: list[str] = options[name]
    if given and not "".join(given).strip(f"{separator}, \t\n"):
        raise Invalid(f"--{name} is empty; leave it out for all of them")
    return separator.join(given)


def moment(text: str) -> datetime:
    """Read a date or a date and time; UTC unless it says otherwise."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def name_or_id(text: str) -> str | UUID:
    """Read what names a key: an id if it looks like one."""
    try:
        return UUID(text)
    except ValueError:
        return text


def described(key: ApiKey) -> dict[str, Any]:
    """Return a key for printing, without anything secret."""

    def shown(at: datetime | None) -> str | None:
        return None if at is None else clock.rfc3339(at)

    return {
        "id": str(key.pk),
        "name": key.name,
        "hint": key.hint,
        "scopes": list(key.scopes),
        "prefixes": list(key.prefixes),
        "created_at": shown(key.created_at),
        "expires_at": shown(key.expires_at),
        "last_used_at": shown(key.last_used_at),
        "revoked_at": shown(key.revoked_at),
    }

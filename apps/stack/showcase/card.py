"""The short card at the end: where to look, what to try next, how to stop."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings

from apps.stack import client
from apps.stack.showcase import orders, runs

if TYPE_CHECKING:
    from apps.stack.terminal import Terminal


def card(terminal: Terminal) -> str:
    """Return where to look, what to try next and how to stop."""
    url = client.base_url()
    strong, quiet = partial(terminal.paint, "strong"), partial(terminal.paint, "quiet")
    body = """'{"inputs": {"samples": 2000000}}'"""
    order = f"'{json.dumps({'records': [{'data': orders.ORDERS[-1]}]})}'"
    logs = settings.GYOZA_HOME / "logs"
    where = os.path.relpath(logs) if logs.is_relative_to(settings.BASE_DIR) else str(logs)
    key = ' -H "X-API-Key: $KEY"' if _asks_for_key() else ""
    # An embedded database is found by itself.
    given = "with this DATABASE_URL, " if os.environ.get("DATABASE_URL") else ""
    advice = f"make an account first, {given}in another terminal:"
    return "\n".join(
        [
            "",
            f"  {strong('Gyoza is up')}  {strong(terminal.paint('accent', url))}",
            "",
            f"  Look      {url}/console/   what runs, as it runs",
            f"            {url}/admin/     every row there is",
            f"            {url}/runs       runs; also /definitions, /workers",
            f"            {url}/api/v1/executions/  what pipelines have done",
            f"            {url}/api/docs   the whole API",
            f"  Try       curl {url}/definitions/monte-carlo-pi/runs \\",
            f"              -H 'Content-Type: application/json'{key} -d {body}",
            f"  Order     curl {url}/v0/topics/{orders.PIPELINE} \\",
            f"              -H 'Content-Type: application/json'{key} -d {order}",
            f"  Follow    curl{key} '{url}/events?topic={runs.TOPIC}&wait=30'",
            f"  Admin     {quiet(advice)} .venv/bin/python manage.py createsuperuser",
            f"  Logs      {where}/",
            f"  Stop      Ctrl-C {quiet('(your data is kept)')}",
            "",
        ]
    )


def _asks_for_key() -> bool:
    if os.environ.get("GYOZA_API_KEY"):
        return True
    try:
        client.get("/runs?limit=1")
    except client.Refused as refused:
        return refused.status in {401, 403}
    return False

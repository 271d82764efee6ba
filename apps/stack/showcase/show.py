"""Shows a newcomer a system at work: runs, then a pipeline that messages start, then where to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.stack import client
from apps.stack.showcase import orders, runs
from apps.stack.showcase.card import card

if TYPE_CHECKING:
    from collections.abc import Callable

    from apps.stack.terminal import Terminal


def run(terminal: Terminal, is_over: Callable[[], bool] = lambda: False) -> None:
    """Show everything, then the card; a service that refuses is reported, never raised."""
    try:
        runs.show(terminal, is_over)
        if not is_over():
            orders.show(terminal, is_over)
    except client.Refused as refused:
        if is_over():
            return
        if refused.status in {401, 403}:
            terminal.line(
                "\n  API keys are in use, so the examples are left out (GYOZA_API_KEY=… runs them)."
            )
        else:
            terminal.line(f"\n  {terminal.paint('bad', '✗')} The examples did not run: {refused}")
    if not is_over():
        terminal.line(card(terminal))

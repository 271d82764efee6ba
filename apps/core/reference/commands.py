"""`docs/reference/commands.md`: the Makefile's targets and the service's own `manage.py` commands."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# Commands

Generated from the code by `manage.py docs`; don't edit.

## make

Nothing has to be installed first: each target makes what it needs in `.venv`.

| command | does |
|---|---|
"""

_MANAGE = """
## manage.py

Run them with `.venv/bin/python manage.py …`. They read the same [settings](settings.md) as the service; beside a running
`make up` they find its database by themselves. Django's own are there too: `migrate`, `createsuperuser`, `changepassword`, `check`, `shell`, …
"""


def page() -> str:
    """Return the page."""
    made = "".join(f"| `make {name}` | {sentence} |\n" for name, sentence in targets())
    return _HEAD + made + _MANAGE + "".join(_told(name) for name in commands())


def targets() -> list[tuple[str, str]]:
    """Return the Makefile's targets with their sentences, in its order."""
    text = (Path(settings.BASE_DIR) / "Makefile").read_text("utf-8")
    return re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE)


def commands() -> list[str]:
    """Return the names of the service's own commands."""
    return sorted(name for name, app in get_commands().items() if str(app).startswith("apps."))


def _told(name: str) -> str:
    command = load_command_class(str(get_commands()[name]), name)
    parser = command.create_parser("manage.py", name)
    return f"\n### {name}\n\n{command.help}\n" + "".join(_rows(parser, name))


def _rows(parser: ArgumentParser, name: str) -> Iterator[str]:
    own = [action for action in parser._actions if not _is_djangos(action)]
    options = [action for action in own if not isinstance(action, _SubParsersAction)]
    if options:
        yield "\n| argument | |\n|---|---|\n"
    for action in options:
        yield f"| `{_spelled(action)}` | {_cell(action.help or '')} |\n"
    for action in own:
        if isinstance(action, _SubParsersAction):
            for choice in action._choices_actions:
                yield f"\n`{name} {choice.dest}`: {choice.help}\n"
                yield from _rows(action.choices[choice.dest], name)


def _is_djangos(action: Action) -> bool:
    common = DjangoHelpFormatter.show_last | {"-h"}
    return action.help == SUPPRESS or bool(common & set(action.option_strings))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _spelled(action: Action) -> str:
    if not action.option_strings:
        return action.dest
    longest = max(action.option_strings, key=len)
    return longest if action.nargs == 0 else f"{longest} {action.dest.upper()}"

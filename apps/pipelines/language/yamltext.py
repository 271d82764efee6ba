"""A pipeline's document as text, as people write it: YAML, or JSON."""

from __future__ import annotations

from typing import Any

import yaml

from apps.core import strictjson, strictyaml


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def read(content: bytes, *, is_json: bool = False) -> dict[str, Any]:
    """Read a document written in JSON or in YAML. Raises Invalid."""
    # YAML 1.1 reads most JSON, but not all of it alike.
    if is_json or content.lstrip()[:1] == b"{":
        return strictjson.read_object(content)
    return strictyaml.read_object(content)


def dump(document: dict[str, Any]) -> str:
    """Write a document as YAML, its members in their order; `read` reads it back without loss."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)

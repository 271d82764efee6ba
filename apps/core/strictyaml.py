"""One strict YAML reader: what it lets through is what JSON can say, under the rules of `core.strictjson`."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from apps.core.errors import Invalid
from apps.core.strictjson import read_object as read_json_object

JSON = Any

# Aliases may repeat what they name; a small text must not become a huge value.
MOST_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """Reads the types of JSON: no dates, no sets, no binary; a repeated member is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _at(key_node, f"a member name must be a string, got {key!r}")
            if key in found:
                raise _at(key_node, f"the member {key!r} is given twice")
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _at(node: yaml.Node, message: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


# Plain words are what they are in JSON: `yes`, `2030-01-01`, `010` and `1:30` stay text.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", "-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first)
    )


def read_object(body: bytes) -> dict[str, JSON]:
    """Parse a YAML document that is a mapping; raises Invalid for anything that JSON could not say."""
    try:
        text = body.decode("utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise Invalid("the document is empty")
            _count(node)
            value = loader.construct_document(node)
        finally:
            loader.dispose()
        written = json.dumps(value, allow_nan=False).encode()
    except UnicodeDecodeError as exc:
        raise Invalid(f"the document is not UTF-8 at byte {exc.start}") from exc
    except yaml.YAMLError as exc:
        raise Invalid(f"the document is not YAML: {_said(exc)}") from exc
    except RecursionError as exc:
        raise Invalid("the document is nested too deeply") from exc
    except (TypeError, ValueError) as exc:
        raise Invalid(f"the document says what JSON can't: {exc}") from exc
    return read_json_object(written)


def _count(node: yaml.Node) -> None:
    """Raise Invalid for a document whose aliases make it too big."""
    left, seen = [node], 0
    while left:
        one = left.pop()
        seen += 1
        if seen > MOST_NODES:
            raise Invalid(f"the document has more than {MOST_NODES} values")
        if isinstance(one, yaml.MappingNode):
            for pair in one.value:
                left.extend(pair)
        elif isinstance(one, yaml.SequenceNode):
            left.extend(one.value)


def _said(exc: yaml.YAMLError) -> str:
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or str(exc)
    return f"{problem} at line {mark.line + 1} column {mark.column + 1}" if mark else str(problem)

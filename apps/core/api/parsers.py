from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from rest_framework.parsers import BaseParser

from apps.core import strictyaml
from apps.core.errors import TooLarge, UnsupportedMediaType
from apps.core.strictjson import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = Any

# runs §2: inputs and outputs are metadata, not blobs.
MAX_BODY_BYTES = 1024 * 1024


class StrictJSONParser(BaseParser):
    """Reads a JSON object of at most 1 MiB."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, JSON]:
        request = (parser_context or {})["request"]
        charset = request._request.content_params.get("charset", "utf-8")
        if charset.lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType("JSON is written in UTF-8")
        return read_object(_read(stream))


class YAMLParser(StrictJSONParser):
    """Reads a YAML document that says what a JSON object could, of at most 1 MiB."""

    media_type = "application/yaml"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, JSON]:
        return strictyaml.read_object(_read(stream))


def _read(stream: IO[Any]) -> bytes:
    # One byte more than allowed shows a body that is too long, whatever Content-Length said.
    body: bytes = stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is over {MAX_BODY_BYTES} bytes")
    return body

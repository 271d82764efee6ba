from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

from apps.access.auth import Caller
from apps.core.errors import NotFound
from apps.pipelines.adapters.base import Adapter, AdapterFailed, Call, Errand, required
from apps.pipelines.execution import contents
from apps.storage import queries as storage

if TYPE_CHECKING:
    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.storage.models import Object

JSON = Any

MOST_BYTES = 1024 * 1024


class StorageRead(Adapter):
    """Reads an object of an execution that the pipeline's key may see."""

    name = "storage.read"
    inputs: ClassVar = {
        "key": required("string", "<execution, by id or tag>/<stage>/<path>; at most 1 MiB.")
    }

    def perform(self, call: Call) -> Errand:
        """Say what is to be read."""
        return _Read(call.execution, call.inputs["key"])


class _Read(Errand):
    def __init__(self, execution: LiveExecution, key: str) -> None:
        self._execution = execution
        self._key = key

    def run(self) -> dict[str, JSON]:
        found, content = self._found()
        if found.content_length > MOST_BYTES:
            raise AdapterFailed(
                f"{found.key} has {found.content_length} bytes; storage.read gives at most {MOST_BYTES}"
            )
        return {**_content(content), "content_type": found.content_type}

    def settle(self, brought: dict[str, JSON]) -> dict[str, JSON]:
        return brought

    def give_up(self, brought: dict[str, JSON]) -> None:
        pass

    def _found(self) -> tuple[Object, bytes]:
        try:
            return self._read(self._key)
        except NotFound:
            earlier = contents.earlier_key(self._execution, self._key)
            if earlier is None:
                raise
            return self._read(earlier)

    def _read(self, key: str) -> tuple[Object, bytes]:
        prefixes = tuple(self._execution.prefixes)
        maker = Caller(name="pipeline", scopes=frozenset(), prefixes=prefixes)
        return storage.read_object(key=storage.key_of(key), caller=maker, most=MOST_BYTES)


def _content(content: bytes) -> dict[str, JSON]:
    """Return bytes as text, if that is what they are and JSON can hold it; else as base64."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return {"content_base64": base64.b64encode(content).decode()}
    return {"content": text}

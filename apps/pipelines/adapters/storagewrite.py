from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import transaction

from apps.core import mediatypes
from apps.core.body import shown
from apps.pipelines.adapters.base import (
    Adapter,
    AdapterFailed,
    Call,
    Errand,
    optional,
    required,
)
from apps.storage import services as storage

if TYPE_CHECKING:
    from uuid import UUID

    from apps.storage.services import NewObject, Uploaded

JSON = Any


class StorageWrite(Adapter):
    """Stores an object in the step's stage of its own execution; it is there when the step is completed."""

    name = "storage.write"
    inputs: ClassVar = {
        "path": required("string", "Below the step's stage."),
        "content": optional("string", description="Text; or `content_base64`."),
        "content_base64": optional("string", description="Bytes."),
        "content_type": optional("string", description="Told by the path without it."),
    }

    def perform(self, call: Call) -> Errand:
        """Say what is to be stored."""
        inputs = call.inputs
        new = storage.file_of_stage(stage=call.stage, path=inputs["path"], run_id=None)
        content_type = inputs["content_type"]
        if content_type:
            if not mediatypes.is_media_type(content_type):
                raise AdapterFailed(f"content_type {mediatypes.RULE}, got {shown(content_type)}")
            new = replace(new, content_type=content_type)
        return _Write(call.execution.id, new, _content(inputs))


class _Write(Errand):
    def __init__(self, execution_id: UUID, new: NewObject, content: bytes) -> None:
        self._execution_id = execution_id
        self._new = new
        self._content = content

    def run(self) -> Uploaded:
        return storage.upload_bytes(self._content, name=self._new.name)

    def settle(self, brought: Uploaded) -> dict[str, JSON]:
        stored, replaced = storage.attach(
            execution_id=self._execution_id, new=self._new, uploaded=brought
        )
        if replaced is not None:
            transaction.on_commit(partial(storage.discard, replaced), robust=True)
        return {"key": stored.key}

    def give_up(self, brought: Uploaded) -> None:
        storage.discard(brought.blob)


def _content(inputs: Any) -> bytes:
    text, encoded = inputs["content"], inputs["content_base64"]
    if (text is None) == (encoded is None):
        raise AdapterFailed("one of content and content_base64 must be given")
    if encoded is None:
        return str(text).encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise AdapterFailed(f"content_base64 is not base64: {exc}") from exc

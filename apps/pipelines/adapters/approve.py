from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from apps.core import clock
from apps.pipelines.adapters.base import (
    Adapter,
    AdapterFailed,
    Call,
    Done,
    Waits,
    optional,
    required,
)


class Approve(Adapter):
    """Waits until a person has said yes or no (services.approve_stage)."""

    name = "approve"
    inputs: ClassVar = {
        "message": required("string", "What is to be decided."),
        "timeout_s": optional("float", description="Fails when nobody has answered by then."),
    }

    def perform(self, call: Call) -> Done | Waits:
        """Give the answer if there is one."""
        note = call.note
        if note is None:
            timeout = call.inputs["timeout_s"]
            if timeout is not None and timeout <= 0:
                raise AdapterFailed(f"timeout_s must be more than 0, got {timeout:g}")
            until = None if timeout is None else call.now + timedelta(seconds=timeout)
            until_text = None if until is None else clock.rfc3339(until)
            return Waits({"message": call.inputs["message"], "until": until_text}, until)
        if "approved" in note:
            return Done({name: note[name] for name in ("approved", "by", "comment")})
        until = None if note["until"] is None else datetime.fromisoformat(note["until"])
        if until is not None and until <= call.now:
            raise AdapterFailed(f"nobody answered within {call.inputs['timeout_s']:g} s")
        return Waits(note, until)

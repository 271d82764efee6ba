from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from apps.core import clock
from apps.pipelines.adapters.base import Adapter, AdapterFailed, Call, Done, Waits, required

LONGEST_SECONDS = 366 * 24 * 3600


class Sleep(Adapter):
    """Waits for a while; nothing runs meanwhile, and it survives any restart."""

    name = "sleep"
    inputs: ClassVar = {"seconds": required("float", f"0 to {LONGEST_SECONDS}.")}

    def perform(self, call: Call) -> Done | Waits:
        """Wait until the time is over."""
        seconds = call.inputs["seconds"]
        if not 0 <= seconds <= LONGEST_SECONDS:
            raise AdapterFailed(f"seconds must be from 0 to {LONGEST_SECONDS}, got {seconds:g}")
        if call.note is not None:
            until = datetime.fromisoformat(call.note["until"])
        else:
            until = call.now + timedelta(seconds=seconds)
        if until <= call.now:
            return Done({})
        return Waits({"until": clock.rfc3339(until)}, until)

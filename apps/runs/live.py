"""A run that a transaction has locked, and what its moves put into its row. The moves are in `transitions`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from apps.runs.states import RunState

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

JSON = Any


@dataclass(slots=True)
class Live:
    """A locked run: the columns that moves read and write. Times are aware, JSON is decoded on demand."""

    id: UUID
    state: RunState
    progress: int
    current_attempt: int
    event_count: int
    failures: int
    losses: int
    retry_policy: str
    topic: str
    attributes: str
    output_specs: str
    outputs: str | None
    queued_at: datetime
    scheduled_at: datetime | None
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: str | None
    lease: str | None
    gpu: int | None
    handle: str | None
    message_offset: int
    exit_code: int | None
    error_message: str
    cancel_requested_at: datetime | None
    cancel_reason: str
    execution_id: UUID | None
    new_outputs: dict[str, JSON] | None = None
    more_outputs: dict[str, JSON] = field(default_factory=dict)

    def row(self) -> dict[str, JSON]:
        """Return the columns as `write_moves` takes them."""
        return {
            "id": self.id,
            "state": self.state,
            "progress": self.progress,
            "current_attempt": self.current_attempt,
            "event_count": self.event_count,
            "failures": self.failures,
            "losses": self.losses,
            "outputs": self.new_outputs,
            "outputs_patch": self.more_outputs or None,
            "queued_at": self.queued_at,
            "scheduled_at": self.scheduled_at,
            "assigned_at": self.assigned_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "worker_id": self.worker_id,
            "lease": self.lease,
            "gpu": self.gpu,
            "handle": msgspec.Raw(self.handle.encode()) if self.handle is not None else None,
            "message_offset": self.message_offset,
            "exit_code": self.exit_code,
            "error_message": self.error_message,
            "cancel_requested_at": self.cancel_requested_at,
            "cancel_reason": self.cancel_reason,
        }


_COLUMNS = tuple(Live.__slots__)[:-2]


def as_live(row: dict[str, Any]) -> Live:
    """Build a Live from a row of lock_runs or claim_candidates."""
    return Live(**{**{name: row[name] for name in _COLUMNS}, "state": RunState(row["state"])})


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of an attempt's log, `start` bytes into it."""

    run_id: UUID
    attempt: int
    start: int
    content: bytes


def clean(value: JSON) -> JSON:
    """Return JSON that Postgres can hold: NUL and lone surrogates replaced, numbers within 64 bits.

    Texts come from ops and may hold anything.
    """
    if isinstance(value, str):
        if "\x00" in value or not value.isascii():
            return value.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
        return value
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 63:
        return str(value)
    return value

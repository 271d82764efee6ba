"""What the worker that holds a run reports of it (runs.md §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from apps.core.body import is_integer
from apps.core.errors import Invalid
from apps.core.queue import nudge_on_commit
from apps.definitions import services as definitions
from apps.runs import transitions
from apps.runs.models import Run, RunEvent
from apps.runs.scheduling import CLAIM_TASK
from apps.runs.services.leases import check_lease, lock_visible
from apps.runs.states import EventType

if TYPE_CHECKING:
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.runs.live import Live
    from apps.runs.transitions import Batch

JSON = Any


def report(
    *,
    run_id: UUID,
    caller: Caller,
    attempt: int,
    lease: str | None,
    type: EventType,
    msg: str | int = "",
    payload: dict[str, JSON] | None = None,
    outputs: dict[str, JSON] | None = None,
) -> RunEvent:
    """Take an event from the worker that holds the run; state-changing types move the run.

    An op reports on its own attempt without a lease (None): its token is good for as long as the attempt.
    Raises NotFound, StaleLease when the attempt or the lease is not the present one, IllegalTransition.
    """
    with transitions.batch() as moves:
        live = lock_visible(moves, run_id, caller)
        check_lease(live, attempt=attempt, lease=lease)
        number = live.event_count
        _apply(moves, live, type, msg, payload or {}, outputs)
    nothing_fits_any_more = type in (EventType.STARTED, EventType.INFO, EventType.PROGRESS)
    if not nothing_fits_any_more:
        nudge_on_commit(CLAIM_TASK)
    return RunEvent.objects.get(run_id=run_id, attempt=attempt, number=number)


def report_outputs(
    *, run_id: UUID, caller: Caller, attempt: int, lease: str | None, outputs: dict[str, JSON]
) -> Run:
    """Add outputs to the attempt a worker executes. Raises NotFound, StaleLease."""
    with transitions.batch() as moves:
        live = lock_visible(moves, run_id, caller)
        check_lease(live, attempt=attempt, lease=lease)
        transitions.add_outputs(moves, live, outputs)
    return Run.objects.get(pk=run_id)


def _apply(
    moves: Batch,
    live: Live,
    type_: EventType,
    msg: str | int,
    payload: dict[str, JSON],
    outputs: dict[str, JSON] | None,
) -> None:
    if outputs and type_ != EventType.COMPLETED:
        transitions.add_outputs(moves, live, outputs)
    match type_:
        case EventType.STARTED:
            transitions.start(moves, live, msg=str(msg), payload=payload)
        case EventType.PROGRESS:
            transitions.progress(moves, live, int(msg), payload)
        case EventType.INFO | EventType.ERROR:
            moves.note(live, type_, msg, payload)
        case EventType.COMPLETED:
            finish(
                moves,
                live,
                outputs=outputs or {},
                exit_code=_exit_code(payload),
                msg=str(msg),
                payload=payload,
            )
        case EventType.FAILED:
            code = _exit_code(payload)
            transitions.fail(
                moves, live, error=str(msg) or "failed", exit_code=code, payload=payload
            )
        case EventType.CANCELLED:
            why, code = str(msg) or live.cancel_reason, _exit_code(payload)
            transitions.cancel(moves, live, reason=why, exit_code=code, payload=payload)
        case _:
            raise Invalid.of([("type", f"{type_} is not for workers to report")])


def _exit_code(payload: dict[str, JSON]) -> int | None:
    """Return the exit status that a worker tells in the payload of an end; None for what can't be one."""
    code: JSON = payload.get("exit_code", "")
    return code if is_integer(code) and abs(code) < 2**31 else None


def finish(
    moves: Batch,
    live: Live,
    *,
    outputs: dict[str, JSON],
    exit_code: int | None,
    msg: str = "",
    payload: JSON = None,
) -> None:
    """End a run whose op succeeded: COMPLETED, or a failed attempt if the outputs break output_specs."""
    if live.output_specs != "{}":
        everything = msgspec.json.decode(live.outputs or "{}") | live.more_outputs | outputs
        wrong = definitions.check_outputs(msgspec.json.decode(live.output_specs), everything)
        if wrong:
            listed = "; ".join(f"{name}: {message}" for name, message in wrong)
            transitions.add_outputs(moves, live, outputs)
            transitions.fail(
                moves,
                live,
                error=f"outputs break output_specs: {listed}",
                exit_code=exit_code,
                payload=payload,
            )
            return
    transitions.complete(
        moves, live, outputs=outputs, exit_code=exit_code, msg=msg, payload=payload
    )

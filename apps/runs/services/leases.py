"""Who may say something of a run: whoever may see it, and of an attempt only who holds it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core.errors import Conflict, NotFound
from apps.runs import transitions
from apps.runs.models import Run
from apps.runs.states import HOLDS_RESOURCES

if TYPE_CHECKING:
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.runs.live import Live
    from apps.runs.transitions import Batch


class StaleLease(Conflict):
    """The lease or attempt is not the run's present one: the work was given to somebody else."""

    code = "stale_lease"


def check_lease(live: Live, *, attempt: int, lease: str | None) -> None:
    """Raise StaleLease unless the report comes from whoever holds the run now; None = from the op itself."""
    is_held = live.state in HOLDS_RESOURCES and live.current_attempt == attempt
    if not is_held or lease not in (None, live.lease):
        raise StaleLease(
            "this attempt is no longer yours",
            run_id=str(live.id),
            state=live.state,
            current_attempt=live.current_attempt,
        )


def lock_visible(moves: Batch, run_id: UUID, caller: Caller) -> Live:
    """Lock a run that a caller may change. Raises NotFound, and StaleLease for an op whose attempt has ended."""
    if not Run.objects.visible_to(caller.prefixes, caller.owner).filter(pk=run_id).exists():
        raise NotFound(f"no run {run_id}", run_id=str(run_id))
    live = transitions.get_live(moves, run_id)
    if caller.attempt is not None:
        check_lease(live, attempt=caller.attempt, lease=None)
    return live

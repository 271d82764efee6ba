"""A message the dispatcher stumbles over: it is found by taking ever fewer at a time, tried alone, and then given up.

`Trigger.stumbles` counts the turns that have failed where the cursor is; what a message can't be blamed for is not counted.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F

from apps.core import clock
from apps.pipelines.models import Trigger

# After so many halvings a turn looks at one message.
HALVINGS = 8
# How often that one is tried, and how long the trigger is left alone in between: the fault may pass.
ATTEMPTS = 5
PAUSE = timedelta(seconds=5)


def most_read(stumbles: int, most: int) -> int:
    """Return how many messages a turn looks at, `most` if nothing has failed."""
    return most if stumbles == 0 else max(1, (1 << HALVINGS) >> stumbles)


def is_hopeless(stumbles: int) -> bool:
    """Say whether the next message has been tried often enough."""
    return stumbles >= HALVINGS + ATTEMPTS


def after_good_turn(stumbles: int) -> int:
    """Return the count when a turn has gone well: the next one looks at twice as many."""
    return max(0, min(stumbles, HALVINGS) - 1)


def note(pipeline_id: str, error: str) -> bool:
    """Note that a turn has failed; return whether the next one follows at once, with half of the messages."""
    trigger = Trigger.objects.filter(pk=pipeline_id)
    trigger.update(stumbles=F("stumbles") + 1, last_error=error[:2000])
    follows = trigger.filter(stumbles__lte=HALVINGS).exists()
    if not follows:
        trigger.update(wake_at=clock.now() + PAUSE)
    return follows


def postpone(pipeline_id: str, error: str) -> None:
    """Leave a trigger alone for a while, for a trouble that is not its messages'."""
    Trigger.objects.filter(pk=pipeline_id).update(
        wake_at=clock.now() + PAUSE, last_error=error[:2000]
    )

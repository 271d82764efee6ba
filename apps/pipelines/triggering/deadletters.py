"""Messages that came to nothing: kept in a row each, and published to the trigger's dead-letter topic if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from apps.pipelines.models import DeadLetter
from apps.pipelines.triggering import messages
from apps.topics.services import NewEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from apps.pipelines.models import Trigger

JSON = Any


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that came to nothing: its own text as `trigger`, and why."""

    to: str | None
    seq: int
    text: str
    reason: str
    attempts: int
    execution_id: UUID | None = None


def keep(trigger: Trigger, letters: Sequence[Letter]) -> list[NewEvent]:
    """Keep letters of a locked trigger, which the caller saves; return the messages that he appends as his last step."""
    if not letters:
        return []
    DeadLetter.objects.bulk_create(
        [
            DeadLetter(
                pipeline_id=trigger.pipeline_id,
                topic_id=trigger.topic_id or 0,
                topic=trigger.topic,
                seq=letter.seq,
                reason=letter.reason,
                attempts=letter.attempts,
                execution_id=letter.execution_id,
                message=letter.text,
            )
            for letter in letters
        ],
        ignore_conflicts=True,
    )
    trigger.dead_lettered += len(letters)
    return [
        NewEvent(
            topic=letter.to,
            data=msgspec.json.encode(message["data"]).decode(),
            tag=message["tag"],
            node=message["node"],
            meta=msgspec.json.encode(_meta(trigger, letter, message)).decode(),
        )
        for letter in letters
        if letter.to
        for message in messages.each_of(letter.text)
    ]


def _meta(trigger: Trigger, letter: Letter, message: dict[str, JSON]) -> dict[str, JSON]:
    earlier = message["meta"] if isinstance(message["meta"], dict) else {}
    return {
        **earlier,
        "$reason": letter.reason,
        "$attempts": letter.attempts,
        "$source_topic": trigger.topic,
        "$source_seq": message["seq"],
        "$execution_id": letter.execution_id and str(letter.execution_id),
    }

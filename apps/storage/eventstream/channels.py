"""Which channels a request may hear: one per execution, named like the tag of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django_eventstream.channelmanager import ChannelManagerBase

from apps.storage import queries
from apps.storage.events import tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from django.http import HttpRequest

    from apps.access.auth import Caller

_PREFIX = tag_of(UUID(int=0))[:-36]


class ExecutionChannels(ChannelManagerBase):  # type: ignore[misc]  # the library has no types
    """A channel is an execution: whoever may see its storage may hear it."""

    def get_channels_for_request(
        self, request: HttpRequest, view_kwargs: Mapping[str, Any]
    ) -> set[str]:
        """Return the channels of the executions that a request names. Raises ExecutionNotFound."""
        spaces = queries.find_spaces(named=view_kwargs["executions"], caller=view_kwargs["caller"])
        return {tag_of(space.execution_id) for space in spaces}

    def can_read_channel(self, user: Caller | None, channel: str) -> bool:
        """Say whether a caller may hear a channel; nobody in particular may hear none."""
        execution_id = execution_of(channel)
        if user is None or execution_id is None:
            return False
        return queries.spaces_visible_to(user).filter(pk=execution_id).exists()

    def is_channel_reliable(self, channel: str) -> bool:
        """All of them are in the log."""
        return True


def execution_of(channel: str) -> UUID | None:
    """Return the execution that a channel is about; None if it isn't one of ours."""
    try:
        return UUID(channel.removeprefix(_PREFIX)) if channel.startswith(_PREFIX) else None
    except ValueError:
        return None

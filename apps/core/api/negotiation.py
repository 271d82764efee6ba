from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.negotiation import DefaultContentNegotiation

from apps.core.body import shown
from apps.core.errors import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rest_framework.renderers import BaseRenderer


class ContentNegotiation(DefaultContentNegotiation):
    """Chooses by `Accept`, or by `?format=`, of which a wrong one is not taken for a wrong path."""

    def filter_renderers(
        self, renderers: Iterable[BaseRenderer], format: str
    ) -> list[BaseRenderer]:
        found = [renderer for renderer in renderers if renderer.format == format]
        if not found:
            known = ", ".join(dict.fromkeys(str(renderer.format) for renderer in renderers))
            raise NotAcceptable(f"the format must be one of {known}, got {shown(format)}")
        return found

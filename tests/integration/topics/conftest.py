"""What every test of the log begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.topics import services

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_topic_is_known() -> Iterator[None]:
    services.forget()
    yield
    services.forget()

from __future__ import annotations

from tests.contract.storage.conftest import execution, opened, place

__all__ = ["execution", "opened", "place"]

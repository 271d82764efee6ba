"""Django looks for an app's admin pages here."""

from __future__ import annotations

from apps.runs.adminpages.attempts import AttemptAdmin
from apps.runs.adminpages.runs import RunAdmin
from apps.runs.adminpages.workers import WorkerAdmin

__all__ = ["AttemptAdmin", "RunAdmin", "WorkerAdmin"]

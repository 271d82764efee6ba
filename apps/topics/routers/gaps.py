"""Gaps between live records (topics v0 §16.6, ★28): those that have become part of the floor are forgotten."""

from __future__ import annotations

from django.db import transaction

from apps.core import pgarray, sql


def trim_gaps() -> None:
    """Make gaps part of the floor where no live record is left below them, so that reads needn't look for them."""
    with transaction.atomic():
        ids = [row["id"] for row in sql.run_bound("topics/routers/lock_gapped").rows]
        if ids:
            sql.run_bound("topics/routers/absorb_gaps", ids=pgarray.bigints(ids))

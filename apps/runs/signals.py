from __future__ import annotations

from django.dispatch import Signal

# Sent by transitions.py once a batch that started or ended runs is committed; heard by whoever chains runs.
# Arguments: `ended_in` and `started_in`, the executions (lists of UUID) of runs that have ended, and of others that have
# started. Receivers enqueue and return: a sweep repairs a lost signal.
runs_moved = Signal()

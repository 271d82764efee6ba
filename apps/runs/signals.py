from __future__ import annotations

from django.dispatch import Signal

# Sent by transitions.py once a batch that ended runs is committed; heard by whoever chains runs.
# Arguments: run_ids and execution_ids (lists of UUID). Receivers enqueue and return: a sweep repairs a lost signal.
run_finished = Signal()

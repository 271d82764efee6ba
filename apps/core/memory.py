"""Python's garbage collector, set for a process that loads much once and then serves."""

from __future__ import annotations

import gc

# Python's own 700 would have a body with many small lists looked through hundreds of times while it is parsed.
YOUNGEST = 10_000
OLDER = 20


def settle() -> None:
    """Keep what has been loaded by now out of every later collection; to be called once all of it is.

    Modules, models and URLs are 130,000 objects that never become garbage: a full collection took 40 ms for them, in the
    middle of whatever request came along.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, OLDER, OLDER)

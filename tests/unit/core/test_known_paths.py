from __future__ import annotations

import tracemalloc

from django.conf import settings

from apps.core.asgi import _data_plane_match


def resolve(path: str) -> None:
    assert _data_plane_match(path, settings.ROOT_URLCONF) is not None


def test_long_paths_that_anybody_may_send_are_not_kept():
    resolve("/v0/topics/" + "a" * 60_000)
    tracemalloc.start()
    try:
        for number in range(50):
            resolve(f"/v0/topics/{number}" + "a" * 60_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000

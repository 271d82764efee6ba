"""topics v0 §9: durability classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.topics.models import Topic

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_fsync_topics_say_how_long_the_disk_took(api: Api):
    """§2.7."""
    answer = api.write("t", 1, config={"durability": "fsync"}).json()
    assert answer["performance"]["fsync_ms"] > 0
    assert api.write("t", 1).json()["performance"]["fsync_ms"] > 0


def test_acknowledged_seqs_are_reserved_before_the_disk_has_them(api: Api):
    """Appendix B.12: the ceiling is flushed, and 256 seqs later again."""
    api.write("t", 1)
    assert Topic.objects.get().reserved == 0 + 0  # the creation itself was flushed
    api.write("t", 1)
    assert Topic.objects.get().reserved == 2 + 256
    api.write("t", *range(300))
    topic = Topic.objects.get()
    assert topic.reserved == 302 + 256


def test_after_a_crash_of_postgres_no_acknowledged_seq_is_used_again(api: Api):
    """§7.5, §9: a hole of at most 256."""
    api.write("t", 1)
    api.write("t", 2)
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM topics_intact")
    assert api.diff("t", from_seq=2)["next_from_seq"] == 258
    assert api.write("t", 3).json()["seqs"] == [259]
    assert api.diff("t", from_seq=2)["tombstone"] is None

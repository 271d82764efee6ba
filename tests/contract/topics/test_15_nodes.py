"""topics v0 §15: a reader does not get its own records back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.topics.models import Topic
from tests.contract.topics.conftest import seqs

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_own_records_are_hidden_and_move_the_cursor(api: Api):
    for node in ("me", None, "other", "me"):
        api.post("/v0/topics/t", {"node": node, "records": [{"data": 1}]})
    page = api.diff("t", node="me")
    assert (seqs(page), page["next_from_seq"], page["caught_up"]) == ([2, 3], 4, True)
    assert page["tombstone"] is None
    assert seqs(api.diff("t", node=["me", "other"])) == [2]
    assert seqs(api.diff("t", node=[])) == [1, 2, 3, 4]
    assert seqs(api.diff("t", node=None)) == [1, 2, 3, 4]
    assert seqs(api.diff("t", node="ME")) == [1, 2, 3, 4]
    Topic.objects.update(dedupe_node=False)
    assert seqs(api.diff("t", node="me")) == [1, 2, 3, 4]


def test_the_filter_scans_on_until_the_page_is_full(api: Api):
    """⚑24."""
    for _ in range(3):
        api.post("/v0/topics/t", {"node": "me", "records": [{"data": 1}] * 5_000})
    api.write("t", 1, 2)
    page = api.diff("t", node="me", limit=1)
    assert (seqs(page), page["next_from_seq"], page["caught_up"]) == ([15_001], 15_001, False)

"""A queue as its clients use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


class Queue:
    """Calls the endpoints of one queue and returns the JSON of what succeeded."""

    def __init__(self, api: Api, name: str = "q", **config: Any) -> None:
        self.api, self.name, self.path = api, name, f"/v0/topics/{name}"
        answer = api.put(self.path, {"type": "queue", **config})
        assert answer.status_code in (200, 201), answer.text

    def put(self, *data: Any) -> list[int]:
        """Write one job per argument; return their seqs."""
        answer = self.api.write(self.name, *data)
        assert answer.status_code == 200, answer.text
        seqs: list[int] = answer.json()["seqs"]
        return seqs

    def call(self, verb: str, **body: Any) -> Any:
        answer = self.api.post(f"{self.path}/{verb}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def claim(self, most: int = 1, *, node: str = "w", **body: Any) -> list[Any]:
        """Claim, and return the jobs."""
        answer = self.call("claim", node=node, max=most, **body)
        assert answer["count"] == len(answer["claimed"])
        jobs: list[Any] = answer["claimed"]
        return jobs

    def claim_seqs(self, most: int = 1, **body: Any) -> list[int]:
        return [job["$seq"] for job in self.claim(most, **body)]

    def ack(self, *seqs: int, node: str = "w", **body: Any) -> Any:
        return self.call("ack", node=node, seqs=list(seqs), **body)

    def nack(self, *seqs: int, node: str = "w", **body: Any) -> Any:
        return self.call("nack", node=node, seqs=list(seqs), **body)

    def extend(self, *seqs: int, lease_ms: int, node: str = "w", **body: Any) -> Any:
        return self.call("extend", node=node, seqs=list(seqs), lease_ms=lease_ms, **body)

    def state(self) -> Any:
        return self.api.get(self.path).json()

    def depth(self) -> tuple[int, int, int]:
        """Return ready, in flight, and dead-lettered."""
        told = self.state()["queue"]
        return told["ready"], told["in_flight"], told["dead_lettered"]

"""A pull worker as one would write it in any language: HTTP and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from rest_framework.test import APIClient


class PullWorker:
    """Registers itself, claims, and reports under the leases it was given."""

    def __init__(self, client: APIClient, worker_id: str = "pull-1", **resources: Any) -> None:
        self.client = client
        self.id = worker_id
        self.resources = {"cpu": 8, "ram_mb": 8000, "gpus": [], **resources}
        self.leases: dict[str, tuple[int, str]] = {}
        self.heartbeat()

    def heartbeat(self, *running: UUID, **over: Any) -> dict[str, Any]:
        body = {
            "resources": self.resources,
            "tags": [],
            "running": [str(run_id) for run_id in running],
            **over,
        }
        answer = self.client.post(f"/workers/{self.id}/heartbeat", body, format="json")
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def claim(self, most: int = 10) -> list[dict[str, Any]]:
        answer = self.client.post(f"/workers/{self.id}/claim", {"max": most}, format="json")
        assert answer.status_code == 200, answer.content
        claimed = [item["run"] for item in answer.json()["data"]]
        for item in answer.json()["data"]:
            run = item["run"]
            self.leases[run["id"]] = (run["current_attempt"], item["lease"])
        return claimed

    def event(self, run_id: UUID, type_: str, msg: Any = "", **over: Any) -> Any:
        attempt, lease = self.leases[str(run_id)]
        body = {"type": type_, "msg": msg, "attempt": attempt, "lease": lease, **over}
        return self.client.post(f"/runs/{run_id}/events", body, format="json")

    def report(self, run_id: UUID, type_: str, msg: Any = "", **over: Any) -> dict[str, Any]:
        answer = self.event(run_id, type_, msg, **over)
        assert answer.status_code == 201, answer.content
        return dict(answer.json())

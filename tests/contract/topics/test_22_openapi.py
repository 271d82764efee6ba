"""docs/reference/openapi.yaml says of /v0 what is answered, and takes what is taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    import httpx

    from tests.contract.topics.conftest import Api

JSON = "application/json"
DOCUMENT = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "docs" / "reference" / "openapi.yaml").read_text("utf-8")
)
CONFIG = {"type": "queue", "max_deliveries": 1, "dead_letter": "dead", "durability": None}
RECORD = {"data": None, "tag": "t", "node": None, "meta": {"m": 1}}
CLAIM = {"node": "w", "max": 4294967295, "lease_ms": None}
LEASED = {"node": "w", "seqs": [1], "lease_ids": None}

# Operation, body, names in the path, what is not asked of everybody. Each builds on those before it.
TOUR: list[tuple[str, str, Any, int]] = [
    ("PUT", "/v0/topics/{topic}?topic=q", CONFIG, 201),
    ("PUT", "/v0/topics/{topic}?topic=q", {**CONFIG, "priority": -5}, 200),
    (
        "POST",
        "/v0/topics/{topic}?topic=q",
        {"records": [RECORD], "create": None, "config": None, "disable_backpressure": True},
        200,
    ),
    ("POST", "/v0/topics/{topic}?topic=log", {"records": [RECORD, RECORD]}, 201),
    ("POST", "/v0/topics/{topic}?topic=none", {"records": [RECORD], "create": False}, 404),
    ("GET", "/v0/topics/{topic}?topic=q", None, 200),
    ("GET", "/v0/topics", None, 200),
    ("POST", "/v0/topics/{topic}/claim?topic=q", CLAIM, 200),
    ("POST", "/v0/topics/{topic}/extend?topic=q", {**LEASED, "lease_ms": 60_000}, 200),
    ("POST", "/v0/topics/{topic}/nack?topic=q", {**LEASED, "delay_ms": 0}, 200),
    # The job is exhausted, so this makes it a dead letter.
    ("POST", "/v0/topics/{topic}/claim?topic=q", CLAIM, 200),
    ("GET", "/v0/topics/{topic}/dead-letters?topic=q", None, 200),
    ("POST", "/v0/topics/{topic}/dead-letters/redrive?topic=q", {"seqs": None}, 200),
    ("POST", "/v0/topics/{topic}/claim?topic=q", CLAIM, 200),
    ("POST", "/v0/topics/{topic}/nack?topic=q", {**LEASED, "seqs": [2], "delay_ms": 2**63}, 200),
    ("GET", "/v0/topics/{topic}?topic=q", None, 200),
    ("POST", "/v0/topics/{topic}/ack?topic=q", LEASED, 200),
    (
        "PUT",
        "/v0/routers/{router}?router=r",
        {"source": "log", "dest": "copy", "filter": "t*"},
        201,
    ),
    (
        "PUT",
        "/v0/routers/{router}?router=r",
        {"source": "log", "dest": "copy", "filter": None},
        200,
    ),
    ("GET", "/v0/routers/{router}?router=r", None, 200),
    ("GET", "/v0/routers", None, 200),
    ("PUT", "/v0/routers/{router}?router=back", {"source": "copy", "dest": "log"}, 409),
    ("POST", "/v0/watch", {"topics": {"log": {"tail": True}}, "node": ["w"], "limit": 0}, 200),
    ("POST", "/v0/topics/{topic}/diff?topic=log", {"limit": 5000, "wait_ms": 50_000}, 200),
    ("POST", "/v0/topics/{topic}/diff?topic=log", {"from_seq": 2**64 - 1, "node": None}, 200),
    ("POST", "/v0/topics/{topic}/delete?topic=log", {"before_seq": 2, "match": None}, 200),
    ("DELETE", "/v0/routers/{router}?router=r", None, 200),
    ("DELETE", "/v0/topics/{topic}?topic=log", None, 200),
    ("GET", "/v0/health", None, 200),
    ("GET", "/v0/ready", None, 200),
]


def resolved(node: Any) -> Any:
    """Return a part of the document with what it refers to in place."""
    if isinstance(node, list):
        return [resolved(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        found: Any = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolved(found)
    return {name: resolved(one) for name, one in node.items()}


def described(schema: Any) -> set[str]:
    """Return the names of the members that a schema speaks of."""
    names = set(schema.get("properties", {}))
    return names.union(*(described(part) for part in schema.get("allOf", [])))


def check(operation: Any, body: Any, answer: httpx.Response) -> None:
    if body is not None:
        Draft202012Validator(operation["requestBody"]["content"][JSON]["schema"]).validate(body)
    status = str(answer.status_code)
    told = operation["responses"].get(status) or operation["responses"]["default"]
    schema = told["content"][JSON]["schema"]
    Draft202012Validator(schema).validate(answer.json())
    assert set(answer.json()) <= described(schema)


@pytest.mark.django_db(transaction=True)
def test_every_operation_takes_and_answers_what_the_document_says(api: Api):
    for method, target, body, status in TOUR:
        path, _, names = target.partition("?")
        operation = resolved(DOCUMENT["paths"][path][method.lower()])
        name, _, value = names.partition("=")
        answer = api.call(method, path.replace(f"{{{name}}}", value), body)
        assert answer.status_code == status, (method, target, answer.text)
        check(operation, body, answer)


def test_the_tour_leaves_no_operation_out():
    made = {(method, target.partition("?")[0]) for method, target, _, _ in TOUR}
    # Streams, text, and names for what is here under another.
    apart = ("/v0/topics/{topic}/work", "/v0/watch/{wid}", "/v0/ws", "/v0/metrics")
    there = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        if path.startswith("/v0/") and path not in apart
        for method in operations
    }
    assert there == made

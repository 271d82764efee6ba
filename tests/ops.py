"""Python ops for acceptance tests and benchmarks."""

from __future__ import annotations

from typing import Any


def noop(inputs: dict[str, Any]) -> dict[str, Any]:
    return {}


def echo(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs

"""Python ops: plain functions that take the run's inputs and return its outputs.

A definition names one as `"python": "examples.ops:word_count"`. Only modules that the operator has listed
(`GYOZA_PYTHON_OPS`) can be named.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import gyoza_op

CLONE = Path(__file__).resolve().parent.parent


def word_count(inputs: dict[str, Any]) -> dict[str, Any]:
    """Count the words of a folder's Markdown files."""
    files = sorted((CLONE / inputs["folder"]).rglob("*.md"))
    counts: Counter[str] = Counter()
    for done, path in enumerate(files, start=1):
        words = re.findall(r"[a-z]{5,}", path.read_text("utf-8").lower())
        counts.update(words)
        print(f"{path.relative_to(CLONE)}: {len(words)} words")  # becomes the run's log
        if done % max(1, len(files) // 4) == 0:  # now and then is enough
            gyoza_op.progress(100 * done // len(files))
    return {
        "files": len(files),
        "words": counts.total(),
        "top": [[word, count] for word, count in counts.most_common(inputs["top"])],
    }


def monte_carlo_pi(inputs: dict[str, Any]) -> dict[str, Any]:
    """Estimate π by throwing darts at a square, and say how far it is."""
    samples = inputs["samples"]
    # Not for secrets: the same seed gives the same estimate.
    rng = random.Random(inputs["seed"])
    inside = 0
    for step in range(1, 11):
        for _ in range(samples * (step - 1) // 10, samples * step // 10):
            inside += rng.random() ** 2 + rng.random() ** 2 <= 1
        thrown = samples * step // 10
        gyoza_op.progress(10 * step)
        if step == 5 and thrown:
            gyoza_op.info("halfway", estimate=4 * inside / thrown)
    return {"pi": 4 * inside / samples, "samples": samples}


def check_order(inputs: dict[str, Any]) -> dict[str, Any]:
    """Refuse an order of nothing, and add up the others."""
    order = inputs["order"]
    if not order["items"]:
        raise ValueError(f"order {order['id']} has no items")
    total = sum(item["price"] * item["count"] for item in order["items"])
    return {"id": order["id"], "items": order["items"], "total": total}


def pack_item(inputs: dict[str, Any]) -> dict[str, Any]:
    """Put one item of an order into a parcel."""
    item = inputs["item"]
    print(f"packing {item['count']} × {item['name']}")
    return {"parcel": f"{item['count']}x {item['name']}"}


def charge(inputs: dict[str, Any]) -> dict[str, Any]:
    """Take the money for an order."""
    return {"receipt": f"R-{inputs['order']}", "paid": inputs["total"]}

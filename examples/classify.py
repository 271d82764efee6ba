"""A command op: any program in any language. JSON in, JSON out, exit code 0 for success.

The inputs are in the file $GYOZA_INPUTS; what is written to the file $GYOZA_OUTPUTS are the outputs; what is printed
is the log; a printed line of JSON with the key "gyoza" is a message to Gyoza.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

GOOD = {"good", "great", "love", "fast", "nice", "delicious"}
BAD = {"bad", "slow", "hate", "broken", "sad", "awful"}


def main() -> None:
    inputs = json.loads(Path(os.environ["GYOZA_INPUTS"]).read_text("utf-8"))
    labels = []
    for number, text in enumerate(inputs["texts"], start=1):
        words = set(text.lower().split())
        score = len(words & GOOD) - len(words & BAD)
        labels.append("positive" if score > 0 else "negative" if score < 0 else "neutral")
        print(f"{labels[-1]}: {text}")
        print(
            json.dumps({"gyoza": "progress", "value": 100 * number // len(inputs["texts"])}),
            flush=True,
        )
    Path(os.environ["GYOZA_OUTPUTS"]).write_text(json.dumps({"labels": labels}), "utf-8")


if __name__ == "__main__":
    main()

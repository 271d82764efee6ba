"""A writer or reader of the log as a process of its own; it needs nothing but the standard library, so it starts at once.

    python -m tests.log_client write URL,URL TOPIC,TOPIC NUMBER APPENDS
    python -m tests.log_client read URL,URL TOPIC

A writer prints a line per append: what it got, or nothing if it can't know. A reader follows from the beginning until the
record "end", and prints what it has seen. Both turn to the next URL when one fails.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from itertools import count, cycle
from typing import Any
from urllib.parse import urlsplit

END = "end"
GIVE_UP_SECONDS = 30


class Client:
    """Keeps a connection to each of several web processes."""

    def __init__(self, urls: list[str]) -> None:
        self._links = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=20) for url in urls]
        self._turns = cycle(self._links)
        self._link = next(self._turns)

    def turn(self) -> None:
        """Speak to the next process from now on."""
        self._link = next(self._turns)

    def post(self, path: str, body: Any) -> dict[str, Any] | None:
        """Return the answer; None if there is none, or none that says what has happened."""
        try:
            self._link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = self._link.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._link.close()
            return None
        found: dict[str, Any] = json.loads(content)
        if answer.status in {429, 503}:
            return None
        if answer.status >= 300:
            raise SystemExit(f"{path}: {answer.status} {found}")
        return found


def write(client: Client, topics: list[str], number: int, appends: int) -> None:
    """Append batches of one to five records to the topics in turn."""
    for step in range(appends):
        topic = topics[step % len(topics)]
        size = 1 + (step * 7 + number) % 5
        records = [{"data": [number, step, item]} for item in range(size)]
        found = client.post(f"/v0/topics/{topic}", {"records": records})
        told = None if found is None else [found["first_seq"], found["last_seq"]]
        print(json.dumps({"topic": topic, "records": [r["data"] for r in records], "at": told}))
        sys.stdout.flush()
        if found is None:
            client.turn()
            time.sleep(0.02)


def read(client: Client, topic: str) -> None:
    """Follow a topic to its end, from process to process."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    after, seen = 0, []
    while time.monotonic() < deadline:
        page = client.post(
            f"/v0/topics/{topic}/diff", {"from_seq": after, "limit": 7, "wait_ms": 1000}
        )
        client.turn()
        if page is None:
            time.sleep(0.02)
            continue
        seen += [[record["$seq"], record["data"]] for record in page["records"]]
        after = page["next_from_seq"]
        if seen and seen[-1][1] == END:
            break
    print(json.dumps({"topic": topic, "seen": seen}))


def main(role: str, urls: str, topics: str, *numbers: str) -> None:
    client = Client(urls.split(","))
    if role == "write":
        number, appends = map(int, numbers)
        for _ in zip(count(), range(number)):
            client.turn()
        write(client, topics.split(","), number, appends)
    else:
        read(client, topics)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What an op may say to Gyoza. Depends on nothing, works in any Python from 3.8 on.

import gyoza_op

rows = gyoza_op.inputs()["rows"]
gyoza_op.progress(50)
gyoza_op.output("rows", rows)
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from typing import Any, Dict, Union

__all__ = ["info", "inputs", "output", "progress", "write"]

_lock = threading.Lock()


def inputs() -> Dict[str, Any]:
    """Return the run's inputs, or {} outside Gyoza."""
    path = os.environ.get("GYOZA_INPUTS")
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        data: Dict[str, Any] = json.load(file)
    return data


def progress(value: float) -> None:
    """Report how far the op is, 0–100."""
    _say({"gyoza": "progress", "value": value})


def info(msg: str, **payload: Any) -> None:
    """Put a line, and any details, on the run's timeline."""
    _say({"gyoza": "info", "msg": msg, "payload": payload})


def output(name: str, value: Any) -> None:
    """Set one output. What the outputs file or a returned dict says of the same name wins."""
    _say({"gyoza": "output", "name": name, "value": value})


def write(path: str, data: Union[str, bytes]) -> None:
    """Write a storage object of the run. It appears as a whole or not at all.

    `path` is relative; raises ValueError if it leads out of the storage directory.
    """
    root = os.path.realpath(os.environ["GYOZA_STORAGE_DIR"])
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError("not a path inside the storage directory: %r" % path)
    target = os.path.join(root, *parts)
    folder = os.path.dirname(target)
    # realpath: a symbolic link inside may lead out just as `..` does. It is checked before anything
    # is made, because makedirs would follow it.
    if os.path.commonpath([root, os.path.realpath(folder)]) != root:
        raise ValueError("leads out of the storage directory: %r" % path)
    os.makedirs(folder, exist_ok=True)
    # The leading dot keeps the unfinished file from being taken for an object.
    fd, temporary = tempfile.mkstemp(prefix=".gyoza-", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _say(message: Dict[str, Any]) -> None:
    line = json.dumps(message, allow_nan=False) + "\n"
    with _lock:
        # After what print() has buffered, so that log and messages keep their order. By number,
        # because sys.stdout may be redirected, and all at once, so that threads don't mix lines.
        sys.stdout.flush()
        data = memoryview(line.encode("ascii"))
        while data:
            data = data[os.write(1, data) :]

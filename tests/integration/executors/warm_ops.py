"""Ops that try what a warm child has to bear."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
import time
from os import system  # noqa: F401 - it must not become an op by being imported
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
calls = 0


def identity(inputs: JSON) -> JSON:
    global calls
    calls += 1
    return {"pid": os.getpid(), "calls": calls}


def explode(inputs: JSON) -> None:
    raise ValueError("no good")


def leave(inputs: JSON) -> None:
    sys.exit(inputs["code"])


def vanish(inputs: JSON) -> None:
    os._exit(0)


def segfault(inputs: JSON) -> None:
    ctypes.string_at(0)


def _hidden(inputs: JSON) -> None:
    return None


def surroundings(inputs: JSON) -> JSON:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "env": dict(os.environ),
        "cwd": Path.cwd().name,
        "umask": mask,
        "alarm": signal.alarm(0),
        "term_is_ours": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
        "same_streams": sys.stdout is sys.__stdout__,
    }


def make_a_mess(inputs: JSON) -> None:
    os.environ["LEFT"] = "over"
    del os.environ["TOP"]
    os.chdir("/")
    os.umask(0o777)
    signal.alarm(600)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout = None


def temporary(inputs: JSON) -> JSON:
    fd, path = tempfile.mkstemp()
    os.close(fd)
    return {"path": path}


def give_back(inputs: JSON) -> Any:
    loop: JSON = {}
    loop["loop"] = loop
    return {
        "list": [1],
        "object": {"a": object()},
        "nan": {"a": float("nan")},
        "nul": {"a": "\0"},
        "loop": loop,
        "big": {"a": "x" * 2**20},
    }[inputs["what"]]


def measure(inputs: JSON) -> JSON:
    return {"size": len(inputs["text"])}


def fork_and_return(inputs: JSON) -> JSON:
    return {"parent": os.fork() > 0}


def leave_a_thread(inputs: JSON) -> JSON:
    threading.Thread(target=threading.Event().wait, daemon=bool(inputs["daemon"])).start()
    return identity(inputs)


def end_a_thread(inputs: JSON) -> JSON:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return identity(inputs)


def close_everything(inputs: JSON) -> None:
    os.closerange(0, 64)


def patch_the_encoder(inputs: JSON) -> JSON:
    json.dumps = json.JSONEncoder.encode = lambda *_, **__: "broken"  # type: ignore[method-assign,assignment]
    return {"encoded": True}


def answer_for_us(inputs: JSON) -> None:
    os.write(3, bytes.fromhex(inputs["hex"]))
    time.sleep(600)

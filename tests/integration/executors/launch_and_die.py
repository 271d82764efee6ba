"""Launches one op, prints the handle, and is killed: a worker that crashes."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from apps.runs.executors.base import LaunchSpec

order = json.load(sys.stdin)
module, _, name = order["backend"].rpartition(".")
executor = getattr(import_module(module), name)(Path(order["root"]), order["options"])
spec = order["spec"]
spec["command"] = spec["command"] and tuple(spec["command"])
handle = executor.launch(LaunchSpec(inputs_json=b"{}", **spec))
print(json.dumps(handle.to_dict()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)

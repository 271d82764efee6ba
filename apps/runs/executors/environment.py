"""The environment an op starts with: small, clean, and without anything of the worker's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.runs.executors.supervision import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apps.runs.executors.base import LaunchSpec

SDK_DIR = str(Path(__file__).resolve().parent / "sdk")


def base(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what every op gets, whichever attempt it is.

    PATH begins with the directory of our own interpreter, so that `python` is one that exists.
    """
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH') or os.defpath}"
    env = {"PATH": path, "LANG": "C.UTF-8", "PYTHONPATH": SDK_DIR, "PYTHONUNBUFFERED": "1"}
    env.update({k: os.environ[k] for k in options.get("pass_env", ()) if k in os.environ})
    for name, value in options.get("env", {}).items():
        env[name] = _with_sdk(value) if name == "PYTHONPATH" else value
    return env


def for_attempt(spec: LaunchSpec) -> dict[str, str]:
    """Return what the run itself brings: its definition's variables and its GPU."""
    env = {"CUDA_VISIBLE_DEVICES": str(spec.gpu_id)} if spec.gpu_id is not None else {}
    env.update(spec.env)
    if "PYTHONPATH" in env:
        env["PYTHONPATH"] = _with_sdk(env["PYTHONPATH"])
    return env


def for_op(spec: LaunchSpec, directory: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the whole environment of a command; the IO contract's variables win over all."""
    absolute = str(directory.absolute())
    own = {"HOME": f"{absolute}/{workspace.WORK}", "TMPDIR": f"{absolute}/{workspace.TMP}"}
    contract = workspace.contract(absolute, run_id=spec.run_id, attempt=spec.attempt)
    return {**own, **base(options), **for_attempt(spec), **contract}


def limits(spec: LaunchSpec, options: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits `supervision.runner.set_limits` sets."""
    wanted = limits_of(options)
    if options.get("limit_memory") and spec.ram_mb:
        wanted["memory"] = spec.ram_mb * 1024 * 1024
    return wanted


def limits_of(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits that hold for every attempt."""
    return {"nofile": int(options.get("nofile", 1024))}


def problems(root: Path) -> list[str]:
    """Return why no supervisor can work on this machine or in this root."""
    found = []
    if not sys.platform.startswith("linux"):
        found.append("needs Linux: subreapers, pidfds and /proc")
    elif not Path("/proc/self/stat").exists():
        found.append("needs /proc")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        found.append(f"can't make {root}: {exc.strerror}")
    else:
        if not os.access(root, os.W_OK | os.X_OK):
            found.append(f"can't write to {root}")
    return found


def _with_sdk(path: str) -> str:
    return f"{SDK_DIR}:{path}" if path else SDK_DIR

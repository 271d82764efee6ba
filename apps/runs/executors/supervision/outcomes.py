"""What an ended op amounts to, in the words people read."""

from __future__ import annotations

import json
import signal

from apps.runs.executors.supervision.values import MAX_OUTPUTS_BYTES, Unacceptable
from apps.runs.executors.supervision.workspace import read_outputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from apps.runs.executors.supervision.output import Capture

LOST = "the process that supervised this attempt was killed; what remained of the op was ended"

REMOVED = (
    "the op removed the directory of its attempt, and with it what it had said and written there"
)


def describe(
    *,
    exit_code: int | None,
    number: int | None,
    tail: str,
    stopped: bool = False,
    timeout_s: float | None = None,
) -> str:
    """Return the error message of an ended op; empty if its exit status is 0 and nobody ended it.

    `timeout_s` is given when that is what ended it.
    """
    if number is not None:
        ending = f"killed by signal {number} ({_signal_name(number)})"
    else:
        ending = f"exit code {exit_code}"
    if timeout_s is not None:
        return f"timed out after {timeout_s:g} s ({ending})"
    if stopped:
        return f"stopped on request ({ending})"
    if exit_code == 0:
        return ""
    if number is not None:
        return f"{ending}\n{tail}" if tail else ending
    return tail or ending


def removed(error: str) -> str:
    """Return the error message of an op that removed its directory, whatever else there is to say of it."""
    return f"{REMOVED}\n{error}" if error else REMOVED


def gather_outputs(at: int, capture: Capture | None) -> tuple[dict[str, Any] | None, str]:
    """Return (outputs, problem). A name given both as message and in the file: the file wins.

    The file is written as a whole and at the end, so it is the later and more deliberate word.
    """
    said = dict(capture.outputs) if capture else {}
    if capture and capture.outputs_problem:
        return None, f"outputs {capture.outputs_problem}"
    try:
        written = read_outputs(at)
    except Unacceptable as exc:
        return None, f"outputs file {exc}"
    return merge(said, written or {})


def merge(said: dict[str, Any], written: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return (outputs, problem) of what was said in messages and what was handed in as a whole."""
    both = {**said, **written}
    if said and written and len(json.dumps(both, ensure_ascii=False).encode()) > MAX_OUTPUTS_BYTES:
        return None, f"outputs are over the limit of {MAX_OUTPUTS_BYTES} bytes (1 MiB)"
    return both, ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown signal"

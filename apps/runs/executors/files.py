"""The executor's side of an attempt's directory (`supervision.workspace` says what is in it)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from apps.runs.executors.base import Handle, Message, Outcome
from apps.runs.executors.supervision import workspace

_READ_LIMIT = 1 << 20
_loads = json.JSONDecoder().decode  # json.loads looks for encodings we don't write
_OUTCOME_FIELDS = {field.name for field in dataclasses.fields(Outcome)}


def make_directory(directory: Path, inputs_json: bytes) -> None:
    """Make an attempt's directory, for its owner only."""
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.mkdir(mode=0o700)
    for name in (workspace.STORAGE, workspace.WORK, workspace.TMP):
        (directory / name).mkdir(mode=0o700)
    (directory / workspace.INPUTS).write_bytes(inputs_json)


def remove(directory: Path) -> None:
    """Remove an attempt's directory with all that is in it."""
    shutil.rmtree(directory, onerror=_force)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    at = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        workspace.write_whole(path.name, data, at=at)
    finally:
        os.close(at)


def read_handle(executor: str, attempt_id: str, directory: Path) -> Handle | None:
    """Return which process supervises the attempt, if one has said so."""
    try:
        data = json.loads((directory / workspace.HANDLE).read_bytes())
    except FileNotFoundError:
        return None
    return Handle(executor, attempt_id, data["pid"], data["born"])


def leftovers(executor: str, root: Path) -> list[Handle]:
    """Return a handle for every attempt's directory; without a pid if no supervisor is known."""
    if not root.is_dir():
        return []
    found = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    return [read_handle(executor, d.name, d) or Handle(executor, d.name) for d in found]


def request_stop(directory: Path, grace: float) -> bool:
    """Leave a wish to stop for the supervisor; False if the attempt has ended or is gone."""
    if (directory / workspace.OUTCOME).exists():
        return False
    try:
        write_whole(directory / workspace.STOP, json.dumps(max(0.0, grace)).encode())
    except FileNotFoundError:
        return False
    return True


def read_outcome(directory: Path) -> Outcome | None:
    """Return the outcome if the attempt has ended."""
    try:
        raw = (directory / workspace.OUTCOME).read_bytes()
    except FileNotFoundError:
        return None
    return decode_outcome(raw)


def decode_outcome(raw: bytes) -> Outcome:
    """Read what a supervisor wrote; fields of a later version are ignored."""
    data: dict[str, Any] = _loads(raw.decode())
    if not data.keys() <= _OUTCOME_FIELDS:
        data = {key: value for key, value in data.items() if key in _OUTCOME_FIELDS}
    return Outcome(**data)


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """Settle the outcome in the place of a supervisor that can't any more."""
    write_whole(directory / workspace.OUTCOME, json.dumps(dataclasses.asdict(outcome)).encode())


def read_log(directory: Path, offset: int) -> bytes:
    """Return log bytes from `offset`, at most 1 MiB."""
    return _read(directory / workspace.LOG, offset)


def read_messages(directory: Path, offset: int) -> tuple[list[Message], int]:
    """Return the complete messages from `offset` on and the offset after them."""
    path = directory / workspace.MESSAGES
    raw = _read(path, offset)
    whole = raw[: raw.rfind(b"\n") + 1]
    if not whole and len(raw) == _READ_LIMIT:
        # One line longer than a read: an output near its limit. Take it with its end.
        raw = _read(path, offset, 4 * _READ_LIMIT)
        whole = raw[: raw.find(b"\n") + 1]
    return [_message(json.loads(line)) for line in whole.splitlines()], offset + len(whole)


def _message(data: dict[str, Any]) -> Message:
    return Message(
        kind=data["kind"],
        at=data["at"],
        value=data.get("value"),
        msg=data.get("msg", ""),
        payload=data.get("payload"),
        name=data.get("name", ""),
    )


def _read(path: Path, offset: int, limit: int = _READ_LIMIT) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, limit, offset)
    finally:
        os.close(fd)


def _force(function: Any, name: str, info: Any) -> None:
    """Remove what an op has made unwritable; leave what can't be removed."""
    path = Path(name)
    with contextlib.suppress(OSError):
        path.parent.chmod(0o700)
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()

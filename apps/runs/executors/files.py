"""The executor's side of an attempt's directory (`supervision.workspace` says what is in it)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from apps.runs.executors.base import Handle, Message, Outcome
from apps.runs.executors.supervision import workspace

if TYPE_CHECKING:
    from pathlib import Path

_READ_LIMIT = 1 << 20
# Each message becomes rows: what is read at a time should be some hundreds of them.
_MESSAGES_READ_LIMIT = 1 << 15
# A handle is a pid and a few words.
_CONTROL_LIMIT = 4096


class _Supervisor(msgspec.Struct):
    pid: int
    born: str


# An op can write into its directory: whatever comes from there is looked at before it is believed.
_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_supervisor = msgspec.json.Decoder(_Supervisor).decode


def make_directory(directory: Path, inputs_json: bytes) -> None:
    """Make an attempt's directory, for its owner only."""
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.mkdir(mode=0o700)
    for name in (workspace.STORAGE, workspace.WORK, workspace.TMP):
        (directory / name).mkdir(mode=0o700)
    (directory / workspace.INPUTS).write_bytes(inputs_json)


def remove(directory: Path) -> None:
    """Remove an attempt's directory with all that is in it, however deep; what can't be removed stays."""
    if directory.is_symlink():
        directory.unlink()  # an op's joke; what it points to is none of ours
        return
    numbers = count()
    folders = [directory]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(OSError):
            folder.chmod(0o700)  # an op may have made it unwritable
            for path in list(folder.iterdir()):
                # Moved up before it is looked into: no path and no recursion is ever as deep as the op's folders.
                shallow = directory / f".{next(numbers)}.removed"
                if _unlink_or_move(path, shallow):
                    folders.append(shallow)
            folder.rmdir()
    with contextlib.suppress(OSError):
        directory.rmdir()


def _unlink_or_move(path: Path, shallow: Path) -> bool:
    """Remove a file, or give a folder another name; return whether it is a folder that was moved."""
    with contextlib.suppress(OSError):
        try:
            path.unlink()
        except IsADirectoryError:
            path.rename(shallow)
            return True
    return False


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    at = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        workspace.write_whole(path.name, data, at=at)
    finally:
        os.close(at)


def read_handle(executor: str, attempt_id: str, directory: Path) -> Handle | None:
    """Return which process supervises the attempt, if one has said so."""
    raw = workspace.read_small(str(directory / workspace.HANDLE), limit=_CONTROL_LIMIT)
    if raw is None:
        return None
    try:
        found = _decode_supervisor(raw)
    except msgspec.MsgspecError:
        return None
    return Handle(executor, attempt_id, found.pid, found.born)


def leftovers(executor: str, root: Path) -> list[Handle]:
    """Return a handle for every attempt's directory; without a pid if no supervisor is known."""
    if not root.is_dir():
        return []
    found = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    return [read_handle(executor, d.name, d) or Handle(executor, d.name) for d in found]


def request_stop(directory: Path, grace: float) -> None:
    """Leave a wish to stop for the supervisor, who must then be told."""
    # Where nothing can be written (a full disk, an op that removed its directory) the supervisor keeps its usual grace.
    with contextlib.suppress(OSError):
        write_whole(directory / workspace.STOP, json.dumps(max(0.0, grace)).encode())


def read_outcome(directory: Path) -> Outcome | None:
    """Return the outcome if the attempt has ended; what a supervisor can't have written is none."""
    raw = workspace.read_small(str(directory / workspace.OUTCOME))
    try:
        return None if raw is None else decode_outcome(raw)
    except ValueError:
        return None


def decode_outcome(raw: bytes) -> Outcome:
    """Read what a supervisor wrote; fields of a later version are ignored. Raises ValueError for anything else."""
    try:
        return _decode_outcome(raw)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"not an outcome: {exc}") from exc


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """Settle the outcome in the place of a supervisor that can't any more."""
    write_whole(directory / workspace.OUTCOME, json.dumps(dataclasses.asdict(outcome)).encode())


def read_log(directory: Path, offset: int) -> bytes:
    """Return log bytes from `offset`, at most 1 MiB."""
    return _read(directory / workspace.LOG, offset)


def read_messages(directory: Path, offset: int) -> tuple[list[Message], int]:
    """Return the complete messages from `offset` on and the offset after them."""
    path = directory / workspace.MESSAGES
    raw = _read(path, offset, _MESSAGES_READ_LIMIT)
    whole = raw[: raw.rfind(b"\n") + 1]
    if not whole and len(raw) == _MESSAGES_READ_LIMIT:
        # One line longer than a read: an output near its limit. Take it with its end.
        raw = _read(path, offset, 4 * _READ_LIMIT)
        whole = raw[: raw.find(b"\n") + 1]
    found = [message for line in whole.split(b"\n") if (message := _message(line)) is not None]
    return found, offset + len(whole)


def _message(line: bytes) -> Message | None:
    """Read a line that a supervisor wrote; None for one that it can't have written."""
    try:
        message = _decode_message(line)
    except msgspec.MsgspecError:
        return None
    is_sane = {
        "progress": isinstance(message.value, int) and 0 <= message.value <= 100,
        "info": message.payload is not None,
        "output": bool(message.name),
    }
    return message if is_sane.get(message.kind) else None


def _read(path: Path, offset: int, limit: int = _READ_LIMIT) -> bytes:
    fd = workspace.open_own(str(path))
    if fd is None:
        return b""
    try:
        return os.pread(fd, limit, offset)
    finally:
        os.close(fd)

"""The directory of one attempt: what is in it, and how a supervisor writes it.

    inputs.json    what GYOZA_INPUTS names
    outputs.json   what GYOZA_OUTPUTS names; written by the op
    storage/       GYOZA_STORAGE_DIR
    work/ tmp/     working directory (and HOME), TMPDIR
    log messages   what the op said, bounded (`output`)
    spec.json      what the supervisor was asked to do
    handle.json    which process supervises
    .reserve       room for the outcome on a full disk
    stop           a wish to stop, holding the grace; followed by a signal
    outcome.json   how it ended; appears at once as a whole, and last of all

Supervisors work through a directory descriptor, so that they do no harm when the path is gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat

from apps.runs.executors.supervision.values import (
    MAX_OUTPUTS_BYTES,
    Unacceptable,
    parse_object,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

INPUTS, OUTPUTS, STORAGE, WORK, TMP = "inputs.json", "outputs.json", "storage", "work", "tmp"
LOG, MESSAGES = "log", "messages"
SPEC, HANDLE, STOP, OUTCOME = "spec.json", "handle.json", "stop", "outcome.json"
NEWS_SOCKET = ".news"
# An outcome without outputs: an error message of at most 16 KiB, whose characters may take six each in JSON.
_RESERVE, _RESERVE_BYTES = ".reserve", 128 * 1024
# NONBLOCK: opening a FIFO that an op has put there would wait for its other end for ever.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def contract(directory: str, *, run_id: str, attempt: int) -> dict[str, str]:
    """Return the variables of the IO contract (runs.md §5)."""
    return {
        "GYOZA_RUN_ID": run_id,
        "GYOZA_ATTEMPT": str(attempt),
        "GYOZA_INPUTS": f"{directory}/{INPUTS}",
        "GYOZA_OUTPUTS": f"{directory}/{OUTPUTS}",
        "GYOZA_STORAGE_DIR": f"{directory}/{STORAGE}",
    }


def marker(directory: str) -> bytes:
    """Return the environment entry that only processes of this attempt carry."""
    return os.fsencode(f"GYOZA_OUTPUTS={directory}/{OUTPUTS}")


def is_at(directory: str, at: int) -> bool:
    """Say whether a path still leads to the directory opened as `at`: an op can remove it or move it away."""
    try:
        return os.path.samestat(os.lstat(directory), os.fstat(at))
    except OSError:
        return False


def reopen(directory: str) -> int:
    """Open an attempt's directory, made anew if it is gone, or if an op has put something else in its place."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(directory, flags)
    except NotADirectoryError:
        os.unlink(directory)
        os.mkdir(directory, 0o700)
        return os.open(directory, flags)


def write_whole(name: str, data: bytes, *, at: int) -> None:
    """Write a file so that a reader sees all of it or none."""
    temporary = f".{name}.{os.getpid()}"
    fd = os.open(temporary, _CREATE | os.O_TRUNC, 0o600, dir_fd=at)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:  # an op's joke; nobody looks for anything in it
        os.rename(name, f".{name}.moved", src_dir_fd=at, dst_dir_fd=at)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def open_own(name: str, *, at: int | None = None) -> int | None:
    """Open one of a supervisor's own files for reading; None if it isn't there.

    The directory is the op's as well: what it has put in the place of a file (a link, a FIFO, a device, a directory)
    counts as nothing, and is never waited for.
    """
    try:
        fd = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=at)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def read_small(name: str, *, at: int | None = None, limit: int = 16 * 1024 * 1024) -> bytes | None:
    """Return the beginning of one of a supervisor's own files, or None if there is none."""
    fd = open_own(name, at=at)
    if fd is None:
        return None
    try:
        return _read_up_to(fd, limit)
    finally:
        os.close(fd)


def read_grace(*, at: int) -> float | None:
    """Return the grace of the wish to stop, or None if nobody has left a wish that makes sense."""
    raw = read_small(STOP, at=at, limit=64)
    try:
        return None if raw is None else max(0.0, float(raw))
    except ValueError:
        return None


def read_outputs(at: int) -> dict[str, Any] | None:
    """Return the op's outputs file, None if there is none; raise Unacceptable if it's no good."""
    try:
        fd = os.open(OUTPUTS, _READ, dir_fd=at)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unacceptable(f"can't be read: {os.strerror(exc.errno or 0)}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Unacceptable("is not a regular file")
        raw = _read_up_to(fd, MAX_OUTPUTS_BYTES + 1)
    finally:
        os.close(fd)
    return parse_object(raw)


def _read_up_to(fd: int, limit: int) -> bytes:
    parts = []
    while limit > 0 and (part := os.read(fd, min(limit, 1 << 20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


class AppendFile:
    """A file made by the first byte written to it. When the disk refuses, it gives up quietly.

    An op must not fail, or be blocked, because its log can't be kept.
    """

    def __init__(self, name: str, at: int) -> None:
        self.written = 0
        self._name = name
        self._at = at
        self._fd = -1
        self._broken = False

    def write(self, data: bytes) -> None:
        """Append `data`."""
        if self._broken:
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._name, _CREATE | os.O_APPEND, 0o600, dir_fd=self._at)
            write_all(self._fd, data)
            self.written += len(data)
        except OSError:
            self._broken = True

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class News:
    """Tells the executor that an attempt has said something or ended; nobody may be listening."""

    def __init__(self, root: int, attempt_id: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # By descriptor, because a socket's path holds 107 bytes and a root may be longer.
        self._address = f"/proc/self/fd/{root}/{NEWS_SOCKET}"
        self._attempt_id = attempt_id.encode()

    def send(self) -> bool:
        """Return False if the listener has no room right now and the news should be sent again."""
        try:
            self._socket.sendto(self._attempt_id, self._address)
        except OSError as exc:
            return exc.errno != errno.EAGAIN
        return True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def reserve(*, at: int) -> None:
    """Set room aside for an outcome, which must find some even when the op has filled the disk."""
    fd = os.open(_RESERVE, _CREATE, 0o600, dir_fd=at)
    try:
        os.posix_fallocate(fd, 0, _RESERVE_BYTES)
    finally:
        os.close(fd)


def release(*, at: int) -> None:
    """Give the room back."""
    with contextlib.suppress(OSError):
        os.unlink(_RESERVE, dir_fd=at)


def encode_outcome(outcome: Mapping[str, Any]) -> bytes:
    """Return the bytes of outcome.json."""
    return json.dumps(outcome).encode()


def save_outcome(outcome: bytes, *, at: int) -> None:
    """Make the outcome appear."""
    write_whole(OUTCOME, outcome, at=at)

"""Files under an op's storage directory: which are new, and whether anybody still writes to them.

The directory is the op's: it may put links, FIFOs and devices there, and swap them while they are looked at. Nothing is
followed out of it, and nothing is waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# What is written before it has its name (gyoza_op.write): never an object.
UNFINISHED = ".gyoza-"
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Stamp(NamedTuple):
    """What changes with every write to a file, and with another file in its place."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int  # also with its mode, its names and its times: whoever writes may set mtime back

    def is_as_written(self, other: Stamp) -> bool:
        """Say whether nobody has written in between, as far as the file says."""
        return self[:3] == other[:3]

    @classmethod
    def of(cls, file: int) -> Stamp:
        """Return that of an open file."""
        return cls._from(os.fstat(file))

    @classmethod
    def _from(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Found(NamedTuple):
    """A file that is not as it was known: open for reading until the next one is asked for."""

    path: str  # below the directory; bytes that are no UTF-8 as surrogates
    file: int
    stamp: Stamp


def find_changed(directory: Path, known: Mapping[str, Stamp]) -> Iterator[Found]:
    """Yield the regular files below a directory that are not as they are known, in the order of their names.

    There are none in one that does not exist, yet or any more.
    """
    with contextlib.suppress(FileNotFoundError):
        yield from _find_below(os.fspath(directory), "", known)


def find_changed_of(
    directory: Path, names: Iterable[str], known: Mapping[str, Stamp]
) -> Iterator[Found]:
    """Do as `find_changed` for the files of these names and those below the folders of these names, whatever else there is."""
    told: set[str] = set()
    for path in sorted(names):
        folder, _, name = path.rpartition("/")
        with contextlib.suppress(OSError), _opened_folder(directory, folder) as at:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
            for found in (
                _find_below(name, path, known, at) if is_folder else _find(name, path, at, known)
            ):
                # A folder may be named beside what is in it.
                if found.path not in told:
                    told.add(found.path)
                    yield found


@contextlib.contextmanager
def _opened_folder(directory: Path, below: str) -> Iterator[int]:
    """Lend a folder below a directory, on a way without links."""
    at = os.open(directory, _FOLDER_FLAGS)
    try:
        for name in below.split("/") if below else []:
            outer, at = at, os.open(name, _FOLDER_FLAGS, dir_fd=at)
            os.close(outer)
        yield at
    finally:
        os.close(at)


def _find_below(
    top: str, path: str, known: Mapping[str, Stamp], top_at: int | None = None
) -> Iterator[Found]:
    for folder, folders, names, at in os.fwalk(top, dir_fd=top_at, follow_symlinks=False):
        folders.sort()
        below = path + folder[len(top) :]
        prefix = f"{below}/".lstrip("/")
        for name in sorted(names):
            yield from _find(name, prefix + name, at, known)


def _find(name: str, path: str, at: int, known: Mapping[str, Stamp]) -> Iterator[Found]:
    if name.startswith(UNFINISHED):
        return
    with contextlib.suppress(OSError):
        if _is_known(name, at, known.get(path)):
            return
        file = os.open(name, _FLAGS, dir_fd=at)
        try:
            if stat.S_ISREG(os.fstat(file).st_mode):
                yield Found(path, file, Stamp.of(file))
        finally:
            os.close(file)


def is_closed(file: int) -> bool:
    """Say whether nobody has an open file open for writing, as far as the file system can tell.

    A read lease is granted only then. It is given back at once; should a writer come in between, the signal that asks
    for it is one that nobody minds.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no leases here (NFS, another owner): what is half-written is seen as such by its stamp
    with contextlib.suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def has_any(directory: Path) -> bool:
    """Say whether there is anything in a directory; most ops write no files."""
    try:
        with os.scandir(directory) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def shown(path: str) -> str:
    """Return a path as it can be told, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_known(name: str, at: int, known: Stamp | None) -> bool:
    return known is not None and known == Stamp._from(
        os.stat(name, dir_fd=at, follow_symlinks=False)
    )

"""Files under an op's storage directory: which are new, and whether anybody still writes to them.

The directory is the op's: it may put links, FIFOs and devices there, and swap them while they are looked at. Nothing is
followed out of it, and nothing is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from apps.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# What is written before it has its name (gyoza_op.write): never an object.
UNFINISHED = ".gyoza-"
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# No key is longer, so there is nothing to store below a folder whose path is.
_LONGEST_PATH = 1024
# Each of those that are listened to is known to the kernel, which has room for some thousands, and all are looked up whenever
# another attempt begins.
_MOST_FOLDERS = 5000
# It was there a moment ago, or was something else then.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE}
_NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# What is written within so short a time may have one and the same time: the clock of a file system goes in steps of up to 10 ms.
_STEP_NS = 20_000_000


class Stamp(NamedTuple):
    """What changes with every write to a file, and with another file in its place."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int  # also with its mode, its names and its times: whoever writes may set mtime back

    def is_as_written(self, other: Stamp) -> bool:
        """Say whether nobody has written in between, as far as the file says."""
        return self[:3] == other[:3]

    def settled(self) -> Stamp:
        """Return what to know a file by that has just been read; one that no file has if it may be written and keep this one."""
        is_old = time.time_ns() > self.ctime_ns + _STEP_NS
        return self if is_old else self._replace(ctime_ns=0)

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


@dataclass(slots=True)
class Passed:
    """What a look has come by that is no file to be read."""

    unread: dict[str, OSError] = field(default_factory=dict)
    folders: int = 0
    # Who listens would follow a link to a folder, however much is behind it, and stumbles over a name that is no UTF-8.
    has_traps: bool = False

    @property
    def is_no_place_to_listen(self) -> bool:
        return self.has_traps or bool(self.unread) or self.folders > _MOST_FOLDERS


def find_changed(directory: Path, known: Mapping[str, Stamp], passed: Passed) -> Iterator[Found]:
    """Yield the regular files below a directory that are not as they are known, in the order of their names.

    There are none in one that does not exist, yet or any more. Raises Unavailable.
    """
    yield from _find_below(directory, "", known, passed)


def find_changed_of(
    directory: Path, names: Iterable[str], known: Mapping[str, Stamp], passed: Passed
) -> Iterator[Found]:
    """Do as `find_changed` for the files of these names and those below the folders of these names, whatever else there is."""
    told: set[str] = set()
    for path in sorted(names):
        folder, _, name = path.rpartition("/")
        with _passing_over(path, passed), _opened_folder(directory, folder) as at:
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
            for found in (
                _find_below(directory, path, known, passed)
                if is_folder
                else _find(name, path, at, known, passed)
            ):
                # A folder may be named beside what is in it.
                if found.path not in told:
                    told.add(found.path)
                    yield found


def is_place_to_listen(directory: Path) -> bool:
    """Say whether whoever listens to a directory hears of what is in it, and of nothing else."""
    passed = Passed()
    is_none = any(passed.is_no_place_to_listen for _ in _walk(directory, "", passed))
    return not (is_none or passed.is_no_place_to_listen)


@contextlib.contextmanager
def _opened_folder(directory: Path, below: str) -> Iterator[int]:
    """Lend a folder below a directory, on a way without links; what is no folder any more is not waited for."""
    at = os.open(directory, _FOLDER_FLAGS)
    try:
        for name in below.split("/") if below else []:
            outer, at = at, os.open(name, _FOLDER_FLAGS, dir_fd=at)
            os.close(outer)
        yield at
    finally:
        os.close(at)


@contextlib.contextmanager
def _passing_over(path: str, passed: Passed) -> Iterator[None]:
    """Go on after what can't be read, and note it unless it has gone. Raises Unavailable if nothing could be."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NONE_LEFT:
            raise Unavailable(f"no more files can be opened: {exc.strerror}") from exc
        if exc.errno not in _GONE:
            passed.unread[path] = exc


def _find_below(
    directory: Path, top: str, known: Mapping[str, Stamp], passed: Passed
) -> Iterator[Found]:
    for folder, names, at in _walk(directory, top, passed):
        prefix = f"{folder}/" if folder else ""
        for name in names:
            yield from _find(name, prefix + name, at, known, passed)


def _walk(directory: Path, top: str, passed: Passed) -> Iterator[tuple[str, list[str], int]]:
    """Yield folders, what is in them that is no folder, and themselves, open until the next one is asked for."""
    # One at a time, and each from the top: however deep they are, and whatever is put in their place.
    folders = [top]
    while folders:
        folder = folders.pop()
        prefix = f"{folder}/" if folder else ""
        with _passing_over(folder, passed), _opened_folder(directory, folder) as at:
            if len(os.fsencode(folder)) > _LONGEST_PATH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            passed.folders += 1
            names, below = _entries(at, passed)
            folders.extend(prefix + name for name in below)
            yield folder, names, at


def _entries(at: int, passed: Passed) -> tuple[list[str], list[str]]:
    """Return the names in a folder: of what is no folder, in order, and of folders, in the opposite order."""
    names: list[str] = []
    folders: list[str] = []
    with os.scandir(at) as entries:
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
            if entry.is_symlink() and entry.is_dir():
                passed.has_traps = True
    if not _is_text("".join(names + folders)):
        passed.has_traps = True
    return sorted(names), sorted(folders, reverse=True)


def _find(
    name: str, path: str, at: int, known: Mapping[str, Stamp], passed: Passed
) -> Iterator[Found]:
    with _passing_over(path, passed):
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) and stat.S_ISDIR(os.stat(name, dir_fd=at).st_mode):
            passed.has_traps = True
        if name.startswith(UNFINISHED):
            return
        if not stat.S_ISREG(found.st_mode) or Stamp._from(found) == known.get(path):
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
    """Say whether there may be anything in a directory; most ops write no files."""
    try:
        with os.scandir(directory) as entries:
            return any(True for _ in entries)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a look will tell


def shown(path: str) -> str:
    """Return a path as it can be told, whatever its bytes."""
    return os.fsencode(path or ".").decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

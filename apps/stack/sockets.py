"""Where the embedded servers' Unix sockets live: short, without spaces, closed to everyone else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path


def private_directory(key: Path, *, uid: int | None = None) -> Path:
    """Return a directory for sockets, mode 0700, owned by `uid`, the same for the same `key`.

    It is under /tmp because a socket's whole path has room for about 100 bytes, which a clone's own path, or
    $TMPDIR, may exceed; and because some shared file systems hold no sockets.
    """
    owner = os.geteuid() if uid is None else uid
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:10]
    root = Path("/tmp")  # noqa: S108  the directory below it is ours alone, or not used
    path = root / f"gyoza-{owner}-{digest}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not _is_private(path, owner):
            # Someone else was there first: a name they can't have guessed.
            path = Path(tempfile.mkdtemp(prefix="gyoza-", dir=root))
    _give(path, owner)
    return path


def restore(path: Path, *, uid: int | None = None) -> None:
    """Make the directory again if it is gone: /tmp is emptied at a reboot, and by cleaners."""
    if not path.exists():
        path.mkdir(mode=0o700)
        _give(path, os.geteuid() if uid is None else uid)


def discard(path: Path) -> None:
    """Remove the directory if nothing is in it any more."""
    with contextlib.suppress(OSError):
        path.rmdir()


def _give(path: Path, owner: int) -> None:
    if owner != os.geteuid():
        os.chown(path, owner, -1)


def _is_private(path: Path, owner: int) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & 0o077

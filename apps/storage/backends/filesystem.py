"""Blobs as files of one directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files.storage import FileSystemStorage

if TYPE_CHECKING:
    from io import FileIO

_PIECE = 1024 * 1024


class DurableFiles(FileSystemStorage):
    """Django's storage of files, which returns when what it was given would survive a power cut.

    Its directory is made once. When that has gone it is away (not mounted, moved): nothing is written in its place, and
    nothing in it counts as removed.
    """

    _seen_at: str | os.PathLike[str] = ""

    def delete(self, name: str) -> None:
        """Remove a file; one that has gone is no error."""
        super().delete(name)
        self._require_directory()

    def _save(self, name: str, content: Any) -> str:
        target = Path(self.path(name))
        self._make_folder(target.parent)
        source = (
            Path(content.temporary_file_path()) if hasattr(content, "temporary_file_path") else None
        )
        if source is not None and source.stat().st_dev == target.parent.stat().st_dev:
            source.rename(target)
            # Under its name: a journalling file system then writes both at once, and the folder costs nothing more.
            _sync(target)
        else:
            self._copy(content, target)
        _sync(target.parent)
        return name

    def open_at(self, name: str, start: int) -> FileIO:
        """Open a file at an offset."""
        try:
            opened = Path(self.path(name)).open("rb", buffering=0)  # noqa: SIM115 - the caller closes it
        except FileNotFoundError:
            self._require_directory()
            raise
        opened.seek(start)
        return opened

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            if self._seen_at != self.location:
                Path(self.location).mkdir(parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)
        self._seen_at = self.location

    def _require_directory(self) -> None:
        if self._seen_at == self.location and not Path(self.location).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.location)

    def _copy(self, content: Any, target: Path) -> None:
        try:
            with target.open("xb") as file:
                content.seek(0)
                for piece in content.chunks(_PIECE):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from apps.stack import sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = sockets.private_directory(tmp_path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_it_is_short_without_spaces_and_closed(directory: Path):
    assert len(os.fsencode(directory)) < 60
    assert " " not in str(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_it_is_the_same_for_the_same_place(directory: Path, tmp_path: Path):
    assert sockets.private_directory(tmp_path) == directory


def test_a_directory_that_others_can_enter_is_not_used(directory: Path, tmp_path: Path):
    directory.chmod(0o755)
    other = sockets.private_directory(tmp_path)
    assert other != directory
    assert stat.S_IMODE(other.stat().st_mode) == 0o700
    other.rmdir()


def test_a_link_is_not_followed(directory: Path, tmp_path: Path):
    directory.rmdir()
    directory.symlink_to(tmp_path)
    other = sockets.private_directory(tmp_path)
    assert other != directory
    other.rmdir()
    directory.unlink()


def test_it_comes_back_after_the_directory_was_cleaned_away(directory: Path):
    directory.rmdir()
    sockets.restore(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700

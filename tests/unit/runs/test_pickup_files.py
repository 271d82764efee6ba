"""Which files of an attempt are new."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from apps.core.errors import Unavailable
from apps.runs.pickup import files


def make_deep(directory: Path, levels: int) -> None:
    """Make folders in folders, each with a file, deeper than a path can say."""
    at = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        outer, at = at, os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(outer)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refuse_to_open(name: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == name:
            raise OSError(code, os.strerror(code))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)


def test_a_directory_that_does_not_exist_has_none(tmp_path):
    assert list(files.find_changed(tmp_path / "gone", {}, files.Passed())) == []


def test_files_are_found_below_it_by_name(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b", "a", "below/c"):
        (tmp_path / name).write_text(name)
    assert [found.path for found in files.find_changed(tmp_path, {}, files.Passed())] == [
        "a",
        "b",
        "below/c",
    ]


def test_files_of_some_names_are_found_without_the_others(tmp_path):
    for name in ("a", "b", "below/c", "below/deep/d", "other/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    named = {
        "b",
        "below",
        "below/c",
        "below/deep",
        "below/deep/d",
        "other/e",
        "gone",
        "gone/too",
        "b/below/a/file",
        "",
    }
    found = [one.path for one in files.find_changed_of(tmp_path, named, {}, files.Passed())]
    assert found == ["b", "below/c", "below/deep/d", "other/e"]
    known = {one.path: one.stamp for one in files.find_changed(tmp_path, {}, files.Passed())}
    (tmp_path / "b").write_text("again")
    assert [one.path for one in files.find_changed_of(tmp_path, named, known, files.Passed())] == [
        "b"
    ]


def test_a_name_leads_nowhere_else(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    directory = tmp_path / "storage"
    (directory / "below").mkdir(parents=True)
    (directory / "link").symlink_to(outside)
    (directory / "file").symlink_to(outside / "secret")
    (directory / "below" / "link").symlink_to(outside)
    os.mkfifo(directory / "pipe")
    (directory / ".gyoza-new").write_text("x")
    named = {"link", "link/secret", "file", "below", "below/link/secret", "pipe", ".gyoza-new"}
    assert list(files.find_changed_of(directory, named, {}, files.Passed())) == []


def test_a_directory_that_is_gone_has_none_of_any_name(tmp_path):
    assert list(files.find_changed_of(tmp_path / "gone", {"a"}, {}, files.Passed())) == []


def test_however_deep_they_are_one_folder_is_open_at_a_time(tmp_path):
    make_deep(tmp_path, 500)
    open_before = opened()
    passed = files.Passed()
    found = [(one.path, opened() - open_before) for one in files.find_changed(tmp_path, {}, passed)]
    assert [path for path, _ in found] == ["d/" * n + "f" for n in range(1, 501)]
    assert {more for _, more in found} == {2}  # the folder and the file
    assert not passed.unread


def test_what_is_deeper_than_any_key_is_told(tmp_path):
    make_deep(tmp_path, 600)
    passed = files.Passed()
    assert len(list(files.find_changed(tmp_path, {}, passed))) == 512
    [(path, why)] = passed.unread.items()
    assert (len(path), why.strerror) == (1025, "File name too long")


def test_what_can_not_be_read_is_told_and_the_others_are_found(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    for name in ("a", "b", "c", "shut/d"):
        (tmp_path / name).touch()
    for name in ("b", "shut"):
        refuse_to_open(name, errno.EACCES, monkeypatch)
    passed = files.Passed()
    assert [one.path for one in files.find_changed(tmp_path, {}, passed)] == ["a", "c"]
    assert {path: why.errno for path, why in passed.unread.items()} == {
        "b": errno.EACCES,
        "shut": errno.EACCES,
    }


def test_what_is_gone_when_it_is_to_be_read_is_no_matter(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    refuse_to_open("a", errno.ENOENT, monkeypatch)
    refuse_to_open("b", errno.ENOTDIR, monkeypatch)
    passed = files.Passed()
    assert list(files.find_changed(tmp_path, {}, passed)) == []
    assert not passed.unread


def test_a_process_that_can_open_nothing_more_passes_over_nothing(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    refuse_to_open("a", errno.EMFILE, monkeypatch)
    with pytest.raises(Unavailable, match="Too many open files"):
        list(files.find_changed(tmp_path, {}, files.Passed()))


def test_a_directory_that_can_not_be_looked_into_may_have_files(tmp_path):
    assert not files.has_any(tmp_path)
    assert not files.has_any(tmp_path / "gone")
    assert files.has_any(tmp_path / ("n" * 300))


@pytest.mark.parametrize(
    ("make", "is_place"),
    [
        (lambda at: (at / "link").symlink_to(at / "file"), True),
        (lambda at: (at / "link").symlink_to(at / "nowhere"), True),
        (lambda at: (at / "link").symlink_to("/usr"), False),
        (lambda at: (at / "\udcff").mkdir(), False),
        (lambda at: (at / "\udcff").touch(), False),
    ],
)
def test_a_link_to_a_folder_and_a_name_that_is_no_text_forbid_to_listen(tmp_path, make, is_place):
    below = tmp_path / "below"
    below.mkdir()
    (below / "file").touch()
    make(below)
    assert files.is_place_to_listen(tmp_path) is is_place
    passed = files.Passed()
    list(files.find_changed(tmp_path, {}, passed))
    assert passed.is_no_place_to_listen is not is_place


def test_a_file_read_right_after_it_was_written_is_read_once_more(tmp_path):
    """Where the clock goes in steps, it may be written again and look as it did."""
    (tmp_path / "a").touch()
    [found] = [one.stamp for one in files.find_changed(tmp_path, {}, files.Passed())]
    fresh = found._replace(ctime_ns=time.time_ns())
    assert fresh.settled() != fresh
    assert fresh.settled().is_as_written(fresh)
    old = found._replace(ctime_ns=time.time_ns() - 10**9)
    assert old.settled() == old


def test_a_folder_that_is_shut_is_not_listened_to(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    refuse_to_open("shut", errno.EACCES, monkeypatch)
    assert not files.is_place_to_listen(tmp_path)


def test_too_many_folders_are_not_listened_to(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_FOLDERS", 3)
    for name in "ab":
        (tmp_path / name).mkdir()
    assert files.is_place_to_listen(tmp_path)
    (tmp_path / "c").mkdir()
    assert not files.is_place_to_listen(tmp_path)

"""Which files of an attempt are new."""

from __future__ import annotations

import os

from apps.runs.pickup import files


def test_a_directory_that_does_not_exist_has_none(tmp_path):
    assert list(files.find_changed(tmp_path / "gone", {})) == []


def test_files_are_found_below_it_by_name(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b", "a", "below/c"):
        (tmp_path / name).write_text(name)
    assert [found.path for found in files.find_changed(tmp_path, {})] == ["a", "b", "below/c"]


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
    found = [one.path for one in files.find_changed_of(tmp_path, named, {})]
    assert found == ["b", "below/c", "below/deep/d", "other/e"]
    known = {one.path: one.stamp for one in files.find_changed(tmp_path, {})}
    (tmp_path / "b").write_text("again")
    assert [one.path for one in files.find_changed_of(tmp_path, named, known)] == ["b"]


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
    assert list(files.find_changed_of(directory, named, {})) == []


def test_a_directory_that_is_gone_has_none_of_any_name(tmp_path):
    assert list(files.find_changed_of(tmp_path / "gone", {"a"}, {})) == []

"""Which files of an attempt are new."""

from __future__ import annotations

from apps.runs.pickup import files


def test_a_directory_that_does_not_exist_has_none(tmp_path):
    assert list(files.find_changed(tmp_path / "gone", {})) == []


def test_files_are_found_below_it_by_name(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b", "a", "below/c"):
        (tmp_path / name).write_text(name)
    assert [found.path for found in files.find_changed(tmp_path, {})] == ["a", "b", "below/c"]

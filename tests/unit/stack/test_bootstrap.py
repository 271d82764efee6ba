from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.stack import bootstrap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("had", "wanted", "is_covered"),
    [("up", "up", True), ("dev", "up", True), ("dev", "test", True), ("up", "test", False)],
)
def test_a_level_covers_those_below_it(had: str, wanted: str, is_covered: bool):
    stamp = {"level": had, "fingerprint": "same"}
    assert bootstrap.covers(stamp, wanted, "same") is is_covered


@pytest.mark.parametrize(
    "stamp", [None, [], {}, {"level": "dev"}, {"level": "dev", "fingerprint": "other"}]
)
def test_anything_else_is_made_again(stamp: object):
    assert not bootstrap.covers(stamp, "up", "same")


def test_the_fingerprint_follows_the_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / "requirements").mkdir()
    pins = tmp_path / "requirements/base.txt"
    pins.write_text("one==1\n")
    before = bootstrap.fingerprint()
    assert bootstrap.fingerprint() == before
    pins.write_text("one==2\n")
    assert bootstrap.fingerprint() != before


def test_it_counts_packages_not_comments(tmp_path: Path):
    path = tmp_path / "base.txt"
    path.write_text("# a==b\none==1\n    # via two==2\ntwo==2\n")
    assert bootstrap.pins(path) == ["one==1", "two==2"]


def test_a_place_that_cannot_be_made_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "venv").symlink_to(tmp_path / "gone")
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "setup.log")
    with pytest.raises(SystemExit, match=r"could not make .*venv") as told:
        bootstrap._make_venv(None)
    assert "File exists" in str(told.value)
    assert "apt install" not in str(told.value)

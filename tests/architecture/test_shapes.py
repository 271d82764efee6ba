"""The ways to run it (Makefile, compose.yaml, Dockerfile, `manage.py up`) run the same commands with settings that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from apps.stack import processes

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
OURS = {name: one for name, one in COMPOSE["services"].items() if one["image"] == "gyoza"}


def from_the_program_on(argv: list[str]) -> list[str]:
    """Return a command from `celery` or `manage.py` on: what comes before is how Python is found."""
    words = [str(word) for word in argv]
    begin = next(i for i, word in enumerate(words) if word in {"celery", "manage.py"})
    return words[begin:]


def of_make(target: str) -> list[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(rf"^{target}:.*\n\t(.+)$", text, re.MULTILINE)
    assert recipe is not None
    return from_the_program_on(shlex.split(recipe[1]))


@pytest.mark.parametrize(
    ("name", "target"), [("web", "run"), ("worker", "worker"), ("beat", "beat")]
)
def test_a_process_is_started_in_the_same_way_everywhere(name, target, settings):
    settings.GYOZA_LOG_LEVEL = "INFO"
    make = {"web": processes.web, "worker": processes.worker, "beat": processes.beat}[name]
    up = from_the_program_on(make(ROOT, {}).spec.argv())
    composed = from_the_program_on(OURS[name]["command"])
    # The order of options says nothing.
    assert sorted(up) == sorted(composed) == sorted(of_make(target))


def test_compose_gives_settings_that_exist():
    known = set(settings.GYOZA_ENVIRONMENT)
    known |= {f"{name}_FILE" for name in known}
    given = {name for one in OURS.values() for name in one["environment"]}
    assert given - known == set()


def test_a_stopping_worker_has_time_to_drain():
    grace = int(str(OURS["worker"]["stop_grace_period"]).removesuffix("s"))
    assert grace > settings.GYOZA_DRAIN_SECONDS + settings.GYOZA_CANCEL_GRACE_SECONDS


def test_our_containers_may_do_little():
    for name, one in OURS.items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name


def test_the_image_copies_what_there_is():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = [
        words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    ]
    for source in (word for words in copied for word in words):
        assert (ROOT / source).exists(), source
    assert re.search(r"^USER \d+$", text, re.MULTILINE), "a number, so that an orchestrator sees it"

"""Facts that stand in code and in prose are compared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest
from django.core.management import get_commands

from apps.core.reference.commands import targets
from apps.pipelines.states import (
    ENDED,
    EXECUTION_MOVES,
    STAGE_MOVES,
    ExecutionStatus,
    StageStatus,
)
from apps.pipelines.states import FINAL as FINAL_EXECUTIONS
from apps.runs.states import FINAL, MOVES, RunState

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages that people write; what is generated is compared elsewhere.
WRITTEN = sorted(
    page
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if page.parent != DOCS / "reference" and page.name != "CHANGELOG.md"
)
by_name = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize(
    ("page", "states", "moves", "final"),
    [
        ("run-states.md", RunState, MOVES, FINAL),
        ("pipelines.md", ExecutionStatus, EXECUTION_MOVES, FINAL_EXECUTIONS),
        ("pipelines.md", StageStatus, STAGE_MOVES, ENDED),
    ],
)
def test_the_picture_of_states_is_the_table(page, states, moves, final):
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(states))}"]
    for state in states:
        lines += [f"    {state} --> {to}" for to in states if to in moves[state]]
    lines += [f"    {state} --> [*]" for state in states if state in final]
    picture = "\n".join(["```mermaid", *lines, "```"])
    text = (DOCS / "explanation" / page).read_text("utf-8")
    assert picture in text, f"the picture should be:\n{picture}"


def test_the_layers_that_are_told_are_those_that_are_checked():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    between, *_ = tools["importlinter"]["contracts"]
    layers = "\n".join(layer.replace("apps.", "") for layer in between["layers"])
    page = (DOCS / "explanation" / "layers.md").read_text("utf-8")
    assert f"```\n{layers}\n```" in page, f"the layers should be:\n{layers}"


def test_a_decision_is_titled_with_its_number_and_numbered_once():
    pages = sorted((DOCS / "adr").glob("*.md"))
    numbers = [int(page.name.partition("-")[0]) for page in pages]
    titles = [page.read_text("utf-8").partition("\n")[0] for page in pages]
    wrong = [
        title
        for number, title in zip(numbers, titles, strict=True)
        if not re.match(rf"# {number}\. \S", title)
    ]
    assert wrong == []
    assert len(set(numbers)) == len(numbers)


@by_name
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:", "/"))]
    assert [link for link in local if not (page.parent / link).resolve().exists()] == []


@by_name
def test_files_that_are_named_exist(page):
    """`apps/<app>/sql/` and the like stand for many: then only what comes before is looked for."""
    tops = "apps|benchmarks|docs|examples|gyoza_site|requirements|templates|tests"
    named = re.findall(rf"`((?:{tops})/[^`\s]*)`", page.read_text("utf-8"))
    fixed = {re.split(r"[^/]*[<*…]", name)[0].partition(":")[0] for name in named}
    assert [name for name in sorted(fixed) if not (ROOT / name).exists()] == []


@by_name
def test_commands_that_are_named_exist(page):
    text = page.read_text("utf-8")
    made = set(re.findall(r"(?<![\w-])make ([a-z-]+)(?=[`\n]| [A-Z]+=)", text))
    managed = set(re.findall(r"manage\.py ([a-z_]+)", text))
    assert made - {name for name, _ in targets()} == set()
    assert managed - get_commands().keys() == set()


@by_name
def test_what_core_is_said_to_have_it_has(page):
    for name in re.findall(r"`(core\.[a-z_]+(?:\.\w+)+)", page.read_text("utf-8")):
        try:
            # `pkgutil.resolve_name` imports modules on the way; Django's import_string finds only what is imported.
            resolve_name(f"apps.{name}")
        except (ImportError, AttributeError) as exc:
            pytest.fail(f"{name}: {exc}")


def test_every_page_is_found_from_the_first():
    seen: set[Path] = set()
    left = [DOCS / "index.md"]
    while left:
        page = left.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        found = {(page.parent / link).resolve() for link in links if not link.startswith("http")}
        found |= {one for folder in found if folder.is_dir() for one in folder.glob("*.md")}
        left += [one for one in found if one.suffix == ".md" and one.exists() and one not in seen]
    assert sorted(set(DOCS.rglob("*.md")) - seen) == []

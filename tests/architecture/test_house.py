"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "apps"


def sources() -> list[Path]:
    found = [*APPS.rglob("*.py"), *(ROOT / "gyoza_site").rglob("*.py")]
    return [p for p in sorted(found) if "migrations" not in p.parts]


def test_the_tree_holds_files_only():
    """A symbolic link points into the machine of whoever made it, and `.venv` as one breaks every clone."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.splitlines()
    assert listed, "not a checkout"
    assert [line for line in listed if not line.startswith("100")] == []


def test_no_file_is_a_dumping_ground():
    names = {"utils.py", "helpers.py", "common.py", "misc.py", "constants.py"}
    assert [p for p in sources() if p.name in names] == []


def test_init_files_of_apps_are_empty():
    allowed = {APPS / "runs" / "executors" / "__init__.py"}  # the loader of the plug-ins
    full = [p for p in APPS.rglob("__init__.py") if p.read_text("utf-8").strip()]
    assert set(full) - allowed == set()


def test_modules_of_core_stay_small():
    big = {
        str(p.relative_to(ROOT)): lines
        for p in (APPS / "core").rglob("*.py")
        if (lines := len(p.read_text("utf-8").splitlines())) > 200
    }
    assert big == {}


def test_core_knows_no_app():
    wrong = [
        str(p)
        for p in (APPS / "core").rglob("*.py")
        if re.search(r"(from|import) apps\.(?!core\b)", p.read_text("utf-8"))
    ]
    assert wrong == []


def test_raw_sql_is_executed_in_one_place():
    pattern = re.compile(r"\.(execute|executemany)\(|objects\.raw\(|RawSQL\(")
    allowed = {APPS / "core" / "sql.py"}
    wrong = [str(p) for p in sources() if p not in allowed and pattern.search(p.read_text("utf-8"))]
    assert wrong == []


def test_each_sql_file_has_a_header_and_a_caller():
    code = "\n".join(p.read_text("utf-8") for p in sources())
    for path in APPS.rglob("sql/*.sql"):
        folder = path.parent.parent.relative_to(APPS).as_posix()
        assert path.read_text("utf-8").startswith("-- "), path
        assert f'"{folder}/{path.stem}"' in code, f"nobody runs {path}"


def test_migrations_do_not_change_with_the_code():
    # What a default or a field class is called has to stand there; a value can be written out.
    allowed = re.compile(
        r"apps\.core\.(clock|ids)\b|apps\.\w+\.models\.\w+Field\b|^import apps\.\w+\.models$"
    )
    named = re.compile(r"^import apps[\w.]+$|\bapps\.\w+\.\w+\.\w+", re.MULTILINE)
    wrong = [
        f"{path.relative_to(ROOT)}: write out the value of {name}"
        for path in APPS.rglob("migrations/0*.py")
        for name in named.findall(path.read_text("utf-8"))
        if not allowed.search(name)
    ]
    assert wrong == []


def test_migrations_have_names():
    assert [str(p) for p in APPS.rglob("migrations/0*.py") if "_auto_" in p.name] == []


def test_enqueued_names_are_registered_tasks():
    from gyoza_site.celery import app

    app.loader.import_default_modules()
    pattern = re.compile(r'(?:enqueue|nudge)_on_commit\(\s*"([\w.]+)"')
    named = {m for p in sources() for m in pattern.findall(p.read_text("utf-8"))}
    named |= {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert named <= set(app.tasks)


def test_cross_app_imports_use_the_public_modules():
    public = {"services", "queries", "models", "states", "signals"}
    # What an app shows to people, on its own pages and on those of the console; what they do with what starts pipelines; and
    # what they write to topics.
    shown = {"console": {"pages", "listing", "triggers", "schedules", "publishing"}}
    extra = {"access": {"auth"}, "stack": set()}
    wrong = []
    for path in sources():
        if path.parts[len(ROOT.parts)] != "apps":
            continue
        own = path.relative_to(APPS).parts[0]
        for match in re.finditer(
            r"^\s*from apps\.(\w+)(?:\.(\w+))?[\w.]* import ([\w, ()]+)",
            path.read_text("utf-8"),
            re.MULTILINE,
        ):
            other, module, names = match.groups()
            if other in (own, "core"):
                continue
            used = (
                {module} if module else {n.strip(" ()") for n in names.split(",") if n.strip(" ()")}
            )
            used = {n.split(" as ")[0] for n in used}
            if used - public - extra.get(other, set()) - shown.get(own, set()):
                wrong.append(f"{path.relative_to(ROOT)}: {match.group(0).strip()}")
    assert wrong == []

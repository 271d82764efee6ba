"""Makes the virtual environment: all that can be done before anything is installed.

    python3 -m apps.stack.bootstrap up|test|dev [command …]

Runs on the system's Python with its standard library alone, then becomes the command, run by the environment's Python.
What has been done is remembered, so a second call takes no time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "gyoza-environment.json"
LOG = ROOT / ".gyoza/logs/setup.log"

# Each level holds the packages of those before it.
LEVELS = {"up": ["base", "embedded"], "test": ["test"], "dev": ["dev"]}


def fingerprint() -> str:
    """Return what an environment depends on: every pinned package, this Python, this place."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {os.fspath(VENV)}".encode())
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def covers(stamp: object, level: str, wanted: str) -> bool:
    """Say whether an environment with this stamp has all that the level needs."""
    if not isinstance(stamp, dict) or stamp.get("fingerprint") != wanted:
        return False
    order = list(LEVELS)
    return stamp.get("level") in order and order.index(stamp["level"]) >= order.index(level)


def read_stamp() -> object:
    """Return the stamp of the present environment; None if there is none that can be read."""
    try:
        return json.loads(STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def use_newer_python() -> None:
    """Start again with a Python that is new enough, if this one isn't and the machine has one."""
    if sys.version_info >= OLDEST:
        return
    for name in NEWER:
        found = shutil.which(name)
        if found:
            os.execv(found, [found, "-m", "apps.stack.bootstrap", *sys.argv[1:]])  # noqa: S606  on purpose
    have = ".".join(str(number) for number in sys.version_info[:3])
    sys.exit(
        f"Gyoza needs Python 3.11 or newer, this is {have}. Name another one: make up PYTHON=/path/to/python3"
    )


def refuse_foreign_files() -> None:
    """Exit with a reason if this clone was set up by another user, whose files this one can't change."""
    for path in (ROOT, VENV, ROOT / ".gyoza"):
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            sys.exit(
                f"{path} belongs to another user and can't be written to: run as that user, or use a clone of your own"
            )


def make_environment(level: str) -> None:
    """Make or bring up to date the virtual environment; exits with a reason if that fails."""
    from apps.stack.terminal import Terminal

    terminal = Terminal()
    wanted = fingerprint()
    version = ".".join(str(number) for number in sys.version_info[:3])
    if covers(read_stamp(), level, wanted):
        if level == "up":
            terminal.done("environment", f"Python {version}, packages up to date")
        return
    LOG.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    python = VENV / "bin/python"
    with (
        terminal.step("environment", f"making .venv with Python {version}") as step,
        LOG.open("wb") as log,
    ):
        if not _runs(python):
            _make_venv(log)
        files = [ROOT / f"requirements/{name}.txt" for name in LEVELS[level]]
        count = len({line.partition("=")[0] for file in files for line in pins(file)})
        if not sys.stdout.isatty():
            terminal.line(f"  … environment    installing {count} packages, this takes a minute")
        argv = [
            os.fspath(python),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ]
        for file in files:
            argv += ["-r", os.fspath(file)]
        seen = 0
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
        ) as pip:
            assert pip.stdout is not None  # noqa: S101  asked for above
            for line in pip.stdout:
                log.write(line)
                if line.startswith((b"Collecting ", b"Requirement already")):
                    seen += 1
                    name = line.decode("utf-8", "replace").removeprefix(
                        "Requirement already satisfied: "
                    )
                    step.tell(
                        f"package {seen} of {count}: {name.removeprefix('Collecting ').split()[0]}"
                    )
                elif line.startswith(b"Installing "):
                    step.tell(f"installing {count} packages")
        if pip.returncode != 0:
            log.flush()
            _give_up("pip could not install the packages")
        step.result = f"Python {version}, {count} packages"
    STAMP.write_text(json.dumps({"level": level, "fingerprint": wanted}), encoding="utf-8")


def pins(path: Path) -> list[str]:
    """Return the `name==version` lines of a requirements file."""
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if "==" in line and not line.startswith((" ", "#"))]


def _runs(python: Path) -> bool:
    """Say whether the environment's Python starts, is of this version, and has pip: it may have been moved or upgraded."""
    probe = "import sys, pip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([os.fspath(python), "-c", probe], capture_output=True, check=False)
    except OSError:
        return False
    expected = f"{sys.version_info[0]} {sys.version_info[1]}"
    return done.returncode == 0 and done.stdout.decode().strip() == expected


def _make_venv(log: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", os.fspath(VENV)], capture_output=True, check=False
    )
    LOG.write_bytes(done.stdout + done.stderr)
    if done.returncode == 0:
        return
    if b"ensurepip" in done.stdout + done.stderr:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        sys.exit(
            f"\n{sys.executable} can't make virtual environments. On Debian and Ubuntu: apt install {package}\n"
            f"What it said is in {LOG}"
        )
    _give_up(f"{sys.executable} could not make {VENV}")


def _give_up(reason: str) -> NoReturn:
    lines = LOG.read_text("utf-8", "replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
    sys.exit(
        "\n".join([f"{reason}:", *(f"  {line}" for line in errors[-5:]), f"All of it is in {LOG}"])
    )


def main() -> None:
    """Make the environment of a level, then become the rest of the command line."""
    use_newer_python()
    refuse_foreign_files()
    level, *command = sys.argv[1:]
    try:
        make_environment(level)
    except KeyboardInterrupt:
        sys.exit(130)
    if command:
        python = os.fspath(VENV / "bin/python")
        os.chdir(ROOT)
        sys.stdout.flush()
        os.execv(python, [python, *command])  # noqa: S606  on purpose


if __name__ == "__main__":
    main()

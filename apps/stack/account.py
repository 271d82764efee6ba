"""Postgres refuses to run as root: which user runs it then, and where that user can reach its files."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from apps.stack.errors import CannotStart
from apps.stack.spawn import Account

# No entry in /etc/passwd, so nothing else runs under it: the socket and the data are open to this
# server and to root alone. Above the numbers people and packages get.
OWN_UID = 64555
OUTSIDE = Path("/var/lib/gyoza")


NO_ACCOUNT = (
    "Postgres refuses to run as root, and no other user can be used here: "
    "run as an ordinary user, or set DATABASE_URL to a Postgres of your own"
)


def choose_account(data: Path) -> Account | None:
    """Return the account for a Postgres whose files are in `data`; None for the present user.

    Existing files decide: their owner must go on.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        found = data.stat()
        return Account(found.st_uid, found.st_gid)
    for account in (Account(OWN_UID, OWN_UID), *_others()):
        if can_execute(account, Path("/bin/sh")):
            return account
    raise CannotStart(NO_ACCOUNT)


def named_account() -> Account:
    """Return an account with an entry in /etc/passwd, which initdb insists on."""
    for account in _others():
        if can_execute(account, Path("/bin/sh")):
            return account
    raise CannotStart(NO_ACCOUNT)


def _others() -> list[Account]:
    entries = sorted(pwd.getpwall(), key=lambda entry: entry.pw_name != "nobody")
    return [Account(entry.pw_uid, entry.pw_gid) for entry in entries if entry.pw_uid != 0]


def can_execute(account: Account, program: Path) -> bool:
    """Say whether the account can start a program: the container may not map it, a parent may be closed to it."""
    argv = [str(program), "-c", "exit 0"] if program.name == "sh" else [str(program), "--version"]
    try:
        done = subprocess.run(
            argv,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def can_enter(account: Account, directory: Path) -> bool:
    """Say whether the account can reach a directory through all of its parents."""
    argv = ["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)]
    done = subprocess.run(
        argv,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def reachable_home(home: Path, account: Account) -> Path:
    """Return `home`, made so that the account can keep a data directory in it.

    If a parent is closed to the account (a clone under /root), `home` becomes a link to a directory outside:
    opening the parent instead would show root's files to everyone.
    """
    if not home.exists() and not home.is_symlink():
        home.mkdir(parents=True, mode=0o711)
        home.chmod(0o711)
        if not can_enter(account, home):
            home.rmdir()
            home.symlink_to(_outside() / f"data-{os.urandom(6).hex()}")
    if home.is_symlink() and not home.exists():
        target = home.readlink()
        _outside()
        target.mkdir(mode=0o711)
        target.chmod(0o711)
    return home.resolve()


def reachable_programs(package: Path, account: Account, version: str) -> Path:
    """Return the Postgres package, or a copy of what it needs to run if the account can't reach it."""
    if can_execute(account, package / "pginstall/bin/postgres"):
        return package
    copy = _outside() / f"postgres-{version}"
    if not copy.exists():
        # A half-made copy must never be taken for a whole one.
        draft = copy.with_name(f".{copy.name}.{os.getpid()}")
        skip = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
        shutil.copytree(
            package / "pginstall", draft / package.name / "pginstall", symlinks=True, ignore=skip
        )
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            draft.rename(copy)
        except OSError:  # another one was first
            shutil.rmtree(draft)
    return copy / package.name


def _outside() -> Path:
    OUTSIDE.mkdir(parents=True, exist_ok=True)
    OUTSIDE.chmod(0o711)
    return OUTSIDE

"""Processes by number: who is meant, who descends from whom, and how none is left.

Descendants are found through the subreaper: a supervisor that called `become_subreaper` inherits
every orphan below it, so its subtree is complete even when an op double-forks or starts a session.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make orphans below this process its children instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Call it right after fork."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def born(pid: int) -> str | None:
    """Return what tells this process from any other that ever has its number; None if it's gone.

    A zombie counts as gone.
    """
    fields = _stat(pid)
    if fields is None or fields[0] in {"Z", "X"}:
        return None
    return f"{boot_id()}:{fields[19]}"


def is_alive(pid: int, birth: str) -> bool:
    """Tell whether the very process that was `born` so is still running."""
    return pid > 0 and born(pid) == birth


def open_process(pid: int, birth: str) -> int | None:
    """Return a pidfd of the live process that was `born` so; None if it's gone."""
    if pid <= 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The check comes after the open: from here on the fd means one process for good.
    if is_alive(pid, birth):
        return fd
    os.close(fd)
    return None


def send(pid: int, birth: str, number: int) -> bool:
    """Signal the process that was `born` so, and no other; False if it's gone."""
    fd = open_process(pid, birth)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def descendants(root: int) -> list[int]:
    """Return every live process below `root`, parents before children."""
    below: dict[int, list[int]] = {}
    for pid, fields in _processes():
        if fields[0] not in {"Z", "X"}:
            below.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    queue = below.get(root, [])
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(below.get(pid, []))
    return found


def children(root: int) -> list[int]:
    """Return the children of `root`, zombies included."""
    return [pid for pid, fields in _processes() if int(fields[1]) == root]


def kill_below(root: int, *, spare: Iterable[int] = ()) -> None:
    """Kill every process below `root` but the `spare`d children and what is below those."""
    spared = set(spare)

    def targets() -> list[int]:
        kept: set[int] = set()
        for pid in spared:
            kept.add(pid)
            kept.update(descendants(pid))
        return [pid for pid in descendants(root) if pid not in kept]

    _freeze_and_kill(targets)


def kill_tree(root: int) -> None:
    """Kill `root`, which must be a child of the caller not yet waited for, and all below it."""

    def targets() -> list[int]:
        return [root, *descendants(root)]

    _freeze_and_kill(targets)


def kill_remains(session: int, birth: str, marker: bytes) -> None:
    """Kill what a dead supervisor has left: its session, and whoever carries `marker`.

    `marker` is a NAME=value of the environment that only this attempt's processes were given.
    """
    # If the number is in use again by a live process, its session is someone else's. The kernel
    # gives a number out again only when no session bears it.
    reused = session <= 0 or born(session) not in {None, birth}

    def targets() -> list[int]:
        mine = os.getpid()
        return [
            pid
            for pid, fields in _processes()
            if pid != mine
            and fields[0] not in {"Z", "X"}
            and ((not reused and int(fields[3]) == session) or _carries(pid, marker))
        ]

    # The killed need a moment to be gone, and whoever asked may rely on it that they are. Longer
    # than this they are stuck in the kernel, which nobody can wait for.
    give_up = time.monotonic() + 1
    while targets() and time.monotonic() < give_up:
        _freeze_and_kill(targets)
        time.sleep(0.002)


def _freeze_and_kill(targets: Callable[[], list[int]]) -> None:
    # Stopped processes can't fork, so the set becomes stable and nobody slips through; the
    # number of rounds only bounds a fork bomb that outruns us, and each caller loops anyway.
    frozen: set[int] = set()
    for _ in range(20):
        fresh = [pid for pid in targets() if pid not in frozen]
        if not fresh:
            break
        for pid in fresh:
            _kill(pid, signal.SIGSTOP)
        frozen.update(fresh)
    for pid in frozen:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _carries(pid: int, marker: bytes) -> bool:
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    except OSError:
        return False
    try:
        return marker in os.read(fd, 1 << 20).split(b"\0")
    except OSError:
        return False
    finally:
        os.close(fd)


def _processes() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields is not None:
                yield int(name), fields


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from `state` on (proc(5) field 3 is index 0)."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        raw = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The command name may contain anything, spaces and brackets included.
    return raw[raw.rindex(b")") + 2 :].decode("ascii").split()


_boot = ""


def boot_id() -> str:
    """Return what tells this boot of this machine from every other."""
    global _boot  # read once: it changes only with the machine
    if not _boot:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
        try:
            _boot = os.read(fd, 36).decode("ascii")[:13]
        finally:
            os.close(fd)
    return _boot

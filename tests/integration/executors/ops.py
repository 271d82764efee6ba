"""The ops of the contract. Each is a callable, and a command: `python ops.py <name>`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gyoza_op

JSON = dict[str, Any]


def double(inputs: JSON) -> JSON:
    return {"doubled": inputs["n"] * 2}


def nothing(inputs: JSON) -> None:
    return None


def speak(inputs: JSON) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(1, b"by number \xff\xfe\n")


def tell(inputs: JSON) -> JSON:
    gyoza_op.progress(40)
    gyoza_op.info("half way", rows=5)
    gyoza_op.output("rows", 5)
    gyoza_op.output("both", "said")
    print("a line of log")
    return {"both": "returned"}


def fail(inputs: JSON) -> None:
    for number in range(30):
        print(f"reason {number}", file=sys.stderr)
    sys.exit(3)


def die(inputs: JSON) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count(inputs: JSON) -> None:
    with Path(inputs["path"]).open("a") as file:
        file.write("x")


def wait(inputs: JSON) -> None:
    """Wait for ever, but clean up when asked to stop."""
    if __name__ == "__main__":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        gyoza_op.info("waiting")
        time.sleep(600)
    finally:
        print("cleaned up")


def resist(inputs: JSON) -> None:
    """Wait for ever and not heed SIGTERM, as do a child and a grandchild in a session of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gyoza_op.info("waiting", pids=_family())
    time.sleep(600)


def leave_family(inputs: JSON) -> JSON:
    return {"pids": _family()}


def _family() -> list[int]:
    child = subprocess.Popen(["sleep", "600"])
    script = "setsid sh -c 'echo $$; exec sleep 600' & exit 0"
    escaped = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert escaped.stdout is not None
    pid = int(escaped.stdout.readline())
    escaped.wait()
    return [child.pid, pid]


def flood(inputs: JSON) -> JSON:
    block = b"x" * 1023 + b"\n"
    for _ in range(inputs["mib"]):
        os.write(1, block * 512)
        os.write(2, block * 512)
    gyoza_op.output("still", "heard")
    return {"flooded": True}


def write_outputs(inputs: JSON) -> None:
    Path(os.environ["GYOZA_OUTPUTS"]).write_bytes(bytes.fromhex(inputs["hex"]))


def spoil(inputs: JSON) -> JSON:
    """Put something else in the place of one of the supervisor's own files, before and after writing some."""
    place = Path(os.environ["GYOZA_OUTPUTS"]).with_name(inputs["name"])
    if inputs["late"]:
        print("early", flush=True)
    place.unlink(missing_ok=True)
    how = inputs["how"]
    if how == "directory":
        place.mkdir()
        (place / "file").touch()
    elif how == "fifo":
        os.mkfifo(place)
    elif how == "endless":
        place.symlink_to("/dev/zero")
    else:
        place.write_bytes(bytes.fromhex(how))
    print("late", flush=True)
    gyoza_op.info("late")
    return {"spoiled": True}


def forge(inputs: JSON) -> None:
    """Write the outcome that a supervisor would, and go on."""
    place = Path(os.environ["GYOZA_OUTPUTS"]).with_name("outcome.json")
    place.write_text(json.dumps({"exit_code": 0, "outputs": {"forged": True}}))
    gyoza_op.info("forged")
    if inputs["waits"]:
        time.sleep(600)
    sys.exit(3)


def vacate(inputs: JSON) -> None:
    """Remove the attempt's directory, or move it away, and put something else there."""
    directory = Path(os.environ["GYOZA_OUTPUTS"]).parent
    print("before", flush=True)
    if inputs["how"] == "moved":
        directory.rename(directory.with_name(".moved"))
    while directory.exists():  # the supervisor may be making a file there
        shutil.rmtree(directory, ignore_errors=True)
    if inputs["how"] == "made anew":
        directory.mkdir()
    if inputs["how"] == "a file":
        directory.touch()
    print("after", file=sys.stderr, flush=True)
    sys.exit(inputs["code"])


def elope(inputs: JSON) -> None:
    """Move the attempt's directory away and leave a link."""
    directory = Path(os.environ["GYOZA_OUTPUTS"]).parent
    directory.rename(directory.with_name(".away"))
    directory.symlink_to(inputs["to"])


def bury(inputs: JSON) -> None:
    """Leave folders nested deeper than Python recurses."""
    at = os.open(".", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def store(inputs: JSON) -> JSON:
    gyoza_op.write("a/b.txt", "stored")
    folder = Path(os.environ["GYOZA_STORAGE_DIR"])
    return {"files": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())}


def look_around(inputs: JSON) -> JSON:
    given = json.loads(Path(os.environ["GYOZA_INPUTS"]).read_text())
    limits = Path("/proc/self/limits").read_text()
    core = next(line.split()[4] for line in limits.splitlines() if "core file" in line)
    return {
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "inputs": given,
        "core": core,
        "group": os.getpgid(0) == os.getpid() or os.getpgid(0) != os.getpgid(os.getppid()),
    }


if __name__ == "__main__":
    result = globals()[sys.argv[1]](gyoza_op.inputs())
    if result is not None:
        Path(os.environ["GYOZA_OUTPUTS"]).write_text(json.dumps(result))

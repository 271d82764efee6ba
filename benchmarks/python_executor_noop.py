"""No-op attempts through the python executor: attempts/s, and CPU per attempt over all processes.

python benchmarks/python_executor_noop.py [attempts] [at a time] [children]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.runs.executors.base import Handle, LaunchSpec
from apps.runs.executors.python import PythonExecutor

OP = "def noop(inputs):\n    return None\n"


def cpu_below(pid: int) -> float:
    """Return the CPU seconds of the nursery `pid` and its children so far.

    From schedstat, in nanoseconds: the tick counts of /proc/<pid>/stat are samples, and miss most of
    processes that run for microseconds at a time.
    """
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(entry.name) == pid or int(fields[1]) == pid:
                total += int((entry / "schedstat").read_text().split()[0])
    return total / 1e9


def main(attempts: int, at_a_time: int, children: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "noop_op.py").write_text(OP)
        options = {"base_dir": scratch, "max_children": children}
        executor = PythonExecutor(Path(scratch) / "root", options)
        room = threading.Semaphore(at_a_time)
        failures: list[str] = []

        def on_news(attempt_id: str) -> None:
            handle = Handle("python", attempt_id)
            outcome = executor.poll(handle)
            if outcome is not None:
                if not outcome.succeeded:
                    failures.append(outcome.error)
                executor.forget(handle)
                room.release()

        def run(first: int, count: int) -> Handle:
            for number in range(first, first + count):
                room.acquire()
                last = executor.launch(
                    LaunchSpec(
                        attempt_id=f"a-{number}",
                        run_id="0199-run",
                        attempt=1,
                        python="noop_op:noop",
                        env={},
                        inputs_json=b"{}",
                        timeout_s=3600,
                    )
                )
            for _ in range(at_a_time):
                room.acquire()
            for _ in range(at_a_time):
                room.release()
            return last

        executor.on_news = on_news
        nursery = run(0, 500).pid  # children are started and warm
        before, own, begin = cpu_below(nursery), time.process_time(), time.monotonic()
        run(500, attempts)
        took = time.monotonic() - begin
        own, below = time.process_time() - own, cpu_below(nursery) - before
        if failures:
            raise SystemExit(f"{len(failures)} attempts failed, first: {failures[0]}")
        print(
            f"{attempts} no-op attempts, {at_a_time} at a time, {children} children: "
            f"{attempts / took:,.0f} attempts/s, {(own + below) / attempts * 1e6:.0f} µs CPU per attempt "
            f"(executor {own / attempts * 1e6:.0f}, nursery and children {below / attempts * 1e6:.0f})"
        )
        executor.close()


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [20_000, 16, 8][len(given) :]))

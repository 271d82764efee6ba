"""A warm process that runs Python callables, one attempt after the other.

Forked by the nursery. Whatever one attempt changes in the process (variables, working directory,
handlers) is put back for the next; where it can't be, the child says it is spent. The module state
of ops stays, which is what makes it warm.

Its directory travels with it: renamed from attempt to attempt as long as an op leaves nothing in it,
which costs a tenth of making a new one.
"""

from __future__ import annotations

# signal.getsignal makes enums, at a tenth of the cost of a whole attempt.
import _signal  # type: ignore[import-not-found]
import _thread
import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback

from apps.core.allowlist import is_allowed, is_callable_name
from apps.runs.executors.supervision import frames, outcomes, proctree, runner, workspace
from apps.runs.executors.supervision.frames import DIRTY, DONE, SPENT, Frame
from apps.runs.executors.supervision.values import MAX_OUTPUTS_BYTES, Unacceptable, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn, TextIO

_FOLDERS = (workspace.STORAGE, workspace.WORK, workspace.TMP)
_SIGTERM = int(signal.SIGTERM)
_loads = json.JSONDecoder().decode  # json.loads looks for encodings we don't write
# Taken hold of before any op is imported: some replace the functions of the json module.
_dumps = json.JSONEncoder(allow_nan=False).encode
_TERMINATED = 128 + signal.SIGTERM


class Refused(Exception):
    """The op can't be started; the message says why."""


def become(
    sock: socket.socket, out: int, err: int, *, root: str, parent: int, options: dict[str, Any]
) -> NoReturn:
    """Turn the calling process, just forked, into a warm child."""
    status = 1
    try:
        proctree.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)  # the nursery died in between: no signal will come
        os.setpgid(0, 0)
        proctree.become_subreaper()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        control = os.dup2(sock.detach(), 3, inheritable=False)
        _close_above(control)
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        runner.set_limits(options["limits"])
        _WarmChild(control, root, options).serve()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _close_above(last: int) -> None:
    # The nursery's descriptors: ends of other children's pipes would keep those open.
    os.closerange(last + 1, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16))


class _WarmChild:
    def __init__(self, control: int, root: str, options: dict[str, Any]) -> None:
        self.control = control
        self.root = root
        self.allowed: list[str] | None = options["allowed"]
        self.base_env: dict[str, str] = options["env"]
        self.functions: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.directory = ""
        self.folders: list[int] = []
        self.inputs = -1
        self.in_op = False
        self.umask = os.umask(0o022)
        os.umask(self.umask)
        self.pid = os.getpid()
        self.env: dict[str, str] = {}
        self.env_data: dict[bytes, bytes] = {}
        os.environ.clear()
        self.stdout, self.stderr = _stream(1), _stream(2)
        self.out_identity = _identity(1), _identity(2)
        signal.signal(signal.SIGTERM, self._on_term)
        # An op's own package may be called `apps` as well: leave no trace of ours.
        for name in [n for n in sys.modules if n == "apps" or n.startswith("apps.")]:
            del sys.modules[name]

    def serve(self) -> None:
        """Run what the nursery sends until it hangs up."""
        unread = b""
        while True:
            received, unread = frames.decode(unread)
            for frame in received:
                self._reply(self._attempt(frame))
            data = os.read(self.control, frames.READ_SIZE)
            if not data:
                return
            unread += data

    def _reply(self, frame: Frame) -> None:
        if os.getpid() != self.pid:
            os._exit(0)  # a fork of the op that came back from it: it must not answer in our place
        data = memoryview(frames.encode(frame))
        while data:
            data = data[os.write(self.control, data) :]

    def _attempt(self, frame: Frame) -> Frame:
        order: dict[str, Any] = _loads(frame.meta.decode())
        began = time.monotonic()
        try:
            self._prepare(frame, order)
        except OSError as exc:
            error = f"can't prepare the attempt: {exc}"
            problem = {"started": False, "lost": True, "error": error}
            return _done(frame, problem, b"", began, DIRTY | SPENT)
        status, result = self._call(order["python"], frame.body)
        flags = self._clean_up()
        body = b""
        if status.get("exit_code"):
            flags |= SPENT  # whatever made it fail may be in the process, and the next op may be another one
        if not workspace.is_at(self.directory, self.folders[0]):
            status["gone"] = True
            flags |= DIRTY | SPENT
        elif status.get("exit_code") == 0:
            status, body = self._outputs(result, wrote=flags & DIRTY)
        return _done(frame, status, body, began, flags)

    # --- before

    def _prepare(self, frame: Frame, order: dict[str, Any]) -> None:
        directory = f"{self.root}/{frame.attempt_id.decode()}"
        if not (frame.number and self._carry_over(directory)):
            self._make_directory(directory)
        os.pwrite(self.inputs, frame.body, 0)
        if os.fstat(self.inputs).st_size != len(frame.body):  # a fraction of what truncating costs
            os.ftruncate(self.inputs, len(frame.body))
        os.fchdir(self.folders[2])
        self._set_environment(order, directory)

    def _carry_over(self, directory: str) -> bool:
        """Rename the last attempt's directory; False if the new name is taken.

        It is when the nursery had to leave a note there, because its executor has just died.
        """
        try:
            os.rename(self.directory, directory)
        except OSError:
            remove_directory(self.directory)
            return False
        self.directory = directory
        return True

    def _make_directory(self, directory: str) -> None:
        for fd in (*self.folders, *((self.inputs,) if self.inputs >= 0 else ())):
            os.close(fd)
        self.folders, self.inputs = [], -1
        for path in (directory, *(f"{directory}/{name}" for name in _FOLDERS)):
            os.makedirs(path, 0o700, exist_ok=True)
        self.inputs = os.open(
            f"{directory}/{workspace.INPUTS}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        for path in (directory, *(f"{directory}/{name}" for name in _FOLDERS)):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Any change of its entries will show as a time that isn't 0, whatever the clock's grain.
            os.utime(fd, (0, 0))
            self.folders.append(fd)
        self.directory = directory

    def _set_environment(self, order: dict[str, Any], directory: str) -> None:
        own = {
            "HOME": f"{directory}/{workspace.WORK}",
            "TMPDIR": f"{directory}/{workspace.TMP}",
            **self.base_env,
            **order["env"],
            **workspace.contract(directory, run_id=order["run_id"], attempt=order["attempt"]),
        }
        # os.environ encodes, decodes and calls libc at every touch: touch only what has changed.
        # Whether the op touched it shows in what it holds.
        data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        now = self.env if data == self.env_data else dict(os.environ)
        for name, _ in own.items() - now.items():
            os.environ[name] = own[name]
        for name in now.keys() - own.keys():
            del os.environ[name]
        self.env, self.env_data = own, data.copy()

    # --- the op

    def _call(self, dotted: str, inputs: bytes) -> tuple[dict[str, Any], Any]:
        """Run the callable; return its status and what it returned."""
        try:
            self.in_op = True
            function = self.functions.get(dotted) or self._resolve(dotted)
            result = function(_loads(inputs.decode()))
            self.in_op = False
        except Refused as exc:
            self.in_op = False
            return {"started": False, "error": str(exc)}, None
        except SystemExit as exc:
            self.in_op = False
            return {"exit_code": _exit_code(exc.code)}, None
        except BaseException as exc:
            self.in_op = False
            # As a script would: the whole on stderr, whose last lines become the error message.
            frame = exc.__traceback__ and exc.__traceback__.tb_next
            _say("".join(traceback.format_exception(type(exc), exc, frame)))
            return {"exit_code": 1}, None
        return {"exit_code": 0}, result

    def _resolve(self, dotted: str) -> Callable[[dict[str, Any]], Any]:
        if not is_callable_name(dotted):
            raise Refused(f"not package.module:callable: {dotted}")
        module_name, _, name = dotted.partition(":")
        if self.allowed is not None and not is_allowed(dotted, self.allowed):
            raise Refused(f"not an allowed callable: {dotted}")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            if exc.name and (module_name == exc.name or module_name.startswith(exc.name + ".")):
                raise Refused(f"can't import {module_name}: {exc}") from None
            raise
        function = getattr(module, name, None)
        if not callable(function):
            raise Refused(f"{module_name} has no callable {name}")
        home = f"{getattr(function, '__module__', '')}:{name}"
        if self.allowed is not None and not (
            dotted in self.allowed or is_allowed(home, self.allowed)
        ):
            # `package.*` must not open what a module merely imports.
            raise Refused(f"not an allowed callable: {dotted} is defined elsewhere")
        self.functions[dotted] = function
        return function  # type: ignore[no-any-return]

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        # An exception lets the op's `finally` and `with` blocks run, as a polite stop should.
        if self.in_op and os.getpid() == self.pid:
            raise SystemExit(_TERMINATED)
        if os.getpid() != self.pid:
            os._exit(_TERMINATED)

    # --- after

    def _clean_up(self) -> int:
        """Put back what the op may have changed; return the flags of what couldn't be."""
        flags = 0
        if not self._streams_intact():
            flags |= SPENT
        try:
            os.waitpid(-1, os.WNOHANG)
            flags |= SPENT  # it returned, so there are children, dead or alive
        except ChildProcessError:
            pass
        if _thread._count():
            flags |= (
                SPENT  # a daemon of the op's too: what it prints would stand in the log of the next
            )
        os.umask(self.umask)
        signal.alarm(0)
        if _signal.getsignal(_SIGTERM) != self._on_term:
            signal.signal(signal.SIGTERM, self._on_term)
        temporary = sys.modules.get("tempfile")
        if temporary is not None:
            temporary.tempdir = None  # type: ignore[attr-defined]  # it remembers TMPDIR
        try:
            if any(os.stat(fd).st_mtime_ns for fd in self.folders):
                flags |= DIRTY
        except OSError:
            flags |= DIRTY | SPENT
        return flags

    def _streams_intact(self) -> bool:
        intact = sys.stdout is self.stdout and sys.stderr is self.stderr
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            if not intact:
                self.stdout.flush()
                self.stderr.flush()
            intact = (_identity(1), _identity(2)) == self.out_identity
        except (OSError, ValueError, AttributeError):
            intact = False
        sys.stdout, sys.stderr = self.stdout, self.stderr
        return intact

    def _outputs(self, result: Any, *, wrote: int) -> tuple[dict[str, Any], bytes]:
        """Return the status and the outputs as JSON: what the file says, then what was returned."""
        written = None
        if wrote:
            written, problem = outcomes.gather_outputs(self.folders[0], None)
            if problem:
                return {"exit_code": 0, "error": problem}, b""
        if not result and not written and (result is None or isinstance(result, dict)):
            return {"exit_code": 0}, b""
        if result is not None and not isinstance(result, dict):
            kind = type(result).__name__
            return {"exit_code": 0, "error": f"the callable returned {kind}, not a dict"}, b""
        try:
            body = _dumps({**(written or {}), **(result or {})})
            refuse(result)
        except (TypeError, ValueError, RecursionError) as exc:
            if isinstance(exc, Unacceptable):
                problem = f"returned dict {exc}"
            else:
                problem = f"returned dict is not JSON: {exc}"
            return {"exit_code": 0, "error": problem}, b""
        if len(body) > MAX_OUTPUTS_BYTES:
            problem = f"outputs are over the limit of {MAX_OUTPUTS_BYTES} bytes (1 MiB)"
            return {"exit_code": 0, "error": problem}, b""
        return {"exit_code": 0}, body.encode()


def _done(frame: Frame, status: dict[str, Any], body: bytes, began: float, flags: int) -> Frame:
    meta = b"" if len(status) == 1 and status.get("exit_code") == 0 else _dumps(status).encode()
    return Frame(DONE, frame.attempt_id, meta, body, time.monotonic() - began, 0.0, flags)


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _say(f"{code}\n")
    return 1


def _say(text: str) -> None:
    # By number: the op may have closed or replaced sys.stderr.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    with contextlib.suppress(OSError):
        workspace.write_all(2, text.encode("utf-8", "replace"))


def _stream(fd: int) -> TextIO:
    stream = open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - it stays
    if fd == 1:
        sys.stdout = sys.__stdout__ = stream  # type: ignore[misc]
    else:
        sys.stderr = sys.__stderr__ = stream  # type: ignore[misc]
    return stream


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def remove_directory(path: str) -> None:
    """Remove a directory a child leaves behind."""
    shutil.rmtree(path, ignore_errors=True)

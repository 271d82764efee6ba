"""Splits what an op writes into log, messages and the end of stderr, all of it bounded."""

from __future__ import annotations

import json
import time

from apps.runs.executors.supervision.values import (
    MAX_OUTPUTS_BYTES,
    Unacceptable,
    clean_text,
    refuse,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOG_LIMIT = 10 * 1024 * 1024
LOG_NOTICE = b"\n[gyoza: output is over 10 MiB; the rest is not kept]\n"
MESSAGES_LIMIT = 10 * 1024 * 1024
MESSAGES_NOTICE = b"\n[gyoza: over 10 MiB of messages; further progress and info is not kept]\n"
# An output's value may be as large as all outputs together; the rest of the line needs little.
LINE_LIMIT = MAX_OUTPUTS_BYTES + 1024
TAIL_LINES = 20
_TAIL_BYTES = 16 * 1024
_MARK = b'"gyoza"'


class Capture:
    """Takes an attempt's stdout and stderr chunk by chunk and never keeps more than it must.

    A message is a stdout line that is a JSON object with the key "gyoza", written literally. Past
    the limit of the log, lines are still searched for messages, so that a chatty op keeps its
    progress and loses no output. A line that looks like a message but isn't valid stays log, with
    a notice why.
    """

    def __init__(
        self, write_log: Callable[[bytes], None], write_message: Callable[[bytes], None]
    ) -> None:
        self.outputs: dict[str, Any] = {}
        self.outputs_problem = ""
        self._write_log = write_log
        self._write_message = write_message
        self._log_room = LOG_LIMIT
        self._message_room = MESSAGES_LIMIT
        self._outputs_size = 0
        self._carry = b""  # an unfinished stdout line that may become a message
        self._in_log_line = False  # the unfinished stdout line is already in the log
        self._tail = b""

    def stdout(self, chunk: bytes) -> None:
        """Take a piece of stdout."""
        if self._in_log_line:
            end = chunk.find(b"\n") + 1
            if not end:
                self._log(chunk)
                return
            self._log(chunk[:end])
            self._in_log_line = False
            chunk = chunk[end:]
        data = self._carry + chunk if self._carry else chunk
        end = data.rfind(b"\n") + 1
        whole, rest = (data[:end], data[end:]) if end < len(data) else (data, b"")
        if _MARK in whole:
            self._split(whole)
        else:
            self._log(whole)
        self._carry = b""
        if rest:
            # A line that can't become a message is passed on at once: progress bars stay live.
            if len(rest) <= LINE_LIMIT and rest.lstrip()[:1] in {b"", b"{"}:
                self._carry = rest
            else:
                self._log(rest)
                self._in_log_line = True

    def stderr(self, chunk: bytes) -> None:
        """Take a piece of stderr."""
        self._log(chunk)
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    def close(self) -> None:
        """Take the unfinished last line as it is."""
        rest, self._carry = self._carry, b""
        if rest:
            self._split(rest)

    def stderr_tail(self) -> str:
        """Return the last 20 lines of stderr as text that any column can hold."""
        return tail(self._tail)

    def _split(self, whole: bytes) -> None:
        logged = position = 0
        while (mark := whole.find(_MARK, position)) >= 0:
            begin = whole.rfind(b"\n", position, mark) + 1 or position
            end = whole.find(b"\n", mark) + 1 or len(whole)
            line = whole[begin:end]
            if line.lstrip()[:1] == b"{" and len(line) <= LINE_LIMIT:
                self._log(whole[logged:begin])
                notice = self._take(line)
                logged = end if notice is None else begin
                if notice:
                    self._log(b"[gyoza: message not taken: " + notice.encode() + b"]\n")
            position = end
        self._log(whole[logged:])

    def _take(self, line: bytes) -> str | None:
        """Record a message; return None, or why the line stays log ("" = it is just a line)."""
        try:
            data = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return ""
        if not isinstance(data, dict) or "gyoza" not in data:
            return ""
        try:
            refuse({key: value for key, value in data.items() if key != "msg"})
            message = _normalise(data)
            if message["kind"] == "output":
                self._add_output(message["name"], message["value"])
        except Unacceptable as exc:
            return str(exc)
        self._write(message)
        return None

    def _add_output(self, name: str, value: Any) -> None:
        self._outputs_size += len(json.dumps([name, value], ensure_ascii=False).encode())
        if self._outputs_size > MAX_OUTPUTS_BYTES:
            self.outputs_problem = f"are over the limit of {MAX_OUTPUTS_BYTES} bytes (1 MiB)"
            raise Unacceptable(f"outputs {self.outputs_problem}")
        self.outputs[name] = value

    def _write(self, message: dict[str, Any]) -> None:
        if self._message_room <= 0:
            return
        message["at"] = round(time.time(), 6)
        line = json.dumps(message).encode() + b"\n"
        self._message_room -= len(line)
        if self._message_room > 0:
            self._write_message(line)
        else:
            self._log(MESSAGES_NOTICE)

    def _log(self, data: bytes) -> None:
        if not data or self._log_room < 0:
            return
        if len(data) <= self._log_room:
            self._log_room -= len(data)
            self._write_log(data)
        else:
            self._write_log(data[: self._log_room] + LOG_NOTICE)
            self._log_room = -1


def tail(raw: bytes) -> str:
    """Return the last 20 lines of `raw` as text that any column can hold."""
    lines = raw.decode("utf-8", "replace").replace("\r\n", "\n").rstrip().split("\n")
    return clean_text("\n".join(lines[-TAIL_LINES:]))


def _normalise(data: dict[str, Any]) -> dict[str, Any]:
    kind = data["gyoza"]
    if kind == "progress":
        value = data.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unacceptable("progress needs a number as value")
        return {"kind": kind, "value": int(min(100, max(0, value)))}
    if kind == "info":
        msg, payload = data.get("msg", ""), data.get("payload")
        if not isinstance(msg, str):
            raise Unacceptable("info needs a text as msg")
        if payload is not None and not isinstance(payload, dict):
            raise Unacceptable("info needs an object as payload")
        return {"kind": kind, "msg": clean_text(msg), "payload": payload or {}}
    if kind == "output":
        name = data.get("name")
        if not isinstance(name, str) or not name or "value" not in data:
            raise Unacceptable("output needs a name and a value")
        return {"kind": kind, "name": name, "value": data["value"]}
    raise Unacceptable("unknown kind; known are progress, info and output")

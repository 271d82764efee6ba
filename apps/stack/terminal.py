"""What `make up` prints: one line per step, the same words with and without a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOURS = {"good": "32", "bad": "31", "warn": "33", "quiet": "2", "strong": "1", "accent": "36"}
LABEL_WIDTH = 14


class Step:
    """A step under way; what it tells goes on its line."""

    def __init__(self, terminal: Terminal, label: str) -> None:
        self._terminal = terminal
        self._label = label
        self.result = ""

    def tell(self, text: str) -> None:
        """Show what is happening right now; only where a line can be written over."""
        self._terminal.draw(
            f"  {self._terminal.paint('accent', '…')} {self._label:{LABEL_WIDTH}} {text}"
        )


class Terminal:
    """A place to print to, safe to use from several threads."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._is_live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_live and not os.environ.get("NO_COLOR")
        self._drawn = ""
        self._is_closed = False
        reconfigure = getattr(self._stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a Latin-1 terminal gets question marks, not a traceback

    def paint(self, colour: str, text: str) -> str:
        """Return the text in a colour, where there are colours."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self._has_colour else text

    def line(self, text: str = "") -> None:
        """Print one line; what is being drawn stays below it."""
        with self._lock:
            self._write(f"{self._eraser()}{text}\n{self._drawn}")

    def draw(self, text: str) -> None:
        """Draw over the last line; nothing where lines can't be written over."""
        if self._is_live:
            with self._lock:
                eraser, self._drawn = self._eraser(), text
                self._write(f"{eraser}{text}")

    def done(self, label: str, text: str, *, mark: str = "✓", colour: str = "good") -> None:
        """Print the line of a step that has ended."""
        with self._lock:
            eraser, self._drawn = self._eraser(), ""
            self._write(f"{eraser}  {self.paint(colour, mark)} {label:{LABEL_WIDTH}} {text}\n")

    @contextmanager
    def step(self, label: str, text: str) -> Iterator[Step]:
        """Show a step while it runs, then its result and the time it took."""
        step = Step(self, label)
        step.tell(text)
        began = time.monotonic()
        try:
            yield step
        except BaseException:
            self.done(label, step.result or f"{text}: not finished", mark="✗", colour="bad")
            raise
        took = self.paint("quiet", f"{time.monotonic() - began:.1f} s")
        self.done(label, f"{step.result or text}  {took}")

    def _eraser(self) -> str:
        return "\r\x1b[2K" if self._drawn else ""

    def _write(self, text: str) -> None:
        if self._is_closed:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # The terminal was closed: stopping the children in order matters more.
            self._is_closed = True

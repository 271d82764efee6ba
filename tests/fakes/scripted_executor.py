"""An executor that runs nothing: each attempt plays a script, at once and in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from apps.runs.executors.base import Executor, Handle, LaunchSpec, Message, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Script:
    """What an attempt does: says this, then ends so; without `ends` it goes on until stopped."""

    log: bytes = b""
    messages: tuple[Message, ...] = ()
    ends: Outcome | None = None
    is_stubborn: bool = False  # a polite stop has no effect


@dataclass
class _Play:
    log: bytes = b""
    messages: list[Message] = field(default_factory=list)
    outcome: Outcome | None = None
    is_stubborn: bool = False


class ScriptedExecutor(Executor):
    """Plays `options["script"](spec)`; tests may also drive an attempt with `say` and `end`.

    The plays live in `options["world"]`, a dictionary that outlives the executor as real attempts do.
    """

    name: ClassVar[str] = "scripted"

    def __init__(self, root: Path, options: Mapping[str, Any]) -> None:
        super().__init__(root, options)
        self.script: Callable[[LaunchSpec], Script] = options.get("script", lambda _: Script())
        self.world: dict[str, _Play] = options.get("world", {})
        self.launched: list[LaunchSpec] = []

    def launch(self, spec: LaunchSpec) -> Handle:
        handle = Handle(self.name, spec.attempt_id)
        if spec.attempt_id not in self.world:
            self.launched.append(spec)
            script = self.script(spec)
            self.world[spec.attempt_id] = _Play(is_stubborn=script.is_stubborn)
            self.say(spec.attempt_id, log=script.log, messages=script.messages)
            if script.ends is not None:
                self.end(spec.attempt_id, script.ends)
        return handle

    def say(self, attempt_id: str, *, log: bytes = b"", messages: tuple[Message, ...] = ()) -> None:
        """Let an attempt write."""
        play = self.world[attempt_id]
        play.log += log
        play.messages.extend(messages)
        if log or messages:
            self._tell(attempt_id)

    def end(self, attempt_id: str, outcome: Outcome) -> None:
        """Let an attempt end, unless it has."""
        play = self.world[attempt_id]
        if play.outcome is None:
            play.outcome = outcome
            self._tell(attempt_id)

    def poll(self, handle: Handle) -> Outcome | None:
        play = self.world.get(handle.attempt_id)
        return Outcome(error="nothing is known of it", lost=True) if play is None else play.outcome

    def read_log(self, handle: Handle, offset: int) -> bytes:
        play = self.world.get(handle.attempt_id, _Play())
        return play.log[offset : offset + 2**20]

    def read_messages(self, handle: Handle, offset: int) -> tuple[list[Message], int]:
        play = self.world.get(handle.attempt_id, _Play())
        return play.messages[offset:], len(play.messages)

    def stop(self, handle: Handle, *, grace: float) -> None:
        play = self.world.get(handle.attempt_id)
        if play is None:
            return
        how = Outcome(signal=15, stopped=True, error="stopped on request")
        # Time does not pass here: the grace of a stubborn attempt is over at once.
        self.end(handle.attempt_id, replace(how, signal=9) if play.is_stubborn else how)

    def forget(self, handle: Handle) -> None:
        self.world.pop(handle.attempt_id, None)

    def leftovers(self) -> list[Handle]:
        return [Handle(self.name, attempt_id) for attempt_id in self.world]

    def _tell(self, attempt_id: str) -> None:
        if self.on_news is not None:
            self.on_news(attempt_id)

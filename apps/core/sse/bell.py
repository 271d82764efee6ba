"""What one task waits for, again and again, without paying for a timer each time."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by others in the event loop, waited for by one task; a ring while nobody waits is kept."""

    __slots__ = ("_alarm", "_alarm_at", "_due", "_is_rung", "_loop", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_rung = False
        self._waiter: asyncio.Future[None] | None = None
        # One timer is kept from wait to wait; it goes off too early as a rule, and is set anew then.
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = self._due = 0.0

    @property
    def is_waited_for(self) -> bool:
        """Say whether the task waits, and has not been told yet that it needn't."""
        return self._waiter is not None and not self._waiter.done()

    def ring(self) -> None:
        """Let `wait` return."""
        self._is_rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float) -> bool:
        """Wait until it rings, at most `timeout` seconds; say whether it has rung, and forget it."""
        if not self._is_rung:
            self._due = self._loop.time() + timeout
            if self._alarm is None or self._alarm_at > self._due:
                self._set_alarm()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        has_rung, self._is_rung = self._is_rung, False
        return has_rung

    def close(self) -> None:
        """Leave no timer behind."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        self.close()
        self._alarm_at = self._due
        self._alarm = self._loop.call_at(self._due, self._go_off)

    def _go_off(self) -> None:
        self._alarm = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due:
            self._set_alarm()
        else:
            self._waiter.set_result(None)

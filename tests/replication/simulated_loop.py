"""An event loop whose time is only a number: it jumps to the next timer whenever there is nothing else to do."""

from __future__ import annotations

import asyncio

__all__ = ["SimulatedClock", "SimulatedLoop"]


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs what is given to it in a fixed order, and never waits."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1000.0
        self._selector = self
        self.failures = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self):
        return self._now_s

    def select(self, timeout):
        """Stands for waiting."""
        assert timeout is not None, "everybody waits for ever"
        if timeout > 0:
            self._now_s += timeout
        return []

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass


class SimulatedClock:
    """The loop's time."""

    def __init__(self, loop):
        self._loop = loop

    def now_ms(self):
        return 1_700_000_000_000 + int(self._loop.time() * 1000)

    def monotonic_ms(self):
        return self._loop.time() * 1000

"""A few threads that wait for disks in place of the event loop, and the line of what they are asked to read.

Whoever no longer needs what he asked for leaves the line, so that a disk that hangs costs no more than those who still wait
for it: clients give up after half a minute, and come again.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from typing import TypeAlias

    _Work: TypeAlias = tuple[Callable[[], Any], Callable[[], None] | None]

__all__ = ["THREADS_MAX", "DiskReaders"]

THREADS_MAX = 4
"""Disks serve a few readers at a time well; the others queue."""

Result = TypeVar("Result")


class DiskReaders:
    """Reads in threads, first come, first served; all calls come from the loop's thread."""

    __slots__ = ("_at_work", "_executor", "_line", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """No thread is started before it is needed."""
        self._loop = loop
        self._executor: ThreadPoolExecutor | None = None
        self._at_work = 0
        self._line: OrderedDict[asyncio.Future[Any], _Work] = OrderedDict()

    def __len__(self) -> int:
        """How many wait in the line, those that are read not counted."""
        return len(self._line)

    def read(
        self, work: Callable[[], Result], release: Callable[[], None] | None = None
    ) -> asyncio.Future[Result]:
        """Calls `work` in a thread; what it returns or raises is in the future.

        Who cancels the future leaves the line, and nothing is read for him; what a thread has begun it finishes.

        Args:
            work: May wait for a disk.
            release: Called on the loop when no thread is at `work` any more, or none will be.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        if self._at_work < THREADS_MAX:
            self._begin(future, work, release)
        else:
            self._line[future] = work, release
            future.add_done_callback(self._leave)
        return future

    def forgo(self, future: asyncio.Future[Any]) -> None:
        """Cancels a future that is still in the line, and leaves alone what a thread has begun."""
        if future in self._line:
            future.cancel()

    def close(self) -> None:
        """Ends the threads after what they are at; what is in the line is cancelled."""
        for future in list(self._line):
            future.cancel()
            self._leave(future)
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def _begin(
        self,
        future: asyncio.Future[Result],
        work: Callable[[], Result],
        release: Callable[[], None] | None,
    ) -> None:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="barnabas-disk")
        self._at_work += 1
        reading = self._loop.run_in_executor(self._executor, work)
        reading.add_done_callback(functools.partial(self._on_read, future, release))

    def _on_read(
        self,
        future: asyncio.Future[Result],
        release: Callable[[], None] | None,
        reading: asyncio.Future[Result],
    ) -> None:
        self._at_work -= 1
        if release is not None:
            release()
        error = reading.exception()
        if not future.done():  # otherwise nobody wants it any more
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(reading.result())
        for next_future in self._line:
            if not next_future.done():
                self._begin(next_future, *self._line.pop(next_future))
                return

    def _leave(self, future: asyncio.Future[Any]) -> None:
        _, release = self._line.pop(future, (None, None))
        if release is not None:
            release()

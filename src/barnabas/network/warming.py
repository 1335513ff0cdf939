"""Reading cold file bytes into the page cache, in worker threads, so that sendfile does not stall the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor

    from barnabas.wire.chunks import FileRegion

__all__ = ["CacheWarmer", "WarmableRegion", "as_warmable"]

THREADS_MAX = 4
"""Disks serve a few readers at a time well; the others queue, at most one per connection."""


class WarmableRegion(Protocol):
    """A `FileRegion` that can tell whether the kernel has its bytes in memory."""

    def is_cached(self, offset: int, count: int) -> bool:
        """Whether sending `count` bytes from `offset` on needs no disk; cheap, may err."""
        ...

    def warm(self, offset: int, count: int) -> None:
        """Have the kernel read these bytes; called in a worker thread, may wait for the disk.

        Raises:
            OSError: the disk failed.
        """
        ...


def as_warmable(region: FileRegion) -> WarmableRegion | None:
    """`region` if it can be warmed, else None."""
    # An isinstance with a protocol takes longer than sending a small region.
    return cast("WarmableRegion", region) if hasattr(region, "is_cached") else None


class CacheWarmer:
    """Warms regions in a bounded pool of threads: the one that is handed in, or its own, started when first needed."""

    __slots__ = ("_executor", "_is_own", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: Executor | None = None) -> None:
        self._loop = loop
        self._executor = workers
        self._is_own = workers is None

    def warm(
        self, region: WarmableRegion, offset: int, count: int, done: Callable[[BaseException | None], None]
    ) -> None:
        """Warm the window in a thread, then call `done(error)` on the loop."""
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="barnabas-warm")
        future = self._loop.run_in_executor(self._executor, region.warm, offset, count)
        future.add_done_callback(lambda future: done(future.exception()))

    def close(self) -> None:
        """Let the threads end, if they are our own; regions in work are finished, but nobody waits for them."""
        if self._is_own and self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

"""Deletes what went out of use, some time later and in a worker thread.

The time (`file.delete.delay.ms`) lets readers that still have a region of a file in flight come to an end. Whatever is
still waiting when the broker stops has a name that the next start recognises, and goes then.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["Deletions"]

logger = logging.getLogger(__name__)


class Deletions:
    """Paths that wait for their deletion; one job in the executor at a time.

    `on_error(path, error)` is called on the loop for what could not be deleted.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        files: Files,
        on_error: Callable[[Path, OSError], None],
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._files = files
        self._on_error = on_error
        self._waiting: list[tuple[float, int, Path, bool]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._job: asyncio.Future[list[tuple[Path, OSError]]] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many paths wait."""
        return len(self._waiting)

    def schedule(self, paths: Iterable[Path], delay_ms: int, *, are_directories: bool = False) -> None:
        """Delete files, or directories with all that is in them, after `delay_ms`."""
        due = self._loop.time() + delay_ms / 1000
        for path in paths:
            self._count += 1
            heapq.heappush(self._waiting, (due, self._count, path, are_directories))
        self._set_timer()

    async def close(self) -> None:
        """Stop; waits for the job under way."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._job is not None:
            await self._job

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and self._job is None and not self._is_closed:
            self._timer = self._loop.call_at(self._waiting[0][0], self._start)

    def _start(self) -> None:
        self._timer = None
        now = self._loop.time()
        due: list[tuple[Path, bool]] = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, path, is_directory = heapq.heappop(self._waiting)
            due.append((path, is_directory))
        if not due:
            self._set_timer()
            return
        self._job = self._loop.run_in_executor(self._executor, self._delete, due)
        self._job.add_done_callback(self._finish)

    def _delete(self, paths: list[tuple[Path, bool]]) -> list[tuple[Path, OSError]]:
        failed = []
        for path, is_directory in paths:
            try:
                if is_directory:
                    self._files.delete_tree(path)
                else:
                    self._files.delete(path)
            except OSError as error:
                failed.append((path, error))
        return failed

    def _finish(self, job: asyncio.Future[list[tuple[Path, OSError]]]) -> None:
        self._job = None
        if not job.cancelled():
            for path, error in job.result():
                logger.error("%s cannot be deleted: %s", path, error)
                self._on_error(path, error)
        self._set_timer()

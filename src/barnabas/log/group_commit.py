"""Group commit: everyone who waits for a log to be on disk shares one sync.

    request ──┐                     ┌─ worker: sync ─┐
    request ──┼─ end of loop tick ──┤                ├── loop: everyone up to the synced offset is answered,
    request ──┘                     └────────────────┘   and whoever came meanwhile shares the next round

A log has at most one round under way; logs sync beside one another on a few threads. A request that arrives alone is
synced at once, so waiting costs one sync, and the busier the broker the more requests share it.

The most common sync, of the one file to which records are appended, is handed to the kernel where it can do without a thread
(`kernel_sync`); all else, and all of it elsewhere, is done by worker threads.

At most so many rounds are under way (`ROUNDS_MAX`), since each keeps its file open; other logs wait for their turn.

A sync that fails is never tried again: Linux drops the pages that it could not write and reports success the next time
(the "fsyncgate" of 2018). The log goes offline, and with it its directory.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from barnabas.errors import DiskFullError, ErrorCode, KafkaError, StorageError

if TYPE_CHECKING:
    import asyncio

    from barnabas.log.flush import Flush
    from barnabas.log.kernel_sync import KernelSync
    from barnabas.log.partition_log import PartitionLog

__all__ = ["ABANDONED_MAX", "ROUNDS_MAX", "GroupCommit", "settle_future"]

logger = logging.getLogger(__name__)

ROUNDS_MAX = 128
"""How many logs are synced at a time: twice what the kernel is given, so that it never has to wait for more."""

ABANDONED_MAX = 1_024
"""When so many wait for a log, and at each doubling, those who have given up are left out: a sync may hang, and clients come again."""

_OnSynced = Callable[["StorageError | KafkaError | None"], None]
_IsOver = Callable[[], bool]
_Waiting = list[tuple[int, "_OnSynced | None", "_IsOver | None"]]


class _Job:
    """One sync on its way through a worker thread."""

    __slots__ = ("error", "flush", "is_discarded", "log", "prepare", "seconds")

    def __init__(self, log: PartitionLog, flush: Flush, prepare: Callable[[], None] | None) -> None:
        self.log = log
        self.flush = flush
        self.prepare = prepare
        self.error: OSError | None = None
        self.seconds = 0.0
        self.is_discarded = False


class GroupCommit:
    """Syncs logs in worker threads; see the module. All calls come from the loop's thread.

    Args:
        loop: where futures are resolved.
        threads: how many logs are synced at the same time.
        open_kernel_sync: gives what syncs without a thread, when it is first needed; None to go without.

    `prepare(log)` may be set to something that gives what else has to reach the disk before an acknowledgement (a new
    partition's directory entry): a function for the worker thread, or None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: int = 4,
        *,
        open_kernel_sync: Callable[[asyncio.AbstractEventLoop], KernelSync | None] | None = None,
    ) -> None:
        self._loop = loop
        self._thread_count = threads
        self.prepare: Callable[[PartitionLog], Callable[[], None] | None] = lambda _log: None
        # Everyone who waits for a log, in the round under way or the next one; no entry, no round.
        self._waiting: dict[PartitionLog, _Waiting] = {}
        self._ready: list[PartitionLog] = []
        # Those whose round begins when another one ends, in the order in which they came.
        self._delayed: dict[PartitionLog, None] = {}
        self._under_way: dict[PartitionLog, _Job] = {}
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Job] = deque()
        self._held: set[PartitionLog] = set()
        self._is_woken = False
        self._threads: list[threading.Thread] = []
        self._open_kernel_sync = open_kernel_sync
        self._kernel_sync: KernelSync | None = None
        self._is_closed = False
        self._last_round: asyncio.Future[None] | None = None
        self.request_count = 0
        self.sync_count = 0
        self.sync_seconds = 0.0

    def request(self, log: PartitionLog, offset: int) -> asyncio.Future[None]:
        """Asks for everything below `offset` to be on disk.

        Returns:
            A future of the loop: done once it is, or failed with StorageError when the log's directory failed.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        settle = functools.partial(settle_future, future)
        try:
            if not self.call_when_synced(log, offset, settle, future.done):
                settle(None)
        except StorageError as error:
            settle(error)
        return future

    def call_when_synced(
        self, log: PartitionLog, offset: int, on_synced: _OnSynced, is_over: _IsOver | None = None
    ) -> bool:
        """Asks for everything below `offset` to be on disk, without the cost of a future.

        Args:
            log: the log.
            offset: behind the last record that matters.
            on_synced: is called in a later turn of the loop, once: with None, or with what failed. It must not raise.
            is_over: whether it need not be called any more.

        Returns:
            False if it is on the disk already; then `on_synced` is not called.

        Raises:
            StorageError: the log's directory failed; `on_synced` is not called.
        """
        self.request_count += 1
        if log.is_offline or self._is_closed:
            raise StorageError(f"{log.directory} is offline")
        if offset <= log.recovery_point and log not in self._held:
            return False
        self._wait(log, offset, on_synced, is_over)
        return True

    def call_when_cut_is_synced(self, log: PartitionLog, on_synced: _OnSynced) -> None:
        """Asks for a truncation to be on the disk (`PartitionLog.has_unsynced_cut`).

        Args:
            log: the log; it has been cut.
            on_synced: as for `call_when_synced`. It is told of an error as well if the log is cut again meanwhile.

        Raises:
            StorageError: the log's directory failed; `on_synced` is not called.
        """
        self.request_count += 1
        if log.is_offline or self._is_closed:
            raise StorageError(f"{log.directory} is offline")
        self._wait(log, log.log_end_offset, on_synced, None)

    def sync_now(self, log: PartitionLog) -> None:
        """Brings all of a log to the disk while the loop waits, for the rare case in which nothing may happen before.

        Raises:
            StorageError: the disk failed, and the log is offline, or (DiskFullError) has no room.
        """
        prepare = self.prepare(log)
        if prepare is not None:
            try:
                prepare()
            except OSError as error:
                raise log.fail(error) from error
        log.flush()

    def flush(self, log: PartitionLog, offset: int | None = None) -> None:
        """Gets everything below `offset` (all there is) to disk soon, without anybody waiting.

        A failure takes the log offline.
        """
        if offset is None:
            offset = log.log_end_offset
        if not (log.is_offline or self._is_closed) and log.recovery_point < offset:
            self._wait(log, offset, None, None)

    def discard(self, log: PartitionLog) -> None:
        """The log is being deleted: whoever waits for it is failed, and what its sync comes to does not matter."""
        self._held.discard(log)
        waiting = self._waiting.pop(log, None)
        if waiting is not None:
            _fail(waiting, KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the partition was deleted"))
        job = self._under_way.get(log)
        if job is not None:
            job.is_discarded = True
            job.flush.abandon()

    def hold(self, log: PartitionLog) -> None:
        """Answers nobody who waits for this log until `release` or `hand_over`."""
        self._held.add(log)

    def release(self, log: PartitionLog) -> None:
        """Ends a `hold`."""
        if log in self._held:
            self._held.discard(log)
            if log in self._waiting and log not in self._under_way:
                self._start(log)

    def hand_over(self, log: PartitionLog, other: PartitionLog) -> None:
        """Another log takes the place of one that is held: whoever waits, waits for that one to be on the disk."""
        self._held.discard(log)
        job = self._under_way.get(log)
        if job is not None:
            job.is_discarded = True
            job.flush.abandon()
        for offset, on_synced, is_over in self._waiting.pop(log, ()):
            self._wait(other, offset, on_synced, is_over)

    async def finish_rounds(self) -> None:
        """Lets no round begin any more, and waits for those under way; `close` fails whoever waits for another."""
        self._last_round = self._loop.create_future()
        if self._under_way:
            await self._last_round

    def close(self) -> None:
        """Ends the threads once the syncs under way are through; whoever still waits is failed."""
        self._is_closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._collect()
        if self._kernel_sync is not None:
            self._kernel_sync.close()
            self._kernel_sync = None
        for log, waiting in self._waiting.items():
            _fail(waiting, StorageError(f"{log.directory} is closed"))
        self._waiting.clear()

    def _wait(
        self, log: PartitionLog, offset: int, on_synced: _OnSynced | None, is_over: _IsOver | None
    ) -> None:
        waiting = self._waiting.get(log)
        if waiting is None:
            waiting = self._waiting[log] = []
            # Not at once: other requests that the loop finds in the same tick are to share this round.
            if not self._ready:
                self._loop.call_soon(self._start_ready)
            self._ready.append(log)
        waiting.append((offset, on_synced, is_over))
        count = len(waiting)
        if count >= ABANDONED_MAX and not count & (count - 1):
            waiting[:] = _still_waiting(waiting)

    def _start_ready(self) -> None:
        ready = self._ready
        self._ready = []
        for log in ready:
            self._start(log)

    def _start(self, log: PartitionLog) -> None:
        if self._is_closed or log not in self._waiting or log in self._held:
            return  # close() fails whoever waits, discard() has, release() and hand_over() see to them
        if len(self._under_way) >= ROUNDS_MAX or self._last_round is not None:
            self._delayed[log] = None
            return
        # Segments that were closed are synced without the active one; if somebody wants that, then all of it.
        wanted = max(offset for offset, _, _ in self._waiting[log])
        try:
            flush = log.start_flush(wanted if wanted <= log.active_base_offset else None)
        except StorageError as error:
            _fail(self._waiting.pop(log), error)
            return
        if flush is None:
            # Synced by somebody else, or truncated away, meanwhile.
            self._answer(log)
            return
        job = self._under_way[log] = _Job(log, flush, self.prepare(log))
        if not self._hand_to_kernel(job):
            if not self._threads:
                self._start_threads()
            self._jobs.put(job)

    def _start_delayed(self) -> None:
        while self._delayed and len(self._under_way) < ROUNDS_MAX:
            log = next(iter(self._delayed))
            del self._delayed[log]
            if log not in self._under_way:  # held and released meanwhile
                self._start(log)

    def _hand_to_kernel(self, job: _Job) -> bool:
        descriptor = job.flush.only_descriptor
        if descriptor is None or job.prepare is not None:
            return False
        if self._open_kernel_sync is not None:
            self._kernel_sync = self._open_kernel_sync(self._loop)
            self._open_kernel_sync = None
        if self._kernel_sync is None:
            return False
        start = time.perf_counter()

        def on_synced(error: OSError | None) -> None:
            job.seconds = time.perf_counter() - start
            if error is None:
                job.flush.confirm()
            job.error = error
            self._finish(job)

        return self._kernel_sync.sync(descriptor, on_synced)

    def _start_threads(self) -> None:
        for number in range(self._thread_count):
            thread = threading.Thread(target=self._work, name=f"group-commit-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            start = time.perf_counter()
            try:
                if not job.is_discarded:
                    if job.prepare is not None:
                        job.prepare()
                    job.flush.run()
            except OSError as error:
                job.error = error
            except Exception as error:
                # Whatever it is (want of memory, say), those who wait must hear of it, and the thread goes on.
                logger.exception("sync of %s failed", job.log.directory)
                job.error = OSError(f"{type(error).__name__}: {error}")
            job.seconds = time.perf_counter() - start
            self._done.append(job)
            # Append before look, and _collect clears before it drains: no finished job is left lying.
            if not self._is_woken:
                self._is_woken = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:
                    return  # the loop is closed: nobody is left to tell

    def _collect(self) -> None:
        self._is_woken = False
        done = self._done
        while done:
            self._finish(done.popleft())

    def _finish(self, job: _Job) -> None:
        self._end_round(job)
        if self._last_round is not None:
            if not self._under_way:
                settle_future(self._last_round, None)
        elif self._delayed:
            self._start_delayed()

    def _end_round(self, job: _Job) -> None:
        self.sync_count += 1
        self.sync_seconds += job.seconds
        log = job.log
        del self._under_way[log]
        log.finish_flush(job.flush)
        if job.is_discarded:
            return
        if isinstance(job.error, DiskFullError):
            # The batches may be safe, but not all that belongs to them: the log goes on, and the next round tries again.
            _fail(self._waiting.pop(log, []), log.fail(job.error))
            return
        if log in self._held and job.error is None:
            return
        if job.error is not None:
            error = StorageError(f"{log.directory} cannot be synced to disk: {job.error}")
            log.fail(error)
            _fail(self._waiting.pop(log, []), error)
            return
        self._answer(log)

    def _answer(self, log: PartitionLog) -> None:
        """Answers whoever waits for what is on the disk now, and sees to the others."""
        # With a cut since the round began, another one is due, whatever its offset.
        synced = -1 if log.has_unsynced_cut else log.recovery_point
        end_offset = log.log_end_offset
        waiting = self._waiting.pop(log, [])
        later = [waiter for waiter in waiting if waiter[0] > synced]
        if later:
            waiting = [waiter for waiter in waiting if waiter[0] <= synced]
            lost = [waiter for waiter in later if waiter[0] > end_offset]
            if lost:
                later = [waiter for waiter in later if waiter[0] <= end_offset]
                _fail(lost, KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the log was truncated"))
            if later:
                self._waiting[log] = later
                self._start(log)
        _succeed(waiting)


def settle_future(future: asyncio.Future[None], error: StorageError | KafkaError | None) -> None:
    """Ends a future with an error, or with None, unless it has ended already."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _still_waiting(waiting: _Waiting) -> _Waiting:
    still = [each for each in waiting if each[1] is not None and not (each[2] is not None and each[2]())]
    # Of those that nobody waits for, the last stands for all.
    nobodys = [each for each in waiting if each[1] is None]
    return [*still, max(nobodys, key=lambda each: each[0])] if nobodys else still or waiting[-1:]


def _succeed(waiting: _Waiting) -> None:
    for _, on_synced, _ in waiting:
        if on_synced is not None:
            on_synced(None)


def _fail(waiting: _Waiting, error: KafkaError | StorageError) -> None:
    for _, on_synced, _ in waiting:
        if on_synced is not None:
            on_synced(error)

"""The background work on a broker's logs: each of its tasks wakes up at its own interval.

    retention      log.retention.check.interval.ms           deletes segments that are too old, or too much
    flush          every second at least                     flush.messages, flush.ms, and segments closed since
    recovery       log.flush.offset.checkpoint.interval.ms   recovery-point-offset-checkpoint
    start          log.flush.start.offset.checkpoint...      log-start-offset-checkpoint
    high watermark replica.high.watermark.checkpoint...      replication-offset-checkpoint
    producers      producer.id.expiration.check.interval.ms  forgets idle producers

Intervals are read anew each time. A task that walks over all logs lets the loop go on every two milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.log.directory_checkpoints import HIGH_WATERMARKS, LOG_START_OFFSETS, RECOVERY_POINTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from concurrent.futures import Executor

    from barnabas.config.topic import LogConfig
    from barnabas.log.log_directories import LogDirectories
    from barnabas.log.log_directory import HostedLog

__all__ = ["Upkeep"]

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_MAX_MS = 1000
"""How late flush.ms may be, at most, where `log.flush.scheduler.interval.ms` does not ask for less."""

_INTERVAL_MIN_MS = 10
_SLICE_SECONDS = 0.002
_LOOK_UP_COUNT = 50


class Upkeep:
    """The background tasks of `LogDirectories`; see the module."""

    def __init__(
        self, directories: LogDirectories, loop: asyncio.AbstractEventLoop, executor: Executor
    ) -> None:
        self._directories = directories
        self._loop = loop
        self._executor = executor
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        config = self._directories.config

        def interval(name: str) -> Callable[[], int]:
            return lambda: config[name]

        retention = interval("log.retention.check.interval.ms")
        first = min(config["log.initial.task.delay.ms"], retention())
        recovery_points = interval("log.flush.offset.checkpoint.interval.ms")
        log_starts = interval("log.flush.start.offset.checkpoint.interval.ms")
        high_watermarks = interval("replica.high.watermark.checkpoint.interval.ms")
        expiry = interval("producer.id.expiration.check.interval.ms")
        self._every(retention, self.apply_retention, first_ms=first)
        self._every(self._flush_interval_ms, self.flush_due)
        self._every(recovery_points, self.write_recovery_points)
        self._every(log_starts, self.write_log_start_offsets)
        self._every(high_watermarks, self.write_high_watermarks)
        self._every(expiry, self.expire_producers)

    async def close(self) -> None:
        """Stop, and wait until every task has."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _every(
        self,
        interval_ms: Callable[[], int],
        work: Callable[[], Awaitable[None]],
        *,
        first_ms: int | None = None,
    ) -> None:
        async def run() -> None:
            delay_ms = interval_ms() if first_ms is None else first_ms
            while True:
                await asyncio.sleep(max(delay_ms, _INTERVAL_MIN_MS) / 1000)
                try:
                    await work()
                except StorageError as error:
                    # Its directory is offline by now; the others go on.
                    logger.warning("%s: %s", work.__name__, error)
                except Exception:
                    logger.exception("%s failed and is tried again", work.__name__)
                delay_ms = interval_ms()

        self._tasks.append(self._loop.create_task(run(), name=f"log upkeep: {work.__name__}"))

    def _flush_interval_ms(self) -> int:
        return int(min(self._directories.config["log.flush.scheduler.interval.ms"], FLUSH_INTERVAL_MAX_MS))

    async def _in_slices(self) -> AsyncIterator[HostedLog]:
        """Every log of a directory that works, with a pause for the loop every two milliseconds."""
        until = self._loop.time() + _SLICE_SECONDS
        for hosted in list(self._directories.hosted()):
            if self._loop.time() >= until:
                await asyncio.sleep(0)
                until = self._loop.time() + _SLICE_SECONDS
            if not hosted.directory.is_offline and self._directories.is_hosted(hosted):
                yield hosted

    async def apply_retention(self) -> None:
        """Delete what is past its retention; a log that nobody has opened since the start is opened for it and closed again."""
        closed = []
        async for hosted in self._in_slices():
            if hosted.log is None:
                closed.append(hosted)
            else:
                self._apply_retention(hosted)
        for first in range(0, len(closed), _LOOK_UP_COUNT):
            some = closed[first : first + _LOOK_UP_COUNT]
            configs = [self._directories.log_config(hosted.topic) for hosted in some]
            for hosted in await self._loop.run_in_executor(self._executor, self._may_expire, some, configs):
                if self._directories.is_hosted(hosted) and not hosted.directory.is_offline:
                    self._apply_retention(hosted)
                await asyncio.sleep(0)

    def _apply_retention(self, hosted: HostedLog) -> None:
        now_ms = self._directories.clock.now_ms()
        try:
            self._directories.with_log(hosted, lambda log: log.apply_retention(now_ms))
        except StorageError as error:
            logger.warning("retention of %s: %s", hosted.path, error)

    def _may_expire(self, some: list[HostedLog], configs: list[LogConfig]) -> list[HostedLog]:
        """Which logs that are not open may have something to delete, by their sizes; for a worker thread."""
        found = []
        for hosted, config in zip(some, configs, strict=True):
            if not config.deletes_by_retention or (config.retention_ms < 0 and config.retention_bytes < 0):
                continue
            try:
                size = self._directories.size_bytes(hosted)
            except OSError:
                continue  # deleted meanwhile, or its disk fails, which whoever needs the log will notice
            if size > (0 if config.retention_ms >= 0 else config.retention_bytes):
                found.append(hosted)
        return found

    async def flush_due(self) -> None:
        """Sync what is due by `flush.messages` or `flush.ms`, and segments that were closed since the last sync."""
        self._directories.look_for_room()
        now_ms = self._directories.clock.monotonic_ms()
        group_commit = self._directories.group_commit
        dirty = [log for log in self._directories.all() if log.recovery_point < log.log_end_offset]
        for log in dirty:
            if log.is_offline:
                continue
            if log.flush_due or now_ms - log.last_flushed_ms >= log.config.flush_ms:
                group_commit.flush(log)
            elif log.recovery_point < log.active_base_offset:
                group_commit.flush(log, log.active_base_offset)

    async def write_recovery_points(self) -> None:
        """Write down what need not be recovered after a crash."""
        await self._checkpoint(RECOVERY_POINTS)

    async def write_log_start_offsets(self) -> None:
        """Write down where logs begin whose first records were deleted on request."""
        await self._checkpoint(LOG_START_OFFSETS)

    async def write_high_watermarks(self) -> None:
        """Write down how far logs are replicated."""
        await self._checkpoint(HIGH_WATERMARKS)

    async def _checkpoint(self, name: str) -> None:
        for directory in self._directories.online:
            write = directory.checkpoints.write(name)
            if write is None:
                continue
            try:
                await self._loop.run_in_executor(self._executor, write)
            except OSError as error:
                self._directories.on_failure(directory.path, error)

    async def expire_producers(self) -> None:
        """Forget producers that have been idle for `producer.id.expiration.ms`."""
        config = self._directories.config
        settings = self._directories.producer_settings
        settings.expiration_ms = config["producer.id.expiration.ms"]
        settings.verify_transactions = config["transaction.partition.verification.enable"]
        now_ms = self._directories.clock.now_ms()
        async for hosted in self._in_slices():
            if hosted.log is not None:
                hosted.log.producer_state.expire(now_ms)

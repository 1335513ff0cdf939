"""Compacts the logs of a broker in the background.

As many cleaners as `log.cleaner.threads` says each choose the dirtiest log that is due, have it cleaned by their worker, and rest
for `log.cleaner.backoff.ms` when none is. A pass over a log:

    1  the worker reads the keys of the dirty segments
    2  group after group of segments: the worker writes a new one, and it takes the place of the originals
    3  the directory is synced, and cleaner-offset-checkpoint says how far the log is clean

Choosing and replacing happen on the loop (`log_pass.py`); if the log was deleted, truncated or shortened by retention
meanwhile, the new segment is thrown away and the pass ends. A log whose data is damaged is left alone from then on (it counts as
uncleanable), until the next start; a disk that fails takes its directory offline; one that is full is tried again later.

Source: `LogCleaner` and `LogCleanerManager` of Apache Kafka 4.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, KafkaError, StorageError
from barnabas.log.cleaning.log_pass import LogChanged, LogPass, PassSettings
from barnabas.log.cleaning.worker import (
    InlineWorker,
    ProcessWorker,
    Worker,
    WorkerFailedError,
    WorkerLostError,
)
from barnabas.log.directory_checkpoints import CLEANED_OFFSETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from barnabas.log.cleaning.assessment import Dirtiness
    from barnabas.log.cleaning.tasks import Cleaned
    from barnabas.log.files import Files
    from barnabas.log.log_directories import LogDirectories
    from barnabas.log.log_directory import HostedLog
    from barnabas.log.partition_log import PartitionLog
    from barnabas.metrics import Registry, Row

__all__ = ["LogCleaner"]

logger = logging.getLogger(__name__)

_SLICE_SECONDS = 0.002


class _Due(NamedTuple):
    """A log that is to be cleaned."""

    hosted: HostedLog
    log: PartitionLog
    dirtiness: Dirtiness


class _Stats:
    """What one cleaner's last pass came to."""

    __slots__ = (
        "bytes_read",
        "bytes_written",
        "keyless",
        "records_read",
        "records_written",
        "seconds",
        "utilization",
    )

    def __init__(self) -> None:
        self.seconds = 0.0
        self.utilization = 0.0
        self.bytes_read = self.bytes_written = 0
        self.records_read = self.records_written = 0
        self.keyless = 0

    def add(self, cleaned: Cleaned) -> None:
        self.bytes_read += cleaned.bytes_read
        self.bytes_written += cleaned.bytes_written
        self.records_read += cleaned.records_read
        self.records_written += cleaned.records_written
        self.keyless += cleaned.keyless


class _Cleaner:
    """One of the cleaners: its worker, its thread, its task."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.stats = _Stats()
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-cleaner")
        self.task: asyncio.Task[None] | None = None
        self.is_retired = False


def _new_worker() -> Worker:
    if sys.executable and sys.platform not in ("emscripten", "wasi"):
        return ProcessWorker()
    from barnabas.log.files import Files

    return InlineWorker(Files())  # pragma: no cover


class LogCleaner:
    """See the module.

    Args:
        directories: the logs.
        files: the disk.
        loop: where the logs live.
        executor: for syncs and checkpoints.
        new_worker: makes what runs the passes of one cleaner.
    """

    def __init__(
        self,
        directories: LogDirectories,
        files: Files,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        new_worker: Callable[[], Worker] = _new_worker,
    ) -> None:
        self._directories = directories
        self._files = files
        self._loop = loop
        self._executor = executor
        self._new_worker = new_worker
        self._cleaners: list[_Cleaner] = []
        self._in_progress: set[tuple[str, int]] = set()
        self._uncleanable: set[HostedLog] = set()
        self._settled: set[HostedLog] = set()
        self._is_running = False
        self._wake = asyncio.Event()
        self._max_dirty_ratio = 0.0
        self._max_delay_ms = 0
        self._last_run_ms = directories.clock.now_ms()

    # ----- running

    def start(self) -> None:
        """Begin, unless `log.cleaner.enable` is off."""
        if self._directories.config["log.cleaner.enable"]:
            self._is_running = True
            self._adjust()

    def reconfigure(self) -> None:
        """Settings of the broker or of topics changed: as many cleaners as are wanted, and what was not due may be."""
        self._settled.clear()
        if self._is_running:
            self._adjust()

    def _adjust(self) -> None:
        wanted = self._directories.config["log.cleaner.threads"]
        while len(self._cleaners) > wanted:
            self._cleaners.pop().is_retired = True
            self._wake.set()
        while len(self._cleaners) < wanted:
            cleaner = _Cleaner(self._new_worker())
            cleaner.task = self._loop.create_task(
                self._run(cleaner), name=f"log cleaner {len(self._cleaners)}"
            )
            self._cleaners.append(cleaner)

    async def close(self) -> None:
        """Stop; a pass under way is given up."""
        self._is_running = False
        cleaners, self._cleaners = self._cleaners, []
        for cleaner in cleaners:
            cleaner.is_retired = True
            if cleaner.task is not None:
                cleaner.task.cancel()
            cleaner.worker.rest()
        await asyncio.gather(
            *(cleaner.task for cleaner in cleaners if cleaner.task is not None), return_exceptions=True
        )
        for cleaner in cleaners:
            cleaner.executor.shutdown()

    async def _run(self, cleaner: _Cleaner) -> None:
        try:
            while not cleaner.is_retired:
                try:
                    has_cleaned = await self.clean_dirtiest(cleaner)
                except Exception:
                    logger.exception("log cleaner failed and goes on")
                    has_cleaned = False
                if not has_cleaned:
                    await self._loop.run_in_executor(cleaner.executor, cleaner.worker.rest)
                    self._wake.clear()
                    backoff_s = self._directories.config["log.cleaner.backoff.ms"] / 1000
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), max(backoff_s, 0.01))
        finally:
            cleaner.worker.rest()
            cleaner.executor.shutdown(wait=False)

    # ----- choosing

    async def clean_dirtiest(self, cleaner: _Cleaner) -> bool:
        """Cleans the dirtiest log that is due; False if there is none."""
        due = await self._choose()
        if due is None:
            return False
        key = (due.hosted.topic, due.hosted.partition)
        self._in_progress.add(key)
        try:
            return await self._clean(cleaner, due)
        finally:
            self._in_progress.discard(key)

    async def _choose(self) -> _Due | None:
        self._last_run_ms = now_ms = self._directories.clock.now_ms()
        self._uncleanable = {hosted for hosted in self._uncleanable if self._directories.is_hosted(hosted)}
        self._settled = {
            hosted for hosted in self._settled if hosted.log is None and self._directories.is_hosted(hosted)
        }
        chosen: _Due | None = None
        highest_ratio = 0.0
        self._max_delay_ms = 0
        async for hosted in self._candidates():
            try:
                due = self._assess(hosted, now_ms)
            except StorageError as error:
                logger.warning("log is not cleaned log=%s reason=%s", hosted.path, error)
                continue
            if due is None:
                continue
            highest_ratio = max(highest_ratio, due.dirtiness.ratio)
            self._max_delay_ms = max(self._max_delay_ms, due.dirtiness.delay_ms)
            if due.dirtiness.is_due(due.log.config) and (
                chosen is None or due.dirtiness.ratio > chosen.dirtiness.ratio
            ):
                chosen = due
        self._max_dirty_ratio = highest_ratio
        # The loop went on meanwhile.
        if chosen is not None and self._may_clean(chosen.hosted) and chosen.hosted.log is chosen.log:
            return self._assess(chosen.hosted, now_ms)
        return None

    async def _candidates(self) -> AsyncIterator[HostedLog]:
        """Logs of compacted topics that nobody cleans; with a pause for the loop every two milliseconds."""
        until = self._loop.time() + _SLICE_SECONDS
        compacted: dict[str, bool] = {}
        for hosted in list(self._directories.hosted()):
            if hosted in self._settled:
                continue
            if self._loop.time() >= until:
                await asyncio.sleep(0)
                until = self._loop.time() + _SLICE_SECONDS
            if not self._may_clean(hosted):
                continue
            if hosted.log is not None:
                if hosted.log.config.is_compacted:
                    yield hosted
                continue
            is_compacted = compacted.get(hosted.topic)
            if is_compacted is None:
                is_compacted = compacted[hosted.topic] = self._directories.log_config(
                    hosted.topic
                ).is_compacted
            if is_compacted and await self._loop.run_in_executor(self._executor, self._has_segments, hosted):
                yield hosted
            else:
                self._settled.add(hosted)

    def _may_clean(self, hosted: HostedLog) -> bool:
        return (
            not hosted.directory.is_offline
            and (hosted.topic, hosted.partition) not in self._in_progress
            and hosted not in self._uncleanable
            and self._directories.is_hosted(hosted)
        )

    def _has_segments(self, hosted: HostedLog) -> bool:
        """Whether a log that nobody has opened has segments that may be dirty; for a worker thread."""
        try:
            names = self._files.list_directory(hosted.path)
        except OSError:
            return False  # deleted meanwhile, or its disk fails, which whoever needs the log will notice
        bases = [int(name.removesuffix(".log")) for name in names if name.endswith(".log")]
        return len(bases) > 1 and (hosted.cleaned_offset or 0) < max(bases)

    def _assess(self, hosted: HostedLog, now_ms: int) -> _Due | None:
        log = hosted.log or self._directories.get(hosted.topic, hosted.partition)
        if log is None or log.is_offline:
            return None
        dirtiness = log.assess_dirtiness(now_ms)
        if dirtiness.is_reset:
            if log.cleaned_offset is not None and not log.config.deletes_by_retention:
                logger.warning(
                    "log is taken for dirty from its start, the cleaner's checkpoint cannot be log=%s checkpoint=%d "
                    "start=%d end=%d",
                    hosted.path,
                    log.cleaned_offset,
                    log.log_start_offset,
                    log.log_end_offset,
                )
            log.cleaned_offset = dirtiness.first_dirty_offset
        return _Due(hosted, log, dirtiness)

    # ----- cleaning

    async def _clean(self, cleaner: _Cleaner, due: _Due) -> bool:
        hosted, log, _ = due
        stats = _Stats()
        start_s = time.monotonic()
        start_offset = due.dirtiness.first_dirty_offset
        try:
            end_offset = await self._pass(cleaner, due, stats)
        except LogChanged:
            logger.info("log changed while it was cleaned, cleaning ends log=%s", hosted.path)
            return True
        except WorkerLostError as error:
            logger.warning("log is not cleaned, and is tried again log=%s reason=%s", hosted.path, error)
            return False
        except (DecodeError, KafkaError, WorkerFailedError) as error:
            self._uncleanable.add(hosted)
            logger.error(  # noqa: TRY400 - the message says it all
                "log cannot be cleaned and is left as it is log=%s reason=%s", hosted.path, error
            )
            return False
        except OSError as error:
            if log.is_offline or not self._directories.is_hosted(hosted):
                return False
            self._directories.on_failure(hosted.directory.path, error)
            return False
        stats.seconds = time.monotonic() - start_s
        cleaner.stats = stats
        logger.info(
            "log is cleaned log=%s from=%d to=%d records=%d->%d bytes=%d->%d seconds=%.1f map=%.0f%%",
            hosted.path,
            start_offset,
            end_offset,
            stats.records_read,
            stats.records_written,
            stats.bytes_read,
            stats.bytes_written,
            stats.seconds,
            100 * stats.utilization,
        )
        if stats.keyless:
            logger.warning("records without key were dropped log=%s records=%d", hosted.path, stats.keyless)
        return True

    async def _pass(self, cleaner: _Cleaner, due: _Due, stats: _Stats) -> int:
        hosted, log, dirtiness = due
        run = self._loop.run_in_executor
        worker = cleaner.worker
        now_ms = self._directories.clock.now_ms()
        log_pass = LogPass(log, dirtiness, self._settings(), now_ms=now_ms)
        try:
            indexed = await run(cleaner.executor, worker.index, log_pass.begin())
            stats.utilization = indexed.utilization
            log_pass.indexed(indexed)
            while (task := log_pass.next()) is not None:
                cleaned = await run(cleaner.executor, worker.clean, task)
                log_pass.replace(cleaned)
                stats.add(cleaned)
            await run(self._executor, self._files.sync_directory, log.directory)
        except (LogChanged, OSError):
            # A file that is gone was deleted with the log, or by retention, unless all is as it was.
            await run(self._executor, self._delete, log_pass.leftovers())
            log_pass.check()
            raise
        log_pass.finish()
        write = hosted.directory.checkpoints.write(CLEANED_OFFSETS)
        if write is not None:
            await run(self._executor, write)
        return log_pass.end_offset

    def _settings(self) -> PassSettings:
        config = self._directories.config
        share = max(config["log.cleaner.threads"], 1)
        return PassSettings(
            config["log.cleaner.dedupe.buffer.size"] // share,
            config["log.cleaner.io.buffer.load.factor"],
            config["log.cleaner.io.buffer.size"] // share // 2,
            config["log.cleaner.io.max.bytes.per.second"] / share,
        )

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                self._files.delete(path)
            except OSError:
                return  # the directory is gone, or the next start deletes it

    # ----- metrics

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `LogCleaner` and `LogCleanerManager` show."""
        cleaner = "kafka_log_logcleaner_"
        manager = "kafka_log_logcleanermanager_"
        gauge = registry.gauge_function
        gauge(
            cleaner + "max_buffer_utilization_percent",
            lambda: int(100 * max((each.stats.utilization for each in self._cleaners), default=0)),
        )
        gauge(cleaner + "cleaner_recopy_percent", self._recopy_percent)
        gauge(
            cleaner + "max_clean_time_secs",
            lambda: int(max((each.stats.seconds for each in self._cleaners), default=0)),
        )
        gauge(cleaner + "max_compaction_delay_secs", lambda: self._max_delay_ms // 1000)
        gauge(
            cleaner + "deadthreadcount",
            lambda: sum(each.task is not None and each.task.done() for each in self._cleaners),
        )
        gauge(manager + "max_dirty_percent", lambda: int(100 * self._max_dirty_ratio))
        gauge(
            manager + "time_since_last_run_ms",
            lambda: self._directories.clock.now_ms() - self._last_run_ms,
        )
        registry.listed(manager + "uncleanable_partitions_count", self._uncleanable_counts)
        registry.listed(manager + "uncleanable_bytes", self._uncleanable_bytes)

    def _recopy_percent(self) -> int:
        read = sum(each.stats.bytes_read for each in self._cleaners)
        return int(100 * sum(each.stats.bytes_written for each in self._cleaners) / max(read, 1))

    def _uncleanable_counts(self) -> Iterator[Row]:
        for directory in self._directories.directories:
            count = sum(hosted.directory is directory for hosted in self._uncleanable)
            yield (str(directory.path),), count

    def _uncleanable_bytes(self) -> Iterator[Row]:
        now_ms = self._directories.clock.now_ms()
        for directory in self._directories.directories:
            total = 0
            for hosted in self._uncleanable:
                log = hosted.log
                if hosted.directory is directory and log is not None and not log.is_offline:
                    total += log.assess_dirtiness(now_ms).cleanable_bytes
            yield (str(directory.path),), total

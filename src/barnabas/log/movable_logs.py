"""Logs that move from one log directory to another: the copies of those on the way, and the switch (see `future_log`).

When what happens is decided elsewhere; see `replication.directory_moves`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.errors import StorageError
from barnabas.log.directory_checkpoints import LOG_START_OFFSETS
from barnabas.log.directory_names import DELETE_SUFFIX
from barnabas.log.future_log import FutureLog
from barnabas.log.hosted_logs import HostedLogs
from barnabas.log.partition_metadata import read_topic_id

if TYPE_CHECKING:
    from barnabas.config.topic import LogConfig
    from barnabas.log.future_log import CopyPlan
    from barnabas.log.log_directory import HostedLog, LogDirectory
    from barnabas.log.partition_log import PartitionLog

__all__ = ["MovableLogs"]

logger = logging.getLogger(__name__)


class MovableLogs(HostedLogs):
    """Logs that can move; see the module."""

    def unfinished_moves(self) -> list[tuple[str, int, LogDirectory]]:
        """What was to move where when the broker stopped; the unfinished copies are thrown away."""
        found = []
        for directory in self.online:
            for path, key in directory.futures.items():
                hosted = self._hosted.get(key)
                if hosted is None:
                    logger.warning(
                        "%s is an unfinished copy of a log that is not there; it is left alone", path
                    )
                    continue
                # One of a topic that is gone says nothing of another one of the same name.
                try:
                    is_of_it = read_topic_id(self._files, path) == hosted.directory.read_topic_id(hosted)
                except OSError as error:
                    logger.warning("%s is an unfinished copy that cannot be read: %s", path, error)
                    continue
                self._deletions.schedule([path], 0, are_directories=True)
                if hosted.directory is not directory and is_of_it:
                    found.append((*key, directory))
            directory.futures = {
                path: key for path, key in directory.futures.items() if key not in self._hosted
            }
        return found

    def add_future(self, hosted: HostedLog, directory: LogDirectory) -> FutureLog:
        """A copy of a log that is to be made in another directory; nothing is on any disk yet."""
        future = FutureLog(self._files, directory, hosted)
        self.futures[hosted.topic, hosted.partition] = future
        return future

    def begin_future(self, future: FutureLog) -> None:
        """Makes the directory of a copy. That of the log must be on the disk, or a crash may leave nothing but the copy.

        Raises:
            StorageError: the disk failed; the copy is given up.
        """
        directory = future.hosted.directory
        try:
            directory.checkpoints.forget((future.hosted.topic, future.hosted.partition))
            future.begin()
        except OSError as error:
            self.drop_future(future)
            raise self._failed(directory, error) from error

    def open_future(self, future: FutureLog, plan: CopyPlan, config: LogConfig) -> PartitionLog:
        """Opens a copy; for a worker thread."""
        return future.open(
            plan,
            self._files,
            config,
            self.clock,
            self.producer_settings,
            schedule_deletion=self._schedule_deletion,
            on_failure=self._future_failed,
        )

    def _future_failed(self, log: PartitionLog, error: StorageError) -> None:
        hosted = self._hosted.get((log.topic, log.partition))
        if hosted is not None and hosted.log is log:
            self._log_failed(log, error)

    async def note_log_start(self, future: FutureLog) -> None:
        """Writes down where a copy begins, before it takes its place: after a crash it must not begin earlier."""
        directory = future.hosted.directory
        key = (future.hosted.topic, future.hosted.partition)
        assert future.log is not None
        starts = directory.checkpoints.offsets(LOG_START_OFFSETS)
        if future.log.log_start_offset > 0:
            starts[key] = future.log.log_start_offset
        write = directory.checkpoints.write(LOG_START_OFFSETS, starts)
        if write is not None:
            await self.run(write)

    def complete_future(self, future: FutureLog) -> HostedLog:
        """The copy takes the place of the log; gives the former one, which nobody may use any more.

        Raises:
            StorageError: the other directory failed; the log is where it was.
        """
        hosted = future.hosted
        key = (hosted.topic, hosted.partition)
        former = self._hosted[key]
        log = future.log
        assert log is not None
        if self._files.exists(hosted.path):
            raise StorageError(f"{hosted.path} is in the way")
        try:
            hosted.directory.take_in(hosted, future.path)
        except OSError as error:
            raise self._failed(hosted.directory, error) from error
        log.move_to(hosted.path)
        hosted.log = log
        self._hosted[key] = hosted
        del self.futures[key]
        if former.log is not None:
            self.group_commit.hand_over(former.log, log)
        return former

    async def discard_former(self, former: HostedLog, hosted: HostedLog) -> None:
        """Deletes a log that has moved, once its new place is on the disk."""
        sync = hosted.directory.entry_sync(hosted)
        if sync is not None:
            try:
                await self.run(sync)
            except OSError as error:
                raise self._failed(hosted.directory, error) from error
        key = (former.topic, former.partition)
        if former.directory.is_offline or former.directory.hosted.get(key) is not former:
            return  # the topic was deleted meanwhile
        try:
            path = former.directory.set_aside(former, DELETE_SUFFIX)
            # Else the old name may come back when the power fails, beside what has moved on to a third directory.
            sync = former.directory.renames_sync()
            if sync is not None:
                await self.run(sync)
        except OSError as error:
            raise self._failed(former.directory, error) from error
        delay_ms = hosted.log.config.file_delete_delay_ms if hosted.log else 0
        self._deletions.schedule([path], delay_ms, are_directories=True)

    def retire(self, hosted: HostedLog) -> None:
        """Takes a log out of use."""
        self._retire(hosted)

    def drop_future(self, future: FutureLog) -> None:
        """Gives a copy up; its files are deleted."""
        key = (future.hosted.topic, future.hosted.partition)
        if self.futures.get(key) is future:
            del self.futures[key]
        if future.log is not None:
            future.log.retire()
        if not future.hosted.directory.is_offline:
            self._deletions.schedule([future.path], 0, are_directories=True)

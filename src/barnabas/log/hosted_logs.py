"""The partition logs in a broker's log directories: found, begun, opened, deleted.

A partition that may lie in an offline directory, or lies in one that is missing (`missing_directories`), is never begun anew
elsewhere: that would be an empty log in the place of a full one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from barnabas.errors import StorageError
from barnabas.log.deletion import Deletions
from barnabas.log.directory_names import DELETE_SUFFIX, STRAY_SUFFIX
from barnabas.log.directory_set import DirectorySet
from barnabas.log.file_names import LOG_SUFFIX
from barnabas.log.partition_log import PartitionLog
from barnabas.log.producer_state import ProducerSettings
from barnabas.wire.primitives import uuid_to_text

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.future_log import FutureLog
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directory import HostedLog, LogDirectory

__all__ = ["HostedLogs", "log_bytes"]

Result = TypeVar("Result")


class HostedLogs(DirectorySet):
    """The logs of one broker; see the module, and `LogDirectories` for the arguments."""

    def __init__(
        self,
        config: BrokerConfig,
        files: Files,
        clock: Clock,
        *,
        loop: asyncio.AbstractEventLoop,
        group_commit: GroupCommit,
        log_config: Callable[[str], LogConfig],
        on_change: Callable[[Path], None],
    ) -> None:
        super().__init__(config, files, on_change)
        self.clock = clock
        self.log_config = log_config
        self.group_commit = group_commit
        self.producer_settings = ProducerSettings(
            expiration_ms=config["producer.id.expiration.ms"],
            verify_transactions=config["transaction.partition.verification.enable"],
        )
        self._loop = loop
        self._hosted: dict[tuple[str, int], HostedLog] = {}
        self._missing: dict[tuple[str, int], bytes] = {}
        # Copies of those that are moving, and are to take their place.
        self.futures: dict[tuple[str, int], FutureLog] = {}
        self._executor = ThreadPoolExecutor(
            max_workers=config["barnabas.worker.threads"], thread_name_prefix="log-worker"
        )
        self._deletions = Deletions(loop, self._executor, files, self._deletion_failed)
        group_commit.prepare = self._before_sync

    def __len__(self) -> int:
        return len(self._hosted)

    def has(self, topic: str, partition: int) -> bool:
        """Whether there is a log of this partition, opened or not."""
        return (topic, partition) in self._hosted

    def hosted(self) -> Iterator[HostedLog]:
        """Every log, opened or not."""
        return iter(self._hosted.values())

    def hosted_log(self, topic: str, partition: int) -> HostedLog | None:
        """A partition's log in its directory, if there is one."""
        return self._hosted.get((topic, partition))

    def is_hosted(self, hosted: HostedLog) -> bool:
        """Whether a log is still in use."""
        return self._hosted.get((hosted.topic, hosted.partition)) is hosted

    def all(self) -> Iterator[PartitionLog]:
        """Every log that is open."""
        return (hosted.log for hosted in self._hosted.values() if hosted.log is not None)

    def directory_id_of(self, log: PartitionLog) -> bytes | None:
        """The id of the directory in which a log lies."""
        return self._directories[log.directory.parent].directory_id

    def is_out_of_reach(self, topic: str, partition: int) -> bool:
        """Whether a partition's directory is offline or missing."""
        hosted = self._hosted.get((topic, partition))
        return (topic, partition) in self._missing if hosted is None else hosted.directory.is_offline

    def closed_end_offset(self, topic: str, partition: int, topic_id: bytes) -> int | None:
        """The log end offset of a partition whose log is not open; None where there is none, or only opening it tells."""
        hosted = self._hosted.get((topic, partition))
        return None if hosted is None or hosted.topic_id != topic_id else hosted.closed_end_offset

    def size_bytes(self, hosted: HostedLog) -> int:
        """The size of a log's segments, without opening it."""
        if hosted.log is not None:
            return hosted.log.size_bytes
        return log_bytes(self._files, hosted.path)

    def run(self, work: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        """Do something in one of the worker threads."""
        return self._loop.run_in_executor(self._executor, work, *arguments)

    # ----- opening

    def get(self, topic: str, partition: int) -> PartitionLog | None:
        """The log of a partition, opened now if it was not; None if there is none.

        Raises:
            StorageError: its directory is offline.
        """
        hosted = self._hosted.get((topic, partition))
        if hosted is None:
            return None
        return hosted.log or self._open_now(hosted, self.log_config(topic))

    def with_log(self, hosted: HostedLog, work: Callable[[PartitionLog], object]) -> None:
        """Do some work on a log; one that is not open is opened for it and closed again.

        Raises:
            StorageError: its directory is offline.
        """
        if hosted.log is not None:
            work(hosted.log)
            return
        log = self._open_now(hosted, self.log_config(hosted.topic))
        try:
            work(log)
        finally:
            hosted.recovery_point = log.recovery_point
            hosted.log_start_offset = log.log_start_offset
            hosted.cleaned_offset = log.cleaned_offset
            log.close()
            hosted.log = None

    def _open_now(self, hosted: HostedLog, config: LogConfig) -> PartitionLog:
        directory = hosted.directory
        if directory.is_offline:
            raise StorageError(f"{directory.path} is offline: {directory.error}")
        try:
            hosted.log = self._open(hosted, config)
        except OSError as error:
            raise self._failed(directory, error) from error
        return hosted.log

    def _open(self, hosted: HostedLog, config: LogConfig) -> PartitionLog:
        if hosted.topic_id is None:
            hosted.directory.read_topic_id(hosted)
        log = PartitionLog.open(
            hosted.path,
            config,
            self._files,
            self.clock,
            topic=hosted.topic,
            partition=hosted.partition,
            topic_id=hosted.topic_id or bytes(16),
            recovery_point=hosted.recovery_point,
            log_start_offset=hosted.log_start_offset,
            clean=hosted.is_clean,
            producer_settings=self.producer_settings,
            schedule_deletion=self._schedule_deletion,
            on_failure=self._log_failed,
        )
        log.cleaned_offset = hosted.cleaned_offset
        if hosted.high_watermark is not None:
            log.high_watermark = max(log.log_start_offset, min(hosted.high_watermark, log.log_end_offset))
        return log

    def _log_failed(self, log: PartitionLog, error: StorageError) -> None:
        # May come from a worker thread, where recovery finds a disk that does not answer.
        self._loop.call_soon_threadsafe(self.on_failure, log.directory.parent, error)

    # ----- beginning

    def create(
        self,
        topic: str,
        partition: int,
        topic_id: bytes,
        config: LogConfig,
        *,
        is_new: bool = False,
        directory_id: bytes | None = None,
    ) -> PartitionLog:
        """The log of a partition, begun if there is none, and open; see `begin`."""
        hosted = self.begin(topic, partition, topic_id, is_new=is_new, directory_id=directory_id)
        if hosted.log is None or hosted.directory.is_offline:
            return self._open_now(hosted, config)
        hosted.log.config = config
        return hosted.log

    def begin(
        self,
        topic: str,
        partition: int,
        topic_id: bytes,
        *,
        is_new: bool = False,
        directory_id: bytes | None = None,
    ) -> HostedLog:
        """Makes the directory of a partition if there is none; no log is opened.

        A new log goes to the directory with the fewest logs. What lies under the name and belongs to a topic with another
        id (deleted and created again meanwhile) is set aside.

        Args:
            topic: the topic's name.
            partition: the partition's number.
            topic_id: the topic's id.
            is_new: the cluster has just created the partition, so that it lies in no directory yet.
            directory_id: begin it in this directory.

        Raises:
            StorageError: the partition's directory is offline, or may be.
        """
        hosted = self._hosted.get((topic, partition))
        if hosted is not None and self._belongs_to(hosted, topic_id):
            return hosted
        directory = self._place(topic, partition, directory_id, is_new=is_new)
        try:
            hosted = directory.create(topic, partition, topic_id)
        except OSError as error:
            raise self._failed(directory, error) from error
        self._hosted[topic, partition] = hosted
        return hosted

    def _belongs_to(self, hosted: HostedLog, topic_id: bytes) -> bool:
        """Whether a log is that of a topic; if not, it has been set aside."""
        if hosted.topic_id == topic_id or hosted.directory.is_offline:
            return True
        directory = hosted.directory
        try:
            found = directory.read_topic_id(hosted)
            if found == topic_id:
                return True
            if found is None:
                # A crash between the directory's creation and its first sync, or data from before topic ids.
                directory.set_topic_id(hosted, topic_id)
                return True
            self._retire(hosted)
            directory.set_aside(hosted, STRAY_SUFFIX)
        except OSError as error:
            raise self._failed(directory, error) from error
        del self._hosted[hosted.topic, hosted.partition]
        return False

    def _place(self, topic: str, partition: int, directory_id: bytes | None, *, is_new: bool) -> LogDirectory:
        online = self.online
        if not online:
            raise StorageError("all log directories are offline")
        if not is_new and (missing := self._missing.get((topic, partition))) is not None:
            raise StorageError(
                f"{topic}-{partition} lies in the log directory {uuid_to_text(missing)}, which is missing"
            )
        if not is_new and len(online) < len(self._directories):
            offline = ", ".join(
                str(directory.path) for directory in self._directories.values() if directory.is_offline
            )
            raise StorageError(f"{topic}-{partition} may lie in {offline}, which is offline")
        if directory_id is not None:
            for directory in online:
                if directory.directory_id == directory_id:
                    return directory
        names = self.config["cordoned.log.dirs"]
        cordoned = set(self._directories) if "*" in names else {Path(name).absolute() for name in names}
        candidates = [directory for directory in online if directory.path not in cordoned] or online
        return min(candidates, key=lambda directory: (directory.is_full, len(directory.hosted)))

    # ----- deleting

    def delete(self, topic: str, partition: int) -> None:
        """Take a log out of use at once; its files go later.

        Raises:
            StorageError: its directory is offline, so that it comes back with it.
        """
        hosted = self._hosted.pop((topic, partition), None)
        self._missing.pop((topic, partition), None)
        if hosted is None:
            return
        for other in self.online:  # where it has moved from lately, and is still to go
            former = other.hosted.get((topic, partition))
            if former is not None and former is not hosted:
                try:
                    aside = other.set_aside(former, DELETE_SUFFIX)
                except OSError as error:
                    raise self._failed(other, error) from error
                self._deletions.schedule([aside], 0, are_directories=True)
        directory = hosted.directory
        if directory.is_offline:
            raise StorageError(f"{directory.path} is offline, {topic}-{partition} cannot be deleted from it")
        delay_ms = (hosted.log.config if hosted.log else self.log_config(topic)).file_delete_delay_ms
        try:
            self._retire(hosted)
            path = directory.set_aside(hosted, DELETE_SUFFIX)
        except OSError as error:
            raise self._failed(directory, error) from error
        self._deletions.schedule([path], delay_ms, are_directories=True)

    def _retire(self, hosted: HostedLog) -> None:
        if hosted.log is not None:
            self.group_commit.discard(hosted.log)
            hosted.log.retire()
            hosted.log = None

    def _schedule_deletion(self, paths: list[Path], delay_ms: int) -> None:
        # May come from a worker thread that recovers a log.
        self._loop.call_soon_threadsafe(self._deletions.schedule, paths, delay_ms)

    def _deletion_failed(self, path: Path, error: OSError) -> None:
        for parent in path.parents:
            if parent in self._directories:
                self.on_failure(parent, error)

    # ----- what has to reach the disk

    def entry_sync(self, hosted: HostedLog) -> Callable[[], None] | None:
        """What brings a partition's directory to the disk, for a worker thread; None once it is there."""
        return hosted.directory.entry_sync(hosted)

    def _before_sync(self, log: PartitionLog) -> Callable[[], None] | None:
        key = (log.topic, log.partition)
        hosted = self._hosted.get(key)
        if hosted is None or hosted.log is not log:
            return None
        entry_sync = hosted.directory.entry_sync(hosted)
        if not log.has_unsynced_cut:
            return entry_sync
        lower = hosted.directory.checkpoints.lower_recovery_point(key, log.recovery_point)

        def run() -> None:
            if entry_sync is not None:
                entry_sync()
            lower()

        return run

    def renames_sync(self) -> Callable[[], None]:
        """What brings to the disk which partitions are out of use by now; for a worker thread.

        The metadata may only then forget of their topics that they are deleted: what comes back of a topic that it never heard
        of looks like one that was lost. A directory that fails goes offline.
        """
        syncs = [
            (directory.path, sync)
            for directory in self.online
            if (sync := directory.renames_sync()) is not None
        ]

        def run() -> None:
            for path, sync in syncs:
                try:
                    sync()
                except OSError as error:
                    self._loop.call_soon_threadsafe(self.on_failure, path, error)

        return run


def log_bytes(files: Files, path: Path) -> int:
    """The size of the segments in a partition's directory; raises OSError."""
    return sum(entry.size for entry in files.entries(path) if entry.name.endswith(LOG_SUFFIX))

"""One log directory: its lock and owner, and the partitions in it.

    .lock                               held while a broker uses the directory
    .kafka_cleanshutdown                all logs were closed in order
    meta.properties                     whose directory this is
    ...-offset-checkpoint               where logs begin, are safe, replicated, compacted (`directory_checkpoints`)
    orders-0/                           a partition
      partition.metadata                its topic's id; the rest is `PartitionLog`'s

`LogDirectories` holds all of a broker's directories and decides; this class does what it is told to one of them. All
methods raise OSError (or StorageError, which is one) when the disk fails.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError, DiskFullError
from barnabas.log.clean_shutdown import (
    CLEAN_SHUTDOWN,
    CleanShutdown,
    decode_clean_shutdown,
    encode_clean_shutdown,
)
from barnabas.log.directory_checkpoints import DirectoryCheckpoints
from barnabas.log.directory_names import (
    DELETE_SUFFIX,
    FUTURE_SUFFIX,
    STRAY_SUFFIX,
    parse_directory_name,
    partition_directory_name,
    suffixed_directory_name,
)
from barnabas.log.meta_properties import (
    META_PROPERTIES,
    MetaProperties,
    decode_meta_properties,
    encode_meta_properties,
)
from barnabas.log.partition_metadata import PARTITION_METADATA, encode_partition_metadata, read_topic_id
from barnabas.log.running_mark import RUNNING_MARK, decode_running_mark, encode_running_mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from barnabas.log.files import FileLock, Files
    from barnabas.log.partition_log import PartitionLog

__all__ = ["HostedLog", "LogDirectory"]

logger = logging.getLogger(__name__)

LOCK = ".lock"
METADATA_TOPIC = "__cluster_metadata"
"""The metadata log lies in a log directory too, and is the controller's."""

RENAMED_MAX = 10_000
"""How many names of former partitions are remembered until the directory is synced."""

Key = tuple[str, int]


class HostedLog:
    """A partition's log in a directory, opened or not.

    `recovery_point`, `log_start_offset`, `high_watermark` and `cleaned_offset` (None: unknown) are those of the checkpoint files, and hold
    until the log is opened; then the log knows better. `is_clean` says that it was closed in order; `end_is_known` that the recovery
    point is its end, as far as it is not open.
    """

    __slots__ = (
        "cleaned_offset",
        "directory",
        "end_is_known",
        "entry_number",
        "high_watermark",
        "is_clean",
        "is_full",
        "is_metadata_synced",
        "log",
        "log_start_offset",
        "partition",
        "recovery_point",
        "topic",
        "topic_id",
    )

    def __init__(self, directory: LogDirectory, topic: str, partition: int, *, is_clean: bool) -> None:
        self.directory = directory
        self.topic = topic
        self.partition = partition
        self.log: PartitionLog | None = None
        self.topic_id: bytes | None = None
        self.is_clean = is_clean
        self.end_is_known = False
        self.recovery_point = 0
        self.log_start_offset = 0
        self.high_watermark: int | None = None
        self.cleaned_offset: int | None = None
        # What was found need not be on the disk yet, as a stop in order syncs no id of an empty log: `scan` and the stop sync the entry,
        # the first flush this file.
        self.entry_number = 0
        self.is_metadata_synced = False

    @property
    def path(self) -> Path:
        """Its directory; made anew each time, since there are many of these and few are asked."""
        return self.directory.path / partition_directory_name(self.topic, self.partition)

    @property
    def closed_end_offset(self) -> int | None:
        """The log end offset while the log is not open; None where only opening it tells."""
        is_known = (
            self.log is None
            and self.end_is_known
            and self.log_start_offset <= self.recovery_point
            and not self.directory.is_offline
        )
        return self.recovery_point if is_known else None

    @property
    def was_synced(self) -> bool:
        """Whether something of it was brought to the disk before this start; its topic's id goes there first."""
        return self.is_clean or self.recovery_point > 0

    def __repr__(self) -> str:
        return f"<HostedLog {self.path} {'open' if self.log else 'not open'}>"


class LogDirectory:
    """A log directory; see the module. Creating one touches no file."""

    __slots__ = (
        "_changes_made",
        "_changes_synced",
        "_files",
        "_lock",
        "_renamed",
        "_sync_lock",
        "broker_epoch",
        "checkpoints",
        "error",
        "futures",
        "holds_metadata",
        "hosted",
        "is_clean",
        "is_full",
        "is_offline",
        "killed_epoch",
        "path",
        "properties",
    )

    def __init__(self, files: Files, path: Path) -> None:
        self.path = path
        self.properties: MetaProperties | None = None
        self.hosted: dict[Key, HostedLog] = {}
        self.checkpoints = DirectoryCheckpoints(files, path, self.hosted)
        # Copies that were to move here, and were not finished when the broker stopped.
        self.futures: dict[Path, Key] = {}
        self.is_clean = False
        self.is_full = False
        self.holds_metadata = False
        self.broker_epoch = -1
        self.killed_epoch = -1
        self.is_offline = False
        self.error: OSError | None = None
        self._files = files
        self._lock: FileLock | None = None
        self._sync_lock = threading.Lock()
        # Of the directory's entries: partitions that were begun, renamed or taken in.
        self._changes_made = 0
        self._changes_synced = 0
        self._renamed: dict[Key, int] = {}

    def __repr__(self) -> str:
        return (
            f"<LogDirectory {self.path} {'offline' if self.is_offline else 'online'} logs={len(self.hosted)}>"
        )

    # ----- taking possession

    @property
    def directory_id(self) -> bytes | None:
        """Its id; None where it has none, or none that is known."""
        return None if self.properties is None else self.properties.directory_id

    @property
    def is_empty(self) -> bool:
        """Whether it has no owner and no logs, as what shows where a disk is not mounted."""
        return self.properties is None and not self.hosted and not self.holds_metadata

    def lock(self) -> None:
        """Create the directory if need be, and keep every other broker out of it.

        Raises:
            ConfigError: another broker has it.
        """
        self._make(self.path)
        try:
            self._lock = self._files.lock(self.path / LOCK)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path} is in use by another broker; stop that one, or give this one another data directory."
            ) from None

    def _make(self, path: Path) -> None:
        if self._files.exists(path):
            return
        self._make(path.parent)
        self._files.make_directory(path)
        self._files.sync_directory(path.parent)

    def unlock(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def read_properties(self) -> None:
        """Learn whose directory this is; `properties` stays None for a new one.

        Raises:
            ConfigError: the file is damaged.
        """
        path = self.path / META_PROPERTIES
        try:
            content = self._files.read_file(path)
        except FileNotFoundError:
            return
        self.properties = decode_meta_properties(content, path)

    def write_properties(self, properties: MetaProperties) -> None:
        """Take possession, durably."""
        # Whoever made the directory may have been killed before its entry was on the disk.
        with contextlib.suppress(PermissionError):
            self._files.sync_directory(self.path.parent)
        self._files.replace_file(self.path / META_PROPERTIES, encode_meta_properties(properties))
        self.properties = properties

    # ----- what is in it

    def scan(self) -> list[Path]:
        """Find the partitions and read the checkpoints; no log is opened.

        The marker of a clean shutdown is used up: from now on only the next one counts.

        Returns:
            Directories of deleted partitions that are still there.
        """
        entries = self._files.entries(self.path)
        names = {entry.name for entry in entries}
        marker = self._take_clean_shutdown(names)
        self._take_running_mark(names)
        deleted = []
        for entry in entries:
            if not entry.is_directory:
                continue
            name = parse_directory_name(entry.name)
            if name is None:
                logger.warning("%s belongs to no partition and is left alone", self.path / entry.name)
            elif name.suffix == DELETE_SUFFIX:
                deleted.append(self.path / entry.name)
            elif name.suffix == FUTURE_SUFFIX:
                self.futures[self.path / entry.name] = (name.topic, name.partition)
            elif name.suffix:
                logger.warning("%s (a %s directory) is left alone", self.path / entry.name, name.suffix[1:])
            elif name.topic == METADATA_TOPIC:
                self.holds_metadata = True
            else:
                topic = sys.intern(name.topic)  # one text for all its partitions
                self.hosted[topic, name.partition] = HostedLog(
                    self, topic, name.partition, is_clean=self.is_clean
                )
        self.checkpoints.read(marker)
        if not self.is_clean:
            self._files.sync_directory(self.path)
        return deleted

    def _take_clean_shutdown(self, names: set[str]) -> CleanShutdown | None:
        if CLEAN_SHUTDOWN not in names:
            return None
        path = self.path / CLEAN_SHUTDOWN
        marker = decode_clean_shutdown(self._files.read_file(path))
        self.broker_epoch = marker.broker_epoch
        self.is_clean = True
        self._files.delete(path)
        # A marker that came back after a power failure would hide a torn log.
        self._files.sync_directory(self.path)
        return marker

    def _take_running_mark(self, names: set[str]) -> None:
        if self.is_clean or RUNNING_MARK not in names:
            return
        boot_id, broker_epoch = decode_running_mark(self._files.read_file(self.path / RUNNING_MARK))
        if boot_id and boot_id == self._files.boot_id():
            self.killed_epoch = broker_epoch

    def write_running_mark(self, boot_id: str, broker_epoch: int) -> None:
        """Say who works here, for the case that its process is killed. Raises OSError."""
        self._files.write_file(self.path / RUNNING_MARK, encode_running_mark(boot_id, broker_epoch))

    def read_topic_id(self, hosted: HostedLog) -> bytes | None:
        """The topic id that a partition's directory has, if it has one."""
        if hosted.topic_id is None:
            hosted.topic_id = read_topic_id(self._files, hosted.path)
        return hosted.topic_id

    # ----- creating, deleting

    def create(self, topic: str, partition: int, topic_id: bytes) -> HostedLog:
        """Make an empty directory for a partition. It is on the disk after `entry_sync`, not before."""
        hosted = HostedLog(self, topic, partition, is_clean=True)
        hosted.end_is_known = True
        self.checkpoints.forget((topic, partition))
        # Else the directory of the former partition could come back in place of this one when the power fails.
        if self._renamed.pop((topic, partition), 0) > self._changes_synced:
            self._sync_all_changes()
        path = hosted.path
        self._files.make_directory(path)
        try:
            self._files.write_file(path / PARTITION_METADATA, encode_partition_metadata(topic_id))
        except DiskFullError:
            self._files.delete_tree(path)
            raise
        hosted.topic_id = topic_id
        self.hosted[topic, partition] = hosted
        self._changes_made += 1
        hosted.entry_number = self._changes_made
        return hosted

    def adopt_copy(self, path: Path) -> HostedLog:
        """Takes an unfinished copy for the log that it is of, to be recovered as after a crash."""
        topic, partition = self.futures[path]
        hosted = HostedLog(self, topic, partition, is_clean=False)
        self.checkpoints.forget((topic, partition))
        self.take_in(hosted, path)
        del self.futures[path]
        return hosted

    def take_in(self, hosted: HostedLog, future: Path) -> None:
        """Gives the copy of a log its place; its directory's new name is on the disk after `entry_sync`, not before."""
        self._files.rename(future, hosted.path)
        self.hosted[hosted.topic, hosted.partition] = hosted
        self._changes_made += 1
        hosted.entry_number = self._changes_made
        hosted.is_metadata_synced = False

    def set_topic_id(self, hosted: HostedLog, topic_id: bytes) -> None:
        """Give a partition's directory its topic id."""
        self._files.write_file(hosted.path / PARTITION_METADATA, encode_partition_metadata(topic_id))
        hosted.topic_id = topic_id
        hosted.is_metadata_synced = False

    def entry_sync(self, hosted: HostedLog) -> Callable[[], None] | None:
        """What brings a new partition's directory to the disk, for a worker thread; None once it is there."""
        if hosted.is_metadata_synced and self._changes_synced >= hosted.entry_number:
            return None
        return lambda: self._sync_entry(hosted)

    def _sync_entry(self, hosted: HostedLog) -> None:
        if not hosted.is_metadata_synced:
            with contextlib.suppress(FileNotFoundError):  # data from before topic ids
                self._files.sync_file(hosted.path / PARTITION_METADATA)
            hosted.is_metadata_synced = True
        self._sync_changes(hosted.entry_number)

    def renames_sync(self) -> Callable[[], None] | None:
        """What brings to the disk that partitions are out of use, for a worker thread; None once it is there.

        Until then their directories may come back under the old names when the power fails.
        """
        newest = self._newest_rename()
        if self._changes_synced < newest:
            return lambda: self._sync_changes(newest)
        self._renamed.clear()
        return None

    def _newest_rename(self) -> int:
        return next(reversed(self._renamed.values()), 0)

    def _sync_changes(self, number: int) -> None:
        # One sync of the directory serves all changes made before it, whoever else waits for theirs here.
        if self._changes_synced >= number:
            return
        with self._sync_lock:
            if self._changes_synced < number:
                self._sync_all_changes()

    def _sync_all_changes(self) -> None:
        # The loop does not wait for the lock, which a thread holds while it syncs. Should that one be the last to note its
        # number, the next sync is one too many.
        made = self._changes_made
        self._files.sync_directory(self.path)
        self._changes_synced = max(self._changes_synced, made)

    def set_aside(self, hosted: HostedLog, suffix: str) -> Path:
        """Take a partition out of use by renaming its directory; returns the new path."""
        path = self.path / suffixed_directory_name(hosted.topic, hosted.partition, suffix)
        del self.hosted[hosted.topic, hosted.partition]
        self._files.rename(hosted.path, path)
        self._changes_made += 1
        if len(self._renamed) >= RENAMED_MAX and self._newest_rename() > self._changes_synced:
            self._sync_all_changes()
        if self._newest_rename() <= self._changes_synced:
            self._renamed.clear()
        key = (hosted.topic, hosted.partition)
        self._renamed.pop(key, None)  # so that the newest is the last
        self._renamed[key] = self._changes_made
        if suffix == STRAY_SUFFIX:
            logger.warning(
                "%s belongs to no partition of this cluster; it is kept as %s", hosted.path.name, path
            )
        return path

    def sync_file_system(self) -> None:
        """Wait until all that was written to the directory's file system is on the disk; all since `lock` has to have succeeded."""
        self._files.sync_file_system(self.path, self._lock)

    def write_clean_shutdown(self, broker_epoch: int) -> None:
        """Say that everything was closed in order. The last write of all."""
        self._files.write_file(
            self.path / CLEAN_SHUTDOWN,
            encode_clean_shutdown(CleanShutdown(broker_epoch, self.checkpoints.checksums())),
            sync=True,
        )
        self._files.sync_directory(self.path)

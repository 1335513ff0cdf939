"""The log directories of one broker: whose they are, which of them work, and how full their disks are.

A directory whose disk fails goes offline with all its logs; the others serve on. One whose disk is full stays: what needs
room is refused until there is some, which is a deliberate difference from Apache Kafka.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError, DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.log.directory_owner import settle_owner
from barnabas.log.log_directory import LogDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.config.broker import BrokerConfig
    from barnabas.log.files import Files
    from barnabas.log.meta_properties import MetaProperties

__all__ = ["DirectorySet"]

logger = logging.getLogger(__name__)

_ROOM_BYTES = 1 << 20
"""So much is room again on a disk that was full."""


class DirectorySet:
    """The directories of `log.dirs`; see the module.

    Args:
        config: the broker's settings (`log.dirs`, `node.id`).
        files: the disk.
        on_change: called with a directory's path when it went offline, became full, or has room again.
    """

    def __init__(self, config: BrokerConfig, files: Files, on_change: Callable[[Path], None]) -> None:
        self.config = config
        self.cluster_id = ""
        self._files = files
        self._on_change = on_change
        paths = dict.fromkeys(Path(name).absolute() for name in config["log.dirs"] or config["log.dir"])
        self._directories = {path: LogDirectory(files, path) for path in paths}

    @property
    def directories(self) -> list[LogDirectory]:
        """All of them, in the order of the configuration."""
        return list(self._directories.values())

    @property
    def online(self) -> list[LogDirectory]:
        """Those that work."""
        return [directory for directory in self._directories.values() if not directory.is_offline]

    @property
    def was_clean(self) -> bool:
        """Whether every directory had been closed in order."""
        return all(directory.is_clean for directory in self._directories.values())

    def has_kept(self, broker_epoch: int) -> bool:
        """Whether the logs hold all that they held: each directory was closed in order, or its process was killed and the machine was not.

        Args:
            broker_epoch: Under which the cluster knows the broker; whoever was killed under another left less than it had later.
        """
        return all(
            directory.is_clean or (broker_epoch >= 0 and directory.killed_epoch == broker_epoch)
            for directory in self._directories.values()
        )

    def mark_running(self, broker_epoch: int) -> None:
        """Notes for the next start that this process works here, under this epoch."""
        boot_id = self._files.boot_id()
        if not boot_id:
            return
        for directory in self.online:
            try:
                directory.write_running_mark(boot_id, broker_epoch)
            except OSError as error:
                logger.warning("%s cannot be marked: %s", directory.path, error)

    @property
    def directory_ids(self) -> list[bytes]:
        """The ids of the directories that work, for the broker's registration (KIP-858)."""
        return [directory.directory_id for directory in self.online if directory.directory_id is not None]

    def directory_at(self, path: str) -> LogDirectory:
        """The log directory of this name, which must be spelled as in `directories`.

        Raises:
            KafkaError: LOG_DIR_NOT_FOUND, or KAFKA_STORAGE_ERROR for one that is offline.
        """
        for directory in self._directories.values():
            if str(directory.path) == path:
                if directory.is_offline:
                    raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"Log directory {path} is offline")
                return directory
        raise KafkaError(ErrorCode.LOG_DIR_NOT_FOUND, f"Log dir {path} is not found in the config.")

    # ----- taking possession

    def _take(self, directory: LogDirectory) -> None:
        try:
            directory.lock()
            directory.read_properties()
        except OSError as error:
            self.take_offline(directory.path, error)

    def _refuse_if_none_is_left(self) -> None:
        if self.online:
            return
        self._unlock()
        directory = next(iter(self._directories.values()))
        if isinstance(directory.error, StorageError):
            raise ConfigError(f"{directory.error}.")
        reason = directory.error and (directory.error.strerror or str(directory.error))
        if directory.error and directory.error.filename not in (None, str(directory.path)):
            reason = f"{directory.error.filename}: {reason}"
        raise ConfigError(
            f"{directory.path} cannot be used ({reason}); make it writable for this user, or give the broker another data "
            "directory."
        )

    def _owners(self, cluster_id: str | None) -> dict[Path, MetaProperties]:
        """What each directory that works has to say of its owner; a directory of somebody else is refused."""
        owners = settle_owner(
            {directory.path: directory.properties for directory in self.online},
            node_id=self.config["node.id"],
            cluster_id=cluster_id,
        )
        for properties in owners.values():
            self.cluster_id = properties.cluster_id or ""
        return owners

    def settle_cluster_id(self, cluster_id: str) -> None:
        """The cluster to which this node belongs, now that it is known.

        Raises:
            ConfigError: a directory belongs to another one.
        """
        if cluster_id != self.cluster_id:
            self._owners(cluster_id)

    def _take_possession(self) -> None:
        for path, properties in self._owners(self.cluster_id).items():
            directory = self._directories[path]
            if directory.properties == properties:
                continue
            try:
                directory.write_properties(properties)
            except OSError as error:
                self.take_offline(path, error)
        self._refuse_if_none_is_left()

    def _unlock(self) -> None:
        for directory in self._directories.values():
            directory.unlock()

    # ----- failures

    def take_offline(self, path: Path, error: OSError) -> None:
        """A directory's disk failed: its logs answer KAFKA_STORAGE_ERROR from now on, the others serve on."""
        directory = self._directories[path]
        if directory.is_offline:
            return
        directory.is_offline = True
        directory.error = error
        directory.is_clean = False
        logger.error(
            "log directory is offline directory=%s logs=%d reason=%s", path, len(directory.hosted), error
        )
        failure = StorageError(f"{path} is offline: {error}")
        for hosted in directory.hosted.values():
            if hosted.log is not None and not hosted.log.is_offline:
                hosted.log.fail(failure)
        self._on_change(path)

    def on_failure(self, path: Path, error: OSError) -> None:
        """Something could not be done in a directory: it goes offline, unless its disk is merely full.

        What needs room on a full disk is refused, each time it is tried, until there is room; reads go on.
        """
        directory = self._directories[path]
        if not isinstance(error, DiskFullError):
            self.take_offline(path, error)
        elif not (directory.is_full or directory.is_offline):
            directory.is_full = True
            logger.error(
                "log directory is full, what needs room is refused until there is some directory=%s reason=%s",
                path,
                error,
            )
            self._on_change(path)

    def _failed(self, directory: LogDirectory, error: OSError) -> StorageError:
        self.on_failure(directory.path, error)
        return error if isinstance(error, StorageError) else StorageError(f"{directory.path} failed: {error}")

    def look_for_room(self) -> None:
        """Tell of full directories that have room again."""
        for directory in self.online:
            if not directory.is_full:
                continue
            try:
                free = self._files.free_bytes(directory.path)
            except OSError:
                continue  # whoever uses it will notice
            if free >= _ROOM_BYTES:
                directory.is_full = False
                logger.info("log directory has room again directory=%s bytes=%d", directory.path, free)
                self._on_change(directory.path)

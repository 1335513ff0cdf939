"""All log directories of a broker, and every partition log in them.

Start:

    open()      locks the directories, checks whose they are, finds the partitions (no log is read)
    adopt()     compares them with what the metadata knows, and takes possession of new directories
    recover()   after a crash: reads the logs from their recovery points on, a few at a time, in worker threads.
                After a clean shutdown there is nothing to do: a log is opened when it is first asked for.

A directory whose disk fails goes offline with all its logs; the others serve on. One whose disk is full stays: what needs
room is refused until there is some, which is a deliberate difference from Apache Kafka. A partition that may lie in an offline
directory, or lies in one that is missing (`missing_directories`), is never begun anew elsewhere: that would be an empty log
in the place of a full one.

Everything here runs on the loop, but for what is slow (recovery, syncs, checkpoints, deletion): that runs in worker threads,
on what the loop handed them.

Source: `LogManager` of Apache Kafka 4.3; KIP-112, KIP-858 (several directories).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from barnabas.errors import ConfigError, DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.log.cleaning.log_cleaner import CLEANER_CHECKPOINT, LogCleaner
from barnabas.log.deletion import Deletions
from barnabas.log.directory_names import DELETE_SUFFIX, STRAY_SUFFIX
from barnabas.log.directory_owner import settle_owner
from barnabas.log.file_names import LOG_SUFFIX
from barnabas.log.flush import run_together
from barnabas.log.future_log import FutureLog
from barnabas.log.log_directory import HostedLog, LogDirectory
from barnabas.log.meta_properties import MetaProperties
from barnabas.log.missing_directories import (
    KnownPlacements,
    PlacementReport,
    compare,
    describe_missing,
    likely_directory_id,
)
from barnabas.log.partition_log import PartitionLog
from barnabas.log.partition_metadata import PARTITION_METADATA, read_topic_id
from barnabas.log.producer_state import ProducerSettings
from barnabas.log.upkeep import Upkeep
from barnabas.wire.primitives import uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.flush import Flush
    from barnabas.log.future_log import CopyPlan
    from barnabas.log.group_commit import GroupCommit

__all__ = ["LogDirectories"]

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

CLOSED_TOGETHER_MIN = 64
"""From so many open logs on, a stop syncs the file system and not each file; others may write to it, too."""

_NAMED_MAX = 5
_RECOVERED_TOGETHER = 20
_ROOM_BYTES = 1 << 20
"""So much is room again on a disk that was full."""


class LogDirectories:
    """The log directories of one broker; see the module.

    Args:
        config: the broker's settings (`log.dirs`, `node.id` and the intervals of the background work).
        files: the disk.
        clock: the time.
        loop: where the logs live.
        group_commit: what syncs the logs.
        log_config: the configuration of a topic's logs by the topic's name, for logs that are opened without one.
        on_failure: called with a directory's path when it went offline; `online` says what is left.
    """

    def __init__(
        self,
        config: BrokerConfig,
        files: Files,
        clock: Clock,
        *,
        loop: asyncio.AbstractEventLoop,
        group_commit: GroupCommit,
        log_config: Callable[[str], LogConfig],
        on_failure: Callable[[Path], None] = lambda _path: None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.log_config = log_config
        self.group_commit = group_commit
        self.producer_settings = ProducerSettings(
            expiration_ms=config["producer.id.expiration.ms"],
            verify_transactions=config["transaction.partition.verification.enable"],
        )
        self.cluster_id = ""
        self._files = files
        self._loop = loop
        self._on_failure = on_failure
        paths = dict.fromkeys(Path(name).absolute() for name in config["log.dirs"] or config["log.dir"])
        self._directories = {path: LogDirectory(files, path) for path in paths}
        self._hosted: dict[tuple[str, int], HostedLog] = {}
        self._missing: dict[tuple[str, int], bytes] = {}
        self.futures: dict[tuple[str, int], FutureLog] = {}
        self._executor = ThreadPoolExecutor(
            max_workers=config["barnabas.worker.threads"], thread_name_prefix="log-worker"
        )
        self._deletions = Deletions(loop, self._executor, files, self._deletion_failed)
        self._upkeep = Upkeep(self, loop, self._executor)
        self.cleaner = LogCleaner(self, files, loop, self._executor)
        group_commit.prepare = self._entry_sync

    def __len__(self) -> int:
        return len(self._hosted)

    # ----- start

    def open(self, *, cluster_id: str | None = None) -> None:
        """Lock the directories and find what is in them; no log is opened, and new directories stay as they are.

        Args:
            cluster_id: the cluster's id where it is known from elsewhere; else that of the directories, or a new one.

        Raises:
            ConfigError: another broker uses a directory, it belongs to another node or cluster, or none can be used;
                one sentence with the remedy.
        """
        try:
            for directory in self._directories.values():
                self._take(directory)
            self._refuse_if_none_is_left()
            self._owners(cluster_id)
            deleted = []
            for directory in self.online:
                try:
                    deleted += directory.scan()
                except OSError as error:
                    self.take_offline(directory.path, error)
                    continue
                if directory.is_empty and not self.config["barnabas.accept.new.log.dirs"]:
                    self.take_offline(
                        directory.path,
                        StorageError(
                            f"{directory.path} is empty, and barnabas.accept.new.log.dirs is false: mount its disk, or start "
                            "once with true to begin a new directory"
                        ),
                    )
        except ConfigError:
            self._unlock()
            raise
        self._refuse_if_none_is_left()
        for directory in self.online:
            for key, hosted in directory.hosted.items():
                self._hosted.setdefault(key, hosted)
        self._deletions.schedule(deleted, 0, are_directories=True)

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

    def adopt(self, known: KnownPlacements = KnownPlacements()) -> PlacementReport:  # noqa: B008 - immutable
        """Compare what is there with what the metadata knows, and take possession of new directories.

        An empty directory is not taken while one is missing that the metadata knows: most likely the disk that belongs there is
        not mounted. Partitions in a missing directory answer KAFKA_STORAGE_ERROR.

        Raises:
            ConfigError: no directory is left; one sentence with the remedy.
        """
        directories = self._directories.values()
        present = {each.directory_id for each in directories if each.directory_id}
        for directory in self.online:
            if directory.properties is None:
                directory_id = likely_directory_id(known.partitions, directory.hosted, present)
                if directory_id is not None:
                    logger.warning(
                        "meta.properties is made anew, with the id in which the metadata places the logs directory=%s id=%s",
                        directory.path,
                        uuid_to_text(directory_id),
                    )
                    directory.properties = MetaProperties(None, self.config["node.id"], directory_id)
                    present.add(directory_id)
        self._settle_copies(known)
        found = {key: hosted.directory.directory_id for key, hosted in self._hosted.items()}
        report = compare(known, found, present, self._given_up())
        self._missing = report.missing
        self._refuse_empty_directories(report)
        self._take_possession()
        self._adopt_lone_copies(known)
        for key, hosted in self._hosted.items():
            directory_id = hosted.directory.directory_id
            if key in known.partitions and directory_id not in (None, known.partitions[key]):
                report.corrections[key] = directory_id
        self._tell(report)
        return report

    def _settle_copies(self, known: KnownPlacements) -> None:
        """Where a partition lies in several directories, the one that the metadata names counts; the others are set aside."""
        for key, chosen in self._hosted.items():
            copies = [each.hosted[key] for each in self.online if key in each.hosted]
            if len(copies) < 2:
                continue
            named = [each for each in copies if each.directory.directory_id == known.partitions.get(key)]
            if not named:
                raise ConfigError(
                    f"{copies[0].path} and {copies[1].path} are the same partition; move the one that is out of date away."
                )
            for hosted in copies:
                if hosted is not named[0]:
                    self._set_stray_aside(hosted)
            if chosen is not named[0]:
                self._hosted[key] = named[0]

    def _adopt_lone_copies(self, known: KnownPlacements) -> None:
        """Where nothing is left of a partition but unfinished copies, the largest takes its place.

        A crash leaves no such thing (see `begin_future`), but a disk that is given up does, or a directory that somebody has
        removed. What the copy has is a beginning of the log, which is better than none.
        """
        if len(self.online) < len(self._directories):
            return  # the log may be there
        largest: dict[tuple[str, int], tuple[int, LogDirectory, Path]] = {}
        for directory in self.online:
            for path, key in directory.futures.items():
                if key in self._hosted or key in self._missing or key not in known.partitions:
                    continue
                try:
                    if read_topic_id(self._files, path) != known.topic_ids.get(key[0]):
                        continue
                    size = _log_bytes(self._files, path)
                except OSError as error:
                    logger.warning("%s is an unfinished copy that cannot be read: %s", path, error)
                    continue
                if key not in largest or size > largest[key][0]:
                    largest[key] = (size, directory, path)
        for key, (size, directory, path) in largest.items():
            try:
                self._hosted[key] = directory.adopt_copy(path)
            except OSError as error:
                self.on_failure(directory.path, error)
                continue
            logger.warning(
                "an unfinished copy is all that is left of a log and takes its place log=%s-%d directory=%s bytes=%d",
                *key,
                directory.path,
                size,
            )

    def _given_up(self) -> set[bytes]:
        given_up = set()
        for text in self.config["barnabas.lost.log.dirs"]:
            try:
                given_up.add(uuid_from_text(text))
            except ValueError:
                raise ConfigError(
                    f"barnabas.lost.log.dirs has {text!r}, which is no id; copy that of the message that named the missing "
                    "directory."
                ) from None
        return given_up

    def _refuse_empty_directories(self, report: PlacementReport) -> None:
        if not report.missing:
            return
        # A directory that cannot even be looked at may be the one that is missing.
        unknown = sum(each.is_offline and each.properties is None for each in self._directories.values())
        if len(report.missing_ids) <= unknown:
            return
        for directory in self.online:
            if directory.is_empty:
                self.take_offline(
                    directory.path,
                    StorageError(
                        f"{directory.path} is empty, and the log directory {describe_missing(report)} is missing: mount its "
                        f"disk, or give it up with barnabas.lost.log.dirs={_ids_text(report.missing_ids)}"
                    ),
                )
        self._refuse_if_none_is_left()

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

    @staticmethod
    def _tell(report: PlacementReport) -> None:
        if report.missing:
            logger.error(
                "log directory is missing, its partitions are offline id=%s partitions=%d remedy=mount its disk and restart, or "
                "give it up with barnabas.lost.log.dirs=%s",
                describe_missing(report),
                len(report.missing),
                _ids_text(report.missing_ids),
            )
        if report.given_up:
            logger.warning(
                "partitions begin anew, empty, as barnabas.lost.log.dirs gives their directory up partitions=%d names=%s",
                len(report.given_up),
                ",".join(f"{topic}-{index}" for topic, index in report.given_up[:_NAMED_MAX]),
            )

    async def recover(self) -> None:
        """Bring the logs of directories that were not closed in order to a sound end; they are open afterwards."""
        threads = self.config["num.recovery.threads.per.data.dir"]
        await asyncio.gather(*(self._recover_directory(directory, threads) for directory in self.online))

    async def _recover_directory(self, directory: LogDirectory, threads: int) -> None:
        waiting = [each for each in directory.hosted.values() if each.log is None and not each.is_clean]
        if not waiting:
            return
        start_ms = self.clock.monotonic_ms()
        logger.info(
            "logs are recovered, they were not closed in order directory=%s logs=%d",
            directory.path,
            len(waiting),
        )
        total = len(waiting)
        waiting.reverse()
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="log-recovery") as executor:

            async def recover_some() -> None:
                while waiting and not directory.is_offline:
                    some = [waiting.pop() for _ in range(min(_RECOVERED_TOGETHER, len(waiting)))]
                    configs = [self.log_config(hosted.topic) for hosted in some]
                    opened = await self._loop.run_in_executor(executor, self._recover_some, some, configs)
                    for hosted, outcome in zip(some, opened, strict=True):
                        if isinstance(outcome, OSError):
                            # On a full disk it is tried again when the log is first needed.
                            self.on_failure(directory.path, outcome)
                        elif outcome is None:
                            hosted.is_clean = True
                        else:
                            hosted.log = outcome

            await asyncio.gather(*(recover_some() for _ in range(threads)))
        logger.info(
            "logs are sound directory=%s logs=%d milliseconds=%d",
            directory.path,
            total,
            self.clock.monotonic_ms() - start_ms,
        )

    def _recover_some(
        self, some: list[HostedLog], configs: list[LogConfig]
    ) -> list[PartitionLog | OSError | None]:
        """The logs, or why there is none; None where nothing was ever written. For a worker thread."""
        outcomes: list[PartitionLog | OSError | None] = []
        for hosted, config in zip(some, configs, strict=True):
            try:
                is_begun = self._files.list_directory(hosted.path) not in ([], [PARTITION_METADATA])
                outcomes.append(self._open(hosted, config) if is_begun else None)
            except OSError as error:
                outcomes.append(error)
        return outcomes

    def start_upkeep(self) -> None:
        """Begin the background work: retention, flush.ms, checkpoints, expiry of producers, compaction."""
        self._upkeep.start()
        self.cleaner.start()

    # ----- the directories

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

    @property
    def previous_broker_epoch(self) -> int:
        """The broker epoch of the last clean shutdown, -1 if any directory knows none (KIP-966)."""
        epochs = {directory.broker_epoch for directory in self._directories.values()}
        return epochs.pop() if len(epochs) == 1 else -1

    @property
    def directory_ids(self) -> list[bytes]:
        """The ids of the directories that work, for the broker's registration (KIP-858)."""
        return [directory.directory_id for directory in self.online if directory.directory_id is not None]

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
        self._on_failure(path)

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

    def _log_failed(self, log: PartitionLog, error: StorageError) -> None:
        # May come from a worker thread, where recovery finds a disk that does not answer.
        self._loop.call_soon_threadsafe(self.on_failure, log.directory.parent, error)

    def _deletion_failed(self, path: Path, error: OSError) -> None:
        for parent in path.parents:
            if parent in self._directories:
                self.on_failure(parent, error)

    # ----- the logs

    def has(self, topic: str, partition: int) -> bool:
        """Whether there is a log of this partition, opened or not."""
        return (topic, partition) in self._hosted

    def directory_id_of(self, log: PartitionLog) -> bytes | None:
        """The id of the directory in which a log lies."""
        return self._directories[log.directory.parent].directory_id

    def is_out_of_reach(self, topic: str, partition: int) -> bool:
        """Whether a partition's directory is offline or missing."""
        hosted = self._hosted.get((topic, partition))
        return (topic, partition) in self._missing if hosted is None else hosted.directory.is_offline

    def hosted(self) -> Iterator[HostedLog]:
        """Every log, opened or not."""
        return iter(self._hosted.values())

    def is_hosted(self, hosted: HostedLog) -> bool:
        """Whether a log is still in use."""
        return self._hosted.get((hosted.topic, hosted.partition)) is hosted

    def all(self) -> Iterator[PartitionLog]:
        """Every log that is open."""
        return (hosted.log for hosted in self._hosted.values() if hosted.log is not None)

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

    def high_watermark_checkpoint(self, topic: str, partition: int) -> int | None:
        """The high watermark that the last checkpoint had for a log, None if it had none."""
        hosted = self._hosted.get((topic, partition))
        return None if hosted is None else hosted.high_watermark

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

    def _schedule_deletion(self, paths: list[Path], delay_ms: int) -> None:
        # May come from a worker thread that recovers a log.
        self._loop.call_soon_threadsafe(self._deletions.schedule, paths, delay_ms)

    def _failed(self, directory: LogDirectory, error: OSError) -> StorageError:
        self.on_failure(directory.path, error)
        return error if isinstance(error, StorageError) else StorageError(f"{directory.path} failed: {error}")

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

    def topic_ids(self) -> Iterator[tuple[str, int, bytes | None]]:
        """Topic, partition and topic id, where there is one, of every log in a directory that works."""
        for directory in self.online:
            for hosted in directory.hosted.values():
                try:
                    yield hosted.topic, hosted.partition, directory.read_topic_id(hosted)
                except OSError as error:
                    self.on_failure(directory.path, error)
                    break

    def set_aside_strays(self, belongs_here: Callable[[str, int, bytes | None], bool]) -> None:
        """Set aside every log that the cluster does not place on this broker.

        Such logs are left when their topic was deleted while the broker was down. They are kept under a name of their own,
        since they may also be the only copy of something whose metadata was lost.
        """
        for directory in self.online:
            for key, hosted in list(directory.hosted.items()):
                try:
                    if belongs_here(*key, directory.read_topic_id(hosted)):
                        continue
                except OSError as error:
                    self.take_offline(directory.path, error)
                    break
                self._set_stray_aside(hosted)
                if self._hosted.get(key) is hosted:
                    del self._hosted[key]
        for directory in self.online:  # where there was another copy, that one counts
            for key, hosted in directory.hosted.items():
                self._hosted.setdefault(key, hosted)

    def _set_stray_aside(self, hosted: HostedLog) -> None:
        try:
            self._retire(hosted)
            hosted.directory.set_aside(hosted, STRAY_SUFFIX)
        except OSError as error:
            self.on_failure(hosted.directory.path, error)

    def _retire(self, hosted: HostedLog) -> None:
        if hosted.log is not None:
            self.group_commit.discard(hosted.log)
            hosted.log.retire()
            hosted.log = None

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

    def size_bytes(self, hosted: HostedLog) -> int:
        """The size of a log's segments, without opening it."""
        if hosted.log is not None:
            return hosted.log.size_bytes
        return _log_bytes(self._files, hosted.path)

    def _entry_sync(self, log: PartitionLog) -> Callable[[], None] | None:
        hosted = self._hosted.get((log.topic, log.partition))
        return None if hosted is None or hosted.log is not log else hosted.directory.entry_sync(hosted)

    # ----- moving logs between directories (see `future_log`)

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

    def hosted_log(self, topic: str, partition: int) -> HostedLog | None:
        """A partition's log in its directory, if there is one."""
        return self._hosted.get((topic, partition))

    def run(self, work: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        """Do something in one of the worker threads."""
        return self._loop.run_in_executor(self._executor, work, *arguments)

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

    def entry_sync(self, hosted: HostedLog) -> Callable[[], None] | None:
        """What brings a partition's directory to the disk, for a worker thread; None once it is there."""
        return hosted.directory.entry_sync(hosted)

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
            directory.prepare_move((future.hosted.topic, future.hosted.partition))
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
        starts = directory.log_start_offsets()
        if future.log.log_start_offset > 0:
            starts[key] = future.log.log_start_offset
        write = directory.checkpoint_write("log-start-offset-checkpoint", starts)
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

    # ----- stop

    async def close(self, *, clean: bool = True, broker_epoch: int = -1) -> None:
        """Stop the background work and let the directories go.

        With `clean` everything is synced and the logs are closed; the marker that spares the next start their recovery is
        written last, in each directory where all of that worked. Without it (a start that failed) the marker is put back
        where nothing has been opened yet.
        """
        await self.cleaner.close()
        await self._upkeep.close()
        await self._deletions.close()
        # A checkpoint that is still being written must not come after, or between, the ones below.
        self._executor.shutdown()
        if clean:
            await self._close_logs()
            for directory in self.online:
                try:
                    self._write_checkpoints(directory)
                    directory.write_clean_shutdown(broker_epoch)
                except OSError as error:
                    self.take_offline(directory.path, error)
        else:
            self._put_markers_back()
        self._unlock()

    async def _close_logs(self) -> None:
        syncs: dict[LogDirectory, list[asyncio.Future[None]]] = defaultdict(list)
        for hosted in self._hosted.values():
            log = hosted.log
            if log is not None and not log.is_offline and log.recovery_point < log.log_end_offset:
                syncs[hosted.directory].append(self.group_commit.request(log, log.log_end_offset))
        for directory, futures in syncs.items():
            for outcome in await asyncio.gather(*futures, return_exceptions=True):
                if isinstance(outcome, OSError):
                    self.take_offline(directory.path, outcome)
        for directory in self.online:
            logs = [
                hosted.log
                for hosted in self._hosted.values()
                if hosted.log is not None and hosted.directory is directory
            ]
            together = len(logs) >= CLOSED_TOGETHER_MIN and self._files.can_sync_file_system
            try:
                if together:
                    self._close_together(directory, logs)
                else:
                    for log in logs:
                        log.close()
            except OSError as error:
                self.take_offline(directory.path, error)

    def _close_together(self, directory: LogDirectory, logs: list[PartitionLog]) -> None:
        """As `close` of each, but with two syncs in all, where an empty log alone takes three."""
        flushes: list[tuple[PartitionLog, Flush | None]] = []
        try:
            for log in logs:
                flushes.append((log, log.start_close()))  # noqa: PERF401 - those before a failure are to be finished
            run_together(self._files, directory.path, [flush for _, flush in flushes if flush is not None])
        finally:
            for log, flush in flushes:
                log.finish_close(flush)

    def _put_markers_back(self) -> None:
        for directory in self.online:
            if directory.is_clean and all(
                hosted.log is None and hosted.is_clean for hosted in directory.hosted.values()
            ):
                try:
                    directory.write_clean_shutdown(directory.broker_epoch)
                except OSError as error:
                    self.take_offline(directory.path, error)

    @staticmethod
    def _write_checkpoints(directory: LogDirectory) -> None:
        for name, offsets in (
            ("recovery-point-offset-checkpoint", directory.recovery_points()),
            ("log-start-offset-checkpoint", directory.log_start_offsets()),
            ("replication-offset-checkpoint", directory.high_watermarks()),
            (CLEANER_CHECKPOINT, directory.cleaned_offsets()),
        ):
            write = directory.checkpoint_write(name, offsets)
            if write is not None:
                write()

    def _unlock(self) -> None:
        for directory in self._directories.values():
            directory.unlock()


def _log_bytes(files: Files, path: Path) -> int:
    return sum(entry.size for entry in files.entries(path) if entry.name.endswith(LOG_SUFFIX))


def _ids_text(directory_ids: list[bytes]) -> str:
    return ",".join(map(uuid_to_text, directory_ids))

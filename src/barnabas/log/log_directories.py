"""All log directories of a broker, and every partition log in them.

Start:

    open()      locks the directories, checks whose they are, finds the partitions (no log is read)
    adopt()     compares them with what the metadata knows, and takes possession of new directories
    recover()   after a crash: reads the logs from their recovery points on, a few at a time, in worker threads.
                After a clean shutdown there is nothing to do: a log is opened when it is first asked for.

What there is to do meanwhile: `directory_set` (directories that fail), `hosted_logs` (logs that are begun, opened, deleted),
`movable_logs` (those that move).

Everything here runs on the loop, but for what is slow (recovery, syncs, checkpoints, deletion): that runs in worker threads,
on what the loop handed them.

Source: `LogManager` of Apache Kafka 4.3; KIP-112, KIP-858 (several directories).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError, StorageError
from barnabas.log.cleaning.log_cleaner import LogCleaner
from barnabas.log.directory_names import STRAY_SUFFIX
from barnabas.log.directory_recovery import DirectoryRecovery
from barnabas.log.hosted_logs import log_bytes
from barnabas.log.meta_properties import MetaProperties
from barnabas.log.missing_directories import (
    KnownPlacements,
    PlacementReport,
    compare,
    describe_missing,
    likely_directory_id,
)
from barnabas.log.movable_logs import MovableLogs
from barnabas.log.orderly_stop import (
    are_closed_together,
    close_logs,
    put_marker_back,
    sync_logs,
    write_checkpoints,
)
from barnabas.log.partition_metadata import read_topic_id
from barnabas.log.upkeep import Upkeep
from barnabas.wire.primitives import uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.log_directory import HostedLog, LogDirectory
    from barnabas.log.partition_log import PartitionLog

__all__ = ["LogDirectories"]

logger = logging.getLogger(__name__)

_NAMED_MAX = 5


class LogDirectories(MovableLogs):
    """The log directories of one broker; see the module.

    Args:
        config: the broker's settings (`log.dirs`, `node.id` and the intervals of the background work).
        files: the disk.
        clock: the time.
        loop: where the logs live.
        group_commit: what syncs the logs.
        log_config: the configuration of a topic's logs by the topic's name, for logs that are opened without one.
        on_change: called with a directory's path when it went offline, became full, or has room again.
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
        on_change: Callable[[Path], None] = lambda _path: None,
    ) -> None:
        super().__init__(
            config,
            files,
            clock,
            loop=loop,
            group_commit=group_commit,
            log_config=log_config,
            on_change=on_change,
        )
        self._upkeep = Upkeep(self, loop, self._executor)
        self.cleaner = LogCleaner(self, files, loop, self._executor)

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

    def topic_ids(self) -> Iterator[tuple[str, int, bytes | None]]:
        """Topic, partition and topic id, where there is one, of every log in a directory that works."""
        for directory in self.online:
            for hosted in directory.hosted.values():
                try:
                    yield hosted.topic, hosted.partition, directory.read_topic_id(hosted)
                except OSError as error:
                    self.on_failure(directory.path, error)
                    break

    def set_aside_strays(
        self,
        belongs_here: Callable[[str, int, bytes | None], bool],
        had_namesake: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        """Set aside every log that the cluster does not place on this broker.

        Such logs are left when their topic was deleted while the broker was down. They are kept under a name of their own,
        since they may also be the only copy of something whose metadata was lost.

        Args:
            belongs_here: whether the cluster places a partition here, by topic, partition and topic id, where that is known.
            had_namesake: whether another topic of that name may have been deleted before the renames of its directories had
                reached the disk. A log that does not tell its topic's id may be that one's.
        """
        for directory in self.online:
            for key, hosted in list(directory.hosted.items()):
                try:
                    topic_id = directory.read_topic_id(hosted)
                    # An id that the power failure took was not on the disk yet, and so nothing in this log was promised.
                    is_sure = topic_id is not None or hosted.was_synced or not had_namesake(hosted.topic)
                    if is_sure and belongs_here(*key, topic_id):
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
                    size = log_bytes(self._files, path)
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
        recovery = DirectoryRecovery(
            self._files,
            self.clock,
            open_log=self._open,
            log_config=self.log_config,
            on_failure=lambda directory, error: self.on_failure(directory.path, error),
        )
        await asyncio.gather(*(recovery.run(directory, threads) for directory in self.online))

    def start_upkeep(self) -> None:
        """Begin the background work: retention, flush.ms, checkpoints, expiry of producers, compaction."""
        self._upkeep.start()
        self.cleaner.start()

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
        logs: dict[LogDirectory, list[PartitionLog]] = {directory: [] for directory in self.online}
        if clean:
            for hosted in self._hosted.values():
                if hosted.log is not None and hosted.directory in logs:
                    logs[hosted.directory].append(hosted.log)
            few = {
                directory: some
                for directory, some in logs.items()
                if not are_closed_together(self._files, some)
            }
            synced = await asyncio.gather(*(sync_logs(self.group_commit, each) for each in few.values()))
            for directory, error in zip(few, synced, strict=True):
                if error is not None:
                    self.take_offline(directory.path, error)
            await self.group_commit.finish_rounds()
        for directory in self.online:
            try:
                if clean:
                    close_logs(self._files, directory, logs[directory])
                    write_checkpoints(directory)
                    # Without room there was no recovery, of those that nobody asked for since.
                    if all(each.log is not None or each.is_clean for each in directory.hosted.values()):
                        directory.write_clean_shutdown(broker_epoch)
                else:
                    put_marker_back(directory)
            except OSError as error:
                self.take_offline(directory.path, error)
        self._unlock()


def _ids_text(directory_ids: list[bytes]) -> str:
    return ",".join(map(uuid_to_text, directory_ids))

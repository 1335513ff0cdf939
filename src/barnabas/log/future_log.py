"""A copy of a log that is made in another log directory, while the log goes on.

    orders-0.2b1e…-future/      the copy; Apache Kafka knows it by this name, too

The files are copied segment by segment, oldest first: a segment that gets no more appends with its indexes, the active one as
far as it is written. What changed meanwhile is found by comparing: segments that are gone (retention), that are others now
(compaction) or shorter (truncation) are taken back, and those that grew are copied on. When little is left the copy is opened
as a log, which reads the last segment and checks it, and takes over the rest batch by batch.

    plan(log)           on the loop: what the log consists of now
    copy_some(plan)     in a worker thread: the next bytes of it
    open(...)           in a worker thread: the copy becomes a log
    catch_up(log)       on the loop: the batches since then

Nothing here decides when; see `replication.directory_moves`.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import StorageError
from barnabas.log.directory_names import FUTURE_SUFFIX, suffixed_directory_name
from barnabas.log.file_names import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    segment_file_name,
)
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.log_directory import HostedLog
from barnabas.log.partition_log import PartitionLog
from barnabas.log.partition_metadata import PARTITION_METADATA, encode_partition_metadata
from barnabas.log.producer_snapshot import snapshot_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files
    from barnabas.log.log_directory import LogDirectory
    from barnabas.log.producer_state import ProducerSettings
    from barnabas.log.segment import Segment

__all__ = ["CopyPlan", "FutureLog"]

READ_BYTES = 1 << 20
_INDEX_SUFFIXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)


class _Planned(NamedTuple):
    """A segment as it was when the plan was made; `segment` is only compared, since the loop goes on using it."""

    segment: Segment
    base_offset: int
    size: int
    is_active: bool


class CopyPlan(NamedTuple):
    """What a log consisted of at one moment, and its leader epochs."""

    directory: Path
    segments: Sequence[_Planned]
    epochs: bytes
    log_start_offset: int
    cleaned_offset: int | None


class _Copied:
    """How much of a segment is in the copy."""

    __slots__ = ("has_indexes", "segment", "size")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.size = 0
        self.has_indexes = False


class FutureLog:
    """The copy of one log; see the module.

    Attributes:
        hosted: What the log will be in the other directory.
        path: Where the copy lies until then.
        size_bytes: Bytes of batches that are in it.
        end_offset: About as far as it reaches; exactly once it is opened.
        is_begun: Whether it has its directory.
        log: The copy as a log, once it is opened.
    """

    def __init__(self, files: Files, directory: LogDirectory, source: HostedLog) -> None:
        self.hosted = HostedLog(directory, source.topic, source.partition, is_clean=True)
        self.hosted.topic_id = source.topic_id
        self.path = directory.path / suffixed_directory_name(source.topic, source.partition, FUTURE_SUFFIX)
        self.size_bytes = 0
        self.log: PartitionLog | None = None
        self.end_offset = 0
        self.is_begun = False
        self._files = files
        self._copied: dict[int, _Copied] = {}

    def __repr__(self) -> str:
        return f"<FutureLog {self.path} {self.size_bytes} bytes>"

    # ----- copying files

    @staticmethod
    def plan(log: PartitionLog) -> CopyPlan:
        """What has to be in the copy.

        Raises:
            DiskFullError: part of an index is still to be written, and there is no room for it.
        """
        segments = log.segments_in_order
        for segment in segments:
            segment.transaction_index.write()
        return CopyPlan(
            log.directory,
            [_Planned(each, each.base_offset, each.size, each is segments[-1]) for each in segments],
            log.encoded_epochs(),
            log.log_start_offset,
            log.cleaned_offset,
        )

    def begin(self) -> None:
        """Makes the directory, which is enough for a start to know of the move; that of the log has to be on the disk."""
        self.is_begun = True
        self._files.make_directory(self.path)
        topic_id = self.hosted.topic_id or bytes(16)
        self._files.write_file(self.path / PARTITION_METADATA, encode_partition_metadata(topic_id))

    def copy_some(self, plan: CopyPlan, max_bytes: int) -> int:
        """Copies up to `max_bytes` of batches, and whatever indexes are due; 0 once the plan is carried out.

        For a worker thread.

        Raises:
            OSError: one of the disks failed.
        """
        self._take_back(plan)
        left = max_bytes
        for planned in plan.segments:
            copied = self._copied.get(planned.base_offset)
            if copied is None:
                self._files.write_file(self._target(planned, LOG_SUFFIX), b"")
                copied = self._copied[planned.base_offset] = _Copied(planned.segment)
            self.end_offset = planned.base_offset
            while left > 0 and copied.size < planned.size:
                count = self._copy(plan, planned, copied, min(left, READ_BYTES, planned.size - copied.size))
                if count == 0:
                    return max_bytes - left  # it is gone: the next plan is without it
                left -= count
            if left <= 0:
                break
            if not planned.is_active and not copied.has_indexes:
                for suffix in _INDEX_SUFFIXES:
                    self._copy_file(plan.directory, self._target(planned, suffix).name)
                copied.has_indexes = True
        return max_bytes - left

    def covers(self, plan: CopyPlan) -> bool:
        """Whether all of the plan is in the copy."""
        return len(self._copied) == len(plan.segments) and all(
            (copied := self._copied.get(planned.base_offset)) is not None
            and copied.segment is planned.segment
            and copied.size == planned.size
            and (planned.is_active or copied.has_indexes)
            for planned in plan.segments
        )

    def _target(self, planned: _Planned, suffix: str) -> Path:
        return self.path / segment_file_name(planned.base_offset, suffix)

    def _take_back(self, plan: CopyPlan) -> None:
        wanted = {planned.base_offset: planned for planned in plan.segments}
        for base_offset, copied in list(self._copied.items()):
            planned = wanted.get(base_offset)
            if planned is None or planned.segment is not copied.segment or planned.size < copied.size:
                for suffix in (LOG_SUFFIX, *_INDEX_SUFFIXES):
                    self._files.delete(self.path / segment_file_name(base_offset, suffix))
                self.size_bytes -= copied.size
                del self._copied[base_offset]

    def _copy(self, plan: CopyPlan, planned: _Planned, copied: _Copied, count: int) -> int:
        source = plan.directory / segment_file_name(planned.base_offset, LOG_SUFFIX)
        private = self._files.private()
        try:
            try:
                data = private.read_at(private.handle(source), copied.size, count)
            except StorageError as error:
                if error.errno == errno.ENOENT:
                    return 0
                raise
            private.write_at(private.handle(self._target(planned, LOG_SUFFIX)), copied.size, data)
        finally:
            private.close()
        copied.size += len(data)
        self.size_bytes += len(data)
        return len(data)

    def _copy_file(self, directory: Path, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.write_file(self.path / name, self._files.read_file(directory / name))

    def sync(self, plan: CopyPlan) -> None:
        """Copies what lies beside the segments, and brings all of it to the disk; for a worker thread."""
        for name in self._files.list_directory(plan.directory):
            offset = snapshot_offset(name)
            if offset is not None and offset <= plan.segments[-1].base_offset:
                self._copy_file(plan.directory, name)
        self._files.write_file(self.path / LEADER_EPOCHS_FILE_NAME, plan.epochs)
        for name in self._files.list_directory(self.path):
            self._files.sync_file(self.path / name)
        self._files.sync_directory(self.path)
        self._files.sync_directory(self.path.parent)

    # ----- the copy as a log

    def open(
        self,
        plan: CopyPlan,
        files: Files,
        config: LogConfig,
        clock: Clock,
        producer_settings: ProducerSettings,
        *,
        schedule_deletion: Callable[[list[Path], int], None],
        on_failure: Callable[[PartitionLog, StorageError], None],
    ) -> PartitionLog:
        """Opens the copy, which reads and checks its last segment; for a worker thread.

        Raises:
            StorageError: the copy cannot be read, or is not what it should be.
        """
        log = PartitionLog.open(
            self.path,
            config,
            files,
            clock,
            topic=self.hosted.topic,
            partition=self.hosted.partition,
            topic_id=self.hosted.topic_id or bytes(16),
            recovery_point=plan.segments[-1].base_offset,
            log_start_offset=plan.log_start_offset,
            clean=False,
            producer_settings=producer_settings,
            schedule_deletion=schedule_deletion,
            on_failure=on_failure,
        )
        log.cleaned_offset = plan.cleaned_offset
        return log

    def catch_up(self, source: PartitionLog, max_bytes: int) -> int:
        """Takes over batches that the log got since; returns how many bytes, 0 once there are no more.

        Raises:
            KafkaError: a batch cannot be read.
            StorageError: one of the disks failed, or the logs have parted.
        """
        log = self.log
        assert log is not None
        if log.log_end_offset > source.log_end_offset:
            log.truncate_to(source.log_end_offset)
        if log.log_end_offset == source.log_end_offset:
            return 0
        start = max(log.log_end_offset, source.log_start_offset)
        region = source.read(start, max_bytes, up_to_offset=source.log_end_offset).region
        if region is None:
            raise StorageError(f"{source.directory} has nothing to read at offset {start}")
        try:
            data = region.read()
        finally:
            region.release()
        if log.append_as_follower(data) is None:
            raise StorageError(f"{source.directory} has no whole batch at offset {start}")
        self.size_bytes, self.end_offset = log.size_bytes, log.log_end_offset
        return len(data)

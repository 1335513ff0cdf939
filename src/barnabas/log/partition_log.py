"""The log of one partition: batches in, runs of file bytes out.

Offsets that it keeps:

    log start offset  the first that can be read; retention and DeleteRecords move it up
    recovery point    everything below is on the disk
    log end offset    the next record gets it

Invariants: log start offset <= log end offset; recovery point <= log end offset; a batch, once written, changes only by
truncation from the end, deletion of whole segments from the start, or compaction.

A log belongs to the event loop's thread, except while it is being opened. What waits for the disk is handed to a worker
(`Flush`, `ColdRead`, deletion of files). When the disk fails, the log is offline: each call raises StorageError, and
whoever gave `on_failure` is told once.

Source: `UnifiedLog` and `LocalLog` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, ErrorCode, KafkaError, StorageError
from barnabas.log.end_marker import read_end_marker
from barnabas.log.flush import Flush
from barnabas.log.leader_epochs import FILE_NAME as LEADER_EPOCHS_FILE_NAME
from barnabas.log.leader_epochs import LeaderEpochs
from barnabas.log.loading import load_log
from barnabas.log.origin import Origin
from barnabas.log.producer_state import ProducerSettings, ProducerState
from barnabas.log.recovery import recover_segment, replay_producers
from barnabas.log.retention import count_below_start, count_deletable
from barnabas.log.segment import Segment, roll_jitter_ms
from barnabas.log.segments import Segments, rename_to_deleted
from barnabas.log.transaction_index import AbortedTransaction
from barnabas.records.batch import (
    BatchHeader,
    check_crc,
    iterate_headers,
    set_base_offset_and_epoch,
    set_log_append_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files, FileSlice
    from barnabas.log.loading import LoadedLog
    from barnabas.log.producer_entry import VerificationGuard

__all__ = ["AppendResult", "Flush", "Origin", "PartitionLog", "ReadResult"]

logger = logging.getLogger(__name__)

NO_TOPIC_ID = bytes(16)
SNAPSHOT_INTERVAL_BYTES = 64 << 20
"""How much of the active segment may be appended and flushed until another snapshot of the producers is taken, so that
recovery need not read more."""

_new = tuple.__new__


class AppendResult(NamedTuple):
    """Where batches went.

    `log_append_time_ms` is -1 if the records keep their producer's timestamps. `duplicate` says that the batch had been
    appended before, and that offsets and timestamp are those of that time.
    """

    first_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    duplicate: bool = False


class ReadResult(NamedTuple):
    """What a read found.

    `region` is None if there was nothing to read; whoever gets it releases it. It begins at `position` in the segment
    with the base offset `segment_base_offset`, and holds no record at or above `end_offset`.
    """

    region: FileSlice | None
    end_offset: int
    segment_base_offset: int
    position: int


class PartitionLog:
    """The log of one partition; see the module. Made by `PartitionLog.open`.

    Attributes:
        topic: the topic's name.
        partition: the partition's number.
        topic_id: 16 bytes.
        directory: where the files lie; whoever renames it calls `retire` before and sets it after.
        high_watermark: as far as replication keeps it here, else None, which stands for the log end offset: nothing
            above it is deleted by retention.
        last_flushed_ms: when the recovery point last moved up, by the wall clock.
    """

    __slots__ = (
        "_active",
        "_clock",
        "_config",
        "_directory_is_dirty",
        "_end_when_synced",
        "_epochs",
        "_failure",
        "_files",
        "_has_aborted",
        "_latest_epoch",
        "_log_append_time",
        "_name",
        "_on_failure",
        "_producers",
        "_producers_are_loaded",
        "_schedule_deletion",
        "_segments",
        "_snapshot_position",
        "_truncations",
        "_unsynced_paths",
        "directory",
        "high_watermark",
        "last_flushed_ms",
        "log_end_offset",
        "log_start_offset",
        "partition",
        "recovery_point",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        loaded: LoadedLog,
        producers: ProducerState,
        *,
        topic: str,
        partition: int,
        topic_id: bytes,
        schedule_deletion: Callable[[list[Path], int], None] | None,
        on_failure: Callable[[PartitionLog, StorageError], None] | None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.directory = directory
        self.high_watermark: int | None = None
        self.last_flushed_ms = clock.now_ms()
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = loaded.log_end_offset
        self.recovery_point = loaded.recovery_point
        self._name = f"{topic}-{partition}"
        self._files = files
        self._clock = clock
        self._schedule_deletion = schedule_deletion or self._delete_now
        self._on_failure = on_failure
        self._failure: StorageError | None = None
        self._segments = Segments(loaded.segments)
        self._active = self._segments.active
        self._epochs: LeaderEpochs | None = loaded.epochs
        self._latest_epoch: int | None = None
        self._producers = producers
        self._producers_are_loaded = loaded.producers_are_loaded
        self._has_aborted = any(not segment.transaction_index.is_empty for segment in self._segments)
        self._directory_is_dirty = True
        self._unsynced_paths: list[Path] = []
        self._snapshot_position = 0
        self._truncations = 0
        self._log_append_time = False
        # Where the log ended, and how often it had been truncated, when all its files were known to be on the disk.
        self._end_when_synced = None if loaded.is_repaired else (loaded.log_end_offset, 0)
        self.config = config

    @classmethod
    def open(
        cls,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        *,
        topic: str,
        partition: int,
        clean: bool,
        topic_id: bytes = NO_TOPIC_ID,
        recovery_point: int = 0,
        log_start_offset: int = 0,
        producer_settings: ProducerSettings | None = None,
        schedule_deletion: Callable[[list[Path], int], None] | None = None,
        on_failure: Callable[[PartitionLog, StorageError], None] | None = None,
    ) -> PartitionLog:
        """The log in `directory`, which exists; an empty one gets its first segment. May run in a worker thread.

        Args:
            directory: the partition's.
            config: the topic's settings; `log.config` may be set anew at any time.
            files: the file system.
            clock: the time.
            topic: the topic's name.
            partition: the partition's number.
            clean: whether the last shutdown was clean; then no batch is read now. Otherwise the log is recovered from
                `recovery_point` on.
            topic_id: 16 bytes.
            recovery_point: from the checkpoint of that name; after a clean shutdown it is the log end offset.
            log_start_offset: from the checkpoint of that name.
            producer_settings: shared by all logs.
            schedule_deletion: is given files that are out of use, and the milliseconds after which they are to be
                deleted in a worker thread; without it they are deleted at once.
            on_failure: is told, once, when the log goes offline.

        Raises:
            StorageError: the disk failed, or files are damaged beyond repair.
        """
        producers = ProducerState(
            directory, files, producer_settings or ProducerSettings(), topic_partition=f"{topic}-{partition}"
        )
        try:
            loaded = load_log(
                files,
                directory,
                config,
                producers,
                recovery_point=recovery_point,
                log_start_offset=log_start_offset,
                clean=clean,
                now_ms=clock.now_ms(),
            )
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"cannot load the log in {directory}: {error}") from error
        return cls(
            directory,
            config,
            files,
            clock,
            loaded,
            producers,
            topic=topic,
            partition=partition,
            topic_id=topic_id,
            schedule_deletion=schedule_deletion,
            on_failure=on_failure,
        )

    def __repr__(self) -> str:
        return f"<PartitionLog {self._name} {self.log_start_offset}..{self.log_end_offset}>"

    # ----- what it is

    @property
    def config(self) -> LogConfig:
        """The topic's settings; a new one counts at once."""
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._log_append_time = config.message_timestamp_type == "LogAppendTime"
        self._configure(self._active)

    def _configure(self, segment: Segment) -> None:
        segment.configure(self._config, roll_jitter_ms(self._config, self._name, segment.base_offset))

    @property
    def size_bytes(self) -> int:
        """Bytes of batches."""
        return self._segments.size_bytes

    @property
    def active_base_offset(self) -> int:
        """Where the active segment begins; segments below it get no more appends."""
        return self._active.base_offset

    def segment_base_offsets(self) -> list[int]:
        """Where the segments begin, rising."""
        return self._segments.base_offsets

    # ----- failure

    @property
    def is_offline(self) -> bool:
        """Whether the disk failed under it, or it is closed."""
        return self._failure is not None

    def fail(self, error: OSError) -> StorageError:
        """Takes the log offline; returns what is to be raised."""
        if self._failure is None:
            if not isinstance(error, StorageError):
                error = StorageError(f"log directory {self.directory} failed: {error}")
            self._failure = error
            if self._on_failure is not None:
                self._on_failure(self, error)
        return self._failure

    def _check_online(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ----- appending

    def append(
        self,
        records: bytearray | memoryview,
        headers: Sequence[BatchHeader],
        *,
        leader_epoch: int,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
        guard: VerificationGuard | None = None,
        transaction_version: int = 0,
    ) -> AppendResult:
        """Appends batches as the leader: gives them offsets, in place, and writes them in one write.

        Args:
            records: whole batches, validated; a writable buffer, of which bytes after the last batch are left out.
            headers: of each batch.
            leader_epoch: goes into the batches.
            now_ms: the wall clock.
            origin: who appends, which decides how much is checked.
            guard: of a verified transaction (`ProducerState.begin_verification`).
            transaction_version: the feature level under which an end marker was sent.

        Raises:
            KafkaError: the producer state refuses a batch; nothing was appended.
            StorageError: the disk failed, and the log is offline; nothing of the batches counts as appended.
        """
        if self._failure is not None:
            raise self._failure
        active = self._active
        first_offset = self.log_end_offset
        try:
            if not active.end_is_loaded:
                self._load_end()
                first_offset = self.log_end_offset
            if not self._producers_are_loaded:
                self._load_producers()
            header = headers[0]
            size = header.batch_length + 12
            next_offset = first_offset + header.last_offset_delta + 1
            max_timestamp_ms = header.max_timestamp
            append_time_ms = -1
            if len(headers) == 1:
                if header.producer_id >= 0:
                    duplicate = self._producers.check(
                        header,
                        origin,
                        marker=read_end_marker(header, records[:size]) if header.is_control else None,
                        guard=guard,
                        transaction_version=transaction_version,
                    )
                    if duplicate is not None:
                        return AppendResult(
                            duplicate.first_offset,
                            duplicate.last_offset,
                            # Whatever its type, Kafka answers the timestamp of the first time.
                            duplicate.timestamp_ms,
                            self.log_start_offset,
                            True,
                        )
                if self._log_append_time:
                    append_time_ms = max_timestamp_ms = now_ms
                    set_log_append_time(records, 0, now_ms)
                    headers = (header._replace(max_timestamp=now_ms),)
                set_base_offset_and_epoch(records, 0, first_offset, leader_epoch)
            else:
                if self._log_append_time:
                    append_time_ms = now_ms
                headers, size, next_offset, max_timestamp_ms = self._assign_offsets(
                    records, headers, leader_epoch, append_time_ms, origin
                )
            if size != len(records):
                records = memoryview(records)[:size]
            if active.should_roll(size, max_timestamp_ms, next_offset - 1, now_ms):
                self._roll(first_offset, now_ms)
                active = self._active
            active.append(records, size, headers, first_offset, now_ms)
            self.log_end_offset = next_offset
            if leader_epoch != self._latest_epoch:
                self._assign_epoch(leader_epoch, first_offset)
            if header.producer_id >= 0 or len(headers) > 1:
                self._update_producers(records, headers, first_offset)
        except OSError as error:
            raise self.fail(error) from error
        return _new(
            AppendResult, (first_offset, next_offset - 1, append_time_ms, self.log_start_offset, False)
        )

    def _assign_offsets(
        self,
        records: bytearray | memoryview,
        headers: Sequence[BatchHeader],
        leader_epoch: int,
        append_time_ms: int,
        origin: Origin,
    ) -> tuple[list[BatchHeader], int, int, int]:
        """Several batches at once, which only coordinators append: headers, size, next offset, highest timestamp."""
        position = 0
        offset = self.log_end_offset
        assigned = []
        for header in headers:
            if header.producer_id >= 0:
                self._producers.check(header, origin)
            if append_time_ms >= 0:
                set_log_append_time(records, position, append_time_ms)
                header = header._replace(max_timestamp=append_time_ms)  # noqa: PLW2901 - the same batch
            set_base_offset_and_epoch(records, position, offset, leader_epoch)
            assigned.append(header._replace(base_offset=offset))
            offset += header.last_offset_delta + 1
            position += header.size_bytes
        return assigned, position, offset, max(header.max_timestamp for header in assigned)

    def append_as_follower(self, records: bytes | bytearray | memoryview) -> AppendResult | None:
        """Appends batches of the leader with the offsets and epochs that they have; an unfinished last one is left out.

        Returns:
            None if there is no whole batch.

        Raises:
            KafkaError: CORRUPT_MESSAGE, or OFFSET_OUT_OF_RANGE for offsets that do not rise from the log end.
            StorageError: the write failed; nothing was appended, the log is offline.
        """
        self._check_online()
        headers: list[BatchHeader] = []
        size = 0
        expected = self.log_end_offset
        try:
            for position, header in iterate_headers(records):
                if not check_crc(records, position):
                    raise DecodeError(f"the batch at offset {header.base_offset} fails its checksum")
                if header.base_offset < expected or header.last_offset_delta < 0:
                    raise KafkaError(
                        ErrorCode.OFFSET_OUT_OF_RANGE,
                        f"{self._name} got a batch at offset {header.base_offset} from its leader where {expected} is due",
                    )
                expected = header.next_offset
                size = position + header.size_bytes
                headers.append(header)
        except DecodeError as error:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{self._name} from its leader: {error}") from error
        if not headers:
            return None
        try:
            self._append_stored(memoryview(records)[:size], size, headers)
        except OSError as error:
            raise self.fail(error) from error
        return AppendResult(headers[0].base_offset, expected - 1, -1, self.log_start_offset)

    def _append_stored(self, records: memoryview, size: int, headers: list[BatchHeader]) -> None:
        if not self._active.end_is_loaded:
            self._load_end()
        if not self._producers_are_loaded:
            self._load_producers()
        now_ms = self._clock.now_ms()
        last_offset = headers[-1].last_offset
        highest_ms = max(header.max_timestamp for header in headers)
        if self._active.should_roll(size, highest_ms, last_offset, now_ms):
            self._roll(headers[0].base_offset, now_ms)
        self._active.append(records, size, headers, None, now_ms)
        self.log_end_offset = last_offset + 1
        for header in headers:
            if header.partition_leader_epoch != self._latest_epoch:
                self._assign_epoch(header.partition_leader_epoch, header.base_offset)
        self._update_producers(records, headers, None)

    def _update_producers(
        self,
        records: bytes | bytearray | memoryview,
        headers: Sequence[BatchHeader],
        first_offset: int | None,
    ) -> None:
        """Takes what was appended into the producer state; `first_offset` if a single header lacks it."""
        producers = self._producers
        position = 0
        for header in headers:
            if header.producer_id >= 0:
                base_offset = header.base_offset if first_offset is None or len(headers) > 1 else first_offset
                marker = None
                if header.is_control:
                    marker = read_end_marker(header, records[position : position + header.size_bytes])
                completed = producers.update(
                    header, base_offset, marker=marker, max_timestamp_ms=header.max_timestamp
                )
                if completed is not None and completed.is_aborted:
                    self._active.transaction_index.append(
                        AbortedTransaction(
                            completed.producer_id,
                            completed.first_offset,
                            completed.last_offset,
                            completed.last_stable_offset,
                        )
                    )
                    self._has_aborted = True
            position += header.batch_length + 12

    def roll(self) -> None:
        """Begins a new segment; nothing if the active one is empty."""
        self._check_online()
        try:
            self._load_end()
            if self._active.size:
                self._roll(self.log_end_offset, self._clock.now_ms())
        except OSError as error:
            raise self.fail(error) from error

    def _roll(self, base_offset: int, now_ms: int) -> None:
        if not self._producers_are_loaded:
            self._load_producers()
        self._active.become_inactive()
        segment = Segment.create(self._files, self.directory, base_offset, now_ms=now_ms)
        self._directory_is_dirty = True
        self._configure(segment)
        self._segments.add(segment)
        self._active = segment
        # A snapshot where a segment begins lets recovery begin there too.
        self._producers.map_end_offset = base_offset
        self._take_snapshot()
        self._snapshot_position = 0

    def _take_snapshot(self) -> None:
        path = self._producers.take_snapshot(sync=False)
        if path is not None:
            self._unsynced_paths.append(path)
            self._directory_is_dirty = True

    # ----- loading on first use

    def _load_end(self, *, wait: bool = True) -> None:
        """Looks at the end of the active segment after it was opened; what its closing had promised is checked there."""
        active = self._active
        if active.end_is_loaded:
            return
        try:
            end_offset = active.load_end(wait=wait)
        except DecodeError as error:
            logger.error("%s does not end as it was closed: %s; recovering it", active.file.path, error)  # noqa: TRY400 - the message says it all
            recovered = recover_segment(active)
            end_offset = recovered.next_offset
        if end_offset != self.log_end_offset:
            logger.error(
                "%s was closed at offset %d, but its batches end at %d: going on there",
                active.file.path,
                self.log_end_offset,
                end_offset,
            )
            self.log_end_offset = max(end_offset, active.base_offset)
            self.recovery_point = min(self.recovery_point, self.log_end_offset)

    @property
    def producer_state(self) -> ProducerState:
        """The producers; loaded on first use."""
        if not self._producers_are_loaded:
            self._load_producers()
        return self._producers

    def _load_producers(self) -> None:
        producers = self._producers
        end_offset = self.log_end_offset
        replay_from = producers.truncate_and_reload(self.log_start_offset, end_offset, self._clock.now_ms())
        if replay_from < end_offset:
            try:
                replay_producers(self._segments.starting_at(replay_from), producers, replay_from, end_offset)
            except (DecodeError, KafkaError) as error:
                logger.warning("The producers of %s are known only in part: %s", self.directory, error)
        producers.map_end_offset = end_offset
        self._producers_are_loaded = True

    def _load_epochs(self) -> LeaderEpochs:
        epochs = self._epochs
        if epochs is None:
            epochs = LeaderEpochs.load(self._files, self.directory / LEADER_EPOCHS_FILE_NAME)
            epochs.truncate_from_end(self.log_end_offset)
            epochs.truncate_from_start(self.log_start_offset)
            self._epochs = epochs
        return epochs

    # ----- reading

    def read(
        self,
        start_offset: int,
        max_bytes: int,
        *,
        up_to_offset: int,
        min_one_batch: bool = True,
        may_block: bool = True,
    ) -> ReadResult:
        """Finds the bytes from the batch that holds `start_offset` on, in one segment.

        The region begins with a whole batch, may end within one, and never goes past `up_to_offset`.

        Args:
            start_offset: the first offset wanted.
            max_bytes: how many bytes at most.
            up_to_offset: where to stop (high watermark, last stable offset).
            min_one_batch: whether a first batch of more than `max_bytes` is given whole, rather than nothing.
            may_block: whether the search may wait for the disk.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE; CORRUPT_MESSAGE where there should be a batch and is none.
            ColdRead: `may_block` is False, and the search needs something that is not in the page cache.
            StorageError: the disk failed.
        """
        if self._failure is not None:
            raise self._failure
        segment: Segment | None = self._active
        assert segment is not None
        try:
            if not segment.end_is_loaded:
                self._load_end(wait=may_block)
            log_end_offset = self.log_end_offset
            if start_offset > log_end_offset or start_offset < self.log_start_offset:
                raise KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"offset {start_offset} of {self._name} is not within {self.log_start_offset} to {log_end_offset}",
                )
            end_offset = min(up_to_offset, log_end_offset)
            if start_offset >= end_offset:
                return ReadResult(None, start_offset, segment.base_offset, 0)
            if start_offset < segment.base_offset:
                segment = self._segments.floor(start_offset)
            while segment is not None:
                place = segment.locate(start_offset, wait=may_block)
                if place is not None:
                    return self._read_segment(
                        segment, place, max_bytes, end_offset, min_one_batch=min_one_batch, wait=may_block
                    )
                # After compaction a segment may end before the next one begins.
                segment = self._segments.after(segment)
        except OSError as error:
            raise self.fail(error) from error
        return ReadResult(None, start_offset, self._active.base_offset, 0)

    def _read_segment(
        self,
        segment: Segment,
        place: tuple[int, int],
        max_bytes: int,
        end_offset: int,
        *,
        min_one_batch: bool,
        wait: bool,
    ) -> ReadResult:
        position, batch_size = place
        limit = segment.size
        if segment is self._active:
            if end_offset < self.log_end_offset:
                limit = self._position_of(segment, end_offset, wait=wait)
        else:
            following = self._segments.after(segment)
            assert following is not None
            if end_offset < following.base_offset:
                limit = self._position_of(segment, end_offset, wait=wait)
            else:
                end_offset = following.base_offset
        size = limit - position
        if size > max_bytes:
            if batch_size <= max_bytes:
                size = max_bytes
            elif min_one_batch:
                size = min(size, batch_size)
            else:
                size = 0
            if self._has_aborted:
                indexed = segment.offset_index.offset_at(position + size, wait=wait)
                if indexed is not None:
                    end_offset = min(end_offset, indexed)
        if size <= 0:
            return ReadResult(None, end_offset, segment.base_offset, position)
        is_warm = segment.is_recent(position, self._clock.now_ms())
        region = self._files.region(segment.file, position, size, is_warm=is_warm)
        return _new(ReadResult, (region, end_offset, segment.base_offset, position))

    @staticmethod
    def _position_of(segment: Segment, offset: int, *, wait: bool) -> int:
        place = segment.locate(offset, wait=wait)
        return segment.size if place is None else place.position

    @property
    def has_aborted_transactions(self) -> bool:
        """Whether any transaction in the log was aborted."""
        return self._has_aborted

    def aborted_transactions(
        self, start_offset: int, end_offset: int, up_to_offset: int | None = None
    ) -> list[tuple[int, int]]:
        """Producer id and first offset of the aborted transactions that have records between two offsets.

        `up_to_offset` is where the read stopped, if before `end_offset`. Raises StorageError.
        """
        self._check_online()
        if up_to_offset is not None:
            end_offset = min(end_offset, up_to_offset)
        found: list[AbortedTransaction] = []
        try:
            for segment in self._segments.starting_at(start_offset):
                if segment.transaction_index.collect(start_offset, end_offset, found):
                    break
        except OSError as error:
            raise self.fail(error) from error
        return [(transaction.producer_id, transaction.first_offset) for transaction in found]

    def last_stable_offset(self, high_watermark: int) -> int:
        """Where read_committed readers stop."""
        if not self._producers_are_loaded:
            self._load_producers()
        return self._producers.last_stable_offset(high_watermark)

    def on_high_watermark(self, high_watermark: int) -> None:
        """The high watermark moved."""
        self.high_watermark = high_watermark
        if self._producers_are_loaded:
            self._producers.on_high_watermark(high_watermark)

    # ----- timestamps and epochs

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record with this timestamp or a later one; None if none has.

        May decompress a batch. Raises KafkaError (CORRUPT_MESSAGE) or StorageError.
        """
        self._check_online()
        try:
            self._load_end()
            for segment in self._segments:
                if segment.size and segment.max_timestamp.timestamp_ms >= timestamp_ms:
                    found = segment.find_timestamp(timestamp_ms, self.log_start_offset)
                    if found is not None:
                        return found
        except OSError as error:
            raise self.fail(error) from error
        return None

    def offset_of_max_timestamp(self) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record with the highest timestamp; None if none has one.

        May decompress a batch. Raises KafkaError (CORRUPT_MESSAGE) or StorageError.
        """
        self._check_online()
        try:
            self._load_end()
            latest = max(self._segments, key=lambda segment: segment.max_timestamp.timestamp_ms)
            return latest.find_max_timestamp()
        except OSError as error:
            raise self.fail(error) from error

    @property
    def latest_epoch(self) -> int:
        """The newest leader epoch, -1 if there is none."""
        return self._load_epochs().latest

    def assign_leader_epoch(self, epoch: int, start_offset: int) -> None:
        """A leader of this epoch begins at `start_offset`."""
        self._assign_epoch(epoch, start_offset)

    def _assign_epoch(self, epoch: int, start_offset: int) -> None:
        epochs = self._load_epochs()
        epochs.assign(epoch, start_offset)
        self._latest_epoch = epoch

    def epoch_end_offset(self, epoch: int, current_leader_epoch: int | None = None) -> tuple[int, int]:
        """The largest known epoch up to `epoch`, and its end offset; (-1, -1) if the log knows none.

        `current_leader_epoch` ends at the log end, also while it has no records.
        """
        if epoch == current_leader_epoch:
            return epoch, self.log_end_offset
        return self._load_epochs().end_offset(epoch, self.log_end_offset)

    def epoch_for_offset(self, offset: int) -> int | None:
        """The epoch to which the record at `offset` belongs, None if unknown."""
        return self._load_epochs().epoch_for_offset(offset)

    # ----- flushing

    @property
    def has_unflushed(self) -> bool:
        """Whether something was appended that may not be on the disk yet."""
        return self.recovery_point < self.log_end_offset

    @property
    def flush_due(self) -> bool:
        """Whether `flush.messages` asks for a flush."""
        return self.log_end_offset - self.recovery_point >= self._config.flush_messages

    def start_flush(self, up_to: int | None = None) -> Flush | None:
        """What has to be synced so that everything below `up_to` (the log end) is safe; None if it is.

        A flush covers whole segments; for the active one, that is everything up to now. See `Flush` for what to do with it.

        Raises:
            StorageError: a file cannot be opened, or the log is offline.
        """
        self._check_online()
        if min(self.log_end_offset if up_to is None else up_to, self.log_end_offset) <= self.recovery_point:
            return None
        flush = Flush(self._files, self.log_end_offset, self._truncations)
        try:
            for segment in self._segments.starting_at(self.recovery_point):
                if up_to is not None and segment.base_offset >= up_to:
                    flush.offset = segment.base_offset
                    break
                self._files.pin(segment.file)
                flush.handles.append(segment.file)
                if segment is not self._active:
                    flush.paths.append(segment.offset_index.entries.file.path)
                    flush.paths.append(segment.time_index.entries.file.path)
                if not segment.transaction_index.is_empty:
                    flush.paths.append(segment.transaction_index.file.path)
            self._limit_recovery()
        except OSError as error:
            self._unpin(flush)
            raise self.fail(error) from error
        flush.paths += self._unsynced_paths
        self._unsynced_paths = []
        if self._epochs is not None and self._epochs.is_dirty:
            flush.epochs = (self.directory / LEADER_EPOCHS_FILE_NAME, self._epochs.encode())
            self._epochs.is_dirty = False
            self._directory_is_dirty = True
        if self._directory_is_dirty:
            flush.directory = self.directory
            self._directory_is_dirty = False
        return flush

    def _limit_recovery(self) -> None:
        """Once so many bytes were flushed, sees to it that recovery would not begin before them."""
        active = self._active
        if active.size - self._snapshot_position < SNAPSHOT_INTERVAL_BYTES or not self._producers_are_loaded:
            return
        active.offset_index.entries.write()
        active.time_index.entries.write()
        before = self._producers.latest_snapshot_offset
        self._producers.map_end_offset = self.log_end_offset
        self._take_snapshot()
        if before is not None and before > active.base_offset and before != self.log_end_offset:
            self._producers.delete_snapshot(before)
        self._snapshot_position = active.size

    def _unpin(self, flush: Flush) -> None:
        for file in flush.handles:
            self._files.unpin(file)
        flush.handles = []

    def finish_flush(self, flush: Flush) -> None:
        """Ends a flush, done or failed. After a failure the log is to be taken offline (`fail`)."""
        self._unpin(flush)
        if not flush.is_done:
            self._unsynced_paths += flush.paths
            self._directory_is_dirty |= flush.directory is not None
            if flush.epochs is not None and self._epochs is not None:
                self._epochs.is_dirty = True
            return
        self.last_flushed_ms = self._clock.now_ms()
        # What was truncated and appended anew meanwhile is not on the disk yet.
        if flush.truncations == self._truncations and flush.offset > self.recovery_point:
            self.recovery_point = flush.offset

    def flush(self, up_to: int | None = None) -> None:
        """A whole flush, waiting for the disk; raises StorageError."""
        flush = self.start_flush(up_to)
        if flush is None:
            return
        try:
            flush.run()
        except OSError as error:
            raise self.fail(error) from error
        finally:
            self.finish_flush(flush)

    # ----- deleting and truncating

    def delete_records(self, offset: int) -> None:
        """Makes everything below `offset` unreadable, and deletes the segments that lie below as a whole.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, above the high watermark.
            StorageError: the disk failed.
        """
        self._check_online()
        limit = self.log_end_offset if self.high_watermark is None else self.high_watermark
        if offset > limit:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} of {self._name} is above the high watermark {limit}",
            )
        try:
            self.raise_log_start_offset(offset)
            self._delete_oldest(
                count_below_start(self._segments.in_order, self.log_start_offset),
                f"the log start offset is {self.log_start_offset}",
            )
        except OSError as error:
            raise self.fail(error) from error

    def raise_log_start_offset(self, offset: int) -> None:
        """Moves the log start offset up to `offset`; nothing if it is there already."""
        if offset <= self.log_start_offset:
            return
        self.log_start_offset = offset
        self._load_epochs().truncate_from_start(offset)
        if self._producers_are_loaded:
            self._producers.on_log_start_offset(offset)

    def apply_retention(self, now_ms: int) -> int:
        """Deletes the segments that the settings allow to; returns how many. Raises StorageError."""
        self._check_online()
        try:
            segments = self._segments.in_order
            high_watermark = self.log_end_offset if self.high_watermark is None else self.high_watermark
            count = count_deletable(
                segments,
                self._config,
                log_start_offset=self.log_start_offset,
                log_end_offset=self.log_end_offset,
                high_watermark=high_watermark,
                now_ms=now_ms,
            )
            if count == 0:
                return 0
            if count == len(segments):
                self._load_end()
                self._roll(self.log_end_offset, now_ms)
            self._delete_oldest(count, "retention")
        except OSError as error:
            raise self.fail(error) from error
        return count

    def _delete_oldest(self, count: int, reason: str) -> None:
        if count == 0:
            return
        removed = self._segments.remove_oldest(count)
        logger.info("%s: deleting the segments %s (%s)", self._name, _list_bases(removed), reason)
        self.raise_log_start_offset(self._segments.first.base_offset)
        self._delete_files(removed)

    def _delete_files(self, removed: list[Segment]) -> None:
        paths: list[Path] = []
        for segment in removed:
            paths += rename_to_deleted(self._files, segment)
            snapshot = self._producers.forget_snapshot(segment.base_offset)
            if snapshot is not None:
                paths.append(snapshot)
        self._has_aborted = any(not segment.transaction_index.is_empty for segment in self._segments)
        self._schedule_deletion(paths, self._config.file_delete_delay_ms)

    def _delete_now(self, paths: list[Path], delay_ms: int) -> None:
        del delay_ms
        for path in paths:
            self._files.delete(path)

    def truncate_to(self, offset: int) -> bool:
        """Drops every batch that holds `offset` or a later one; False if there was none.

        A leader epoch that begins at `offset` or later is dropped in any case. Raises StorageError.
        """
        self._check_online()
        try:
            self._load_end()
            self._load_epochs().truncate_from_end(offset)
            self._latest_epoch = None
            if offset >= self.log_end_offset:
                return False
            logger.info("%s: truncating from offset %d to %d", self._name, self.log_end_offset, offset)
            if offset < self._segments.first.base_offset:
                self._start_over_at(offset)
                return True
            self._truncations += 1
            removed = self._segments.remove_after(offset)
            self._active = self._segments.active
            self._configure(self._active)
            end_offset = self._active.truncate_to(offset)
            self._delete_files(removed)
            self.log_end_offset = end_offset
            self.recovery_point = min(self.recovery_point, end_offset)
            self.log_start_offset = min(self.log_start_offset, end_offset)
            if self.high_watermark is not None:
                self.high_watermark = min(self.high_watermark, end_offset)
            self._load_epochs().truncate_from_end(end_offset)
            self._snapshot_position = min(self._snapshot_position, self._active.size)
            self._producers_are_loaded = False
            self._load_producers()
        except OSError as error:
            raise self.fail(error) from error
        return True

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """Drops everything; the log goes on at `offset`. Raises StorageError."""
        self._check_online()
        try:
            self._start_over_at(offset, log_start_offset)
        except OSError as error:
            raise self.fail(error) from error

    def _start_over_at(self, offset: int, log_start_offset: int | None = None) -> None:
        self._truncations += 1
        logger.info("%s: dropping all segments, starting over at offset %d", self._name, offset)
        # The old files go first: one of them may have the name of the new one.
        removed = list(self._segments)
        self._delete_files(removed)
        segment = Segment.create(self._files, self.directory, offset, now_ms=self._clock.now_ms())
        self._configure(segment)
        self._segments.replace_all(segment)
        self._active = segment
        self._has_aborted = False
        self._directory_is_dirty = True
        self._snapshot_position = 0
        self.log_end_offset = offset
        self.log_start_offset = offset if log_start_offset is None else log_start_offset
        self.recovery_point = min(self.recovery_point, offset)
        if self.high_watermark is not None:
            self.high_watermark = min(self.high_watermark, offset)
        self._load_epochs().clear()
        self._latest_epoch = None
        self._producers.truncate_fully_and_start_at(offset)
        self._producers_are_loaded = True

    # ----- ending

    def close(self, *, sync: bool = True) -> None:
        """Leaves the directory as a clean restart wants it: indexes, epochs and producers written. Raises StorageError.

        Args:
            sync: whether to wait until all of it is on the disk, without which no clean shutdown may be claimed.
        """
        if self._failure is not None:
            self.retire()
            return
        try:
            active = self._active
            active.write_indexes()
            if self._producers_are_loaded:
                self._producers.map_end_offset = self.log_end_offset
                self._take_snapshot()
            if sync and self._end_when_synced != (self.log_end_offset, self._truncations):
                flush = self.start_flush() or Flush(self._files, self.log_end_offset, self._truncations)
                flush.paths += [
                    *self._unsynced_paths,
                    active.offset_index.entries.file.path,
                    active.time_index.entries.file.path,
                ]
                flush.directory = self.directory
                try:
                    flush.run()
                finally:
                    self.finish_flush(flush)
            epochs = self._epochs
            if epochs is not None and epochs.is_dirty:
                self._files.replace_file(self.directory / LEADER_EPOCHS_FILE_NAME, epochs.encode(), sync=sync)
                epochs.is_dirty = False
        except OSError as error:
            raise self.fail(error) from error
        finally:
            self.retire()

    def retire(self) -> None:
        """Closes the files, but for regions on their way to a socket.

        Whoever still holds the log gets StorageError from then on; `on_failure` is not told, since nothing failed.
        """
        for segment in self._segments:
            segment.detach()
        if self._failure is None:
            self._failure = StorageError(f"the log in {self.directory} is closed")


def _list_bases(segments: list[Segment]) -> str:
    return ", ".join(str(segment.base_offset) for segment in segments)

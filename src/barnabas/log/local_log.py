"""The segments of one partition on one disk: what a log is before anybody knows of producers and epochs.

`PartitionLog` builds on it. Here: offsets, settings, failure, reading, search by time, deletion of old segments.

Source: `LocalLog` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import DecodeError, DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.log.producer_snapshot import snapshot_file_name
from barnabas.log.recovery import recover_segment
from barnabas.log.segment import Segment, roll_jitter_ms
from barnabas.log.segments import Segments, rename_to_deleted
from barnabas.log.transaction_repair import rebuild_transaction_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from barnabas.clock import Clock
    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Files, FileSlice
    from barnabas.log.loading import LoadedLog
    from barnabas.log.transaction_index import AbortedTransaction

__all__ = ["LocalLog", "ReadResult"]

logger = logging.getLogger(__name__)

_new = tuple.__new__


class ReadResult(NamedTuple):
    """What a read found.

    `region` is None if there was nothing to read; whoever gets it releases it. It holds no record at or above `end_offset`.
    `is_in_older_segment` says that `up_to_offset` is in a later segment, so that nothing is appended behind it.
    """

    region: FileSlice | None
    end_offset: int
    is_in_older_segment: bool


class LocalLog:
    """The segments of one partition; see the module.

    Attributes:
        directory: where the files lie; whoever renames it calls `retire` before and sets it after.
        log_start_offset: the first offset that can be read.
        log_end_offset: the offset that the next record gets.
        on_other_end: called when the log turns out on first use not to end where it was closed.
        produce_limits: those of the settings.
        recovery_point: everything below is on the disk.
    """

    __slots__ = (
        "_active",
        "_clock",
        "_config",
        "_failure",
        "_files",
        "_has_aborted",
        "_name",
        "_on_failure",
        "_schedule_deletion",
        "_segments",
        "directory",
        "log_end_offset",
        "log_start_offset",
        "on_other_end",
        "produce_limits",
        "recovery_point",
    )

    def __init__(
        self,
        name: str,
        directory: Path,
        config: LogConfig,
        files: Files,
        clock: Clock,
        loaded: LoadedLog,
        *,
        schedule_deletion: Callable[[list[Path], int], None] | None,
        on_failure: Callable[[Any, StorageError], None] | None,
    ) -> None:
        self._name = name
        self.directory = directory
        self.log_start_offset = loaded.log_start_offset
        self.log_end_offset = loaded.log_end_offset
        self.recovery_point = loaded.recovery_point
        self._files = files
        self._clock = clock
        self._schedule_deletion = schedule_deletion or self._delete_now
        self._on_failure = on_failure
        self._failure: StorageError | None = None
        self.on_other_end: Callable[[], None] | None = None
        self._segments = Segments(loaded.segments)
        self._active = self._segments.active
        self._has_aborted = any(not segment.transaction_index.is_empty for segment in self._segments)
        self.config = config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} {self.log_start_offset}..{self.log_end_offset}>"

    # ----- what it is

    @property
    def config(self) -> LogConfig:
        """The topic's settings; a new one counts at once."""
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self.produce_limits = config.produce_limits
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

    @property
    def segments(self) -> list[Segment]:
        """The segments, oldest first; not to be changed."""
        return self._segments.in_order

    def segment_after(self, segment: Segment) -> Segment | None:
        """The next one."""
        return self._segments.after(segment)

    def segment_base_offsets(self) -> list[int]:
        """Where the segments begin, rising."""
        return self._segments.base_offsets

    @property
    def segments_in_order(self) -> list[Segment]:
        """The segments, oldest first; the last one is the active one. They belong to the log: only to be looked at."""
        return self._segments.in_order

    def move_to(self, directory: Path) -> None:
        """The log's directory has this name from now on; what is open stays open."""
        self.directory = directory
        for segment in self._segments:
            segment.directory = directory
            for file in (
                segment.file,
                segment.offset_index.entries.file,
                segment.time_index.entries.file,
                segment.transaction_index.file,
            ):
                file.location = directory / file.path.name

    # ----- failure

    @property
    def is_offline(self) -> bool:
        """Whether the disk failed under it, or it is closed."""
        return self._failure is not None

    def fail(self, error: OSError) -> StorageError:
        """Takes the log offline, unless its disk is merely full; returns what is to be raised."""
        if isinstance(error, DiskFullError):
            if self._on_failure is not None:
                self._on_failure(self, error)
            return error
        if self._failure is None:
            if not isinstance(error, StorageError):
                error = StorageError(f"log directory {self.directory} failed: {error}")
            self._failure = error
            if self._on_failure is not None:
                self._on_failure(self, error)
        return self._failure

    def check_online(self) -> None:
        """Raises StorageError if the disk failed under the log, or it is closed."""
        self._check_online()

    def _check_online(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ----- the active segment

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
            self._end_is_another()

    def _end_is_another(self) -> None:
        if self.on_other_end is not None:
            self.on_other_end()

    def _add_segment(self, base_offset: int, now_ms: int) -> None:
        """Begins a new active segment; the one before gets the last entries of its indexes.

        On a full disk everything stays as it was.
        """
        self._active.write_indexes()
        segment = Segment.create(self._files, self.directory, base_offset, now_ms=now_ms)
        self._active.become_inactive()
        if self._config.preallocate:
            self._give_back_room()
            self._files.reserve(segment.file, self._config.segment_bytes)
        self._configure(segment)
        self._segments.add(segment)
        self._active = segment

    def _give_back_room(self) -> None:
        """What was reserved for the active segment and is not needed."""
        self._files.truncate(self._active.file, self._active.size)

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
                return ReadResult(None, start_offset, is_in_older_segment=False)
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
        return ReadResult(None, start_offset, is_in_older_segment=False)

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
        is_in_older_segment = False
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
                is_in_older_segment = True
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
            return ReadResult(None, end_offset, is_in_older_segment)
        is_warm = segment.is_recent(position, self._clock.now_ms())
        region = self._files.region(segment.file, position, size, is_warm=is_warm)
        return _new(ReadResult, (region, end_offset, is_in_older_segment))

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
        found = self.aborted_between(start_offset, end_offset)
        return [(transaction.producer_id, transaction.first_offset) for transaction in found]

    def aborted_between(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """The aborted transactions that have records between two offsets, or their marker. Raises StorageError."""
        found: list[AbortedTransaction] = []
        try:
            for segment in self._segments.starting_at(start_offset):
                try:
                    is_complete = segment.transaction_index.collect(start_offset, end_offset, found)
                except DecodeError:
                    self._rebuild_transaction_index(segment)
                    is_complete = segment.transaction_index.collect(start_offset, end_offset, found)
                if is_complete:
                    break
        except OSError as error:
            raise self.fail(error) from error
        return found

    def _note_aborted(self, transaction: AbortedTransaction) -> None:
        """An aborted transaction's marker was written to the active segment."""
        try:
            self._active.transaction_index.append(transaction)
        except DecodeError:
            self._rebuild_transaction_index(self._active)
        self._has_aborted = True

    def _rebuild_transaction_index(self, segment: Segment) -> None:
        base_offset = segment.base_offset
        earlier = [each for each in self._segments if each.base_offset < base_offset]
        rebuild_transaction_index(segment, earlier, self.directory / snapshot_file_name(base_offset))

    # ----- timestamps

    def offset_for_timestamp(
        self, timestamp_ms: int, *, may_block: bool = True
    ) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record with this timestamp or a later one; None if none has.

        May decompress a batch. Raises KafkaError (CORRUPT_MESSAGE), StorageError, or ColdRead where `may_block` is False.
        """
        self._check_online()
        try:
            self._load_end()
            for segment in self._segments:
                if segment.size and segment.max_timestamp.timestamp_ms >= timestamp_ms:
                    found = segment.find_timestamp(timestamp_ms, self.log_start_offset, wait=may_block)
                    if found is not None:
                        return found
        except OSError as error:
            raise self.fail(error) from error
        return None

    def offset_of_max_timestamp(self, *, may_block: bool = True) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record with the highest timestamp; None if none has one.

        Raises as `offset_for_timestamp`.
        """
        self._check_online()
        try:
            self._load_end()
            latest = max(self._segments, key=lambda segment: segment.max_timestamp.timestamp_ms)
            return latest.find_max_timestamp(wait=may_block)
        except OSError as error:
            raise self.fail(error) from error

    # ----- deleting

    def _delete_files(self, removed: list[Segment], others: list[Path]) -> None:
        """Has the files of segments deleted that were taken out of the log, and other ones that belong to them."""
        paths: list[Path] = []
        for segment in removed:
            paths += rename_to_deleted(self._files, segment)
        self._has_aborted = any(not segment.transaction_index.is_empty for segment in self._segments)
        self._schedule_deletion(paths + others, self._config.file_delete_delay_ms)

    def _delete_now(self, paths: list[Path], delay_ms: int) -> None:
        del delay_ms
        for path in paths:
            self._files.delete(path)

    def retire(self) -> None:
        """Closes the files, but for regions on their way to a socket.

        Whoever still holds the log gets StorageError from then on; `on_failure` is not told, since nothing failed.
        """
        for segment in self._segments:
            segment.detach()
        if self._failure is None:
            self._failure = StorageError(f"the log in {self.directory} is closed")

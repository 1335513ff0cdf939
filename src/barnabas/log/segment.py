"""A segment: one file of record batches, and its indexes.

The file is batch after batch, nothing between them. Offsets rise; after compaction there are gaps. The indexes are
sparse (see their modules): to find an offset, the last index entry before it is looked up and the headers from there on
are walked.

The newest batches of the active segment are remembered with their positions, since most consumers read just there: such
a read costs no look at any file.

Source: `LogSegment` of Apache Kafka 4.3.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import zlib
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, DiskFullError, ErrorCode, KafkaError
from barnabas.log.batch_scan import scan_headers
from barnabas.log.file_names import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    segment_file_name,
)
from barnabas.log.offset_index import ENTRY_SIZE as OFFSET_ENTRY_SIZE
from barnabas.log.offset_index import OffsetIndex
from barnabas.log.time_index import ENTRY_SIZE as TIME_ENTRY_SIZE
from barnabas.log.time_index import NO_TIMESTAMP, TimeIndex, TimestampOffset
from barnabas.log.transaction_index import TransactionIndex
from barnabas.records.batch import HEADER_SIZE, MAGIC, BatchHeader, parse_header
from barnabas.records.record import iterate_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from barnabas.config.topic import LogConfig
    from barnabas.log.files import Entry, File, Files

__all__ = ["BatchPlace", "Segment", "roll_jitter_ms"]

logger = logging.getLogger(__name__)

MAX_RELATIVE_OFFSET = 2**31 - 1
SCAN_BYTES = 8192
TAIL_BATCHES = 64
"""How many of the newest batches are remembered with their positions; half of them are dropped at a time."""

RECENT_MS = 10_000

# Base offset, batch length, last offset delta of a batch header.
_PLACE = struct.Struct(">qi11xi")
_SMALLEST_LENGTH = 49

_new = tuple.__new__


class BatchPlace(NamedTuple):
    """Where a batch lies in its segment's file."""

    position: int
    size: int


class Segment:
    """One segment of a log; see the module.

    Attributes:
        base_offset: the first offset that it can hold.
        size: bytes of batches.
        index_interval_bytes: `index.interval.bytes`.
        next_offset: the offset after its last batch; only kept up for the active segment, and only from `load_end`,
            the first append or recovery on.
    """

    __slots__ = (
        "_first_timestamp_ms",
        "_max_timestamp",
        "_offset_entries_max",
        "_roll_after_ms",
        "_roll_bytes",
        "_sure_bytes",
        "_sure_offset",
        "_sure_timestamp_ms",
        "_tail_ends",
        "_tail_floor",
        "_tail_positions",
        "_time_entries_max",
        "_unindexed_bytes",
        "base_offset",
        "created_ms",
        "directory",
        "end_is_loaded",
        "file",
        "files",
        "index_interval_bytes",
        "modified_ms",
        "next_offset",
        "offset_index",
        "size",
        "time_index",
        "transaction_index",
    )

    def __init__(
        self,
        files: Files,
        directory: Path,
        base_offset: int,
        *,
        file: File,
        entries: Mapping[str, Entry],
        now_ms: int,
        suffix: str = "",
    ) -> None:
        self.files = files
        self.directory = directory
        self.base_offset = base_offset
        self.file = file
        entry = entries.get(LOG_SUFFIX)
        self.size = entry.size if entry else 0
        self.modified_ms = entry.modified_ms if entry else now_ms
        self.created_ms = now_ms
        self.next_offset = base_offset
        self.end_is_loaded = self.size == 0

        def size_of(suffix: str) -> int | None:
            found = entries.get(suffix)
            return found.size if found else None

        # Thousands of these are made when a broker starts, and joining `Path`s is most of what that would cost.
        stem = f"{directory}{os.sep}{base_offset:020d}"
        self.offset_index = OffsetIndex(
            files, stem + INDEX_SUFFIX + suffix, base_offset, size=size_of(INDEX_SUFFIX)
        )
        self.time_index = TimeIndex(
            files, stem + TIME_INDEX_SUFFIX + suffix, base_offset, size=size_of(TIME_INDEX_SUFFIX)
        )
        self.transaction_index = TransactionIndex(
            files,
            stem + TRANSACTION_INDEX_SUFFIX + suffix,
            base_offset,
            size=size_of(TRANSACTION_INDEX_SUFFIX),
        )
        self._max_timestamp: TimestampOffset | None = None
        self._first_timestamp_ms: int | None = None
        self._unindexed_bytes = 0
        self._tail_ends: array[int] = array("q")
        self._tail_positions: array[int] = array("q")
        self._tail_floor = base_offset
        self._roll_bytes = self._roll_after_ms = self.index_interval_bytes = MAX_RELATIVE_OFFSET
        self._offset_entries_max = self._time_entries_max = MAX_RELATIVE_OFFSET
        # Up to this size, timestamp and offset, a batch belongs here without a further look.
        self._sure_bytes = self._sure_timestamp_ms = self._sure_offset = -1

    @classmethod
    def create(
        cls, files: Files, directory: Path, base_offset: int, *, now_ms: int, suffix: str = ""
    ) -> Segment:
        """A new, empty segment, `suffix` being added to the names of its files; raises StorageError."""
        file = files.create(directory / (segment_file_name(base_offset, LOG_SUFFIX) + suffix))
        return cls(files, directory, base_offset, file=file, entries={}, now_ms=now_ms, suffix=suffix)

    @classmethod
    def open(
        cls, files: Files, directory: Path, base_offset: int, *, entries: Mapping[str, Entry], now_ms: int
    ) -> Segment:
        """The segment of these files (suffix to directory entry); reads nothing."""
        file = files.handle(f"{directory}{os.sep}{base_offset:020d}{LOG_SUFFIX}")
        return cls(files, directory, base_offset, file=file, entries=entries, now_ms=now_ms)

    def __repr__(self) -> str:
        return f"<Segment {self.file.path} {self.size} bytes>"

    def configure(self, config: LogConfig, jitter_ms: int) -> None:
        """Takes over the settings that decide when to roll and how dense the indexes are.

        `jitter_ms` is taken off `segment.ms`, so that many logs do not roll together (`roll_jitter_ms`).
        """
        self._roll_bytes = config.segment_bytes
        self._roll_after_ms = config.roll_after_ms - jitter_ms
        self.index_interval_bytes = config.index_interval_bytes
        self._offset_entries_max = config.segment_index_bytes // OFFSET_ENTRY_SIZE
        # The last entry of a time index is reserved for the one that is written when the segment is rolled.
        self._time_entries_max = config.segment_index_bytes // TIME_ENTRY_SIZE - 1
        self._sure_bytes = -1

    # ----- appending

    def should_roll(self, size: int, max_timestamp_ms: int, last_offset: int, now_ms: int) -> bool:
        """Whether batches of `size` bytes up to `last_offset` belong into the next segment.

        For want of room (size, indexes, relative offsets), or because the segment is `segment.ms` old: by the timestamps of
        the records, between its first batch and these; by the clock if those have none.
        """
        if last_offset - self.base_offset > MAX_RELATIVE_OFFSET:
            return True
        if self.size == 0:
            return False
        first_ms = self._first_timestamp_ms
        if first_ms is None:
            first_ms = self._load_first_timestamp()
        age_ms = max_timestamp_ms - first_ms if first_ms >= 0 else now_ms - self.created_ms
        return (
            self.size + size > self._roll_bytes
            or age_ms > self._roll_after_ms
            or self.offset_index.entries.count >= self._offset_entries_max
            or self.time_index.entries.count >= self._time_entries_max
        )

    def _load_first_timestamp(self) -> int:
        header = parse_header(self.files.read_at(self.file, 0, 61))
        self._first_timestamp_ms = header.max_timestamp
        return header.max_timestamp

    def append_if_sure(
        self,
        records: bytes | bytearray | memoryview,
        size: int,
        last_offset: int,
        max_timestamp_ms: int,
        now_ms: int,
    ) -> bool:
        """The short way for one batch that surely belongs into this segment, and needs no entry in an index.

        The arguments are those of `append` and `should_roll`.

        Returns:
            Whether that was so; otherwise nothing was done.

        Raises:
            StorageError: nothing was appended.
        """
        position = self.size
        end = position + size
        if (
            end > self._sure_bytes
            or max_timestamp_ms > self._sure_timestamp_ms
            or last_offset > self._sure_offset
            or self._unindexed_bytes > self.index_interval_bytes
        ):
            return False
        try:
            self.files.write_at(self.file, position, records, size)
        except DiskFullError as error:
            self._on_full(error)
            raise
        self.size = end
        self.modified_ms = now_ms
        self._unindexed_bytes += size
        highest = self._max_timestamp
        assert highest is not None  # since `append` has been here
        if max_timestamp_ms > highest.timestamp_ms:
            self._max_timestamp = _new(TimestampOffset, (max_timestamp_ms, last_offset))
        ends = self._tail_ends
        self.next_offset = last_offset + 1
        ends.append(last_offset + 1)
        self._tail_positions.append(position)
        if len(ends) > TAIL_BATCHES:
            self._shorten_tail()
        return True

    def append(
        self,
        records: bytes | bytearray | memoryview,
        size: int,
        headers: Sequence[BatchHeader],
        first_offset: int | None,
        now_ms: int,
    ) -> None:
        """Writes whole batches at the end, in one write.

        Args:
            records: the batches, with their offsets, in `size` bytes.
            size: `len(records)`.
            headers: of each batch.
            first_offset: what the base offsets begin with, if they are not yet in `headers`; None if they are.
            now_ms: the wall clock.

        Raises:
            StorageError: nothing was appended.
        """
        position = self.size
        try:
            self.files.write_at(self.file, position, records, size)
        except DiskFullError as error:
            self._on_full(error)
            raise
        if position == 0:
            self._first_timestamp_ms = headers[0].max_timestamp
        next_offset = first_offset
        interval = self.index_interval_bytes
        ends = self._tail_ends
        max_timestamp = self._max_timestamp
        if max_timestamp is None:
            max_timestamp = self._load_max_timestamp()
        for header in headers:
            last_offset = (
                header.base_offset if next_offset is None else next_offset
            ) + header.last_offset_delta
            if header.max_timestamp > max_timestamp.timestamp_ms:
                max_timestamp = self._max_timestamp = _new(
                    TimestampOffset, (header.max_timestamp, last_offset)
                )
            if self._unindexed_bytes > interval:
                self.offset_index.append(last_offset, position)
                self.time_index.maybe_append(*max_timestamp)
                self._unindexed_bytes = 0
            batch_size = header.batch_length + 12
            self._unindexed_bytes += batch_size
            ends.append(last_offset + 1)
            self._tail_positions.append(position)
            position += batch_size
            if next_offset is not None:
                next_offset = last_offset + 1
        self.size = position
        self.next_offset = ends[-1]
        self.modified_ms = now_ms
        if len(ends) > TAIL_BATCHES:
            self._shorten_tail()
        self._be_sure()

    def _be_sure(self) -> None:
        """Notes up to where `append_if_sure` need not ask `should_roll`."""
        first_ms = self._first_timestamp_ms
        if (
            first_ms is not None
            and first_ms >= 0
            and self.offset_index.entries.count < self._offset_entries_max
            and self.time_index.entries.count < self._time_entries_max
        ):
            self._sure_bytes = self._roll_bytes
            self._sure_timestamp_ms = first_ms + self._roll_after_ms
            self._sure_offset = self.base_offset + MAX_RELATIVE_OFFSET
        else:
            self._sure_bytes = -1

    def _on_full(self, error: DiskFullError) -> None:
        if error.errno == errno.EFBIG:
            self._roll_bytes = 0  # the limit is that of a file, not of the disk: the next one has room
            self._sure_bytes = -1

    def _shorten_tail(self) -> None:
        ends = self._tail_ends
        dropped = len(ends) - TAIL_BATCHES // 2
        self._tail_floor = ends[dropped - 1]
        del ends[:dropped]
        del self._tail_positions[:dropped]

    # ----- finding

    def locate(self, offset: int, *, wait: bool = True) -> BatchPlace | None:
        """The first batch that ends at `offset` or later; None if all end before.

        Raises:
            KafkaError: CORRUPT_MESSAGE, where there should be a batch and is none.
            ColdRead: `wait` is False, and an index entry or header is not in the page cache.
        """
        ends = self._tail_ends
        if ends and offset >= self._tail_floor:
            index = bisect_right(ends, offset)
            if index == len(ends):
                return None
            positions = self._tail_positions
            position = positions[index]
            index += 1
            end = positions[index] if index < len(positions) else self.size
            return BatchPlace(position, end - position)
        return self._scan(offset, self._indexed_position(offset, wait=wait), wait=wait)

    def _indexed_position(self, offset: int, *, wait: bool) -> int:
        """Where to begin to look for `offset`: a batch begins there. An index that says otherwise is made anew."""
        position = self.offset_index.lookup(offset, wait=wait)
        if position and not self._begins_batch(position, offset, wait=wait):
            self._rebuild_offset_index()
            position = self.offset_index.lookup(offset, wait=wait)
        return position

    def _begins_batch(self, position: int, offset: int, *, wait: bool) -> bool:
        """Whether a batch begins at `position`, of offsets up to `offset`, as the index says; it has no checksum."""
        if not 0 < position <= self.size - HEADER_SIZE:
            return False
        header = parse_header(self.files.read_at(self.file, position, HEADER_SIZE, wait=wait))
        return (
            header.magic == MAGIC
            and self.base_offset <= header.base_offset <= offset
            and _SMALLEST_LENGTH <= header.batch_length <= self.size - position
        )

    def _rebuild_offset_index(self) -> None:
        """Makes the offset index anew from the batches' headers."""
        logger.warning(
            "%s is damaged: rebuilt from the batches of its segment", self.offset_index.entries.file.path
        )
        self.offset_index.clear()
        indexed = 0
        with contextlib.suppress(DecodeError):  # the segment is damaged, too: no entries beyond
            for position, header in self.headers():
                if position - indexed > self.index_interval_bytes:
                    self.offset_index.append(header.last_offset, position)
                    indexed = position
        self.offset_index.entries.write()

    def _scan(self, offset: int, position: int, *, wait: bool) -> BatchPlace | None:
        size = self.size
        unpack = _PLACE.unpack_from
        while position < size:
            chunk = self.files.read_at(self.file, position, min(SCAN_BYTES, size - position), wait=wait)
            limit = len(chunk) - _PLACE.size
            at = 0
            while at <= limit:
                base_offset, length, last_offset_delta = unpack(chunk, at)
                if length < _SMALLEST_LENGTH:
                    break
                if base_offset + last_offset_delta >= offset:
                    if position + at + length + 12 > size:
                        raise KafkaError(
                            ErrorCode.CORRUPT_MESSAGE,
                            f"{self.file.path} ends within the record batch at position {position + at}",
                        )
                    return BatchPlace(position + at, length + 12)
                at += length + 12
            if at == 0:
                raise KafkaError(
                    ErrorCode.CORRUPT_MESSAGE, f"{self.file.path} has no record batch at position {position}"
                )
            position += at
        return None

    def is_recent(self, position: int, now_ms: int) -> bool:
        """Whether what lies at `position` was appended so lately that it is sure to be in the page cache.

        By the wall clock, which costs nothing here: if that was set back, the answer is no.
        """
        positions = self._tail_positions
        return len(positions) > 0 and position >= positions[0] and 0 <= now_ms - self.modified_ms < RECENT_MS

    def headers(self, position: int = 0, *, wait: bool = True) -> Iterator[tuple[int, BatchHeader]]:
        """Position and header of each batch from `position`, where one begins; DecodeError where there is none."""
        return scan_headers(self.files, self.file, position, self.size, wait=wait)

    def load_end(self, *, wait: bool = True) -> int:
        """The offset after the last batch, for a segment that was opened: walks what the index does not cover.

        Raises:
            DecodeError: the file does not end with a whole batch, or the index does not fit it.
            ColdRead: `wait` is False, and something is not in the page cache.
        """
        if self.end_is_loaded:
            return self.next_offset
        indexed = self.offset_index.last(wait=wait)
        start = indexed[1] if indexed else 0
        if not 0 <= start < self.size:
            raise DecodeError(f"{self.file.path} has no position {start}, of which its index speaks")
        max_timestamp = self.time_index.last(wait=wait)
        next_offset = self.base_offset
        ends: array[int] = array("q")
        positions: array[int] = array("q")
        floor = self.base_offset
        for position, header in self.headers(start, wait=wait):
            if not ends:
                floor = header.base_offset
                # Apache Kafka before 4.0 notes the last offset of all batches that were appended together.
                if indexed and (start == 0 or indexed[0] < header.last_offset):
                    raise DecodeError(
                        f"{self.file.path} has another batch at position {start} than its index says"
                    )
            if header.base_offset < next_offset:
                raise DecodeError(
                    f"{self.file.path} goes back to offset {header.base_offset} at position {position}"
                )
            next_offset = header.next_offset
            ends.append(next_offset)
            positions.append(position)
            if header.max_timestamp > max_timestamp.timestamp_ms:
                max_timestamp = TimestampOffset(header.max_timestamp, header.last_offset)
        if not ends:
            raise DecodeError(f"{self.file.path} ends before the position {start} that its index speaks of")
        if len(ends) > TAIL_BATCHES:
            dropped = len(ends) - TAIL_BATCHES // 2
            floor = ends[dropped - 1]
            del ends[:dropped], positions[:dropped]
        self.set_end(next_offset, max_timestamp, self.size - start)
        self._tail_ends = ends
        self._tail_positions = positions
        self._tail_floor = floor
        return next_offset

    def set_end(self, next_offset: int, max_timestamp: TimestampOffset, unindexed_bytes: int) -> None:
        """What a walk to the end of the file found."""
        self.next_offset = next_offset
        self._max_timestamp = max_timestamp
        self._unindexed_bytes = unindexed_bytes
        self._sure_bytes = -1
        self.end_is_loaded = True
        self._forget_tail(next_offset)

    def _forget_tail(self, floor: int) -> None:
        self._tail_ends = array("q")
        self._tail_positions = array("q")
        self._tail_floor = floor

    # ----- timestamps

    def _load_max_timestamp(self) -> TimestampOffset:
        self._max_timestamp = self.time_index.last()
        return self._max_timestamp

    @property
    def max_timestamp(self) -> TimestampOffset:
        """The highest timestamp and the last offset of its batch; NO_TIMESTAMP if no record has one."""
        return self._max_timestamp or self._load_max_timestamp()

    @property
    def first_timestamp_ms(self) -> int:
        """The highest timestamp of the first batch, -1 if there is none; may read its header."""
        if self._first_timestamp_ms is None:
            return self._load_first_timestamp() if self.size else NO_TIMESTAMP
        return self._first_timestamp_ms

    @property
    def largest_timestamp_ms(self) -> int:
        """How old the segment is for retention: its highest timestamp, or else the time of its last append."""
        timestamp_ms = self.max_timestamp.timestamp_ms
        return timestamp_ms if timestamp_ms >= 0 else self.modified_ms

    def find_timestamp(
        self, timestamp_ms: int, start_offset: int, *, wait: bool = True
    ) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record from `start_offset` with this timestamp or a later one.

        Raises:
            KafkaError: CORRUPT_MESSAGE.
            ColdRead: `wait` is False, and something is not in the page cache.
        """
        known = self.time_index.lookup(timestamp_ms, wait=wait)
        position = self._indexed_position(max(known.offset, start_offset), wait=wait)
        for place, header in self._headers_checked(position, wait=wait):
            if header.max_timestamp >= timestamp_ms and header.last_offset >= start_offset:
                for offset, timestamp in self._timestamps(place, header, wait=wait):
                    if timestamp >= timestamp_ms and offset >= start_offset:
                        return offset, timestamp, header.partition_leader_epoch
        return None

    def find_max_timestamp(self, *, wait: bool = True) -> tuple[int, int, int] | None:
        """Offset, timestamp and leader epoch of the first record with the highest timestamp; None if there is none.

        Raises as `find_timestamp`.
        """
        highest = self.max_timestamp
        if highest.timestamp_ms < 0:
            return None
        position = self._indexed_position(highest.offset, wait=wait)
        for place, header in self._headers_checked(position, wait=wait):
            if header.max_timestamp == highest.timestamp_ms:
                if header.is_log_append_time:
                    return header.last_offset, header.max_timestamp, header.partition_leader_epoch
                for offset, timestamp in self._timestamps(place, header, wait=wait):
                    if timestamp == header.max_timestamp:
                        return offset, timestamp, header.partition_leader_epoch
        return None

    def _headers_checked(self, position: int, *, wait: bool) -> Iterator[tuple[int, BatchHeader]]:
        try:
            yield from self.headers(position, wait=wait)
        except DecodeError as error:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error

    def _timestamps(self, position: int, header: BatchHeader, *, wait: bool) -> Iterator[tuple[int, int]]:
        batch = self.files.read_at(self.file, position, header.size_bytes, wait=wait)
        try:
            for record in iterate_batch(batch, 0, header):
                yield record.offset, record.timestamp
        except DecodeError as error:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"{self.file.path} has a damaged batch at position {position}: {error}",
            ) from error

    # ----- ending

    def become_inactive(self) -> None:
        """The log goes on in the next segment: the indexes get their last entries and are written."""
        self.write_indexes()
        self.offset_index.entries.retire()
        self.time_index.entries.retire()
        self._forget_tail(MAX_RELATIVE_OFFSET + self.base_offset + 1)

    def write_indexes(self) -> None:
        """Brings the index files up to date, as a clean restart needs them."""
        if self._max_timestamp is not None:  # else nothing was appended since it was opened
            self.time_index.maybe_append(*self._max_timestamp)
        self.offset_index.entries.write()
        self.time_index.entries.write()
        self.transaction_index.write()

    def truncate_to(self, offset: int) -> int:
        """Drops the batch that holds `offset` and all after it; returns the offset after what is left.

        That is `offset`, or less where `offset` was within a batch or in a gap, just as a restart would find it.
        """
        self.load_end()
        place = self.locate(offset)
        if place is None:
            return self.next_offset
        self.offset_index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.transaction_index.drop_damaged()
        self.transaction_index.truncate_to(offset)
        self.files.truncate(self.file, place.position)
        self.size = place.position
        self._max_timestamp = None
        if self.size == 0:
            self._first_timestamp_ms = None
            self.set_end(self.base_offset, TimestampOffset(NO_TIMESTAMP, self.base_offset), 0)
        else:
            self.end_is_loaded = False
            self._forget_tail(self.base_offset)
            self.load_end()
        return self.next_offset

    def paths(self) -> list[Path]:
        """Its files, those that exist."""
        return [
            path
            for path in (
                self.file.path,
                self.offset_index.entries.file.path,
                self.time_index.entries.file.path,
                self.transaction_index.file.path,
            )
            if self.files.exists(path)
        ]

    def detach(self) -> None:
        """Closes its files, but for those that somebody still sends from; it is not used after that."""
        for file in (
            self.file,
            self.offset_index.entries.file,
            self.time_index.entries.file,
            self.transaction_index.file,
        ):
            self.files.detach(file)


def roll_jitter_ms(config: LogConfig, log_name: str, base_offset: int) -> int:
    """What is taken off `segment.ms` for one segment: spread over `segment.jitter.ms`, the same at every start."""
    limit_ms = min(config.segment_jitter_ms, config.segment_ms)
    return zlib.crc32(f"{log_name} {base_offset}".encode()) % limit_ms if limit_ms > 0 else 0

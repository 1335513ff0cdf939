"""A segment: every batch of its file, and its indexes against them.

Checked of a batch: that there is one, its size, magic, CRC, that offsets rise and stay within reach of the indexes, that its records
fit its offsets; of small ones also that the records are as many and have the offsets that the header says. Of an index entry: that
it names a batch, or a timestamp that nothing before it exceeds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.log.end_marker import read_end_marker
from barnabas.log.file_names import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    segment_file_name,
)
from barnabas.log.transaction_index import ENTRY_SIZE as TRANSACTION_ENTRY_SIZE
from barnabas.records.batch import ATTRIBUTES_POSITION, HEADER_SIZE, MAGIC, parse_header
from barnabas.records.checksum import crc32c
from barnabas.records.filtering import scan_keys
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from barnabas.log.end_marker import EndMarker
    from barnabas.log.files import File, Files
    from barnabas.log.verification.findings import Findings
    from barnabas.records.batch import BatchHeader

__all__ = ["CheckedSegment", "check_segment"]

PIECE_BYTES = 1 << 20
RECORDS_BYTES = 1 << 20
"""Batches up to this size have their records looked at."""

TRANSACTIONS_MAX = 1_000_000
"""How many transactions that have not ended are remembered, to compare them with the indexes."""

_INFLATED_BYTES = 16 << 20
_MAX_RELATIVE_OFFSET = 2**31 - 1
_SMALLEST_LENGTH = HEADER_SIZE - 12
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_TRANSACTION_ENTRY = struct.Struct(">hqqqq")


class CheckedSegment(NamedTuple):
    """The offset after the last sound batch, the bytes up to there, and whether that is all of the file."""

    next_offset: int
    valid_bytes: int
    is_whole: bool


def check_segment(
    files: Files,
    directory: Path,
    base_offset: int,
    findings: Findings,
    on_batch: Callable[[BatchHeader, EndMarker | None], None],
    unended: set[int],
    *,
    is_last: bool,
    is_clean: bool,
) -> CheckedSegment:
    """Checks one segment.

    Args:
        files: the disk.
        directory: the partition's.
        base_offset: the segment's.
        findings: where to tell.
        on_batch: called with each sound batch, in order.
        unended: the producers with records in a transaction that has not ended; it is kept up to date.
        is_last: whether it is the last segment, which a crash may have torn.
        is_clean: whether the broker stopped in order.

    Raises:
        OSError: a file cannot be read.
    """
    path = directory / segment_file_name(base_offset, LOG_SUFFIX)
    size = files.size(path)
    # After a crash the indexes of the last segment are made anew by the next start.
    indexes_count = is_clean or not is_last
    walk = _Walk(files, directory, base_offset, size, findings, unended, check_indexes=indexes_count)
    findings.segments += 1
    with files.opened(path) as file:
        next_offset, valid_bytes, fault = walk.run(file, path, on_batch)
    findings.bytes_read += valid_bytes
    if fault is not None:
        left = size - valid_bytes
        if is_last and not is_clean:
            findings.note(
                path, f"{fault}; a start cuts off the last {left} bytes and goes on at offset {next_offset}"
            )
        else:
            findings.problem(path, f"{fault}; {left} bytes from position {valid_bytes} on are not readable")
    elif indexes_count:
        walk.finish(next_offset)
    return CheckedSegment(next_offset, valid_bytes, fault is None)


class _Walk:
    """The walk through a segment, with its indexes beside it."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        base_offset: int,
        size: int,
        findings: Findings,
        unended: set[int],
        *,
        check_indexes: bool,
    ) -> None:
        self._files = files
        self._base_offset = base_offset
        self._size = size
        self._findings = findings
        self._check_indexes = check_indexes
        self._unended = unended
        self._offsets = _OffsetEntries(files, directory, base_offset, findings)
        self._times = _TimeEntries(files, directory, base_offset, findings)
        self._transactions = _TransactionEntries(files, directory, base_offset, findings)

    def run(
        self, file: File, path: Path, on_batch: Callable[[BatchHeader, EndMarker | None], None]
    ) -> tuple[int, int, str | None]:
        """Next offset, sound bytes, and what is wrong with what follows."""
        findings = self._findings
        next_offset = self._base_offset
        position = 0
        size = self._size
        piece = b""
        piece_at = 0
        while position < size:
            at = position - piece_at
            if len(piece) - at < HEADER_SIZE:
                piece = self._files.read_at(file, position, min(PIECE_BYTES, size - position))
                piece_at = position
                at = 0
                if len(piece) < HEADER_SIZE:
                    return (
                        next_offset,
                        position,
                        f"the file ends within a batch header at position {position}",
                    )
            header = parse_header(piece, at)
            fault = self._header_fault(header, position, next_offset)
            if fault is not None:
                return next_offset, position, fault
            batch_size = header.size_bytes
            if batch_size > len(piece) - at and batch_size <= PIECE_BYTES:
                piece = self._files.read_at(file, position, min(PIECE_BYTES, size - position))
                piece_at = position
                at = 0
            if batch_size <= PIECE_BYTES:
                batch = piece[at : at + batch_size]
                crc = crc32c(memoryview(batch)[ATTRIBUTES_POSITION:])
            else:
                batch = b""
                crc = self._crc_in_pieces(file, position, batch_size)
            if crc != header.crc:
                return next_offset, position, f"the batch at position {position} fails its checksum"
            marker = None
            try:
                if batch:
                    marker = _look_inside(batch, header)
            except DecodeError as error:
                findings.problem(
                    path, f"the records of the batch at position {position} contradict its header: {error}"
                )
            if self._check_indexes:
                self._offsets.on_batch(position, header)
                self._times.on_batch(header)
                self._transactions.on_batch(header, marker, header.producer_id in self._unended)
            self._note_transaction(header, marker)
            on_batch(header, marker)
            findings.batches += 1
            findings.records += header.record_count
            next_offset = header.next_offset
            position += batch_size
        return next_offset, position, None

    def _note_transaction(self, header: BatchHeader, marker: EndMarker | None) -> None:
        if marker is not None:
            self._unended.discard(header.producer_id)
        elif header.is_transactional and header.record_count and len(self._unended) < TRANSACTIONS_MAX:
            # Compaction leaves empty batches of what was aborted.
            self._unended.add(header.producer_id)

    def _header_fault(self, header: BatchHeader, position: int, next_offset: int) -> str | None:
        if header.magic != MAGIC or header.batch_length < _SMALLEST_LENGTH:
            return f"there is no record batch at position {position}"
        if header.size_bytes > self._size - position:
            return f"the file ends within the batch at position {position}"
        if header.base_offset < next_offset or header.last_offset_delta < 0:
            return (
                f"the batch at position {position} has the offsets {header.base_offset} to {header.last_offset} where "
                f"{next_offset} is due"
            )
        if header.last_offset - self._base_offset > _MAX_RELATIVE_OFFSET:
            return f"the batch at position {position} is out of the reach of the indexes"
        if not 0 <= header.record_count <= header.last_offset_delta + 1:
            return f"the batch at position {position} says that it has {header.record_count} records"
        return None

    def _crc_in_pieces(self, file: File, position: int, size: int) -> int:
        at = position + ATTRIBUTES_POSITION
        end = position + size
        crc = 0
        while at < end:
            data = self._files.read_at(file, at, min(PIECE_BYTES, end - at))
            if not data:
                break
            crc = crc32c(data, crc)
            at += len(data)
        return crc

    def finish(self, next_offset: int) -> None:
        """What the indexes say of batches that there are not."""
        self._offsets.finish(next_offset)
        self._times.finish(next_offset)
        self._transactions.finish(next_offset)


def _look_inside(batch: bytes, header: BatchHeader) -> EndMarker | None:
    """The end marker, if it is one; DecodeError if the records are not what the header says."""
    if header.record_count == 0 or header.size_bytes > RECORDS_BYTES:
        return None
    payload = uncompressed_records(batch, 0, header, limit_bytes=_INFLATED_BYTES)
    last = -1
    for offset_delta in scan_keys(payload, header.record_count).offset_deltas:
        if not last < offset_delta <= header.last_offset_delta:
            raise DecodeError(
                f"a record has offset {header.base_offset + offset_delta} after {header.base_offset + last}"
            )
        last = offset_delta
    return read_end_marker(header, batch) if header.is_control else None


class _Entries:
    """The entries of an index, one after the other."""

    suffix: str
    entry: struct.Struct

    def __init__(self, files: Files, directory: Path, base_offset: int, findings: Findings) -> None:
        self.path = directory / segment_file_name(base_offset, self.suffix)
        self.base_offset = base_offset
        self.findings = findings
        self.exists = files.exists(self.path)
        self._said = False
        self._entries = self._read(files)
        self.next: tuple[int, ...] | None = next(self._entries, None)

    def _read(self, files: Files) -> Iterator[tuple[int, ...]]:
        if not self.exists:
            return
        size = files.size(self.path)
        entry_size = self.entry.size
        if size % entry_size:
            self.say(f"has {size} bytes, not a multiple of {entry_size}")
        end = size - size % entry_size
        piece = PIECE_BYTES - PIECE_BYTES % entry_size
        with files.opened(self.path) as file:
            for at in range(0, end, piece):
                yield from self.entry.iter_unpack(files.read_at(file, at, min(piece, end - at)))

    def take(self) -> tuple[int, ...]:
        """The next entry."""
        taken = self.next
        assert taken is not None
        self.next = next(self._entries, None)
        return taken

    def say(self, text: str) -> None:
        """Tells of the first thing that is wrong with this file; a start makes it anew where that is possible."""
        if not self._said:
            self._said = True
            self.findings.problem(self.path, text)


class _OffsetEntries(_Entries):
    suffix = INDEX_SUFFIX
    entry = _OFFSET_ENTRY

    def on_batch(self, position: int, header: BatchHeader) -> None:
        while self.next is not None and self.next[1] <= position:
            relative, at = self.take()
            if at != position:
                self.say(f"has an entry for position {at}, where no batch begins")
            # Apache Kafka before 4.0 notes the last offset of all batches that were appended together.
            elif self.base_offset + relative < header.last_offset:
                self.say(
                    f"says that offset {self.base_offset + relative} lies at position {at}, where {header.last_offset} does"
                )

    def finish(self, next_offset: int) -> None:
        if self.next is not None and self.next != (0, 0):
            self.say(f"has an entry for position {self.next[1]}, behind the end of the segment")
        elif not self.exists and next_offset > self.base_offset:
            self.findings.note(self.path, "is missing; a start makes it anew")


class _TimeEntries(_Entries):
    suffix = TIME_INDEX_SUFFIX
    entry = _TIME_ENTRY

    def __init__(self, files: Files, directory: Path, base_offset: int, findings: Findings) -> None:
        super().__init__(files, directory, base_offset, findings)
        self._last = (-1, -1)

    def on_batch(self, header: BatchHeader) -> None:
        while self.next is not None and self.base_offset + self.next[1] < header.base_offset:
            self._check(self.take())
        if self.next is not None and self.next[0] < header.max_timestamp:
            offset = self.base_offset + self.next[1]
            if offset >= header.last_offset:
                self.say(
                    f"says that nothing up to offset {offset} is later than {self.next[0]}, but the batch at offset "
                    f"{header.base_offset} has {header.max_timestamp}"
                )

    def _check(self, entry: tuple[int, ...]) -> None:
        if entry[0] <= self._last[0] or entry[1] < self._last[1]:
            self.say(f"has entries that do not rise: {entry} after {self._last}")
        self._last = (entry[0], entry[1])

    def finish(self, next_offset: int) -> None:
        while self.next is not None:
            entry = self.take()
            if entry == (0, 0):
                break
            self._check(entry)
            if self.base_offset + entry[1] >= max(next_offset, self.base_offset + 1):
                self.say(
                    f"has an entry for offset {self.base_offset + entry[1]}, behind the end of the segment"
                )
        if not self.exists and next_offset > self.base_offset:
            self.findings.note(self.path, "is missing; a start makes it anew")


class _TransactionEntries(_Entries):
    suffix = TRANSACTION_INDEX_SUFFIX
    entry = _TRANSACTION_ENTRY

    def on_batch(self, header: BatchHeader, marker: EndMarker | None, has_records: bool) -> None:
        is_named = False
        while self.next is not None and self.next[3] <= header.last_offset:
            is_named |= self.next[3] == header.base_offset
            version, producer_id, first_offset, last_offset, _ = self.take()
            if version != 0 or first_offset > last_offset:
                self.say(f"has a damaged entry: version {version}, offsets {first_offset} to {last_offset}")
            elif last_offset != header.base_offset or marker is None or not marker.is_abort:
                self.say(
                    f"says that a transaction was aborted at offset {last_offset}, where no marker says so"
                )
            elif producer_id != header.producer_id:
                self.say(
                    f"names producer {producer_id} for the transaction that producer {header.producer_id} aborted at offset "
                    f"{last_offset}"
                )
        if marker is not None and marker.is_abort and has_records and not is_named:
            self.say(
                f"{'has no entry for' if self.exists else 'is missing: it should have'} the transaction that producer "
                f"{header.producer_id} aborted at offset {header.base_offset}, and readers are given its records"
            )

    def finish(self, next_offset: int) -> None:
        del next_offset
        if self.next is not None:
            self.say(f"has an entry for a marker at offset {self.next[3]}, behind the end of the segment")


assert _TRANSACTION_ENTRY.size == TRANSACTION_ENTRY_SIZE

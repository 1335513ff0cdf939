"""One pass over one log: the keys of its dirty segments are read, then its segments are written anew without what is old.

What goes, and what stays (`Cleaner` of Apache Kafka 4.3):

    a record                    goes if its key has a newer one below the offset up to which keys are known, or if it has no key
    a tombstone                 goes once its batch's delete horizon (KIP-534) has passed, which the first cleaning sets
    an aborted batch            goes at once
    an end marker               goes once its transaction's batches are gone and its delete horizon has passed
    a producer's last batch     stays, if only its header, so that the sequence number and the epoch survive
    the last batch of the pass  stays, if only its header, so that its offset survives

Nothing here knows of logs or of the event loop: files in, files out, in any thread or process.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.log.cleaning.batch_reader import BatchReader, Throttle
from barnabas.log.cleaning.key_reader import KeyReader
from barnabas.log.cleaning.offset_map import OffsetMap
from barnabas.log.cleaning.sieve import NOTHING, Sieve
from barnabas.log.cleaning.tasks import Cleaned, Indexed
from barnabas.log.cleaning.transactions import CleanedTransactions
from barnabas.log.end_marker import read_end_marker
from barnabas.log.file_names import (
    CLEANED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    segment_file_name,
)
from barnabas.log.segment import Segment
from barnabas.log.transaction_index import AbortedTransaction
from barnabas.records.batch import CONTROL_FLAG, HEADER_SIZE, LENGTH_END, parse_header
from barnabas.records.builder import build_empty_batch
from barnabas.records.compression import DEFAULT_LIMIT_BYTES
from barnabas.records.filtering import Filtered, set_delete_horizon

if TYPE_CHECKING:
    from barnabas.log.cleaning.tasks import Clean, Index, Source
    from barnabas.log.files import Files
    from barnabas.records.batch import BatchHeader

__all__ = ["CleaningPass"]

_SUFFIXES = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)


_HELD_BUFFERS = 4
"""How many buffers full of records are read at once."""
_MOST_WAITING = 2000


class CleaningPass:
    """See the module; made by `index`, which comes first.

    Args:
        files: the disk; handles are opened and closed here.
        task: what to read.
    """

    def __init__(self, files: Files, task: Index) -> None:
        self._files = files
        self._buffer_bytes = max(task.buffer_bytes, HEADER_SIZE)
        self._throttle = Throttle(task.bytes_per_second)
        self._map = OffsetMap(task.memory_bytes, task.load_factor)
        self._aborted = [AbortedTransaction(*fields) for fields in task.aborted]
        self._transactions = CleanedTransactions(self._aborted)
        self._start_offset = task.start_offset
        self._is_regular = False
        self._newest: array[int] | None = None

    # ----- reading the keys

    def index(self, task: Index) -> Indexed:
        """Reads the keys, until the segments end or the map is full.

        Raises:
            DecodeError: a segment is damaged.
            OSError: the disk failed.
        """
        transactions = CleanedTransactions(self._aborted)
        start_offset = task.start_offset
        directory = Path(task.directory)
        batches = self._reader(directory)
        reader = KeyReader(self._map, start_offset, most_bytes=_HELD_BUFFERS * self._buffer_bytes)
        records = read = 0
        for source in task.sources:
            first = 0
            if start_offset > source.base_offset:
                first = self._position_of(directory, source, start_offset)
            try:
                has_room = True
                for position, header, buffer, at in batches.read(source, first):
                    reader.position = position
                    read += header.batch_length + LENGTH_END
                    records += header.record_count
                    if header.attributes & CONTROL_FLAG:
                        transactions.on_control_batch(
                            header, read_end_marker(header, _cut(header, buffer, at))
                        )
                    elif (
                        not transactions.on_batch(header)
                        and header.record_count
                        and header.last_offset >= start_offset
                    ):
                        has_room = reader.add(header, buffer, at)
                        if not has_room:
                            break
                has_room = has_room and reader.finish()
            except DecodeError as error:
                raise batches.damaged(source, reader.position, error) from error
            if not has_room:
                break
            self._map.latest_offset = source.next_base_offset - 1
        self._is_regular = reader.is_regular
        return Indexed(self._map.latest_offset, self._map.utilization, records, read)

    def _reader(self, directory: Path) -> BatchReader:
        return BatchReader(self._files, directory, self._buffer_bytes, self._throttle)

    def _position_of(self, directory: Path, source: Source, offset: int) -> int:
        """Where to begin to read for what is at `offset` or later."""
        name = segment_file_name(source.base_offset, INDEX_SUFFIX)
        index = next((entry for entry in self._files.entries(directory) if entry.name == name), None)
        entries = {} if index is None else {INDEX_SUFFIX: index}
        segment = Segment.open(self._files, directory, source.base_offset, entries=entries, now_ms=0)
        try:
            return segment.offset_index.lookup(offset)
        finally:
            segment.detach()

    # ----- writing the segments anew

    def clean(self, task: Clean) -> Cleaned:
        """Writes the segments of a group into one, synced, under names that end in `.cleaned`.

        What it wrote is deleted if it fails.

        Raises:
            DecodeError: a segment is damaged.
            OSError: the disk failed.
        """
        directory = Path(task.directory)
        group = _Group(self._files, directory, task, self._throttle, self._buffer_bytes)
        sieve = Sieve(
            self._map,
            self._start_offset,
            self._newest_offsets(),
            now_ms=task.now_ms,
            delete_retention_ms=task.delete_retention_ms,
            most_bytes=_HELD_BUFFERS * self._buffer_bytes,
        )
        batches = self._reader(directory)
        waiting = _Waiting(sieve, group)
        try:
            for source in task.sources:
                try:
                    for position, header, buffer, at in batches.read(source, 0):
                        waiting.position = position
                        waiting.add(header, self._filter(header, buffer, at, task, group, sieve))
                    waiting.settle()
                except DecodeError as error:
                    raise batches.damaged(source, waiting.position, error) from error
            return group.finish()
        except BaseException:
            group.discard()
            raise

    def _newest_offsets(self) -> array[int] | None:
        """The offsets of the records that stay, if the keys were read in a way that they say all."""
        if self._newest is None and self._is_regular:
            self._newest = self._map.all_offsets()
        return self._newest

    def _filter(
        self, header: BatchHeader, buffer: bytes, at: int, task: Clean, group: _Group, sieve: Sieve
    ) -> Filtered | None:
        """What stays of a batch; None if the sieve will say."""
        count = header.record_count
        group.records_read += count
        group.bytes_read += header.batch_length + LENGTH_END
        if not header.attributes & CONTROL_FLAG:
            if self._transactions.on_batch(header) or not count:
                return NOTHING
            if header.base_offset > self._map.latest_offset:
                return Filtered(_cut(header, buffer, at), count, 0)
            return sieve.add(header, buffer, at)
        batch = _cut(header, buffer, at)
        is_done = self._transactions.on_control_batch(header, read_end_marker(header, batch))
        if self._transactions.retained:
            group.retain(self._transactions.retained)
            self._transactions.retained.clear()
        horizon_ms = header.delete_horizon_ms
        if not count:
            return NOTHING
        if not is_done:
            return Filtered(batch, count, 0)
        if horizon_ms is None:
            left = set_delete_horizon(
                batch, task.now_ms + task.delete_retention_ms, limit_bytes=DEFAULT_LIMIT_BYTES
            )
            return Filtered(left, count, 0)
        return NOTHING if horizon_ms <= task.now_ms else Filtered(batch, count, 0)


def _cut(header: BatchHeader, buffer: bytes, at: int) -> bytes:
    return buffer[at : at + LENGTH_END + header.batch_length]


class _Waiting:
    """Batches on their way to the new segment; what stays of some is not known yet.

    Attributes:
        position: of the batch that is looked at, for errors.
    """

    def __init__(self, sieve: Sieve, group: _Group) -> None:
        self._sieve = sieve
        self._group = group
        self._batches: list[tuple[int, BatchHeader, Filtered | None]] = []
        self.position = 0

    def add(self, header: BatchHeader, filtered: Filtered | None) -> None:
        """The batch at `position`, and what stays of it; None if the sieve will say."""
        batches = self._batches
        if filtered is None:
            batches.append((self.position, header, None))
            if self._sieve.is_full or len(batches) >= _MOST_WAITING:
                self.settle()
        elif batches:
            batches.append((self.position, header, filtered))
        else:
            self._group.take(header, filtered)

    def settle(self) -> None:
        """Moves all to the segment."""
        rest = self._sieve.drain()
        for position, header, filtered in self._batches:
            if filtered is None:
                self.position = position
                self._group.take(header, next(rest))
            else:
                self._group.take(header, filtered)
        self._batches.clear()


class _Group:
    """The segment that a group of segments becomes."""

    def __init__(
        self, files: Files, directory: Path, task: Clean, throttle: Throttle, buffer_bytes: int
    ) -> None:
        self._files = files
        self._directory = directory
        self._task = task
        self._throttle = throttle
        self._buffer_bytes = buffer_bytes
        numbers = array("q", task.producers)
        self._producers = {
            numbers[at]: (numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)
        }
        self._parts: list[bytes | bytearray | memoryview] = []
        self._headers: list[BatchHeader] = []
        self._size = 0
        base_offset = task.sources[0].base_offset
        self._names = [segment_file_name(base_offset, suffix) + CLEANED_SUFFIX for suffix in _SUFFIXES]
        for name in self._names:
            files.delete(directory / name)
        self._segment = Segment.create(
            files, directory, base_offset, now_ms=task.modified_ms, suffix=CLEANED_SUFFIX
        )
        self._segment.index_interval_bytes = task.index_interval_bytes
        self.records_read = self.records_written = 0
        self.bytes_read = 0
        self.keyless = 0

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        """Whether a producer's sequence number, or epoch, is known by this batch alone."""
        known = self._producers.get(header.producer_id) if header.producer_id >= 0 else None
        if known is None:
            return False
        last_offset, epoch = known
        if last_offset >= 0:
            return header.last_offset == last_offset
        return header.is_control and header.producer_epoch == epoch

    def take(self, header: BatchHeader, filtered: Filtered) -> None:
        """Adds what stays of a batch, or its header if that must stay."""
        batch, record_count, keyless = filtered
        self.keyless += keyless
        if batch is None:
            if header.next_offset != self._task.end_offset and not self._is_last_of_producer(header):
                return
            batch = build_empty_batch(header)
        self._parts.append(batch)
        # A batch that is as it was comes as bytes, one that was made anew as a bytearray.
        self._headers.append(header if isinstance(batch, bytes) else parse_header(batch))
        self._size += len(batch)
        self.records_written += record_count
        if self._size >= self._buffer_bytes:
            self._write()

    def _write(self) -> None:
        if not self._size:
            return
        self._segment.append(b"".join(self._parts), self._size, self._headers, None, self._task.modified_ms)
        self._throttle.spend(self._size)
        self._parts = []
        self._headers = []
        self._size = 0

    def retain(self, transactions: list[AbortedTransaction]) -> None:
        """Enters aborted transactions into the transaction index."""
        for transaction in transactions:
            self._segment.transaction_index.append(transaction)

    def finish(self) -> Cleaned:
        """Writes what is missing and syncs all."""
        self._write()
        segment = self._segment
        segment.become_inactive()
        size = segment.size
        segment.detach()
        files = self._files
        sizes = {}
        for suffix, name in zip(_SUFFIXES, self._names, strict=True):
            path = self._directory / name
            if suffix == TRANSACTION_INDEX_SUFFIX and not segment.transaction_index.exists:
                continue
            files.sync_file(path)
            sizes[suffix] = files.size(path)
        # Retention goes by it where records have no timestamps.
        files.set_modified(self._directory / self._names[0], self._task.modified_ms)
        return Cleaned(sizes, self.records_read, self.records_written, self.bytes_read, size, self.keyless)

    def discard(self) -> None:
        """Deletes what was written."""
        self._segment.detach()
        for name in self._names:
            try:
                self._files.delete(self._directory / name)
            except OSError:
                return  # the next start deletes it

"""Recovery of segments that were not closed cleanly, and the replay of batches into the producer state.

What lies below the recovery point is known to be on the disk. From there on a segment is read in big chunks into one buffer,
and each batch is checked: size, magic, CRC, offsets that rise. At the first bad one the file is cut: whatever follows was
never acknowledged as being on the disk. On the way the indexes, the leader epochs and the producer state are brought up
to date from the batch headers. The cost is per batch, never per record.

Index entries below the recovery point are kept if they make sense, as far as they do: they are not synced with the
batches, so that after a power failure their files may be too short or end in zeros.

Source: `LogSegment.recover`, `LogLoader`, `UnifiedLog.rebuildProducerState` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, KafkaError, StorageError
from barnabas.log.end_marker import read_end_marker
from barnabas.log.origin import Origin
from barnabas.log.producer_entry import BATCHES_REMEMBERED, AppendedBatch
from barnabas.log.producer_snapshot import snapshot_file_name
from barnabas.log.segment import MAX_RELATIVE_OFFSET
from barnabas.log.time_index import NO_TIMESTAMP, TimestampOffset
from barnabas.log.transaction_index import AbortedTransaction
from barnabas.log.transaction_repair import rebuild_transaction_index
from barnabas.records.batch import (
    ATTRIBUTES_POSITION,
    HEADER_SIZE,
    HEADER_STRUCT,
    LENGTH_END,
    MAGIC,
    BatchHeader,
    parse_header,
)
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.log.files import File, Files
    from barnabas.log.leader_epochs import LeaderEpochs
    from barnabas.log.producer_state import ProducerState
    from barnabas.log.segment import Segment

__all__ = [
    "RecoveredSegment",
    "RecoveryStart",
    "find_recovery_start",
    "recover_segment",
    "reload_producers",
    "replay_batch",
]

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 20
_ENTRIES_LOOKED_AT = 64
"""How many index entries' worth of batches are looked at for those that snapshots leave out."""
_SMALLEST_LENGTH = HEADER_SIZE - LENGTH_END


class RecoveryStart(NamedTuple):
    """Where in a segment recovery begins: the position of a batch, the batch's base offset, the index entries before it."""

    position: int
    offset: int
    index_entries: int


class RecoveredSegment(NamedTuple):
    """What became of a segment: the offset after its last good batch, and what was cut off, with the reason."""

    next_offset: int
    truncated_bytes: int
    reason: str | None


def replay_batch(
    header: BatchHeader, batch: bytes | memoryview | None, producers: ProducerState, segment: Segment | None
) -> None:
    """Takes a stored batch with a producer id into the producer state.

    Args:
        header: the batch's header.
        batch: its bytes; only needed of a control batch.
        producers: the state to change.
        segment: where an aborted transaction is entered into the transaction index; None if it is there already.

    Raises:
        DecodeError: a control batch whose records do not parse.
    """
    marker = read_end_marker(header, batch) if batch is not None and header.is_control else None
    producers.check(header, Origin.REPLICATION, marker=marker)
    completed = producers.update(header, marker=marker)
    if completed is not None and completed.is_aborted and segment is not None:
        segment.transaction_index.append(
            AbortedTransaction(
                completed.producer_id,
                completed.first_offset,
                completed.last_offset,
                completed.last_stable_offset,
            )
        )


def reload_producers(
    producers: ProducerState,
    segments: Sequence[Segment],
    log_start_offset: int,
    end_offset: int,
    replay_to: int,
    now_ms: int,
) -> None:
    """Loads the latest snapshot of the producers up to `end_offset`, and replays what lies between it and `replay_to`.

    What a damaged segment keeps from them is told in a warning.

    Args:
        producers: the state to load.
        segments: those that may tell of them, in order.
        log_start_offset: where the log begins.
        end_offset: no snapshot beyond it counts.
        replay_to: up to where batches are taken in; if the snapshot is beyond it, none is.
        now_ms: the wall clock.
    """
    replay_from = producers.truncate_and_reload(log_start_offset, end_offset, now_ms)
    try:
        _recall_batches(segments, producers, replay_from)
    except (DecodeError, KafkaError) as error:
        _tell_of_loss(producers, error)
    if replay_from >= replay_to:
        return
    first = max(
        (index for index, segment in enumerate(segments) if segment.base_offset <= replay_from), default=0
    )
    try:
        _replay_producers(segments[first:], producers, replay_from, replay_to)
    except (DecodeError, KafkaError) as error:
        _tell_of_loss(producers, error)
    producers.map_end_offset = replay_to


def _tell_of_loss(producers: ProducerState, error: Exception) -> None:
    logger.warning("The producers of %s are known only in part: %s", producers.directory, error)


def _replay_producers(
    segments: Iterable[Segment], producers: ProducerState, start_offset: int, end_offset: int
) -> None:
    """Takes the batches from `start_offset` to `end_offset` into the producer state; reads headers, and control batches.

    Raises:
        DecodeError: a segment is damaged.
    """
    for segment in segments:
        position = 0
        if start_offset > segment.base_offset:
            place = segment.locate(start_offset)
            if place is None:
                continue
            position = place.position
        for at, header in segment.headers(position):
            if header.base_offset >= end_offset:
                break
            if header.producer_id >= 0 and header.last_offset >= start_offset:
                batch = None
                if header.is_control:
                    batch = segment.files.read_at(segment.file, at, header.size_bytes)
                replay_batch(header, batch, producers, None)
            if header.next_offset >= end_offset:
                break  # what follows may be torn


def _recall_batches(segments: Sequence[Segment], producers: ProducerState, end_offset: int) -> None:
    """Finds those batches of producers that a snapshot at `end_offset` leaves out: all but the last one.

    A producer may have five in flight, and repeat them all to a broker that was stopped in between. Reads the headers of what
    the last index entries cover, which is a fraction of a megabyte, or a few dozen batches if they are big.

    Raises:
        DecodeError, KafkaError (CORRUPT_MESSAGE): a segment is damaged.
    """
    wanted = producers.with_one_batch()
    if not wanted:
        return
    found: dict[int, list[AppendedBatch]] = {}
    left = _ENTRIES_LOOKED_AT
    for segment in reversed(segments):
        if segment.base_offset >= end_offset:
            continue
        position = 0
        index = segment.offset_index
        if index.count > left:
            place = segment.locate(index.entry(index.count - left)[0])
            position = 0 if place is None else place.position
        left -= index.count + 1
        here: dict[int, list[AppendedBatch]] = {}
        for _, header in segment.headers(position):
            if header.base_offset >= end_offset:
                break
            entry = wanted.get(header.producer_id)
            if entry is not None and header.producer_epoch == entry.epoch and not header.is_control:
                batch = AppendedBatch(
                    header.last_sequence, header.last_offset, header.last_offset_delta, header.max_timestamp
                )
                if batch.last_offset < entry.batches[0].first_offset:
                    here.setdefault(header.producer_id, []).append(batch)
            if header.next_offset >= end_offset:
                break  # what follows may be torn
        for producer_id, batches in here.items():
            found[producer_id] = batches[-BATCHES_REMEMBERED:] + found.get(producer_id, [])
        if left <= 0:
            break
    for producer_id, batches in found.items():
        wanted[producer_id].recall(batches)


def find_recovery_start(segment: Segment, recovery_point: int) -> RecoveryStart:
    """Where recovery of a segment has to begin if everything below `recovery_point` is on the disk.

    At the last index entry below it, if the indexes make sense up to there; at the beginning otherwise.
    """
    beginning = RecoveryStart(0, segment.base_offset, 0)
    if recovery_point <= segment.base_offset:
        return beginning
    # A time index that is behind the offset index would hide the highest timestamps of what lies between.
    entries = segment.offset_index.rising_entries()
    timestamps = segment.time_index.rising_entries()
    if not timestamps:
        return beginning
    limit = min(recovery_point - 1, timestamps[-1].offset)
    while entries and (entries[-1][0] > limit or entries[-1][1] >= segment.size):
        entries.pop()
    if not entries:
        return beginning
    last_offset, position = entries[-1]
    try:
        header = parse_header(segment.files.read_at(segment.file, position, HEADER_SIZE))
    except DecodeError:
        return beginning
    # Apache Kafka before 4.0 notes the last offset of all batches that were appended together.
    if header.magic != MAGIC or header.last_offset > last_offset:
        return beginning
    return RecoveryStart(position, header.base_offset, len(entries))


def recover_segment(
    segment: Segment,
    start: RecoveryStart | None = None,
    *,
    producers: ProducerState | None = None,
    epochs: LeaderEpochs | None = None,
    earlier: Sequence[Segment] = (),
    next_base_offset: int | None = None,
    cut: bool = True,
    before_cut: Callable[[], None] = lambda: None,
) -> RecoveredSegment:
    """Checks a segment's batches, cuts off what follows the last good one, and rebuilds its indexes.

    Args:
        segment: to be recovered.
        start: where to begin; None for the beginning.
        producers: is brought up to the segment's end, if given, from where it stands; the transaction index is as well.
        epochs: gets the leader epochs that it lacks, if given.
        earlier: the segments before this one, in which transactions may have begun that end here.
        next_base_offset: where the segment behind this one begins, if there is one.
        cut: whether to cut off what follows the last good batch; if not, it is only not in the indexes.
        before_cut: called before that, when it is certain.

    Raises:
        StorageError: the file cannot be read, or holds a message format that only Apache Kafka before 4.0 wrote.
    """
    if start is None or start.position == 0:
        start = RecoveryStart(0, segment.base_offset, 0)
        segment.offset_index.clear()
        segment.time_index.clear()
    else:
        segment.offset_index.entries.truncate(start.index_entries)
        segment.time_index.truncate_to(start.offset)
    transactions_are_damaged = False
    if producers is not None:
        transactions_are_damaged = segment.transaction_index.is_damaged
        if transactions_are_damaged:
            segment.transaction_index.clear()
        segment.transaction_index.truncate_to(producers.map_end_offset)
    with segment.files.opened(segment.file.path) as file:
        scan = _Scan(segment, file, start, producers, epochs, next_base_offset)
        try:
            scan.run()
        except DecodeError as error:
            # A control batch whose CRC is right and whose records do not parse.
            scan.reason = str(error)
        truncated_bytes = segment.size - scan.valid_bytes
        if truncated_bytes and cut:
            _refuse_old_format(segment.files, file, scan.valid_bytes, truncated_bytes)
            before_cut()
            segment.files.truncate(file, scan.valid_bytes)
            segment.files.sync(file)
            segment.size = scan.valid_bytes
    segment.set_end(scan.next_offset, scan.max_timestamp, scan.valid_bytes - scan.indexed_position)
    segment.write_indexes()
    if transactions_are_damaged:
        snapshot = segment.directory / snapshot_file_name(segment.base_offset)
        rebuild_transaction_index(segment, earlier, snapshot)
    # No flush to come does, if the recovery point is behind it.
    segment.transaction_index.sync()
    if producers is not None:
        producers.map_end_offset = max(scan.next_offset, producers.map_end_offset)
    return RecoveredSegment(scan.next_offset, truncated_bytes, scan.reason)


class _Scan:
    """The walk through one segment; what it found up to the first bad batch is in its attributes."""

    def __init__(
        self,
        segment: Segment,
        file: File,
        start: RecoveryStart,
        producers: ProducerState | None,
        epochs: LeaderEpochs | None,
        next_base_offset: int | None,
    ) -> None:
        self.segment = segment
        self.file = file
        self.producers = producers
        self.epochs = epochs
        self.valid_bytes = start.position
        self.indexed_position = start.position
        self.next_offset = start.offset
        self.max_timestamp = (
            segment.time_index.last()
            if start.position
            else TimestampOffset(NO_TIMESTAMP, segment.base_offset)
        )
        self.highest_offset = segment.base_offset + MAX_RELATIVE_OFFSET
        if next_base_offset is not None:
            self.highest_offset = min(self.highest_offset, next_base_offset - 1)
        self.reason: str | None = None

    def run(self) -> None:
        """Walks until the end or the first bad batch."""
        size = self.segment.size
        buffer = bytearray(max(min(BUFFER_BYTES, size - self.valid_bytes), 1))
        while self.valid_bytes < size and self.reason is None:
            start = self.valid_bytes
            left = size - start
            with memoryview(buffer) as view:
                filled = self.segment.files.read_into(self.file, start, view[: min(left, len(view))])
                wanted = self._walk(view, filled)
            if self.reason is None and self.valid_bytes == start:
                # Not one whole batch: a large one gets a buffer of its size, a torn one ends the walk.
                if wanted > left or filled < min(len(buffer), left):
                    self.reason = f"the file ends within the batch at position {start}"
                else:
                    buffer = bytearray(wanted)

    def _walk(self, view: memoryview, filled: int) -> int:
        """Walks over the whole batches in the first `filled` bytes; returns the size of the one that does not fit."""
        segment = self.segment
        producers = self.producers
        replay_from = 0 if producers is None else producers.map_end_offset
        unpack = HEADER_STRUCT.unpack_from
        highest_offset = self.highest_offset
        interval = segment.index_interval_bytes
        next_offset = self.next_offset
        highest_ms = self.max_timestamp.timestamp_ms
        latest_epoch = MAX_RELATIVE_OFFSET if self.epochs is None else self.epochs.latest
        start = self.valid_bytes
        at = 0
        wanted = HEADER_SIZE
        while filled - at >= HEADER_SIZE:
            fields = unpack(view, at)
            base_offset, length, epoch, magic, crc, _, delta, _, timestamp_ms, producer_id, _, _, _ = fields
            if magic != MAGIC or length < _SMALLEST_LENGTH:
                self.reason = f"there is no record batch at position {start + at}"
                break
            end = at + length + LENGTH_END
            if end > filled:
                wanted = end - at
                break
            if crc32c(view[at + ATTRIBUTES_POSITION : end]) != crc:
                self.reason = f"the batch at position {start + at} fails its checksum"
                break
            last_offset = base_offset + delta
            if base_offset < next_offset or delta < 0 or last_offset > highest_offset:
                self.reason = (
                    f"the batch at position {start + at} has the offsets {base_offset} to {last_offset} "
                    f"where {next_offset} is due"
                )
                break
            if base_offset > next_offset and self._goes_back_to(next_offset, start + end, last_offset):
                self.reason = (
                    f"the batch at position {start + at} has the offsets {base_offset} to {last_offset} "
                    f"where {next_offset} is due, and the one behind it goes back"
                )
                break
            # The log may begin within a batch, and its producer may send just that one again.
            if producer_id >= 0 and producers is not None and last_offset >= replay_from:
                replay_batch(BatchHeader._make(fields), view[at:end], producers, segment)
            if timestamp_ms > highest_ms:
                highest_ms = timestamp_ms
                self.max_timestamp = TimestampOffset(timestamp_ms, last_offset)
            position = start + at
            if position - self.indexed_position > interval:
                segment.offset_index.append(last_offset, position)
                segment.time_index.maybe_append(*self.max_timestamp)
                self.indexed_position = position
            if epoch > latest_epoch and self.epochs is not None:
                self.epochs.assign(epoch, base_offset)
                latest_epoch = epoch
            elif epoch < latest_epoch and self.epochs is not None:
                # The file may still have epochs that a truncation had taken away when the process was killed.
                self.epochs.correct(epoch, base_offset)
                latest_epoch = self.epochs.latest
            next_offset = self.next_offset = last_offset + 1
            at = end
            self.valid_bytes = start + at
        return wanted

    def _goes_back_to(self, offset: int, position: int, last_offset: int) -> bool:
        """Whether the batch at `position` is whole and belongs between `offset` and `last_offset`.

        No checksum covers the first offset of a batch. If one damaged bit raises it, all that follows seems to go back; it is
        then the batch before `position` that is bad.
        """
        files, size = self.segment.files, self.segment.size
        head = files.read_at(self.file, position, HEADER_SIZE)
        if len(head) < HEADER_SIZE:
            return False
        header = parse_header(head)
        end = position + header.size_bytes
        if (
            header.magic != MAGIC
            or not _SMALLEST_LENGTH <= header.batch_length <= size - position - LENGTH_END
            or not offset <= header.base_offset <= last_offset
        ):
            return False
        checksum = 0
        for at in range(position + ATTRIBUTES_POSITION, end, BUFFER_BYTES):
            checksum = crc32c(files.read_at(self.file, at, min(BUFFER_BYTES, end - at)), checksum)
        return checksum == header.crc


def _refuse_old_format(files: Files, file: File, position: int, size: int) -> None:
    """Old messages must not be mistaken for garbage and cut off.

    Their layout: offset (8 bytes), size (4), CRC-32 of the rest (4), magic 0 or 1, ...
    """
    raw = files.read_at(file, position, min(size, BUFFER_BYTES))
    if len(raw) < 26 or raw[16] not in (0, 1):
        return
    length = int.from_bytes(raw[8:12], "big", signed=True)
    if length >= 14 and zlib.crc32(raw[16 : LENGTH_END + length]) == int.from_bytes(raw[12:16], "big"):
        raise StorageError(
            f"{file.path} holds messages in the format of Apache Kafka before 0.11 (at position {position}); "
            "let Apache Kafka 3.x expire or compact them first"
        )

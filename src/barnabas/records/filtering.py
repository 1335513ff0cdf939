"""Taking records out of a batch, for compaction: what is left keeps its offsets, its order and its bytes.

A record that stays is copied as it is, since its offset and time are told as differences from the batch's, which do not
change. Only when a batch gets a delete horizon (KIP-534: from then on its base timestamp is the time from which its tombstones
or its end marker may go) are its records written anew.

Source: `MemoryRecords.filterTo` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from barnabas.errors import DecodeError
from barnabas.records.batch import parse_header
from barnabas.records.builder import BatchBuilder, recompress
from barnabas.records.record import iterate_batch, uncompressed_records
from barnabas.records.varint import read_varint, read_varlong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.records.batch import BatchHeader

__all__ = [
    "Filtered",
    "Places",
    "filter_batch",
    "rebuild",
    "scan_keys",
    "set_delete_horizon",
    "timestamp_delta_at",
]


class Places(NamedTuple):
    """The records of a batch, in columns.

    Attributes:
        starts: where each begins, and where the last one ends.
        keys: of each, None where there is none.
        offset_deltas: of each.
        without_value: which have no value, by their place.
    """

    starts: list[int]
    keys: list[bytes | None]
    offset_deltas: list[int]
    without_value: list[int]

    def offsets(self, base_offset: int) -> Sequence[int]:
        """The offset of each."""
        count = len(self.keys)
        if count and self.offset_deltas[-1] == count - 1:
            return range(base_offset, base_offset + count)
        return [base_offset + delta for delta in self.offset_deltas]


class Filtered(NamedTuple):
    """What is left of a batch.

    `batch` is None if that is nothing; `record_count` says how many records are left, `keyless` how many had no key.
    """

    batch: bytes | bytearray | memoryview | None
    record_count: int
    keyless: int


def scan_keys(payload: bytes, count: int) -> Places:
    """Where the `count` records in `payload` are, and their keys; DecodeError if they do not parse.

    For batches that `columns.py` does not read. Short numbers are decoded in line, and nothing is read that is not needed.
    """
    size = len(payload)
    start = 0
    starts: list[int] = []
    keys: list[bytes | None] = []
    offset_deltas: list[int] = []
    without_value: list[int] = []
    add_start, add_key, add_delta = starts.append, keys.append, offset_deltas.append
    try:
        for index in range(count):
            add_start(start)
            number = payload[start]
            if number < 0x80:
                position = start + 1
            else:
                second = payload[start + 1]
                if second < 0x80:
                    number += (second << 7) - 0x80
                    position = start + 2
                else:
                    length, position = read_varint(payload, start)
                    number = length << 1 if length >= 0 else 1
            if number & 1:
                raise DecodeError("record has a negative length")
            start = position + (number >> 1)

            position += 1  # attributes
            while payload[position] >= 0x80:  # timestamp delta
                position += 1
            position += 1

            number = payload[position]
            if number < 0x80:
                position += 1
            else:
                second = payload[position + 1]
                if second < 0x80:
                    number += (second << 7) - 0x80
                    position += 2
                else:
                    length, position = read_varint(payload, position)
                    number = length << 1 if length >= 0 else 1
            if number & 1:
                raise DecodeError("record has a negative offset")
            add_delta(number >> 1)

            number = payload[position]
            if number < 0x80:
                position += 1
            else:
                length, position = read_varint(payload, position)
                number = length << 1 if length >= 0 else 1
            if number & 1:
                add_key(None)
            else:
                end = position + (number >> 1)
                add_key(payload[position:end])
                position = end
            # The zig-zag form of a negative length, which is a null, is odd in its first byte.
            if payload[position] & 1:
                without_value.append(index)
            if position >= start:
                raise DecodeError("record ends within its key")
    except IndexError:
        raise DecodeError("records end within a record") from None
    if start != size:
        raise DecodeError(f"the last of {count} records ends at {start} of {size} bytes")
    add_start(start)
    return Places(starts, keys, offset_deltas, without_value)


def filter_batch(
    batch: bytes | memoryview,
    header: BatchHeader,
    newest_offsets: Callable[[Sequence[bytes]], Iterable[int]],
    *,
    now_ms: int,
    delete_retention_ms: int,
    limit_bytes: int,
) -> Filtered:
    """A batch of data without records of which there are newer ones, and without tombstones whose time has come.

    Args:
        batch: the whole batch, its CRC checked.
        header: its header.
        newest_offsets: gives the newest known offset of each of some keys, -1 for none. A record stays unless its key has a
            higher one. What has no key goes.
        now_ms: the time of the cleaning.
        delete_retention_ms: how long tombstones stay, from the first cleaning that meets them.
        limit_bytes: what the batch may decompress to.

    Raises:
        DecodeError: the records do not parse.
    """
    payload = uncompressed_records(batch, 0, header, limit_bytes=limit_bytes)
    places = scan_keys(payload, header.record_count)
    offsets = places.offsets(header.base_offset)
    horizon_ms = header.delete_horizon_ms
    keyless = places.keys.count(None)
    with_key = [b"" if key is None else key for key in places.keys] if keyless else places.keys
    newest = newest_offsets(cast("list[bytes]", with_key))
    left = [at for at, (offset, known) in enumerate(zip(offsets, newest, strict=True)) if offset >= known]
    if keyless:
        left = [at for at in left if places.keys[at] is not None]
    has_tombstones = False
    if places.without_value:
        tombstones = set(places.without_value)
        if horizon_ms is not None and now_ms >= horizon_ms:
            left = [at for at in left if at not in tombstones]
        else:
            has_tombstones = not tombstones.isdisjoint(left)
    if not left:
        return Filtered(None, 0, keyless)
    starts = places.starts
    kept = rebuild(
        batch,
        header,
        [payload[starts[at] : starts[at + 1]] for at in left],
        max([timestamp_delta_at(payload, starts[at]) for at in left]),
        delete_horizon_ms=now_ms + delete_retention_ms if has_tombstones else None,
        limit_bytes=limit_bytes,
    )
    return Filtered(kept, len(left), keyless)


def rebuild(
    batch: bytes | memoryview,
    header: BatchHeader,
    records: Sequence[bytes],
    highest_timestamp_delta: int,
    *,
    delete_horizon_ms: int | None,
    limit_bytes: int,
) -> bytes | bytearray | memoryview:
    """A batch with some of its records; itself if these are all.

    Args:
        batch: the whole batch.
        header: its header.
        records: those that stay, in order.
        highest_timestamp_delta: of them.
        delete_horizon_ms: given if there are tombstones among them: when they may go, unless the batch says so already.
        limit_bytes: what the batch may decompress to.
    """
    kept: bytes | bytearray | memoryview = batch
    if len(records) != header.record_count:
        changed = header._replace(record_count=len(records))
        if not header.is_log_append_time:
            changed = changed._replace(max_timestamp=header.base_timestamp + highest_timestamp_delta)
        kept = recompress(changed, b"".join(records), header.compression)
    if delete_horizon_ms is not None and header.delete_horizon_ms is None:
        kept = set_delete_horizon(kept, delete_horizon_ms, limit_bytes=limit_bytes)
    return kept


def timestamp_delta_at(payload: bytes, start: int) -> int:
    """The timestamp delta of the record that begins at `start`, which has been read before."""
    while payload[start] >= 0x80:  # the record's length
        start += 1
    start += 2
    number = payload[start]
    if number < 0x80:
        return (number >> 1) ^ -(number & 1)
    return read_varlong(payload, start)[0]


def set_delete_horizon(
    batch: bytes | bytearray | memoryview, horizon_ms: int, *, limit_bytes: int
) -> bytearray:
    """The batch with its records' times told as differences from `horizon_ms`; DecodeError if they do not parse."""
    header = parse_header(batch)
    builder = BatchBuilder(
        base_offset=header.base_offset,
        leader_epoch=header.partition_leader_epoch,
        compression=header.compression,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        log_append_time_ms=header.max_timestamp if header.is_log_append_time else None,
        delete_horizon_ms=horizon_ms,
        is_control=header.is_control,
        is_transactional=header.is_transactional,
    )
    for record in iterate_batch(batch, 0, header, limit_bytes=limit_bytes):
        builder.append(record.timestamp, record.key, record.value, record.headers, offset=record.offset)
    return builder.build(last_offset=header.last_offset)

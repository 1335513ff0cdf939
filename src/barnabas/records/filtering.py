"""Taking records out of a batch, for compaction: what is left keeps its offsets, its order and its bytes.

A record that stays is copied as it is, since its offset and time are told as differences from the batch's, which do not
change. Only when a batch gets a delete horizon (KIP-534: from then on its base timestamp is the time from which its tombstones
or its end marker may go) are its records written anew.

Source: `MemoryRecords.filterTo` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.records.batch import parse_header
from barnabas.records.builder import BatchBuilder, recompress
from barnabas.records.record import iterate_batch, uncompressed_records
from barnabas.records.varint import read_varint, read_varlong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barnabas.records.batch import BatchHeader

__all__ = ["Filtered", "RecordPlace", "filter_batch", "scan_places", "set_delete_horizon"]

RecordPlace = tuple[int, int, int, int, "bytes | None", bool]
"""Where a record begins and ends, its timestamp delta, offset delta and key, and whether it has a value."""


class Filtered(NamedTuple):
    """What is left of a batch.

    `batch` is None if that is nothing; `record_count` says how many records are left, `keyless` how many had no key.
    """

    batch: bytes | bytearray | memoryview | None
    record_count: int
    keyless: int


def scan_places(payload: bytes, count: int) -> Iterator[RecordPlace]:
    """The place of each of the `count` records in `payload`; DecodeError if they do not parse.

    Compaction spends its time here, so that short numbers are decoded in line.
    """
    size = len(payload)
    start = 0
    try:
        for _ in range(count):
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
            end = position + (number >> 1)

            position += 1  # attributes
            number = payload[position]
            if number < 0x80:
                timestamp_delta = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                timestamp_delta, position = read_varlong(payload, position)

            number = payload[position]
            if number < 0x80:
                offset_delta = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                second = payload[position + 1]
                if second < 0x80:
                    number += (second << 7) - 0x80
                    offset_delta = (number >> 1) ^ -(number & 1)
                    position += 2
                else:
                    offset_delta, position = read_varint(payload, position)

            number = payload[position]
            if number < 0x80:
                length = (number >> 1) ^ -(number & 1)
                position += 1
            else:
                length, position = read_varint(payload, position)
            key = None
            if length >= 0:
                key = payload[position : position + length]
                position += length
            if position >= end or end > size:
                raise DecodeError("record ends within its key")
            # The zig-zag form of a negative length, which is a null, is odd in its first byte.
            yield start, end, timestamp_delta, offset_delta, key, not payload[position] & 1
            start = end
    except IndexError:
        raise DecodeError("records end within a record") from None
    if start != size:
        raise DecodeError(f"{size - start} bytes follow the last of {count} records")


def filter_batch(
    batch: bytes | memoryview,
    header: BatchHeader,
    keep: Callable[[bytes, int], bool],
    *,
    now_ms: int,
    delete_retention_ms: int,
    limit_bytes: int,
) -> Filtered:
    """A batch of data without what `keep` does not want, and without tombstones whose time has come.

    Args:
        batch: the whole batch, its CRC checked.
        header: its header.
        keep: says by key and offset whether a record stays. What has no key goes.
        now_ms: the time of the cleaning.
        delete_retention_ms: how long tombstones stay, from the first cleaning that meets them.
        limit_bytes: what the batch may decompress to.

    Raises:
        DecodeError: the records do not parse.
    """
    payload = uncompressed_records(batch, 0, header, limit_bytes=limit_bytes)
    base_offset = header.base_offset
    horizon_ms = header.delete_horizon_ms
    tombstones_stay = horizon_ms is None or now_ms < horizon_ms
    runs: list[bytes] = []
    run_start = 0
    count = keyless = 0
    highest_delta = -(2**63)
    has_tombstones = False
    end = 0
    for start, end, timestamp_delta, offset_delta, key, has_value in scan_places(
        payload, header.record_count
    ):
        if key is None:
            keyless += 1
        elif keep(key, base_offset + offset_delta) and (has_value or tombstones_stay):
            count += 1
            highest_delta = max(highest_delta, timestamp_delta)
            if not has_value:
                has_tombstones = True
            continue
        if start > run_start:
            runs.append(payload[run_start:start])
        run_start = end
    if count == 0:
        return Filtered(None, 0, keyless)
    if count == header.record_count:
        kept: bytes | bytearray | memoryview = batch
    else:
        runs.append(payload[run_start:end])
        left = header._replace(record_count=count)
        if not header.is_log_append_time:
            left = left._replace(max_timestamp=header.base_timestamp + highest_delta)
        kept = recompress(left, b"".join(runs), header.compression)
    if has_tombstones and horizon_ms is None:
        kept = set_delete_horizon(kept, now_ms + delete_retention_ms, limit_bytes=limit_bytes)
    return Filtered(kept, count, keyless)


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

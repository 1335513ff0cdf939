"""The records inside a batch: decoding, for whoever must look inside (replay, compaction, search by time).

Nothing on the way of a produced or fetched record comes here.

Layout of a record, all numbers zig-zag varints (`varint.py`):

    length of what follows | attributes (1 byte, unused) | timestamp delta | offset delta
    | key length, -1 for null | key | value length, -1 for null | value
    | header count | (key length, key, value length, value) for each header

Source: KIP-98; Kafka's `DefaultRecord`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.records.batch import HEADER_SIZE, BatchHeader, check_crc, iterate_headers
from barnabas.records.compression import DEFAULT_LIMIT_BYTES, decompress
from barnabas.records.varint import read_varint, read_varlong

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Record", "iterate_batch", "iterate_records", "keyless_indexes", "uncompressed_records"]


class Record(NamedTuple):
    """One record. Key, value and the values of headers may be null (None), which differs from empty.

    `timestamp` is in milliseconds since the epoch, -1 for none. Header keys that are not UTF-8 keep their bytes
    as surrogate escapes.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def iterate_records(
    buffer: bytes | bytearray | memoryview,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    control: bool = False,
    verify: bool = True,
) -> Iterator[Record]:
    """All records of the whole batches in `buffer`, in order.

    Control batches are passed over unless `control` asks for them. `verify` checks each batch's CRC first.
    `limit_bytes` bounds what one batch may decompress to. DecodeError for anything malformed.
    """
    for position, header in iterate_headers(buffer):
        if header.is_control and not control:
            continue
        if verify and not check_crc(buffer, position):
            raise DecodeError(f"batch at {position} fails its checksum")
        yield from iterate_batch(buffer, position, header, limit_bytes=limit_bytes)


def iterate_batch(
    buffer: bytes | bytearray | memoryview,
    position: int,
    header: BatchHeader,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> Iterator[Record]:
    """The records of the batch at `position`, whose header is `header`; its CRC is not checked.

    DecodeError for anything malformed, raised when iteration gets there.
    """
    if header.record_count < 0:
        raise DecodeError(f"batch claims {header.record_count} records")
    payload = uncompressed_records(buffer, position, header, limit_bytes=limit_bytes)
    append_time = header.max_timestamp if header.is_log_append_time else None
    return _decode(payload, header.record_count, header.base_offset, header.base_timestamp, append_time)


def uncompressed_records(
    buffer: bytes | bytearray | memoryview,
    position: int,
    header: BatchHeader,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> bytes:
    """The bytes of the records of the batch at `position`; DecodeError if they are cut, corrupt or too large."""
    end = position + header.size_bytes
    if not position + HEADER_SIZE <= end <= len(buffer):
        raise DecodeError(
            f"batch at {position} claims {header.size_bytes} bytes, {len(buffer) - position} are there"
        )
    payload = memoryview(buffer)[position + HEADER_SIZE : end]
    return bytes(decompress(header.compression, payload, limit_bytes))


def _decode(
    payload: bytes, count: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> Iterator[Record]:
    """The records in `payload`.

    Replaying a large internal topic ends here, so short varints are decoded in line, and bounds are checked once
    a record: an index past the end raises, a slice past the end shows in the position after the record.
    """
    size = len(payload)
    position = 0
    make = tuple.__new__
    try:
        for _ in range(count):
            number = payload[position]
            if number < 0x80:
                position += 1
            else:
                second = payload[position + 1]
                if second < 0x80:
                    number += (second << 7) - 0x80
                    position += 2
                else:
                    number, position = read_varint(payload, position)
                    number = number << 1 if number >= 0 else (~number << 1) | 1
            if number & 1:
                raise DecodeError("record has a negative length")
            end = position + (number >> 1)

            position += 1  # attributes
            number = payload[position]
            if number < 0x80:
                position += 1
                timestamp = base_timestamp + ((number >> 1) ^ -(number & 1))
            else:
                number, position = read_varlong(payload, position)
                timestamp = base_timestamp + number

            number = payload[position]
            if number < 0x80:
                position += 1
                offset = base_offset + ((number >> 1) ^ -(number & 1))
            else:
                number, position = read_varint(payload, position)
                offset = base_offset + number

            number = payload[position]
            if number < 0x80:
                position += 1
                length = (number >> 1) ^ -(number & 1)
            else:
                length, position = read_varint(payload, position)
            key = None
            if length >= 0:
                key = payload[position : position + length]
                position += length

            number = payload[position]
            if number < 0x80:
                position += 1
                length = (number >> 1) ^ -(number & 1)
            else:
                length, position = read_varint(payload, position)
            value = None
            if length >= 0:
                value = payload[position : position + length]
                position += length

            headers: tuple[tuple[str, bytes | None], ...] = ()
            if payload[position]:
                headers, position = _decode_headers(payload, position, end)
            else:
                position += 1
            if position != end or end > size:
                raise DecodeError(f"record ends at {position} of {size}, its length says {end}")
            yield make(
                Record, (offset, timestamp if append_time is None else append_time, key, value, headers)
            )
    except IndexError:
        raise DecodeError("records end within a record") from None
    if position != size:
        raise DecodeError(f"{size - position} bytes follow the last of {count} records")


def _decode_headers(
    payload: bytes, position: int, end: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, position = read_varint(payload, position)
    if not 0 <= count <= end - position:
        raise DecodeError(f"record claims {count} headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, position = read_varint(payload, position)
        if not 0 <= length <= end - position:
            raise DecodeError(f"header claims a key of {length} bytes")
        key = payload[position : position + length].decode("utf-8", "surrogateescape")
        position += length
        length, position = read_varint(payload, position)
        value = None
        if length >= 0:
            if length > end - position:
                raise DecodeError(f"header claims a value of {length} bytes")
            value = payload[position : position + length]
            position += length
        headers.append((key, value))
    return tuple(headers), position


def keyless_indexes(payload: bytes, count: int) -> list[int]:
    """Which of the `count` records in `payload` have no key (their places in the batch); DecodeError if malformed."""
    found = []
    size = len(payload)
    position = 0
    try:
        for index in range(count):
            length, position = read_varint(payload, position)
            if length < 0:
                raise DecodeError("record has a negative length")
            end = position + length
            _, position = read_varlong(payload, position + 1)
            _, position = read_varint(payload, position)
            key_length, position = read_varint(payload, position)
            if end > size or position > end or key_length > end - position:
                raise DecodeError("record ends within its key")
            if key_length < 0:
                found.append(index)
            position = end
    except IndexError:
        raise DecodeError("records end within a record") from None
    if position != size:
        raise DecodeError(f"{size - position} bytes follow the last of {count} records")
    return found

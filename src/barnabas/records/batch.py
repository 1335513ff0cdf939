"""The header of a record batch: a view over a buffer, and the few fields that a leader patches in place.

Layout (big-endian), 61 bytes before the records:

    position  size  field
           0     8  base offset                  |  not covered by the CRC,
           8     4  batch length (from byte 12)  |  so that a leader can assign
          12     4  partition leader epoch       |  offsets without reading on
          16     1  magic (2)                    |
          17     4  CRC-32C of everything from byte 21 to the end
          21     2  attributes: bits 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
          23     4  last offset delta
          27     8  base timestamp (the first record's, or the delete horizon)
          35     8  max timestamp
          43     8  producer id
          51     2  producer epoch
          53     4  base sequence
          57     4  record count

Source: KIP-98, KIP-534 (delete horizon); Kafka's `DefaultRecordBatch`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ATTRIBUTES_POSITION",
    "CODEC_MASK",
    "CONTROL_FLAG",
    "DELETE_HORIZON_FLAG",
    "HEADER_SIZE",
    "HEADER_STRUCT",
    "LENGTH_END",
    "LOG_APPEND_TIME_FLAG",
    "MAGIC",
    "MAGIC_POSITION",
    "NO_PRODUCER_EPOCH",
    "NO_PRODUCER_ID",
    "NO_SEQUENCE",
    "NO_TIMESTAMP",
    "TRANSACTIONAL_FLAG",
    "BatchHeader",
    "check_crc",
    "compute_crc",
    "iterate_headers",
    "next_sequence",
    "parse_header",
    "set_base_offset_and_epoch",
    "set_create_time",
    "set_log_append_time",
]

HEADER_SIZE = 61
LENGTH_END = 12  # the batch length counts the bytes after this position
MAGIC_POSITION = 16
ATTRIBUTES_POSITION = 21  # the CRC covers the bytes from here on
MAGIC = 2

CODEC_MASK = 0x07
LOG_APPEND_TIME_FLAG = 0x08
TRANSACTIONAL_FLAG = 0x10
CONTROL_FLAG = 0x20
DELETE_HORIZON_FLAG = 0x40
_KNOWN_ATTRIBUTES = 0x7F  # Kafka drops the others whenever it writes the attributes anew

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1

HEADER_STRUCT = struct.Struct(">qiibIhiqqqhii")
assert HEADER_STRUCT.size == HEADER_SIZE

_INT64 = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")
_INT16 = struct.Struct(">h")
_pack_offset_into = _INT64.pack_into
_pack_epoch_into = _INT32.pack_into

_EPOCH_POSITION = 12
_CRC_POSITION = 17
_MAX_TIMESTAMP_POSITION = 35
_SEQUENCE_MODULUS = 1 << 31

_unpack_from = HEADER_STRUCT.unpack_from


def next_sequence(sequence: int, increment: int) -> int:
    """The sequence number `increment` after `sequence`; after 2^31 - 1 comes 0."""
    return (sequence + increment) % _SEQUENCE_MODULUS


class BatchHeader(NamedTuple):
    """What a batch says about itself: the fields as they stood when the header was parsed.

    A tuple, because one is made for each produced batch and a tuple is the cheapest object to make. It does not
    follow later patches of the buffer. Nothing in it has been checked.
    """

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The whole batch, header included."""
        return self.batch_length + LENGTH_END

    @property
    def last_offset(self) -> int:
        """The offset of the last record; compaction may have removed that record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset that follows this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """The producer's sequence number of the last record, -1 where there are none."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return next_sequence(self.base_sequence, self.last_offset_delta)

    @property
    def compression(self) -> int:
        """The codec's number (`compression.Codec`), 0 for none; 5 to 7 mean nothing."""
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        """True if all records carry the max timestamp, which the broker set; else each has its producer's."""
        return self.attributes & LOG_APPEND_TIME_FLAG != 0

    @property
    def is_transactional(self) -> bool:
        """True for the records and the end marker of a transaction."""
        return self.attributes & TRANSACTIONAL_FLAG != 0

    @property
    def is_control(self) -> bool:
        """True if the records are the broker's own (`control.py`) and not for consumers."""
        return self.attributes & CONTROL_FLAG != 0

    @property
    def has_producer_id(self) -> bool:
        """True if an idempotent or transactional producer sent it."""
        return self.producer_id > NO_PRODUCER_ID

    @property
    def delete_horizon_ms(self) -> int | None:
        """When compaction may drop the tombstones and markers of this batch, None if not yet known (KIP-534)."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_FLAG else None


def parse_header(buffer: bytes | bytearray | memoryview, offset: int = 0) -> BatchHeader:
    """The header at `offset`, unchecked; DecodeError if fewer than 61 bytes are there."""
    try:
        return tuple.__new__(BatchHeader, _unpack_from(buffer, offset))
    except struct.error:
        raise DecodeError(f"a batch header takes {HEADER_SIZE} bytes, got {len(buffer) - offset}") from None


def iterate_headers(buffer: bytes | bytearray | memoryview) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each whole batch in `buffer`, in order.

    Ends before a last batch that is cut, since reads of a log by size end that way; what was read ends at
    `position + header.size_bytes`. DecodeError for a magic other than 2 or a length that holds no header. CRCs
    are not checked.
    """
    size = len(buffer)
    position = 0
    while size - position >= HEADER_SIZE:
        header: BatchHeader = tuple.__new__(BatchHeader, _unpack_from(buffer, position))
        if header.magic != MAGIC:
            raise DecodeError(f"batch at {position} has magic {header.magic}, only {MAGIC} is supported")
        batch_size = header.batch_length + LENGTH_END
        if batch_size < HEADER_SIZE:
            raise DecodeError(f"batch at {position} claims {batch_size} bytes, fewer than its header")
        if batch_size > size - position:
            return
        yield position, header
        position += batch_size


def set_base_offset_and_epoch(
    buffer: bytearray | memoryview, position: int, base_offset: int, leader_epoch: int
) -> None:
    """Patches what a leader assigns; the CRC does not cover it."""
    _pack_offset_into(buffer, position, base_offset)
    _pack_epoch_into(buffer, position + _EPOCH_POSITION, leader_epoch)


def set_log_append_time(buffer: bytearray | memoryview, position: int, timestamp_ms: int) -> None:
    """Makes `timestamp_ms` the time of all records of the batch at `position`, and renews the CRC.

    The batch must be whole and checked before, since a new CRC hides whatever the old one would have shown.
    """
    attributes: int = _INT16.unpack_from(buffer, position + ATTRIBUTES_POSITION)[0]
    _set_timestamp(buffer, position, attributes | LOG_APPEND_TIME_FLAG, timestamp_ms)


def set_create_time(buffer: bytearray | memoryview, position: int, max_timestamp_ms: int) -> None:
    """Gives the records of the batch at `position` their producer's times back, and renews the CRC.

    `max_timestamp_ms` is the highest of them. The batch must be whole and checked before.
    """
    attributes: int = _INT16.unpack_from(buffer, position + ATTRIBUTES_POSITION)[0]
    _set_timestamp(buffer, position, attributes & ~LOG_APPEND_TIME_FLAG, max_timestamp_ms)


def _set_timestamp(
    buffer: bytearray | memoryview, position: int, attributes: int, max_timestamp_ms: int
) -> None:
    _INT16.pack_into(buffer, position + ATTRIBUTES_POSITION, attributes & _KNOWN_ATTRIBUTES)
    _INT64.pack_into(buffer, position + _MAX_TIMESTAMP_POSITION, max_timestamp_ms)
    _UINT32.pack_into(buffer, position + _CRC_POSITION, compute_crc(buffer, position))


def compute_crc(buffer: bytes | bytearray | memoryview, position: int = 0) -> int:
    """The CRC-32C that the batch at `position` should carry; DecodeError if it is not whole."""
    header = parse_header(buffer, position)
    end = position + header.batch_length + LENGTH_END
    if not position + HEADER_SIZE <= end <= len(buffer):
        raise DecodeError(
            f"batch at {position} claims {header.size_bytes} bytes, {len(buffer) - position} are there"
        )
    return crc32c(memoryview(buffer)[position + ATTRIBUTES_POSITION : end])


def check_crc(buffer: bytes | bytearray | memoryview, position: int = 0) -> bool:
    """True if the batch at `position` is the one that was written; DecodeError if it is not whole."""
    stored: int = (
        _UINT32.unpack_from(buffer, position + _CRC_POSITION)[0] if len(buffer) - position > 20 else 0
    )
    return compute_crc(buffer, position) == stored

"""Writing of batches: for internal topics, for compaction and for tests.

Source: Kafka's `MemoryRecordsBuilder` and `DefaultRecordBatch.writeHeader`, whose bytes these are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from barnabas.errors import EncodeError
from barnabas.records.batch import (
    ATTRIBUTES_POSITION,
    CODEC_MASK,
    CONTROL_FLAG,
    DELETE_HORIZON_FLAG,
    HEADER_SIZE,
    HEADER_STRUCT,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
    BatchHeader,
)
from barnabas.records.checksum import crc32c
from barnabas.records.compression import Codec, compress
from barnabas.records.varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BatchBuilder", "build_batch", "build_empty_batch", "recompress"]

_UINT32 = struct.Struct(">I")
_CRC_POSITION = 17
_INT32_MAX = 2**31 - 1

_RecordFields = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


class BatchBuilder:
    """Collects records and makes one batch of them.

    `append` returns the batch's size so far, uncompressed, so that a caller can stop at a limit.
    """

    __slots__ = (
        "_attributes",
        "_base_offset",
        "_base_timestamp",
        "_codec",
        "_last_offset_delta",
        "_leader_epoch",
        "_level",
        "_max_timestamp",
        "_parts",
        "_producer",
        "record_count",
        "size_bytes",
    )

    def __init__(
        self,
        *,
        base_offset: int = 0,
        leader_epoch: int = -1,
        compression: int = Codec.NONE,
        compression_level: int | None = None,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        log_append_time_ms: int | None = None,
        delete_horizon_ms: int | None = None,
        is_control: bool = False,
        is_transactional: bool = False,
    ) -> None:
        self._base_offset = base_offset
        self._leader_epoch = leader_epoch
        self._codec = Codec(compression)
        self._level = compression_level
        self._producer = (producer_id, producer_epoch, base_sequence)
        self._attributes = (
            self._codec
            | (TRANSACTIONAL_FLAG if is_transactional else 0)
            | (CONTROL_FLAG if is_control else 0)
            | (LOG_APPEND_TIME_FLAG if log_append_time_ms is not None else 0)
            | (DELETE_HORIZON_FLAG if delete_horizon_ms is not None else 0)
        )
        self._base_timestamp = delete_horizon_ms
        self._max_timestamp = NO_TIMESTAMP if log_append_time_ms is None else log_append_time_ms
        self._last_offset_delta = -1
        self._parts: list[bytes] = []
        self.record_count = 0
        self.size_bytes = HEADER_SIZE

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        *,
        offset: int | None = None,
    ) -> int:
        """Adds a record with the next offset, or a given higher one; returns the size in bytes so far.

        EncodeError if the offset does not come after the one before, or a delta is out of range.
        """
        delta = self._last_offset_delta + 1 if offset is None else offset - self._base_offset
        if not self._last_offset_delta < delta <= _INT32_MAX:
            raise EncodeError(f"offset {self._base_offset + delta} does not follow in this batch")
        base_timestamp = self._base_timestamp
        if base_timestamp is None:
            base_timestamp = self._base_timestamp = timestamp
        if not self._attributes & LOG_APPEND_TIME_FLAG and timestamp > self._max_timestamp:
            self._max_timestamp = timestamp
        body = _encode_body(timestamp - base_timestamp, delta, key, value, headers)
        length = encode_varint(len(body))
        self._parts.append(length)
        self._parts.append(body)
        self._last_offset_delta = delta
        self.record_count += 1
        self.size_bytes += len(length) + len(body)
        return self.size_bytes

    def build(self, *, last_offset: int | None = None) -> bytearray:
        """The batch. `last_offset` keeps that of a batch whose last records were compacted away.

        EncodeError if there are no records, or more bytes than a batch can hold.
        """
        if self._base_timestamp is None or not self.record_count:
            raise EncodeError("a batch needs at least one record")
        delta = self._last_offset_delta
        if last_offset is not None:
            delta = max(delta, last_offset - self._base_offset)
        payload = b"".join(self._parts)
        if self._codec != Codec.NONE:
            payload = compress(self._codec, payload, self._level)
        producer_id, producer_epoch, base_sequence = self._producer
        header = BatchHeader(
            base_offset=self._base_offset,
            batch_length=HEADER_SIZE - LENGTH_END + len(payload),
            partition_leader_epoch=self._leader_epoch,
            magic=MAGIC,
            crc=0,
            attributes=self._attributes,
            last_offset_delta=delta,
            base_timestamp=self._base_timestamp,
            max_timestamp=self._max_timestamp,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            record_count=self.record_count,
        )
        return _assemble(header, payload)


def build_batch(
    records: Iterable[_RecordFields],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: int = Codec.NONE,
    compression_level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    log_append_time_ms: int | None = None,
    is_control: bool = False,
    is_transactional: bool = False,
    keep_offsets: bool = False,
) -> bytearray:
    """One batch of `records` (`record.Record`, or tuples of its five fields).

    The records get the offsets from `base_offset` on; with `keep_offsets` they have theirs already. With
    `log_append_time_ms` that is the time of all of them. EncodeError if there are none.
    """
    builder = BatchBuilder(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        compression=compression,
        compression_level=compression_level,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        log_append_time_ms=log_append_time_ms,
        is_control=is_control,
        is_transactional=is_transactional,
    )
    for offset, timestamp, key, value, headers in records:
        builder.append(timestamp, key, value, headers, offset=offset if keep_offsets else None)
    return builder.build()


def build_empty_batch(header: BatchHeader) -> bytearray:
    """A batch without records that keeps the offsets, producer and flags of `header`.

    Compaction leaves it in place of a producer's last batch, so that its sequence numbers stay known.
    """
    attributes = header.attributes & ~CODEC_MASK & ~DELETE_HORIZON_FLAG
    empty = header._replace(
        batch_length=HEADER_SIZE - LENGTH_END,
        crc=0,
        attributes=attributes,
        base_timestamp=NO_TIMESTAMP,
        record_count=0,
    )
    return _assemble(empty, b"")


def recompress(header: BatchHeader, payload: bytes, codec: int, level: int | None = None) -> bytearray:
    """The batch of `header` with its uncompressed `payload` in another codec (`compression.type` of a topic)."""
    packed = compress(codec, payload, level)
    changed = header._replace(
        batch_length=HEADER_SIZE - LENGTH_END + len(packed),
        crc=0,
        attributes=header.attributes & ~CODEC_MASK | codec,
    )
    return _assemble(changed, packed)


def _encode_body(
    timestamp_delta: int,
    offset_delta: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
) -> bytes:
    if not -(2**63) <= timestamp_delta < 2**63:
        raise EncodeError(f"timestamp delta {timestamp_delta} is out of range")
    parts = [b"\0", encode_varint(timestamp_delta), encode_varint(offset_delta)]
    for field in (key, value):
        if field is None:
            parts.append(b"\x01")
        else:
            parts.append(encode_varint(len(field)))
            parts.append(field)
    headers = tuple(headers)
    parts.append(encode_varint(len(headers)))
    for name, content in headers:
        encoded = name.encode("utf-8", "surrogateescape")
        parts.append(encode_varint(len(encoded)))
        parts.append(encoded)
        if content is None:
            parts.append(b"\x01")
        else:
            parts.append(encode_varint(len(content)))
            parts.append(content)
    return b"".join(parts)


def _assemble(header: BatchHeader, payload: bytes) -> bytearray:
    try:
        batch = bytearray(HEADER_STRUCT.pack(*header))
    except struct.error as error:
        raise EncodeError(f"batch header out of range: {error}") from None
    batch += payload
    _UINT32.pack_into(batch, _CRC_POSITION, crc32c(memoryview(batch)[ATTRIBUTES_POSITION:]))
    return batch

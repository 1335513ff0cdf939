"""What a leader checks of produced records before it appends them.

The checks, their order and their codes are those of Apache Kafka 4.3 (`ProduceRequest.validateRecords`,
`UnifiedLog.analyzeAndValidateRecords`, `LogValidator`), as far as the header of a batch tells. Lengths that overflow
Kafka's own arithmetic are answered with CORRUPT_MESSAGE, where Kafka fails with UNKNOWN_SERVER_ERROR. Two differences
follow from not unpacking records:

- Timestamps: Kafka looks at each record's, we look at the first one's and the highest one's, which the header states.
- The header's statements about the records inside (highest timestamp, offsets, count, that they parse) are taken from
  the producer, who vouches for them by the CRC.

`keys_required` (compacted topics) does look inside.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.records.batch import (
    ATTRIBUTES_POSITION,
    CODEC_MASK,
    CONTROL_FLAG,
    HEADER_SIZE,
    HEADER_STRUCT,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    MAGIC,
    MAGIC_POSITION,
    NO_TIMESTAMP,
    BatchHeader,
)
from barnabas.records.checksum import crc32c
from barnabas.records.compression import DEFAULT_LIMIT_BYTES, Codec
from barnabas.records.record import iterate_batch, keyless_indexes, uncompressed_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barnabas.config.topic import ProduceLimits

__all__ = [
    "MAX_RECORD_ERRORS",
    "InvalidChecksumError",
    "InvalidMagicError",
    "InvalidOffsetsError",
    "MalformedRecordsError",
    "MissingKeysError",
    "RecordsRefusedError",
    "accept_produced",
    "validate_produced",
]

MAX_RECORD_ERRORS = 100
"""How many offending records an answer names at most."""

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_HOUR_MS = 3_600_000
_LENGTH_POSITION = 8
_SMALLEST_LENGTH = 14  # of a record of magic 0; what is shorter is not even that
_SMALLEST_RECORD = 7  # bytes, of magic 2: no key, no value, no headers
_FIRST_ZSTD_VERSION = 7  # of Produce (KIP-110)
_ZSTD = int(Codec.ZSTD)  # an enum's members are looked up by its metaclass, which takes longer than the check
_REFUSED_FLAGS = LOG_APPEND_TIME_FLAG | CONTROL_FLAG

_unpack_from = HEADER_STRUCT.unpack_from
_new = tuple.__new__


class MalformedRecordsError(KafkaError):
    """The request is at fault before any record is looked at; Kafka then does not even ask the partition."""


class RecordsRefusedError(KafkaError):
    """Single records are at fault: `record_errors` are their places in the batch and what is wrong with each.

    They go into the answer from Produce version 8 on (KIP-467); at most `MAX_RECORD_ERRORS` of them.
    """

    def __init__(self, code: ErrorCode, message: str, record_errors: tuple[tuple[int, str], ...]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


class InvalidMagicError(MalformedRecordsError):
    """The batch is in a format that is not taken."""


class InvalidChecksumError(KafkaError):
    """The batch is not the one that its producer made."""


class InvalidOffsetsError(KafkaError):
    """The batch's offsets, count or sequence number cannot be."""


class MissingKeysError(RecordsRefusedError):
    """Records without key, for a topic that is compacted."""


def accept_produced(
    records: bytes | bytearray | memoryview, limits: ProduceLimits, api_version: int, now_ms: int
) -> BatchHeader | None:
    """The header of the one batch that is all of `records`, if a glance shows that nothing is wrong with it.

    None says nothing but that `validate_produced` has to look. Arguments as there; `limits` are the topic's.
    """
    size = len(records)
    if size < HEADER_SIZE:
        return None
    fields = _unpack_from(records)
    (
        base_offset,
        batch_length,
        _,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        _,
        base_sequence,
        count,
    ) = fields
    codec = attributes & CODEC_MASK
    if (
        batch_length == size - LENGTH_END
        and magic == MAGIC
        and base_offset == 0
        and last_offset_delta == count - 1 >= 0
        and (codec or count * _SMALLEST_RECORD <= size - HEADER_SIZE)
        and not attributes & _REFUSED_FLAGS
        and (base_sequence >= 0 or producer_id < 0)
        and (
            limits.log_append_time
            or (
                (oldest_ms := now_ms - limits.timestamp_before_max_ms) <= base_timestamp
                and oldest_ms <= max_timestamp <= (newest_ms := now_ms + limits.timestamp_after_max_ms)
                and base_timestamp <= newest_ms
            )
        )
        and (codec < _ZSTD or (codec == _ZSTD and api_version >= _FIRST_ZSTD_VERSION))
        and size <= limits.batch_bytes_max
        and crc32c(records[ATTRIBUTES_POSITION:]) == crc
    ):
        return _new(BatchHeader, fields)
    return None


def validate_produced(
    records: bytes | bytearray | memoryview,
    *,
    api_version: int,
    now_ms: int,
    max_message_bytes: int,
    segment_bytes: int = _INT32_MAX,
    log_append_time: bool = False,
    timestamp_before_max_ms: int = _INT64_MAX,
    timestamp_after_max_ms: int = _HOUR_MS,
    keys_required: bool = False,
    decompressed_limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> BatchHeader:
    """The header of the one batch in `records`, as a client may send it to the leader of a partition.

    The batch starts at 0 and ends at the header's `size_bytes`; like Kafka, an unfinished batch after it is let pass,
    and must be cut off before the records are stored. `api_version` is that of Produce (3 or later), `now_ms` the
    wall clock; the others are the topic's settings. The checks are made one after the other in Kafka's order, so that of
    several faults the same one is answered; `accept_produced` is quicker where there is none.

    Raises KafkaError with Kafka's code:

    - CORRUPT_MESSAGE: lengths that cannot be, a magic above 2, a wrong CRC
    - INVALID_RECORD: no batch, more than one, magic 0 or 1, a base offset other than 0, a count that does not match the
      offsets, control records, a producer id without sequence number, no key though `keys_required`
    - INVALID_TIMESTAMP: out of the topic's bounds, or set by the producer as if it were the log
    - UNSUPPORTED_COMPRESSION_TYPE: zstd before Produce 7
    - MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE: larger than `max_message_bytes`, than `segment_bytes`
    - UNKNOWN_SERVER_ERROR: a codec that does not exist (so answers Kafka, which has no better code for it)
    """
    size_bytes = _single_batch_size(records, api_version)
    base_offset = int.from_bytes(memoryview(records)[:_LENGTH_POSITION], "big", signed=True)
    if base_offset != 0:
        raise _impossible(f"Base offset of a produced batch must be 0, not {base_offset}")
    if size_bytes > max_message_bytes:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"Batch of {size_bytes} bytes is larger than the topic's maximum of {max_message_bytes}",
        )
    if size_bytes < HEADER_SIZE:
        raise KafkaError(
            ErrorCode.CORRUPT_MESSAGE, f"Batch of {size_bytes} bytes is too short for its header"
        )
    header: BatchHeader = _new(BatchHeader, _unpack_from(records))
    crc = crc32c(memoryview(records)[ATTRIBUTES_POSITION:size_bytes])
    if crc != header.crc:
        raise InvalidChecksumError(
            ErrorCode.CORRUPT_MESSAGE, f"Batch has CRC {crc:#010x}, its header says {header.crc:#010x}"
        )
    if header.compression > Codec.ZSTD:
        raise _unknown_codec(header.compression)

    _check_counts_and_producer(header)

    if header.is_log_append_time and (log_append_time or header.max_timestamp == NO_TIMESTAMP):
        raise _refused(
            ErrorCode.INVALID_TIMESTAMP, [(0, "Only the log may set the timestamp type to LogAppendTime")]
        )
    if not log_append_time:
        earliest = now_ms - timestamp_before_max_ms
        latest = now_ms + timestamp_after_max_ms
        _check_timestamps(records, header, earliest, latest, decompressed_limit_bytes)
    if keys_required:
        _check_keys(records, header, decompressed_limit_bytes)

    if size_bytes > segment_bytes:
        raise KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"Batch of {size_bytes} bytes is larger than a segment may be, {segment_bytes}",
        )
    return header


def _single_batch_size(records: bytes | bytearray | memoryview, api_version: int) -> int:
    """The size of the one batch in `records`, after the checks that Kafka makes when it parses the request."""
    size_bytes = _whole_batch_size(records, 0)
    if size_bytes is None:
        raise _malformed(f"Produce version {api_version} needs one record batch for each partition, got none")
    magic = memoryview(records)[MAGIC_POSITION]
    if magic != MAGIC:
        raise InvalidMagicError(
            ErrorCode.INVALID_RECORD,
            f"Produce version {api_version} takes record batches of magic {MAGIC}, not {magic}",
        )
    if api_version < _FIRST_ZSTD_VERSION:
        codec = memoryview(records)[ATTRIBUTES_POSITION + 1] & CODEC_MASK  # 26 bytes are there at least
        if codec == Codec.ZSTD:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
                f"zstd needs Produce version {_FIRST_ZSTD_VERSION}, not {api_version}",
            )
        if codec > Codec.ZSTD:
            raise MalformedRecordsError(ErrorCode.UNKNOWN_SERVER_ERROR, f"Unknown compression codec {codec}")
    if _whole_batch_size(records, size_bytes) is not None:
        raise _malformed(f"Produce version {api_version} takes one record batch for each partition, got more")
    return size_bytes


def _whole_batch_size(records: bytes | bytearray | memoryview, position: int) -> int | None:
    """The size of the batch at `position`, None if it is not all there; CORRUPT_MESSAGE if it cannot be one."""
    rest = len(records) - position
    if rest < LENGTH_END:
        return None
    view = memoryview(records)
    length = int.from_bytes(view[position + _LENGTH_POSITION : position + LENGTH_END], "big", signed=True)
    if not _SMALLEST_LENGTH <= length <= _INT32_MAX - LENGTH_END:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Batch length {length} cannot be")
    if rest <= MAGIC_POSITION:
        return None
    magic = view[position + MAGIC_POSITION]
    if magic > MAGIC:
        raise InvalidMagicError(ErrorCode.CORRUPT_MESSAGE, f"Batch has unknown magic {magic}")
    size_bytes = length + LENGTH_END
    return size_bytes if size_bytes <= rest else None


def _check_counts_and_producer(header: BatchHeader) -> None:
    delta = header.last_offset_delta
    count = header.record_count
    if delta < 0:
        raise _impossible(f"Batch has an invalid offset range [{header.base_offset}, {header.last_offset}]")
    if count <= 0:
        raise _impossible(f"Batch has an invalid record count {count}")
    if delta + 1 != count:
        raise _impossible(f"Batch of offsets 0 to {delta} cannot hold {count} records")
    if header.compression == Codec.NONE and count * _SMALLEST_RECORD > header.size_bytes - HEADER_SIZE:
        raise _impossible(f"Batch of {header.size_bytes} bytes cannot hold {count} records")
    if header.is_control:
        raise _invalid("Clients must not write control records")
    if header.has_producer_id and header.base_sequence < 0:
        raise _impossible(
            f"Batch of producer id {header.producer_id} has an invalid sequence number {header.base_sequence}"
        )


def _check_timestamps(
    records: bytes | bytearray | memoryview,
    header: BatchHeader,
    earliest: int,
    latest: int,
    limit_bytes: int,
) -> None:
    stated = (
        (header.max_timestamp,)
        if header.is_log_append_time
        else (header.base_timestamp, header.max_timestamp)
    )
    if all(timestamp == NO_TIMESTAMP or earliest <= timestamp <= latest for timestamp in stated):
        return
    bounds = f"is not within [{earliest}, {latest}]"
    errors = list(
        islice(
            (
                (index, f"Timestamp {timestamp} {bounds}")
                for index, timestamp in _timestamps(records, header, limit_bytes)
                if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest
            ),
            MAX_RECORD_ERRORS,
        )
    )
    if not errors:  # the header is at fault, not the records
        errors = [(0, f"Timestamp range {min(stated)} to {max(stated)} {bounds}")]
    raise _refused(ErrorCode.INVALID_TIMESTAMP, errors)


def _timestamps(
    records: bytes | bytearray | memoryview, header: BatchHeader, limit_bytes: int
) -> Iterator[tuple[int, int]]:
    """Place and timestamp of each record, as far as the records parse."""
    try:
        for index, record in enumerate(iterate_batch(records, 0, header, limit_bytes=limit_bytes)):
            yield index, record.timestamp
    except DecodeError:
        return


def _check_keys(records: bytes | bytearray | memoryview, header: BatchHeader, limit_bytes: int) -> None:
    try:
        payload = uncompressed_records(records, 0, header, limit_bytes=limit_bytes)
        keyless = keyless_indexes(payload, header.record_count)
    except DecodeError as error:
        raise _invalid(f"Batch does not parse: {error}") from None
    if keyless:
        errors = [(index, "A compacted topic takes no records without key") for index in keyless]
        raise _refused(ErrorCode.INVALID_RECORD, errors[:MAX_RECORD_ERRORS], MissingKeysError)


def _unknown_codec(codec: int) -> KafkaError:
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"Unknown compression codec {codec}")


def _malformed(message: str) -> KafkaError:
    return MalformedRecordsError(ErrorCode.INVALID_RECORD, message)


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, message)


def _impossible(message: str) -> KafkaError:
    return InvalidOffsetsError(ErrorCode.INVALID_RECORD, message)


def _refused(
    code: ErrorCode, errors: list[tuple[int, str]], kind: type[RecordsRefusedError] = RecordsRefusedError
) -> RecordsRefusedError:
    return kind(code, f"Records were refused: {errors[0][1]}", tuple(errors))

"""Offsets of batches that are about to be appended: given by a leader, checked by a follower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.records.batch import (
    BatchHeader,
    check_crc,
    iterate_headers,
    set_base_offset_and_epoch,
    set_log_append_time,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["assign_offsets", "check_from_leader"]


def assign_offsets(
    records: bytearray | memoryview,
    headers: Sequence[BatchHeader],
    first_offset: int,
    leader_epoch: int,
    append_time_ms: int,
) -> list[BatchHeader]:
    """Gives consecutive offsets to several batches, in place, and the leader's epoch; returns their headers anew.

    `append_time_ms` becomes the time of their records, unless it is -1.
    """
    position = 0
    offset = first_offset
    assigned = []
    for header in headers:
        max_timestamp_ms = header.max_timestamp
        if append_time_ms >= 0:
            max_timestamp_ms = append_time_ms
            set_log_append_time(records, position, append_time_ms)
        set_base_offset_and_epoch(records, position, offset, leader_epoch)
        assigned.append(header._replace(base_offset=offset, max_timestamp=max_timestamp_ms))
        offset += header.last_offset_delta + 1
        position += header.size_bytes
    return assigned


def check_from_leader(
    records: bytes | bytearray | memoryview, log_end_offset: int, log_name: str
) -> tuple[list[BatchHeader], int]:
    """Headers and bytes of the whole batches that a leader sent; an unfinished last one does not count.

    Raises:
        KafkaError: CORRUPT_MESSAGE, or OFFSET_OUT_OF_RANGE for offsets that do not rise from the log end.
    """
    headers: list[BatchHeader] = []
    size = 0
    expected = log_end_offset
    try:
        for position, header in iterate_headers(records):
            if not check_crc(records, position):
                raise DecodeError(f"the batch at offset {header.base_offset} fails its checksum")
            if header.base_offset < expected or header.last_offset_delta < 0:
                raise KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"{log_name} got a batch at offset {header.base_offset} from its leader where {expected} is due",
                )
            expected = header.next_offset
            size = position + header.size_bytes
            headers.append(header)
    except DecodeError as error:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"{log_name} from its leader: {error}") from error
    return headers, size

"""Control records: what the broker writes between a client's records, such as the end of a transaction.

A control batch has the control flag and holds control records. Their key is a 16-bit version (0) and a 16-bit
type; the value of an end marker is a 16-bit version (0) and the 32-bit epoch of the transaction coordinator.

Source: KIP-98; Kafka's `ControlRecordType`, `EndTransactionMarker`, `MemoryRecords.withEndTransactionMarker`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from barnabas.errors import DecodeError
from barnabas.records.builder import build_batch

__all__ = [
    "ControlType",
    "EndMarker",
    "build_end_marker",
    "control_key",
    "decode_control_type",
    "decode_end_marker",
]

_KEY = struct.Struct(">hh")
_END_VALUE = struct.Struct(">hi")
_VERSION = 0


class ControlType(IntEnum):
    """The types of control records; a reader passes over numbers that it does not know."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


class EndMarker(NamedTuple):
    """How a transaction ended, and the epoch of the coordinator that says so."""

    is_commit: bool
    coordinator_epoch: int


def control_key(control_type: ControlType) -> bytes:
    """The key of a control record."""
    return _KEY.pack(_VERSION, control_type)


def decode_control_type(key: bytes | None) -> ControlType | None:
    """The type in a control record's key, None for one of a later version; DecodeError if it is not a key."""
    if key is None or len(key) < _KEY.size:
        raise DecodeError("control record has no key of version and type")
    version, number = _KEY.unpack_from(key)
    if version < _VERSION:
        raise DecodeError(f"control record has version {version}")
    try:
        return ControlType(number)
    except ValueError:
        return None


def decode_end_marker(key: bytes | None, value: bytes | None) -> EndMarker | None:
    """The end marker in a control record, None for other control records; DecodeError if it is malformed."""
    control_type = decode_control_type(key)
    if control_type not in (ControlType.ABORT, ControlType.COMMIT):
        return None
    if value is None or len(value) < _END_VALUE.size:
        raise DecodeError("end marker has no value of version and coordinator epoch")
    version, coordinator_epoch = _END_VALUE.unpack_from(value)
    if version < _VERSION:
        raise DecodeError(f"end marker has version {version}")
    return EndMarker(control_type is ControlType.COMMIT, coordinator_epoch)


def build_end_marker(
    *,
    is_commit: bool,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """The batch that ends a producer's transaction in one partition."""
    key = control_key(ControlType.COMMIT if is_commit else ControlType.ABORT)
    value = _END_VALUE.pack(_VERSION, coordinator_epoch)
    return build_batch(
        [(0, timestamp_ms, key, value, ())],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        is_control=True,
        is_transactional=True,
    )

"""Metadata records as bytes, as they lie in the metadata log and in its snapshots.

    size     field
    varint   frame version (1)
    varint   the record's API key
    varint   the record's version
    ...      the record's fields in that version

Varints are unsigned. Source: Kafka's `AbstractApiMessageSerde` and `MetadataRecordSerde`.

A record whose type or version is not known is not an error: a log that a newer Kafka wrote is read as far as it is
understood, and the rest is kept as `UnknownRecord`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from barnabas.errors import DecodeError, EncodeError

__all__ = ["UnknownRecord", "decode_record", "encode_record", "record_class"]

_FRAME_VERSION = 1

# The record types of Kafka 4.3 by API key; their modules are imported when the first of them is met.
_NAMES = {
    0: "RegisterBrokerRecord",
    1: "UnregisterBrokerRecord",
    2: "TopicRecord",
    3: "PartitionRecord",
    4: "ConfigRecord",
    5: "PartitionChangeRecord",
    7: "FenceBrokerRecord",
    8: "UnfenceBrokerRecord",
    9: "RemoveTopicRecord",
    10: "DelegationTokenRecord",
    11: "UserScramCredentialRecord",
    12: "FeatureLevelRecord",
    14: "ClientQuotaRecord",
    15: "ProducerIdsRecord",
    17: "BrokerRegistrationChangeRecord",
    18: "AccessControlEntryRecord",
    19: "RemoveAccessControlEntryRecord",
    20: "NoOpRecord",
    21: "ZkMigrationStateRecord",
    22: "RemoveUserScramCredentialRecord",
    23: "BeginTransactionRecord",
    24: "EndTransactionRecord",
    25: "AbortTransactionRecord",
    26: "RemoveDelegationTokenRecord",
    27: "RegisterControllerRecord",
    28: "ClearElrRecord",
}


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A record of a type or version that is not known here, kept as it came; `data` is the whole frame."""

    API_KEY = -1

    record_type: int
    version: int
    data: bytes


_KNOWN_TO_KAFKA_39 = {0: 3, 3: 1, 5: 1, 17: 2}
"""Version by record type: RegisterBroker, Partition, PartitionChange, BrokerRegistrationChange."""


@cache
def record_class(api_key: int) -> Any:
    """The message class of a record type, or `None` for one that is not known."""
    name = _NAMES.get(api_key)
    if name is None:
        return None
    module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    return getattr(import_module(f"barnabas.wire.messages.metadata.{module}"), name)


def encode_record(record: Any) -> bytes:
    """The framed bytes of a record, in a version of its type that old versions of Apache Kafka know, if that can say it."""
    if isinstance(record, UnknownRecord):
        return record.data
    body: bytes
    version = _KNOWN_TO_KAFKA_39.get(record.API_KEY)
    try:
        if version is None:
            version = record.MAX_VERSION
        body = record.encode(version)
    except EncodeError:
        version = record.MAX_VERSION
        body = record.encode(version)
    # All keys and versions are below 128, where a varint is a single byte.
    return bytes((_FRAME_VERSION, record.API_KEY, version)) + body


def decode_record(buffer: bytes | memoryview) -> Any:
    """The record in these framed bytes.

    Raises:
        DecodeError: The frame or the record is damaged.
    """
    frame_version, position = _decode_varint(buffer, 0)
    if frame_version != _FRAME_VERSION:
        raise DecodeError(f"a metadata record has frame version {frame_version}, known is {_FRAME_VERSION}")
    api_key, position = _decode_varint(buffer, position)
    version, position = _decode_varint(buffer, position)
    message = record_class(api_key)
    if message is None or version > message.MAX_VERSION:
        return UnknownRecord(api_key, version, bytes(buffer))
    record, end = message.decode_at(buffer, version, position)
    if end != len(buffer):
        raise DecodeError(f"{len(buffer) - end} bytes follow a metadata record of type {api_key}")
    return record


def _decode_varint(buffer: bytes | memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in (0, 7, 14):
        if position >= len(buffer):
            raise DecodeError("a metadata record ends within its frame")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DecodeError("a number in the frame of a metadata record is longer than three bytes")

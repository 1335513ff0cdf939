"""The records of classic groups in `__consumer_offsets`, in Apache Kafka's own format.

    key                                          value                                    version written
    0x0002 GroupMetadataKey(group)               GroupMetadataValue: generation, members  3
    0x0001 OffsetCommitKey(group, topic, p.)     OffsetCommitValue: offset, metadata      4, or 1 with an expiry time
    0x0000 LegacyOffsetCommitKey                 (read only: as 0x0001)

A key begins with its record type as int16, a value with its version as int16; no value is a tombstone. All lower versions of the
values are read. The records of consumer groups are in `consumer/records.py`; those of other kinds of groups are passed over.

Source: `GroupCoordinatorRecordSerde` and `GroupCoordinatorRecordHelpers` of Kafka 4.3.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.coordinators.group.consumer.records import CONSUMER_GROUP_KEYS
from barnabas.errors import DecodeError
from barnabas.wire.messages.group.group_metadata_key import GroupMetadataKey
from barnabas.wire.messages.group.group_metadata_value import GroupMetadataValue
from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey
from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.offsets import CommittedOffset
    from barnabas.coordinators.shard import CoordinatorRecord
    from barnabas.wire.message import Message

__all__ = [
    "GROUP_METADATA",
    "KEYS_REMEMBERED_MAX",
    "LEGACY_OFFSET_COMMIT",
    "OFFSET_COMMIT",
    "OffsetRecordWriter",
    "RecordType",
    "decode_key",
    "decode_value",
    "group_metadata_record",
    "group_tombstone",
    "is_offset_key",
    "offset_tombstone",
]

LEGACY_OFFSET_COMMIT = 0
OFFSET_COMMIT = 1
GROUP_METADATA = 2

GROUP_METADATA_VALUE_VERSION = 3
OFFSET_COMMIT_VALUE_VERSION = 4
OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY = 1

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_OFFSET_VALUE_START = struct.Struct(">hqi")
_OFFSET_AND_EPOCH_SIZE = 12
_OFFSET_COMMIT_PREFIX = _INT16.pack(OFFSET_COMMIT)
_GROUP_METADATA_PREFIX = _INT16.pack(GROUP_METADATA)
_GROUP_VALUE_PREFIX = _INT16.pack(GROUP_METADATA_VALUE_VERSION)
_OFFSET_VALUE_PREFIX_WITH_EXPIRY = _INT16.pack(OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY)
_NO_EXPIRY = -1

KEYS_REMEMBERED_MAX = 1024
"""Decoding one anew takes a microsecond; remembering it, half a kilobyte."""


class RecordType(NamedTuple):
    """A decoded key: its record type, and the key where the type is one of a classic or consumer group's, else None."""

    number: int
    key: Message | None


# ----- writing


def group_metadata_record(group: ClassicGroup, assignments: Mapping[str, bytes]) -> CoordinatorRecord:
    """The group as it stands, with these assignments by member id."""
    members = []
    for member in group.members.values():
        subscription = member.metadata(group.protocol_name)
        assert subscription is not None, f"{group.group_id}: {member} lacks protocol {group.protocol_name}"
        members.append(
            GroupMetadataValue.MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=subscription,
                assignment=assignments[member.member_id],
            )
        )
    value = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation_id,
        protocol=group.protocol_name,
        leader=group.leader_id,
        current_state_timestamp=-1 if group.state_timestamp_ms is None else group.state_timestamp_ms,
        members=members,
    )
    return _group_key(group.group_id), _GROUP_VALUE_PREFIX + value.encode(GROUP_METADATA_VALUE_VERSION)


def group_tombstone(group_id: str) -> CoordinatorRecord:
    """Removes a group."""
    return _group_key(group_id), None


def _group_key(group_id: str) -> bytes:
    return _GROUP_METADATA_PREFIX + GroupMetadataKey(group=group_id).encode(0)


class OffsetRecordWriter:
    """Writes the offsets that a group commits for one topic.

    Consumers commit many partitions at once, and what differs between their records is a few fixed bytes: the partition at
    the end of the key, and at the beginning of the value, after the version, offset and leader epoch.
    """

    __slots__ = ("_key_start", "_rest", "_rest_of")

    def __init__(self, group_id: str, topic: str) -> None:
        self._key_start = _offset_key(group_id, topic, 0)[: -_INT32.size]
        self._rest_of: tuple[Any, ...] | None = None
        self._rest = b""

    def record(self, partition: int, offset: CommittedOffset) -> CoordinatorRecord:
        """The record for one partition."""
        key = self._key_start + _INT32.pack(partition)
        if offset.expire_timestamp_ms is not None:
            version = OFFSET_COMMIT_VALUE_VERSION_WITH_EXPIRY
            return key, _OFFSET_VALUE_PREFIX_WITH_EXPIRY + _offset_value(offset).encode(version)
        rest_of = offset[2:6]
        if rest_of != self._rest_of:
            self._rest_of = rest_of
            self._rest = _offset_value(offset).encode(OFFSET_COMMIT_VALUE_VERSION)[_OFFSET_AND_EPOCH_SIZE:]
        return key, _OFFSET_VALUE_START.pack(
            OFFSET_COMMIT_VALUE_VERSION, offset.offset, offset.leader_epoch
        ) + self._rest


def _offset_value(offset: CommittedOffset) -> OffsetCommitValue:
    expire_ms = offset.expire_timestamp_ms
    return OffsetCommitValue(
        offset=offset.offset,
        leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
        commit_timestamp=offset.commit_timestamp_ms,
        expire_timestamp=_NO_EXPIRY if expire_ms is None else expire_ms,
        topic_id=offset.topic_id,
    )


def offset_tombstone(group_id: str, topic: str, partition: int) -> CoordinatorRecord:
    """Removes a committed offset."""
    return _offset_key(group_id, topic, partition), None


def _offset_key(group_id: str, topic: str, partition: int) -> bytes:
    return _OFFSET_COMMIT_PREFIX + OffsetCommitKey(group=group_id, topic=topic, partition=partition).encode(0)


# ----- reading


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def decode_key(key: bytes) -> RecordType:
    """What a record is about; DecodeError for bytes that are no key. Not to be changed: the same keys come again and again."""
    try:
        (number,) = _INT16.unpack_from(key)
    except struct.error:
        raise DecodeError(f"a coordinator record's key of {len(key)} bytes has no type") from None
    if number in (OFFSET_COMMIT, LEGACY_OFFSET_COMMIT):
        return RecordType(number, OffsetCommitKey.decode(key, 0, 2))
    if number == GROUP_METADATA:
        return RecordType(number, GroupMetadataKey.decode(key, 0, 2))
    message = CONSUMER_GROUP_KEYS.get(number)
    return RecordType(number, None if message is None else message.decode(key, 0, 2))


def is_offset_key(key: bytes) -> bool:
    """Whether a key that we wrote is a committed offset's."""
    return key.startswith(_OFFSET_COMMIT_PREFIX)


def decode_value(
    value: bytes, message: type[GroupMetadataValue | OffsetCommitValue]
) -> GroupMetadataValue | OffsetCommitValue:
    """A value of any version that Kafka ever wrote; DecodeError for a newer one."""
    try:
        (version,) = _INT16.unpack_from(value)
    except struct.error:
        raise DecodeError(f"a {message.__name__} of {len(value)} bytes has no version") from None
    if not message.MIN_VERSION <= version <= message.MAX_VERSION:
        raise DecodeError(f"{message.__name__} version {version} is newer than {message.MAX_VERSION}")
    return message.decode(value, version, 2)

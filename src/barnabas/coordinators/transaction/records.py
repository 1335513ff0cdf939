"""The records of `__transaction_state`, in Apache Kafka's own format.

    key     int16 record type 0, TransactionLogKey: the transactional id
    value   int16 version (0, or 1 from transaction.version 1 on), TransactionLogValue; none removes the id

Source: `TransactionLog` of Kafka 4.3.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.state import TransactionState
from barnabas.coordinators.transaction.transaction import NO_PRODUCER_EPOCH, Snapshot
from barnabas.errors import DecodeError
from barnabas.wire.messages.transaction.transaction_log_key import TransactionLogKey
from barnabas.wire.messages.transaction.transaction_log_value import TransactionLogValue

if TYPE_CHECKING:
    from barnabas.coordinators.shard import CoordinatorRecord

__all__ = ["decode_key", "decode_value", "tombstone", "transaction_record"]

TRANSACTION_LOG = 0
_FLEXIBLE_FROM_TRANSACTION_VERSION = 1
_INT16 = struct.Struct(">h")


def transaction_record(transactional_id: str, snapshot: Snapshot, version: int) -> CoordinatorRecord:
    """The record of an id's state, in a cluster at this `transaction.version`."""
    partitions = None
    if snapshot.state is not TransactionState.EMPTY:
        by_topic: dict[str, list[int]] = {}
        for topic, index in sorted(snapshot.partitions):
            by_topic.setdefault(topic, []).append(index)
        partitions = [
            TransactionLogValue.PartitionsSchema(topic=topic, partition_ids=indexes)
            for topic, indexes in by_topic.items()
        ]
    value = TransactionLogValue(
        producer_id=snapshot.producer_id,
        producer_epoch=snapshot.producer_epoch,
        transaction_timeout_ms=snapshot.timeout_ms,
        transaction_status=snapshot.state,
        transaction_partitions=partitions,
        transaction_last_update_timestamp_ms=snapshot.update_ms,
        transaction_start_timestamp_ms=snapshot.start_ms,
    )
    value_version = 0
    if version >= _FLEXIBLE_FROM_TRANSACTION_VERSION:
        value_version = 1
        value.previous_producer_id = snapshot.previous_producer_id
        value.next_producer_id = snapshot.next_producer_id
        value.client_transaction_version = snapshot.client_version
    return _key(transactional_id), _INT16.pack(value_version) + value.encode(value_version)


def tombstone(transactional_id: str) -> CoordinatorRecord:
    """Removes an id."""
    return _key(transactional_id), None


def _key(transactional_id: str) -> bytes:
    return _INT16.pack(TRANSACTION_LOG) + TransactionLogKey(transactional_id=transactional_id).encode(0)


def decode_key(key: bytes) -> str | None:
    """The transactional id, None for records of a type that came later; DecodeError for bytes that are no key."""
    if _number(key, "key") != TRANSACTION_LOG:
        return None
    return TransactionLogKey.decode(key, 0, _INT16.size).transactional_id


def decode_value(data: bytes) -> Snapshot:
    """A state; DecodeError for one of a newer version, or with a status that nobody writes."""
    version = _number(data, "value")
    if not 0 <= version <= TransactionLogValue.MAX_VERSION:
        raise DecodeError(
            f"a transaction's record of version {version} is newer than {TransactionLogValue.MAX_VERSION}"
        )
    value = TransactionLogValue.decode(data, version, _INT16.size)
    try:
        state = TransactionState(value.transaction_status)
    except ValueError:
        raise DecodeError(f"a transaction's record has status {value.transaction_status}") from None
    partitions = value.transaction_partitions or ()
    return Snapshot(
        producer_id=value.producer_id,
        previous_producer_id=value.previous_producer_id,
        next_producer_id=value.next_producer_id,
        producer_epoch=value.producer_epoch,
        last_producer_epoch=NO_PRODUCER_EPOCH,
        timeout_ms=value.transaction_timeout_ms,
        state=state,
        partitions=frozenset((each.topic, index) for each in partitions for index in each.partition_ids)
        if state is not TransactionState.EMPTY
        else frozenset(),
        start_ms=value.transaction_start_timestamp_ms,
        update_ms=value.transaction_last_update_timestamp_ms,
        client_version=value.client_transaction_version,
    )


def _number(data: bytes, what: str) -> int:
    try:
        (number,) = _INT16.unpack_from(data)
    except struct.error:
        raise DecodeError(f"a transaction's {what} of {len(data)} bytes has no version") from None
    return int(number)

"""AddPartitionsToTxn: what belongs to a transaction.

Source: KIP-98, KIP-890; Kafka's `TransactionCoordinator.handleAddPartitionsToTransaction` and
`handleVerifyPartitionsInTransaction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.state import PREPARED, TransactionState
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.coordinators.transaction.transaction import Snapshot, TopicPartition, Transaction

__all__ = ["add_partitions", "verify_partitions"]


def add_partitions(
    transaction: Transaction,
    producer_id: int,
    producer_epoch: int,
    partitions: frozenset[TopicPartition],
    client_version: int,
    now_ms: int,
) -> Snapshot | None:
    """What the id is once the partitions belong to its transaction; None if they do already.

    Raises:
        KafkaError: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    """
    current = transaction.current
    _check_producer(current, producer_id, producer_epoch)
    if transaction.pending is not None or current.state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    is_open = current.state is TransactionState.ONGOING
    if is_open and partitions <= current.partitions:
        return None
    return transaction.change(
        TransactionState.ONGOING,
        partitions=current.partitions | partitions,
        start_ms=current.start_ms if is_open else now_ms,
        update_ms=now_ms,
        client_version=client_version,
    )


def verify_partitions(
    transaction: Transaction, producer_id: int, producer_epoch: int, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, ErrorCode]:
    """Which partitions belong to the transaction, as far as that is in the log: TRANSACTION_ABORTABLE for others.

    Raises:
        KafkaError: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    """
    current = transaction.current
    _check_producer(current, producer_id, producer_epoch)
    if current.state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    return {
        partition: ErrorCode.NONE if partition in current.partitions else ErrorCode.TRANSACTION_ABORTABLE
        for partition in partitions
    }


def _check_producer(current: Snapshot, producer_id: int, producer_epoch: int) -> None:
    if current.producer_id != producer_id:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if current.producer_epoch != producer_epoch:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)

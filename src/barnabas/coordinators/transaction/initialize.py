"""InitProducerId: a producer takes its transactional id over, and fences whoever had it.

A producer that says what it has (KIP-360) wants to go on after an error: its epoch is raised, and a retry of that is answered with
the same. Anybody else is fenced. A transaction that is open is aborted first; the producer tries again meanwhile.

Source: Kafka's `TransactionCoordinator.handleInitProducerId`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.transaction.state import PREPARED, TransactionState
from barnabas.coordinators.transaction.transaction import (
    EPOCHS_END,
    NO_PRODUCER_EPOCH,
    NO_TIME,
)
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.transaction.transaction import Snapshot, Transaction

__all__ = ["ProducerIdentity", "initialize"]


class ProducerIdentity(NamedTuple):
    """A producer id and an epoch of it."""

    producer_id: int
    epoch: int


def initialize(
    transaction: Transaction,
    timeout_ms: int,
    expected: ProducerIdentity | None,
    take_producer_id: Callable[[], int],
    now_ms: int,
) -> Snapshot | None:
    """What the id is once the producer has it; None where the open transaction has to be aborted first.

    Args:
        transaction: The id.
        timeout_ms: The time that the producer gives its transactions.
        expected: What the producer has, if it says.
        take_producer_id: Gives a new producer id.
        now_ms: Wall-clock milliseconds.

    Raises:
        KafkaError: CONCURRENT_TRANSACTIONS, PRODUCER_FENCED.
    """
    current = transaction.current
    if transaction.pending is not None:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if expected is not None and not _may_have_been(current, expected):
        raise KafkaError(ErrorCode.PRODUCER_FENCED)
    if current.state in PREPARED:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if current.state is TransactionState.ONGOING:
        return None
    producer_id = current.producer_id
    if transaction.is_exhausted and (expected is None or expected.epoch == current.producer_epoch):
        producer_id, epoch = take_producer_id(), 0
        last_epoch = NO_PRODUCER_EPOCH if expected is None else current.producer_epoch
    else:
        epoch, last_epoch = _raised(current, expected)
    return transaction.change(
        TransactionState.EMPTY,
        producer_id=producer_id,
        producer_epoch=epoch,
        last_producer_epoch=last_epoch,
        timeout_ms=timeout_ms,
        partitions=frozenset(),
        start_ms=NO_TIME,
        update_ms=now_ms,
    )


def _may_have_been(current: Snapshot, expected: ProducerIdentity) -> bool:
    return (
        current.producer_epoch == NO_PRODUCER_EPOCH
        or expected.producer_id == current.producer_id
        # The retry of a request that has used up the epochs of the id before.
        or (expected.producer_id == current.previous_producer_id and expected.epoch >= EPOCHS_END)
    )


def _raised(current: Snapshot, expected: ProducerIdentity | None) -> tuple[int, int]:
    """The next epoch, and the one before it as a retry would name it."""
    if expected is None:
        return current.producer_epoch + 1, NO_PRODUCER_EPOCH
    if current.producer_epoch in (NO_PRODUCER_EPOCH, expected.epoch):
        return current.producer_epoch + 1, current.producer_epoch
    if expected.epoch == current.last_producer_epoch:
        return current.producer_epoch, current.last_producer_epoch
    raise KafkaError(ErrorCode.PRODUCER_FENCED)

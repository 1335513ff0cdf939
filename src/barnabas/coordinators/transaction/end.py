"""EndTxn, in both versions of transactions, and the ends that nobody asked for.

Version 1: an epoch lasts until the next InitProducerId, and the same request may come again and again.
Version 2 (KIP-890): each end raises the epoch, so that what comes late from the transaction before is refused everywhere. A request
with the epoch before is a retry; an abort without a transaction raises the epoch as well:

                      abort                    commit
                      retry     current        retry     current
    Empty             fenced    abort          fenced    INVALID_TXN_STATE
    CompleteAbort     done      abort          INVALID_TXN_STATE
    CompleteCommit    INVALID   abort          done      INVALID_TXN_STATE

Source: KIP-890; Kafka's `TransactionCoordinator.endTransaction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.state import TransactionState
from barnabas.coordinators.transaction.transaction import (
    EPOCHS_END,
    MAX_PRODUCER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    supports_epoch_bump,
)
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.transaction.transaction import Snapshot, Transaction

__all__ = ["complete", "end", "fence_and_abort"]

_COMPLETE = {
    TransactionState.PREPARE_COMMIT: TransactionState.COMPLETE_COMMIT,
    TransactionState.PREPARE_ABORT: TransactionState.COMPLETE_ABORT,
}


def end(
    transaction: Transaction,
    producer_id: int,
    producer_epoch: int,
    *,
    committed: bool,
    client_version: int,
    take_producer_id: Callable[[], int],
    now_ms: int,
) -> Snapshot | None:
    """What the id is once the decision is written; None for the retry of a request that is done.

    Args:
        transaction: The id.
        producer_id: Whose transaction the client means.
        producer_epoch: In which epoch.
        committed: Whether it is to be committed.
        client_version: The version of transactions that the client speaks.
        take_producer_id: Gives a new producer id.
        now_ms: Wall-clock milliseconds.

    Raises:
        KafkaError: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS, INVALID_TXN_STATE.
    """
    if supports_epoch_bump(client_version):
        return _end_with_bump(
            transaction,
            producer_id,
            producer_epoch,
            committed=committed,
            client_version=client_version,
            take_producer_id=take_producer_id,
            now_ms=now_ms,
        )
    current = transaction.current
    if current.producer_id != producer_id:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if current.producer_epoch != producer_epoch:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)
    if transaction.pending is not None:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    state = current.state
    if state is TransactionState.ONGOING:
        return transaction.change(
            _prepared(committed=committed),
            next_producer_id=NO_PRODUCER_ID,
            update_ms=now_ms,
            client_version=0,
        )
    if state is _prepared(committed=committed):
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if state is _COMPLETE[_prepared(committed=committed)]:
        return None
    raise _invalid(transaction, committed=committed)


def _end_with_bump(
    transaction: Transaction,
    producer_id: int,
    producer_epoch: int,
    *,
    committed: bool,
    client_version: int,
    take_producer_id: Callable[[], int],
    now_ms: int,
) -> Snapshot | None:
    current = transaction.current
    state = current.state
    is_retry_of_last_epoch = (
        current.previous_producer_id == producer_id
        and producer_epoch == EPOCHS_END
        and current.producer_epoch == 0
    )
    is_retry = is_retry_of_last_epoch or current.producer_epoch == producer_epoch + 1
    is_current = current.producer_epoch == producer_epoch
    if current.producer_id != producer_id and not is_retry_of_last_epoch:
        raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if transaction.pending is not None:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if state in (TransactionState.ONGOING, TransactionState.EMPTY):
        is_valid = is_current
    elif state in _COMPLETE:
        is_valid = current.producer_epoch == producer_epoch + 1
    else:
        is_valid = is_retry or is_current
    if not is_valid:
        raise KafkaError(ErrorCode.PRODUCER_FENCED)

    prepared = _prepared(committed=committed)
    if state is prepared:
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
    if is_retry and state is _COMPLETE[prepared]:
        return None
    is_open = state is TransactionState.ONGOING
    if not is_open and (committed or is_retry or state in _COMPLETE):
        raise _invalid(transaction, committed=committed)
    return transaction.change(
        prepared,
        producer_epoch=current.producer_epoch + 1,
        last_producer_epoch=current.producer_epoch,
        next_producer_id=take_producer_id() if transaction.is_exhausted else NO_PRODUCER_ID,
        # A transaction that has no partition began when it was ended.
        start_ms=current.start_ms if is_open else now_ms,
        update_ms=now_ms,
        client_version=client_version,
    )


def fence_and_abort(
    transaction: Transaction, version: int, now_ms: int, take_producer_id: Callable[[], int] | None
) -> Snapshot:
    """Aborts an open transaction that its producer has left, and fences the producer.

    Args:
        transaction: The id, in a transaction.
        version: The cluster's `transaction.version`.
        now_ms: Wall-clock milliseconds.
        take_producer_id: Gives a new producer id; None where nobody can be asked: the last epoch of all then stays until the next
            producer comes.
    """
    current = transaction.current
    next_producer_id = NO_PRODUCER_ID
    if supports_epoch_bump(version):
        if transaction.is_exhausted and take_producer_id is not None:
            next_producer_id = take_producer_id()
        return transaction.change(
            TransactionState.PREPARE_ABORT,
            producer_epoch=min(current.producer_epoch + 1, MAX_PRODUCER_EPOCH),
            last_producer_epoch=current.producer_epoch,
            next_producer_id=next_producer_id,
            update_ms=now_ms,
            client_version=version,
        )
    # Fenced at once, before that is written.
    epoch = min(current.producer_epoch + (0 if transaction.has_failed_fence else 1), MAX_PRODUCER_EPOCH)
    transaction.current = current._replace(producer_epoch=epoch, last_producer_epoch=NO_PRODUCER_EPOCH)
    return transaction.change(
        TransactionState.PREPARE_ABORT,
        next_producer_id=next_producer_id,
        update_ms=now_ms,
        client_version=0,
    )


def complete(transaction: Transaction, now_ms: int) -> Snapshot:
    """What the id is once all markers are written."""
    current = transaction.current
    fields = {}
    if supports_epoch_bump(current.client_version) and current.next_producer_id != NO_PRODUCER_ID:
        fields = {"producer_id": current.next_producer_id, "producer_epoch": 0}
    return transaction.change(
        _COMPLETE[current.state],
        next_producer_id=NO_PRODUCER_ID,
        partitions=frozenset(),
        update_ms=now_ms,
        **fields,
    )


def _prepared(*, committed: bool) -> TransactionState:
    return TransactionState.PREPARE_COMMIT if committed else TransactionState.PREPARE_ABORT


def _invalid(transaction: Transaction, *, committed: bool) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_TXN_STATE,
        f"{transaction.transactional_id} is {transaction.state.label} and can not be {'committed' if committed else 'aborted'}",
    )

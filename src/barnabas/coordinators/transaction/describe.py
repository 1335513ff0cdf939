"""DescribeTransactions and ListTransactions.

Source: KIP-664, KIP-994; Kafka's `TransactionCoordinator.handleDescribeTransactions` and
`TransactionStateManager.listTransactionStates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.state import TransactionState
from barnabas.wire.messages.describe_transactions import DescribeTransactionsResponse
from barnabas.wire.messages.list_transactions import ListTransactionsResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from barnabas.coordinators.transaction.transaction import Transaction

__all__ = ["TransactionFilter", "describe", "listed"]

_BY_LABEL = {state.label: state for state in TransactionState}


def describe(transaction: Transaction) -> DescribeTransactionsResponse.TransactionState:
    """An id, as DescribeTransactions shows it."""
    current = transaction.current
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(current.partitions):
        topics.setdefault(topic, []).append(index)
    return DescribeTransactionsResponse.TransactionState(
        transactional_id=transaction.transactional_id,
        transaction_state=current.state.label,
        transaction_timeout_ms=current.timeout_ms,
        transaction_start_time_ms=current.start_ms,
        producer_id=current.producer_id,
        producer_epoch=current.producer_epoch,
        topics=[
            DescribeTransactionsResponse.TopicData(topic=topic, partitions=partitions)
            for topic, partitions in topics.items()
        ],
    )


def listed(transaction: Transaction) -> ListTransactionsResponse.TransactionState:
    """An id, as ListTransactions shows it."""
    return ListTransactionsResponse.TransactionState(
        transactional_id=transaction.transactional_id,
        producer_id=transaction.current.producer_id,
        transaction_state=transaction.state.label,
    )


class TransactionFilter:
    """What ListTransactions asks for.

    Args:
        producer_ids: Of these producers; of all if empty.
        states: In these states; in any if empty.
        duration_ms: Begun longer ago than this; negative for any.
        matches_id: Whether an id is wanted.

    Attributes:
        unknown_states: The names among `states` that are no state's.
    """

    __slots__ = ("_duration_ms", "_matches_id", "_producer_ids", "_states", "unknown_states")

    def __init__(
        self,
        producer_ids: Collection[int] = (),
        states: Collection[str] = (),
        duration_ms: int = -1,
        matches_id: Callable[[str], bool] | None = None,
    ) -> None:
        self._producer_ids = frozenset(producer_ids)
        self._states = {_BY_LABEL[name] for name in states if name in _BY_LABEL} if states else None
        self._duration_ms = duration_ms
        self._matches_id = matches_id
        self.unknown_states = [name for name in states if name not in _BY_LABEL]

    def matches(self, transaction: Transaction, now_ms: int) -> bool:
        """Whether an id is wanted, at this wall-clock time."""
        current = transaction.current
        if self._producer_ids and current.producer_id not in self._producer_ids:
            return False
        if self._states is not None and current.state not in self._states:
            return False
        if self._duration_ms >= 0 and now_ms - current.start_ms <= self._duration_ms:
            return False
        return self._matches_id is None or self._matches_id(transaction.transactional_id)

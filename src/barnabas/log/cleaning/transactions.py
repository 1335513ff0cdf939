"""Transactions, as a walk through a log meets them: whose records were aborted, whose end marker may go.

Records of aborted transactions go at once. An end marker stays until all batches of its transaction are gone, since readers that
began before it need it. Pure: told of each batch in turn.

Source: `CleanedTransactionMetadata` of Apache Kafka 4.3.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.log.end_marker import EndMarker
    from barnabas.log.transaction_index import AbortedTransaction
    from barnabas.records.batch import BatchHeader

__all__ = ["CleanedTransactions"]


class CleanedTransactions:
    """See the module.

    Args:
        aborted: the aborted transactions that reach into what will be walked through.

    Attributes:
        retained: aborted transactions whose end marker stays, in the order of the markers; whoever writes them into an index
            clears it.
    """

    __slots__ = ("_aborted", "_has_records", "_next", "_ongoing_aborted", "_ongoing_committed", "retained")

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        self._aborted = sorted(aborted, key=attrgetter("first_offset"))
        self._next = 0
        self._ongoing_aborted: dict[int, AbortedTransaction] = {}
        self._has_records: set[int] = set()
        self._ongoing_committed: set[int] = set()
        self.retained: list[AbortedTransaction] = []

    def _begin_up_to(self, offset: int) -> None:
        aborted = self._aborted
        while self._next < len(aborted) and aborted[self._next].first_offset <= offset:
            transaction = aborted[self._next]
            self._next += 1
            before = self._ongoing_aborted.get(transaction.producer_id)
            if before is None or before.last_offset < transaction.first_offset:
                self._ongoing_aborted[transaction.producer_id] = transaction
                self._has_records.discard(transaction.producer_id)

    def on_batch(self, header: BatchHeader) -> bool:
        """Takes note of a batch of data; whether it was aborted, so that its records may go."""
        if self._next < len(self._aborted):
            self._begin_up_to(header.last_offset)
        if not header.is_transactional:
            return False
        producer_id = header.producer_id
        transaction = self._ongoing_aborted.get(producer_id)
        if transaction is not None:
            if header.base_offset < transaction.last_offset:
                self._has_records.add(producer_id)
                return True
            # Its marker lies before the walk's beginning, or went long ago.
            del self._ongoing_aborted[producer_id]
            self._has_records.discard(producer_id)
        self._ongoing_committed.add(producer_id)
        return False

    def on_control_batch(self, header: BatchHeader, marker: EndMarker | None) -> bool:
        """Takes note of a control batch; whether nothing of its transaction is left, so that it may go.

        Args:
            header: the batch's header.
            marker: what it says; None for a batch that was emptied, or that controls something else.
        """
        self._begin_up_to(header.last_offset)
        if marker is None:
            return header.record_count == 0
        producer_id = header.producer_id
        if marker.is_abort:
            transaction = self._ongoing_aborted.pop(producer_id, None)
            if transaction is not None and producer_id in self._has_records:
                self._has_records.discard(producer_id)
                self.retained.append(transaction)
                return False
            return True
        if producer_id in self._ongoing_committed:
            self._ongoing_committed.discard(producer_id)
            return False
        return True

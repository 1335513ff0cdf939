"""What is known of one transactional id, and what a change makes of it.

A change is decided, written, and takes effect when its record is committed; until then the id is busy (`pending`), and whoever
wants another change is told CONCURRENT_TRANSACTIONS. What readers see is therefore always in the log for good.

Source: KIP-98, KIP-360, KIP-890; Kafka's `TransactionMetadata` and `TxnTransitMetadata`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.coordinators.transaction.state import TransactionState

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "EPOCHS_END",
    "MAX_PRODUCER_EPOCH",
    "NO_PRODUCER_EPOCH",
    "NO_PRODUCER_ID",
    "NO_TIME",
    "EndMarkers",
    "Snapshot",
    "TopicPartition",
    "Transaction",
    "supports_epoch_bump",
]

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_TIME = -1
MAX_PRODUCER_EPOCH = 32767
EPOCHS_END = MAX_PRODUCER_EPOCH - 1
"""A producer that has reached this epoch gets another id: one epoch has to be left to fence it with."""

_EPOCH_BUMP_FROM = 2

TopicPartition = tuple[str, int]


def supports_epoch_bump(version: int) -> bool:
    """Whether transactions of this version have an epoch each (KIP-890)."""
    return version >= _EPOCH_BUMP_FROM


class Snapshot(NamedTuple):
    """All of an id's state that is written down, after a change.

    Attributes:
        producer_id: The producer's id.
        previous_producer_id: The one before, to know the retry of a request that has replaced it.
        next_producer_id: The one that replaces it when the transaction is complete, its epochs being used up.
        producer_epoch: The newest epoch; an older one is fenced.
        last_producer_epoch: The one before, to know the retry of a request that has raised it. Not in the log.
        timeout_ms: The time that the producer gives its transactions.
        state: The state.
        partitions: What belongs to the transaction.
        start_ms: When it began, -1 without one.
        update_ms: When the id was last used.
        client_version: The transaction version that the producer used last.
    """

    producer_id: int
    previous_producer_id: int
    next_producer_id: int
    producer_epoch: int
    last_producer_epoch: int
    timeout_ms: int
    state: TransactionState
    partitions: frozenset[TopicPartition]
    start_ms: int
    update_ms: int
    client_version: int


class EndMarkers(NamedTuple):
    """The end of a transaction, to be written to its partitions."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    committed: bool
    partitions: frozenset[TopicPartition]
    version: int


class Transaction:
    """A transactional id, and the transaction that it is in.

    Attributes:
        current: Its state in the log.
        pending: The state that it is about to have, None while it is idle.
        has_failed_fence: An epoch was raised to fence the producer, and nobody knows whether that was written: it is not
            raised again for the next try.
        waiters: Who waits for `pending` to be over, in the order in which they came.
    """

    __slots__ = ("current", "has_failed_fence", "pending", "transactional_id", "waiters")

    def __init__(self, transactional_id: str, current: Snapshot) -> None:
        self.transactional_id = transactional_id
        self.current = current
        self.pending: TransactionState | None = None
        self.has_failed_fence = False
        self.waiters: dict[Any, None] = {}

    @classmethod
    def new(cls, transactional_id: str, producer_id: int, timeout_ms: int, now_ms: int) -> Self:
        """One that nobody has used yet."""
        return cls(
            transactional_id,
            Snapshot(
                producer_id=producer_id,
                previous_producer_id=NO_PRODUCER_ID,
                next_producer_id=NO_PRODUCER_ID,
                producer_epoch=NO_PRODUCER_EPOCH,
                last_producer_epoch=NO_PRODUCER_EPOCH,
                timeout_ms=timeout_ms,
                state=TransactionState.EMPTY,
                partitions=frozenset(),
                start_ms=NO_TIME,
                update_ms=now_ms,
                client_version=0,
            ),
        )

    def __repr__(self) -> str:
        return f"<Transaction {self.transactional_id} {self.current} pending={self.pending}>"

    @property
    def state(self) -> TransactionState:
        """The state in the log."""
        return self.current.state

    @property
    def is_exhausted(self) -> bool:
        """Whether the producer id has no epoch left to give."""
        return self.current.producer_epoch >= EPOCHS_END

    def change(self, state: TransactionState, **fields: Any) -> Snapshot:
        """What it is after a change of state; everything that is not named stays."""
        return self.current._replace(state=state, previous_producer_id=self.current.producer_id, **fields)

    def markers(self) -> EndMarkers:
        """What has to be written, of a transaction that is decided."""
        current = self.current
        return EndMarkers(
            self.transactional_id,
            current.producer_id,
            current.producer_epoch,
            current.state is TransactionState.PREPARE_COMMIT,
            current.partitions,
            current.client_version,
        )

"""What one partition remembers of one producer, and the rules its next batch has to meet.

Pure: no files, no clock. `ProducerState` holds an entry per producer id.

Sources: KIP-98 (idempotent and transactional producers), KIP-890 (transaction defence),
`ProducerStateEntry`, `ProducerAppendInfo` and `VerificationStateEntry` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BATCHES_REMEMBERED",
    "NO_PRODUCER_EPOCH",
    "NO_SEQUENCE",
    "AppendedBatch",
    "ProducerEntry",
    "Verification",
    "VerificationGuard",
    "check_epoch",
    "check_marker_epoch",
    "check_sequence",
]

BATCHES_REMEMBERED = 5
"""How many batches per producer are known again as duplicates: the most that a client keeps in flight."""

NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
MAX_PRODUCER_EPOCH = 32767
SEQUENCE_COUNT = 1 << 31
"""Sequence numbers run from 0 to 2^31 - 1 and then start again at 0."""


class AppendedBatch(NamedTuple):
    """One batch as it was appended, enough to answer its duplicate."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def first_sequence(self) -> int:
        """The sequence number of the batch's first record."""
        return (self.last_sequence - self.offset_delta) % SEQUENCE_COUNT

    @property
    def first_offset(self) -> int:
        """The offset of the batch's first record."""
        return self.last_offset - self.offset_delta


class ProducerEntry:
    """The last appends of one producer id.

    `batches` holds the last five batches of the current epoch, oldest first, and `next_sequence` is the number that
    follows them. `transaction_first_offset` is -1 while no transaction is open; `last_timestamp_ms` is that of the last
    batch or marker, which decides expiry.
    """

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "last_timestamp_ms",
        "next_sequence",
        "producer_id",
        "transaction_first_offset",
    )

    def __init__(
        self,
        producer_id: int,
        *,
        epoch: int = NO_PRODUCER_EPOCH,
        coordinator_epoch: int = -1,
        last_timestamp_ms: int = -1,
        transaction_first_offset: int = -1,
        last_batch: AppendedBatch | None = None,
    ) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = coordinator_epoch
        self.last_timestamp_ms = last_timestamp_ms
        self.transaction_first_offset = transaction_first_offset
        self.batches: list[AppendedBatch] = [] if last_batch is None else [last_batch]
        self.next_sequence = (self.last_sequence + 1) % SEQUENCE_COUNT

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record appended in this epoch, or -1."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    @property
    def last_offset(self) -> int:
        """The offset of the last record appended in this epoch, or -1."""
        return self.batches[-1].last_offset if self.batches else -1

    def in_transaction(self, epoch: int) -> bool:
        """Whether a transaction of this very epoch is open."""
        return self.transaction_first_offset >= 0 and self.epoch == epoch

    def find_duplicate(self, epoch: int, first_sequence: int, last_sequence: int) -> AppendedBatch | None:
        """The remembered batch with exactly these sequence numbers, if any."""
        if epoch == self.epoch:
            for batch in self.batches:
                if batch.last_sequence == last_sequence and batch.first_sequence == first_sequence:
                    return batch
        return None

    def add_batch(self, epoch: int, batch: AppendedBatch) -> None:
        """Remember a batch; a new epoch forgets those of the one before."""
        if epoch != self.epoch:
            self.set_epoch(epoch)
        batches = self.batches
        if len(batches) == BATCHES_REMEMBERED:
            del batches[0]
        batches.append(batch)
        last_sequence, _, _, self.last_timestamp_ms = batch
        self.next_sequence = (last_sequence + 1) % SEQUENCE_COUNT

    def recall(self, earlier: Sequence[AppendedBatch]) -> None:
        """Remember batches from before those that are remembered, as far as they lead up to them; oldest first."""
        for batch in reversed(earlier):
            if not self.batches or len(self.batches) == BATCHES_REMEMBERED:
                return
            if (batch.last_sequence + 1) % SEQUENCE_COUNT != self.batches[0].first_sequence:
                return
            self.batches.insert(0, batch)

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; another one than before forgets the remembered batches."""
        if epoch != self.epoch:
            self.batches.clear()
            self.next_sequence = 0
            self.epoch = epoch

    def __repr__(self) -> str:
        return (
            f"ProducerEntry(producer_id={self.producer_id}, epoch={self.epoch}, "
            f"coordinator_epoch={self.coordinator_epoch}, last_timestamp_ms={self.last_timestamp_ms}, "
            f"transaction_first_offset={self.transaction_first_offset}, batches={self.batches})"
        )


class VerificationGuard:
    """A token for one verification of one transaction; compared by identity."""

    __slots__ = ()


class Verification:
    """A transactional producer whose transaction is being verified with its coordinator (KIP-890).

    `lowest_sequence` is the lowest sequence number seen meanwhile: a higher one must not be written before it, or
    the lower one's retry would end in OUT_OF_ORDER_SEQUENCE_NUMBER for ever.
    """

    __slots__ = ("epoch", "guard", "lowest_sequence", "started_ms", "supports_epoch_bump")

    def __init__(self, sequence: int, epoch: int, *, supports_epoch_bump: bool, started_ms: int) -> None:
        self.guard = VerificationGuard()
        self.lowest_sequence = sequence
        self.epoch = epoch
        self.supports_epoch_bump = supports_epoch_bump
        self.started_ms = started_ms

    def see(self, sequence: int, epoch: int) -> None:
        """Another batch of the producer waits for the same verification."""
        if epoch > self.epoch:
            self.epoch = epoch
            self.lowest_sequence = sequence
        elif epoch == self.epoch and sequence < self.lowest_sequence:
            self.lowest_sequence = sequence

    def is_of_next(self, marker_epoch: int) -> bool:
        """Whether this is the transaction after the one that a marker ends, and goes on.

        With transaction version 2 the marker has the epoch of what follows it, and a producer that was told of the end may write before
        the marker is here. Where the epochs are used up, that cannot be told.
        """
        return self.supports_epoch_bump and MAX_PRODUCER_EPOCH > self.epoch >= marker_epoch


def check_epoch(entry: ProducerEntry, epoch: int, topic_partition: str) -> None:
    """Refuse a producer that a later epoch has fenced.

    Raises:
        KafkaError: INVALID_PRODUCER_EPOCH.
    """
    if epoch < entry.epoch:
        raise KafkaError(
            ErrorCode.INVALID_PRODUCER_EPOCH,
            f"Producer {entry.producer_id} came with epoch {epoch} to {topic_partition}, which has seen epoch {entry.epoch}",
        )


def check_marker_epoch(
    entry: ProducerEntry, epoch: int, transaction_version: int, topic_partition: str
) -> None:
    """Refuse a transaction marker of a fenced epoch.

    From transaction version 2 on, the coordinator bumps the epoch for every marker, so an equal epoch is stale too,
    except for the retry of a marker that has been written already, and where the epochs are used up.

    Raises:
        KafkaError: INVALID_PRODUCER_EPOCH.
    """
    if transaction_version >= 2:
        if epoch > entry.epoch:
            return
        if epoch == entry.epoch and (entry.transaction_first_offset < 0 or epoch == MAX_PRODUCER_EPOCH):
            return
        raise KafkaError(
            ErrorCode.INVALID_PRODUCER_EPOCH,
            f"Marker of producer {entry.producer_id} came with epoch {epoch} to {topic_partition}, which has seen epoch "
            f"{entry.epoch} (transaction version {transaction_version})",
        )
    check_epoch(entry, epoch, topic_partition)


def check_sequence(
    entry: ProducerEntry | None,
    verification: Verification | None,
    producer_id: int,
    epoch: int,
    sequence: int,
    topic_partition: str,
) -> None:
    """Refuse a batch that leaves a gap after the producer's last one.

    A producer that is not known (new, expired, or its records deleted) may start with any sequence number, except
    one that is being verified and would bump its epoch: it starts with 0.

    Raises:
        KafkaError: OUT_OF_ORDER_SEQUENCE_NUMBER.
    """
    if verification is not None:
        if verification.supports_epoch_bump and sequence != 0 and (entry is None or not entry.batches):
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Producer {producer_id} began on {topic_partition} with sequence number {sequence} instead of 0",
            )
        if sequence > verification.lowest_sequence:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Producer {producer_id} sent sequence number {sequence} to {topic_partition} while "
                f"{verification.lowest_sequence} has yet to be written",
            )
    if entry is None or entry.epoch == NO_PRODUCER_EPOCH:
        return
    if epoch != entry.epoch:
        if sequence != 0:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Producer {producer_id} began epoch {epoch} on {topic_partition} with sequence number {sequence} instead of 0 "
                f"(the epoch before was {entry.epoch})",
            )
        return
    if sequence != entry.next_sequence:
        raise KafkaError(
            ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"Producer {producer_id} sent sequence number {sequence} to {topic_partition} after {entry.last_sequence}",
        )

"""What a partition knows of its producers: duplicates, sequence gaps, fenced epochs, open transactions.

A `ProducerState` belongs to one `PartitionLog`, changes on the event loop only, and follows the log: for every batch
with a producer id the log calls `check` before the write and `update` after it. Every so often (a roll, a clean close) it
is written to a snapshot file beside the segments, so that a restart reads the log from the latest snapshot only.

Offsets that transactions hold back:

    first undecided offset   first record of the oldest transaction without a marker
    first unstable offset    the same, or that of a completed transaction whose marker is not yet below the high watermark
    last stable offset       the smaller of first unstable offset and high watermark; read_committed readers stop there

Producers come and go without bound on the client's side: `expire` forgets idle ones after `producer.id.expiration.ms`.

Sources: KIP-98, KIP-360, KIP-890; `ProducerStateManager` and `UnifiedLog` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.open_transactions import OpenTransactions
from barnabas.log.origin import Origin
from barnabas.log.producer_entry import (
    AppendedBatch,
    ProducerEntry,
    Verification,
    VerificationGuard,
    check_epoch,
    check_marker_epoch,
    check_sequence,
)
from barnabas.log.producer_snapshot import ProducerSnapshots
from barnabas.records.batch import CONTROL_FLAG, TRANSACTIONAL_FLAG

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from barnabas.log.end_marker import EndMarker
    from barnabas.log.files import Files
    from barnabas.records.batch import BatchHeader

__all__ = [
    "CompletedTransaction",
    "Duplicate",
    "ProducerSettings",
    "ProducerState",
]

logger = logging.getLogger(__name__)

_TRANSACTIONAL_OR_CONTROL = TRANSACTIONAL_FLAG | CONTROL_FLAG
_new = tuple.__new__

LATE_TRANSACTION_MS = 5 * 60 * 1000
"""How long after its time-out a transaction without a marker counts as hanging."""


class ProducerSettings:
    """What all producer states of a broker share; changed in place when the configuration changes.

    `expiration_ms` is `producer.id.expiration.ms`; `verify_transactions` is `transaction.partition.verification.enable`.
    """

    __slots__ = ("expiration_ms", "verify_transactions")

    def __init__(self, *, expiration_ms: int = 86_400_000, verify_transactions: bool = True) -> None:
        self.expiration_ms = expiration_ms
        self.verify_transactions = verify_transactions


class Duplicate(NamedTuple):
    """A batch that was appended before: where, and when."""

    first_offset: int
    last_offset: int
    timestamp_ms: int


class CompletedTransaction(NamedTuple):
    """A transaction whose marker was just appended; an aborted one goes into the transaction index.

    `last_offset` is the marker's; `last_stable_offset` is where readers stop once the marker is replicated.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    is_aborted: bool
    last_stable_offset: int


class ProducerState:
    """The producers of one partition; see the module.

    Creating one touches no file: call `scan` with the directory's file names before `truncate_and_reload`.
    `map_end_offset` is the offset up to which the log is reflected here; the log moves it after every append.
    """

    __slots__ = (
        "_last_snapshot_offset",
        "_log_start_offset",
        "_producers",
        "_snapshots",
        "_verifications",
        "map_end_offset",
        "settings",
        "topic_partition",
        "transactions",
    )

    def __init__(
        self, directory: Path, files: Files, settings: ProducerSettings, *, topic_partition: str
    ) -> None:
        self.settings = settings
        self.topic_partition = topic_partition
        self.map_end_offset = 0
        self._last_snapshot_offset = 0
        self._log_start_offset = 0
        self._producers: dict[int, ProducerEntry] = {}
        self._verifications: dict[int, Verification] = {}
        self.transactions = OpenTransactions()
        self._snapshots = ProducerSnapshots(directory, files)

    @property
    def directory(self) -> Path:
        """Where the snapshots lie; whoever renames the directory sets it."""
        return self._snapshots.directory

    @directory.setter
    def directory(self, directory: Path) -> None:
        self._snapshots.directory = directory

    # Checks and changes along the log.

    def check(
        self,
        header: BatchHeader,
        origin: Origin,
        *,
        marker: EndMarker | None = None,
        guard: VerificationGuard | None = None,
        transaction_version: int = 0,
    ) -> Duplicate | None:
        """Decide on a batch with a producer id, without changing anything.

        A client appends one batch at a time (Produce allows one per partition), so `check`, write, `update` see
        every batch in turn. Batches of a leader or of our own log are never refused, only remarked upon.

        Args:
            header: the batch, with its assigned offsets.
            origin: who appends it.
            marker: the content of a control batch; None for data, and for a control batch without records.
            guard: what `begin_verification` gave for this batch's transaction.
            transaction_version: the `transaction.version` feature level under which a marker was sent.

        Returns:
            Where the batch is already, if it is one of the producer's last five; it must not be written again.

        Raises:
            KafkaError: OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE,
                TRANSACTION_COORDINATOR_FENCED.
        """
        producer_id = header.producer_id
        entry = self._producers.get(producer_id)
        if (
            entry is not None
            and header.base_sequence == entry.next_sequence
            and header.producer_epoch == entry.epoch
            and not header.attributes & _TRANSACTIONAL_OR_CONTROL
            and entry.transaction_first_offset < 0
            and not self._verifications
        ):
            return None  # what nearly all batches of idempotent producers are: the next one
        if origin is Origin.REPLICATION:
            if entry is not None and header.producer_epoch < entry.epoch:
                logger.warning(
                    "%s: batch at offset %d of producer %d has epoch %d after epoch %d",
                    self.topic_partition,
                    header.base_offset,
                    producer_id,
                    header.producer_epoch,
                    entry.epoch,
                )
            return None
        if header.is_control:
            if marker is not None and entry is not None:
                self._check_marker(entry, header.producer_epoch, marker, transaction_version)
            return None

        epoch = header.producer_epoch
        if origin is Origin.CLIENT and entry is not None:
            batch = entry.find_duplicate(epoch, header.base_sequence, header.last_sequence)
            if batch is not None:
                return Duplicate(batch.first_offset, batch.last_offset, batch.timestamp_ms)
        if entry is not None:
            check_epoch(entry, epoch, self.topic_partition)
        verification = self._verifications.get(producer_id) if self._verifications else None
        if header.is_transactional:
            in_transaction = entry is not None and entry.in_transaction(epoch)
            if (
                not in_transaction
                and self.settings.verify_transactions
                and (guard is None or verification is None or verification.guard is not guard)
            ):
                raise KafkaError(
                    ErrorCode.INVALID_TXN_STATE,
                    f"Producer {producer_id} has no open transaction on {self.topic_partition}",
                )
        if origin is Origin.CLIENT:
            check_sequence(
                entry, verification, producer_id, epoch, header.base_sequence, self.topic_partition
            )
        if entry is not None and entry.transaction_first_offset >= 0 and not header.is_transactional:
            raise KafkaError(
                ErrorCode.INVALID_TXN_STATE,
                f"Producer {producer_id} wrote outside of its open transaction on {self.topic_partition}",
            )
        return None

    def _check_marker(
        self, entry: ProducerEntry, epoch: int, marker: EndMarker, transaction_version: int
    ) -> None:
        check_marker_epoch(entry, epoch, transaction_version, self.topic_partition)
        if marker.coordinator_epoch < entry.coordinator_epoch:
            raise KafkaError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"Coordinator epoch {marker.coordinator_epoch} for producer {entry.producer_id} on {self.topic_partition} "
                f"is older than {entry.coordinator_epoch}",
            )

    def update(
        self,
        header: BatchHeader,
        first_offset: int | None = None,
        *,
        marker: EndMarker | None = None,
        max_timestamp_ms: int | None = None,
    ) -> CompletedTransaction | None:
        """Take in a batch with a producer id that was just written.

        Args:
            header: the batch.
            first_offset: the offset assigned to its first record, where `header` is older than that.
            marker: the content of a control batch.
            max_timestamp_ms: the time that the broker gave the batch, where `header` is older than that.

        Returns:
            The transaction that it completes, if it does.
        """
        producer_id = header.producer_id
        entry = self._producers.get(producer_id)
        flags = header.attributes & _TRANSACTIONAL_OR_CONTROL
        if flags & CONTROL_FLAG and marker is None:
            return None  # compaction emptied it: the whole transaction is gone from the log
        if first_offset is None:
            first_offset = header.base_offset
        if entry is None:
            entry = self._producers[producer_id] = ProducerEntry(producer_id)
        if flags and self._verifications:
            verification = self._verifications.get(producer_id)
            if verification is not None and (
                marker is None or not verification.is_of_next(header.producer_epoch)
            ):
                del self._verifications[producer_id]
        if marker is not None:
            return self._complete_transaction(entry, header.producer_epoch, first_offset, marker)
        offset_delta = header.last_offset_delta
        timestamp_ms = header.max_timestamp if max_timestamp_ms is None else max_timestamp_ms
        entry.add_batch(
            header.producer_epoch,
            _new(
                AppendedBatch, (header.last_sequence, first_offset + offset_delta, offset_delta, timestamp_ms)
            ),
        )
        if flags and entry.transaction_first_offset < 0:
            entry.transaction_first_offset = first_offset
            self.transactions.begin(first_offset, producer_id)
        return None

    def _complete_transaction(
        self, entry: ProducerEntry, epoch: int, marker_offset: int, marker: EndMarker
    ) -> CompletedTransaction | None:
        first_offset = entry.transaction_first_offset
        entry.set_epoch(epoch)
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.last_timestamp_ms = marker.timestamp_ms
        entry.transaction_first_offset = -1
        if first_offset < 0:
            return None  # nothing was written to this partition: no reader has to know
        last_stable_offset = self.transactions.end(first_offset, marker_offset)
        return CompletedTransaction(
            entry.producer_id, first_offset, marker_offset, marker.is_abort, last_stable_offset
        )

    def begin_verification(
        self, producer_id: int, sequence: int, epoch: int, *, supports_epoch_bump: bool, now_ms: int
    ) -> VerificationGuard | None:
        """Begin to verify a producer's transaction with its coordinator, before the first batch of it is written.

        Returns:
            The guard to hand to `check` once the coordinator agreed, or None where the transaction is open already.

        Raises:
            KafkaError: INVALID_PRODUCER_EPOCH.
        """
        entry = self._producers.get(producer_id)
        if entry is not None:
            check_epoch(entry, epoch, self.topic_partition)
            if entry.in_transaction(epoch):
                return None
        verification = self._verifications.get(producer_id)
        if verification is None:
            verification = Verification(
                sequence, epoch, supports_epoch_bump=supports_epoch_bump, started_ms=now_ms
            )
            self._verifications[producer_id] = verification
        else:
            verification.see(sequence, epoch)
        return verification.guard

    def take_verifications(self, other: ProducerState) -> None:
        """Go on with what another log of the same partition has begun to verify."""
        self._verifications = other._verifications

    # Offsets that transactions hold back.

    @property
    def first_undecided_offset(self) -> int | None:
        """The first record of the oldest transaction without a marker."""
        return self.transactions.first_undecided_offset

    @property
    def first_unstable_offset(self) -> int | None:
        """The first record that read_committed readers must not see yet, the high watermark aside."""
        first = self.transactions.first_unstable_offset
        return None if first is None else max(first, self._log_start_offset)

    def last_stable_offset(self, high_watermark: int) -> int:
        """Where read_committed readers stop."""
        first = self.transactions.first_unstable_offset
        if first is None or first >= high_watermark:
            return high_watermark
        return max(first, self._log_start_offset)

    def on_high_watermark(self, high_watermark: int) -> None:
        """The high watermark moved: transactions whose marker is below it are settled."""
        self.transactions.settle_below(high_watermark)

    def on_log_start_offset(self, log_start_offset: int) -> None:
        """The log start offset moved up."""
        self._log_start_offset = log_start_offset
        self.transactions.settle_below(log_start_offset)
        self.map_end_offset = max(self.map_end_offset, log_start_offset)
        latest = self._snapshots.latest_offset
        self._last_snapshot_offset = log_start_offset if latest is None else latest

    # The producers themselves.

    @property
    def producer_count(self) -> int:
        """How many producer ids are known."""
        return len(self._producers)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost by forgetting all."""
        return not self._producers and not self.transactions.has_unreplicated

    def entry(self, producer_id: int) -> ProducerEntry | None:
        """What is known of a producer."""
        return self._producers.get(producer_id)

    def active_producers(self) -> list[ProducerEntry]:
        """Every known producer, for DescribeProducers."""
        return list(self._producers.values())

    def has_late_transaction(self, now_ms: int, transaction_timeout_ms: int) -> bool:
        """Whether the oldest open transaction is long past the longest time-out that a client may ask for."""
        oldest = self.transactions.oldest_producer_id
        if oldest is None:
            return False
        started_ms = self._producers[oldest].last_timestamp_ms
        return started_ms > 0 and now_ms - started_ms > transaction_timeout_ms + LATE_TRANSACTION_MS

    def expire(self, now_ms: int) -> int:
        """Forget producers idle for `expiration_ms` without an open transaction; returns how many."""
        idle = [producer_id for producer_id, entry in self._producers.items() if self._is_idle(entry, now_ms)]
        for producer_id in idle:
            del self._producers[producer_id]
        stale = [
            producer_id
            for producer_id, verification in self._verifications.items()
            if now_ms - verification.started_ms >= self.settings.expiration_ms
        ]
        for producer_id in stale:
            del self._verifications[producer_id]
        return len(idle)

    def _is_idle(self, entry: ProducerEntry, now_ms: int) -> bool:
        return (
            entry.transaction_first_offset < 0
            and now_ms - entry.last_timestamp_ms >= self.settings.expiration_ms
        )

    # Snapshots, loading, truncation.

    def scan(self, names: Iterable[str] | None = None) -> None:
        """Learn which snapshot files exist, from a listing of the directory (read here if not given)."""
        self._snapshots.scan(names)

    @property
    def snapshot_offsets(self) -> list[int]:
        """The offsets of the snapshot files, ascending."""
        return self._snapshots.offsets

    @property
    def latest_snapshot_offset(self) -> int | None:
        """The offset of the latest snapshot file."""
        return self._snapshots.latest_offset

    def snapshot_path(self, offset: int) -> Path:
        """Where the snapshot of everything below `offset` lies, whether it exists or not."""
        return self._snapshots.path(offset)

    def take_snapshot(self, *, sync: bool) -> Path | None:
        """Write a snapshot at `map_end_offset` unless there is one; returns the new file.

        Without `sync` the caller sees to it that the file reaches the disk. A torn one is found out by its checksum.
        """
        if self.map_end_offset <= self._last_snapshot_offset:
            return None
        path = self._snapshots.write(self.map_end_offset, self._producers.values(), sync=sync)
        self._last_snapshot_offset = self.map_end_offset
        return path

    def remove_stray_snapshots(self, segment_base_offsets: Iterable[int]) -> None:
        """Delete snapshots that belong to no segment, except the one of a clean shutdown after the last segment."""
        self._snapshots.delete_strays(segment_base_offsets)

    def delete_snapshot(self, offset: int) -> None:
        """Delete a snapshot file, if there is one."""
        self._snapshots.delete(offset)

    def forget_snapshot(self, offset: int) -> Path | None:
        """Take a snapshot out of use and rename it to `.deleted`, to be deleted later together with its segment."""
        return self._snapshots.forget(offset)

    def truncate_and_reload(self, log_start_offset: int, log_end_offset: int, now_ms: int) -> int:
        """Come back to what was known at `log_end_offset`, by the latest snapshot that lies within the log.

        Returns:
            The offset from which the log must be read (with `check` and `update`, origin REPLICATION) up to
            `log_end_offset`; `map_end_offset` is there already, and it is `log_end_offset` if nothing has to be read.
        """
        self._snapshots.delete_outside(log_start_offset, log_end_offset)
        if log_end_offset == self.map_end_offset:
            self.on_log_start_offset(log_start_offset)
            return log_end_offset
        self._log_start_offset = log_start_offset
        offset, entries = self._snapshots.load_latest() or (log_start_offset, [])
        self._load(entry for entry in entries if not self._is_idle(entry, now_ms))
        self._last_snapshot_offset = self.map_end_offset = offset
        return offset

    def with_one_batch(self) -> dict[int, ProducerEntry]:
        """Producers of which a snapshot has told the last batch, and had no room for those before; by id."""
        return {
            producer_id: entry
            for producer_id, entry in self._producers.items()
            if len(entry.batches) == 1 and entry.batches[0].first_sequence != 0
        }

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Forget everything, with all snapshot files."""
        for snapshot in self._snapshots.offsets:
            self._snapshots.delete(snapshot)
        self._load(())
        self._log_start_offset = offset
        self._last_snapshot_offset = 0
        self.map_end_offset = offset

    def _load(self, entries: Iterable[ProducerEntry]) -> None:
        self._producers = {entry.producer_id: entry for entry in entries}
        self.transactions.load(
            (entry.transaction_first_offset, entry.producer_id)
            for entry in self._producers.values()
            if entry.transaction_first_offset >= 0
        )

"""The transactional ids of one partition of `__transaction_state`: finds the id, decides, and keeps time.

    InitProducerId ──> AddPartitionsToTxn ... ──> EndTxn ──> markers in every partition ──> complete

A decision is written first and takes effect when it is committed. Then its markers go into the outbox; whoever empties it
calls `complete` when they are in all partitions. After a restart the decisions without an end are put there again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.coordinators.shard import CoordinatorResult
from barnabas.coordinators.transaction.describe import describe, listed
from barnabas.coordinators.transaction.end import complete, end, fence_and_abort
from barnabas.coordinators.transaction.initialize import ProducerIdentity, initialize
from barnabas.coordinators.transaction.partitions import add_partitions, verify_partitions
from barnabas.coordinators.transaction.records import (
    decode_key,
    decode_value,
    tombstone,
    transaction_record,
)
from barnabas.coordinators.transaction.state import EXPIRABLE, PREPARED, TransactionState
from barnabas.coordinators.transaction.transaction import (
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    Transaction,
    supports_epoch_bump,
)
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from barnabas.coordinators.shard import Answer, CoordinatorRecord, Now
    from barnabas.coordinators.transaction.describe import TransactionFilter
    from barnabas.coordinators.transaction.settings import TransactionSettings
    from barnabas.coordinators.transaction.transaction import EndMarkers, Snapshot, TopicPartition
    from barnabas.wire.messages.describe_transactions import DescribeTransactionsResponse
    from barnabas.wire.messages.list_transactions import ListTransactionsResponse

__all__ = ["ProducerIdNeeded", "TransactionShard"]

logger = logging.getLogger(__name__)

NEVER = float("inf")
ABORTS_PER_TIMER_CALL = 256
IDS_PER_EXPIRY_CALL = 1_000
_NO_PRODUCER = ProducerIdentity(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)


class ProducerIdNeeded(Exception):  # noqa: N818 - a question, not a fault
    """The operation needs a producer id that nobody has: it is to be called again with one. Nothing has happened."""


class TransactionShard:
    """State machine of one partition of `__transaction_state` (`coordinators.shard.Shard`).

    Args:
        settings: See `TransactionSettings`.
        outbox: Is given the markers of each transaction that is decided. It must not call back before it returns.

    Attributes:
        settings: May be replaced at any time.
        transactions: By transactional id.
    """

    __slots__ = ("_abort_ms", "_expiring", "_expiry_ms", "_outbox", "settings", "transactions")

    def __init__(self, settings: TransactionSettings, outbox: Callable[[EndMarkers], None]) -> None:
        self.settings = settings
        self.transactions: dict[str, Transaction] = {}
        self._outbox = outbox
        self._abort_ms = NEVER
        self._expiry_ms = NEVER
        self._expiring: Iterator[str] | None = None

    # ----- what producers ask for

    def init_producer_id(
        self,
        transactional_id: str,
        timeout_ms: int,
        expected: ProducerIdentity | None,
        new_producer_id: int | None,
        now: Now,
    ) -> CoordinatorResult[ProducerIdentity | KafkaError]:
        """InitProducerId; the response is what the producer has from now on, or a refusal once something else is done.

        Args:
            transactional_id: The id.
            timeout_ms: The time that the producer gives its transactions.
            expected: What the producer has, if it says.
            new_producer_id: A producer id that nobody has yet, if it turned out to be needed.
            now: The time.

        Raises:
            KafkaError: CONCURRENT_TRANSACTIONS (which is also the response while an open transaction is aborted first),
                PRODUCER_FENCED.
            ProducerIdNeeded: see there.
        """
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            transaction = Transaction.new(
                transactional_id, _taken(new_producer_id)(), timeout_ms, now.wall_ms
            )
        snapshot = initialize(transaction, timeout_ms, expected, _taken(new_producer_id), now.wall_ms)
        if snapshot is None:
            return self._fence(
                transaction, now, KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS), _taken(new_producer_id)
            )
        self.transactions[transactional_id] = transaction
        return self._write(
            transaction, snapshot, ProducerIdentity(snapshot.producer_id, snapshot.producer_epoch)
        )

    def add_partitions(
        self,
        transactional_id: str,
        producer: ProducerIdentity,
        partitions: frozenset[TopicPartition],
        client_version: int,
        now: Now,
    ) -> CoordinatorResult[None]:
        """AddPartitionsToTxn and AddOffsetsToTxn; raises KafkaError as `partitions.add_partitions`."""
        transaction = self._known(transactional_id)
        snapshot = add_partitions(transaction, *producer, partitions, client_version, now.wall_ms)
        if snapshot is None:
            return CoordinatorResult(None)
        return self._write(transaction, snapshot, None)

    def verify_partitions(
        self, transactional_id: str, producer: ProducerIdentity, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode]:
        """AddPartitionsToTxn that only asks; raises KafkaError as `partitions.verify_partitions`."""
        return verify_partitions(self._known(transactional_id), *producer, partitions)

    def end(
        self,
        transactional_id: str,
        producer: ProducerIdentity,
        *,
        committed: bool,
        client_version: int,
        new_producer_id: int | None,
        now: Now,
    ) -> CoordinatorResult[ProducerIdentity | KafkaError]:
        """EndTxn; the response is what the producer has from now on, which version 1 does not tell.

        Raises:
            KafkaError: as `end.end`.
            ProducerIdNeeded: see there.
        """
        transaction = self._known(transactional_id)
        snapshot = end(
            transaction,
            *producer,
            committed=committed,
            client_version=client_version,
            take_producer_id=_taken(new_producer_id),
            now_ms=now.wall_ms,
        )
        is_told = supports_epoch_bump(client_version)
        if snapshot is None:
            current = transaction.current
            known = ProducerIdentity(current.producer_id, current.producer_epoch)
            return CoordinatorResult(known if is_told else _NO_PRODUCER)
        response = _NO_PRODUCER
        if is_told:
            response = ProducerIdentity(snapshot.producer_id, snapshot.producer_epoch)
            if snapshot.next_producer_id != NO_PRODUCER_ID:
                response = ProducerIdentity(snapshot.next_producer_id, 0)
        return self._write(transaction, snapshot, response)

    def wait_until_idle(self, transactional_id: str, waiter: Any) -> bool:
        """Has `waiter` told (None) when the change that an id is in is over; False if it is in none."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.pending is None:
            return False
        transaction.waiters[waiter] = None
        return True

    def stop_waiting(self, transactional_id: str, waiter: Any) -> None:
        """Forgets whom `wait_until_idle` was to tell; nothing happens if it has."""
        transaction = self.transactions.get(transactional_id)
        if transaction is not None:
            transaction.waiters.pop(waiter, None)

    def _known(self, transactional_id: str) -> Transaction:
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.current.producer_epoch == NO_PRODUCER_EPOCH:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        return transaction

    # ----- markers

    def complete(self, markers: EndMarkers, now: Now) -> CoordinatorResult[None]:
        """The markers are in all partitions. Nothing happens if they are not those that the id waits for any more.

        The id is free as soon as that is appended: whatever its producer does next is committed after it, and if it is lost with
        nothing behind it, the markers are written once more.
        """
        transaction = self.transactions.get(markers.transactional_id)
        if (
            transaction is None
            or transaction.state not in PREPARED
            or transaction.pending is None
            or transaction.current.producer_id != markers.producer_id
            or transaction.current.producer_epoch != markers.producer_epoch
        ):
            return CoordinatorResult(None)
        transaction.has_failed_fence = False
        snapshot = complete(transaction, now.wall_ms)
        result = self._result(transaction, snapshot, None, None)
        result.is_awaited = False
        result.appended = lambda now: self.took_effect(transaction, snapshot, now)
        result.answers = self._released(transaction)
        return result

    # ----- administration

    def describe(self, transactional_id: str) -> DescribeTransactionsResponse.TransactionState:
        """DescribeTransactions, for one id; KafkaError TRANSACTIONAL_ID_NOT_FOUND."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise KafkaError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        return describe(transaction)

    def list_transactions(
        self, wanted: TransactionFilter, now: Now
    ) -> list[ListTransactionsResponse.TransactionState]:
        """ListTransactions, for this shard."""
        return [listed(each) for each in self.transactions.values() if wanted.matches(each, now.wall_ms)]

    # ----- replay

    def replay(
        self, offset: int, producer_id: int, producer_epoch: int, key: bytes, value: bytes | None
    ) -> None:
        """Applies a record; DecodeError if it does not parse."""
        del offset, producer_id, producer_epoch
        transactional_id = decode_key(key)
        if transactional_id is None:
            return
        if value is None:
            self.transactions.pop(transactional_id, None)
        else:
            self.transactions[transactional_id] = Transaction(transactional_id, decode_value(value))

    def replay_end_transaction_marker(
        self, producer_id: int, producer_epoch: int, *, committed: bool
    ) -> None:
        """Nothing: nobody writes to this topic within transactions."""

    # ----- life

    def on_loaded(self, now: Now) -> list[CoordinatorResult[None]]:
        """Decided transactions go on where they were."""
        for transaction in self.transactions.values():
            if transaction.state in PREPARED:
                self._send_markers(transaction)
        self._watch(now)
        return []

    def on_unloaded(self) -> list[Answer]:
        """Whoever waits is told to look again."""
        answers = []
        for transaction in self.transactions.values():
            answers += [(waiter, None) for waiter in transaction.waiters]
            transaction.waiters.clear()
        return answers

    def next_deadline_ms(self) -> float | None:
        """When something is to be looked for next; never while there is nothing."""
        deadline_ms = min(self._abort_ms, self._expiry_ms)
        return None if deadline_ms == NEVER else deadline_ms

    def on_timer(self, now: Now) -> Iterator[CoordinatorResult[None]]:
        """Aborts transactions that took too long, and forgets ids that nobody uses."""
        if self._abort_ms <= now.monotonic_ms:
            yield from self._abort_timed_out(now)
        if self._expiry_ms <= now.monotonic_ms:
            yield self._expire_some(now)
        self._watch(now)

    def _watch(self, now: Now) -> None:
        """Sets deadlines while there is something to watch."""
        if self.transactions and self._expiry_ms == NEVER:
            self._expiry_ms = now.monotonic_ms + self.settings.expiry_interval_ms
        if self._abort_ms == NEVER and any(
            each.state is TransactionState.ONGOING for each in self.transactions.values()
        ):
            self._abort_ms = now.monotonic_ms + self.settings.abort_interval_ms

    def _abort_timed_out(self, now: Now) -> Iterator[CoordinatorResult[None]]:
        late = [
            transaction
            for transaction in self.transactions.values()
            if transaction.pending is None
            and transaction.state is TransactionState.ONGOING
            and transaction.current.start_ms + transaction.current.timeout_ms < now.wall_ms
        ]
        has_more = len(late) > ABORTS_PER_TIMER_CALL
        self._abort_ms = now.monotonic_ms + 1 if has_more else NEVER
        for transaction in late[:ABORTS_PER_TIMER_CALL]:
            logger.info(
                "transaction takes too long and is aborted transactional_id=%s producer_id=%d epoch=%d timeout_ms=%d",
                transaction.transactional_id,
                transaction.current.producer_id,
                transaction.current.producer_epoch,
                transaction.current.timeout_ms,
            )
            yield self._fence(transaction, now, None)

    def _expire_some(self, now: Now) -> CoordinatorResult[None]:
        """Looks over some ids; the next call goes on where this one stops."""
        if self._expiring is None:
            self._expiring = iter(list(self.transactions))
        expired: list[Transaction] = []
        not_after_ms = now.wall_ms - self.settings.id_expiration_ms
        for looked_at, transactional_id in enumerate(self._expiring, start=1):
            transaction = self.transactions.get(transactional_id)
            if (
                transaction is not None
                and transaction.pending is None
                and transaction.state in EXPIRABLE
                and transaction.current.update_ms <= not_after_ms
            ):
                transaction.pending = TransactionState.DEAD
                expired.append(transaction)
            if looked_at >= IDS_PER_EXPIRY_CALL:
                break
        else:
            self._expiring = None
            self._expiry_ms = NEVER
        if not expired:
            return CoordinatorResult(None)
        logger.info("transactional ids have expired count=%d", len(expired))
        records: list[CoordinatorRecord] = [tombstone(each.transactional_id) for each in expired]
        return CoordinatorResult(None, records, replay=False, completion=_Expired(self, expired))

    # ----- writing

    def _write(self, transaction: Transaction, snapshot: Snapshot, response: Any) -> CoordinatorResult[Any]:
        transaction.pending = snapshot.state
        return self._result(transaction, snapshot, response, _Written(self, transaction, snapshot))

    def _fence(
        self,
        transaction: Transaction,
        now: Now,
        response: Any,
        take_producer_id: Callable[[], int] | None = None,
    ) -> CoordinatorResult[Any]:
        """Aborts; the response comes when that is decided."""
        snapshot = fence_and_abort(transaction, self.settings.version, now.wall_ms, take_producer_id)
        transaction.pending = snapshot.state
        return self._result(
            transaction, snapshot, response, _Written(self, transaction, snapshot, is_fence=True)
        )

    def _result(
        self, transaction: Transaction, snapshot: Snapshot, response: Any, completion: Any
    ) -> CoordinatorResult[Any]:
        record = transaction_record(transaction.transactional_id, snapshot, self.settings.version)
        return CoordinatorResult(response, [record], replay=False, completion=completion)

    def took_effect(self, transaction: Transaction, snapshot: Snapshot, now: Now) -> None:
        """A change is safe."""
        transaction.current = snapshot
        if snapshot.state in PREPARED:
            self._send_markers(transaction)
            return
        transaction.pending = None
        if snapshot.state is TransactionState.ONGOING and self._abort_ms == NEVER:
            self._abort_ms = now.monotonic_ms + self.settings.abort_interval_ms
        if self._expiry_ms == NEVER:
            self._expiry_ms = now.monotonic_ms + self.settings.expiry_interval_ms

    def is_idle(self, *transactions: Transaction) -> CoordinatorResult[None]:
        """A change is over, with or without success."""
        answers: list[Answer] = []
        for transaction in transactions:
            transaction.pending = None
            answers += self._released(transaction)
        return CoordinatorResult(None, answers=answers)

    def _released(self, transaction: Transaction) -> list[Answer]:
        answers = [(waiter, None) for waiter in transaction.waiters]
        transaction.waiters.clear()
        return answers

    def _send_markers(self, transaction: Transaction) -> None:
        transaction.pending = complete(transaction, 0).state
        self._outbox(transaction.markers())


class _Written(NamedTuple):
    """What comes of a change that producers or timers have asked for."""

    shard: TransactionShard
    transaction: Transaction
    snapshot: Snapshot
    is_fence: bool = False

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        self.shard.took_effect(self.transaction, self.snapshot, now)
        # Who waits for the end of a decided transaction waits for its markers, too.
        return None if self.transaction.pending is not None else self.shard.is_idle(self.transaction)

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None]:
        del error, now
        transaction = self.transaction
        if self.is_fence and not supports_epoch_bump(self.snapshot.client_version):
            # Whether it was written or not, the producer is fenced; the next try does not raise the epoch again.
            transaction.has_failed_fence = True
        if transaction.current.producer_epoch == NO_PRODUCER_EPOCH:
            self.shard.transactions.pop(transaction.transactional_id, None)
        return self.shard.is_idle(transaction)


class _Expired(NamedTuple):
    """What comes of tombstones."""

    shard: TransactionShard
    expired: list[Transaction]

    def committed(self, now: Now) -> CoordinatorResult[None]:
        del now
        for transaction in self.expired:
            self.shard.transactions.pop(transaction.transactional_id, None)
        return self.shard.is_idle(*self.expired)

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None]:
        del error, now
        return self.shard.is_idle(*self.expired)


def _taken(new_producer_id: int | None) -> Callable[[], int]:
    def take() -> int:
        if new_producer_id is None:
            raise ProducerIdNeeded
        return new_producer_id

    return take

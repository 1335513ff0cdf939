"""The transaction coordinator: what handlers ask about transactional ids.

It finds the shard, runs the state machine on it, has markers written and turns what is to be waited for into futures. Refusals are
KafkaError, raised or in the future; the handlers know the shape of each API's error answer.

Wiring, by `broker.py`: `on_leadership` is called for each change of a partition's leader, `on_metadata` for each change of the
metadata image, `writer_for` gives the brokers to which markers are written.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Union

from barnabas.coordinators.coordinator_topic import CoordinatorTopic
from barnabas.coordinators.marker_sender import MarkerSender
from barnabas.coordinators.outcome import settle
from barnabas.coordinators.runtime import CoordinatorRuntime, RuntimeSettings
from barnabas.coordinators.transaction.settings import TransactionSettings
from barnabas.coordinators.transaction.shard import ProducerIdNeeded, TransactionShard
from barnabas.coordinators.transaction.state import TransactionState
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.features import TRANSACTION_VERSION_FEATURE
from barnabas.metadata.identifiers import TRANSACTION_STATE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig
    from barnabas.controller.controller import Controller
    from barnabas.coordinators.markers import MarkerWriter
    from barnabas.coordinators.transaction.describe import TransactionFilter
    from barnabas.coordinators.transaction.initialize import ProducerIdentity
    from barnabas.coordinators.transaction.transaction import TopicPartition
    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage
    from barnabas.metrics import Registry
    from barnabas.replication.partition import Partition
    from barnabas.wire.messages.describe_transactions import DescribeTransactionsResponse
    from barnabas.wire.messages.list_transactions import ListTransactionsResponse

__all__ = ["TransactionCoordinator"]

R = TypeVar("R")
_Outcome = Union["ProducerIdentity", KafkaError]

_LOAD_CHUNK_BYTES_MAX = 1_048_576


class TransactionCoordinator:
    """Coordinates the transactional ids whose partition of `__transaction_state` this broker leads.

    Args:
        controller: Creates the topic, gives producer ids, and knows the image.
        config: Limits and time-outs.
        writer_for: The broker of a node id, to which markers are written; None while it can not be reached.
        clock: The time.
        loop: The event loop.
        metrics: Where is shown how many transactions there are.
    """

    __slots__ = ("_config", "_controller", "_loop", "_markers", "_settings", "_topic", "runtime")

    def __init__(
        self,
        *,
        controller: Controller,
        config: BrokerConfig,
        writer_for: Callable[[int], MarkerWriter | None],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        metrics: Registry | None = None,
    ) -> None:
        self._controller = controller
        self._config = config
        self._loop = loop
        self._settings = self._read_settings(controller.image)
        self._topic = CoordinatorTopic(
            TRANSACTION_STATE_TOPIC,
            controller=controller,
            partition_count=config["transaction.state.log.num.partitions"],
            loop=loop,
        )
        self.runtime: CoordinatorRuntime[TransactionShard] = CoordinatorRuntime(
            TRANSACTION_STATE_TOPIC,
            new_shard=lambda: TransactionShard(self._settings, self._markers.post),
            partition_count=lambda: self._topic.partition_count,
            settings=RuntimeSettings(
                load_chunk_bytes=min(config["transaction.state.log.load.buffer.size"], _LOAD_CHUNK_BYTES_MAX),
                commit_timeout_ms=config["request.timeout.ms"],
            ),
            clock=clock,
            loop=loop,
        )
        self._markers = MarkerSender(
            shard_for=self.runtime.shard_for,
            writer_for=writer_for,
            image=lambda: controller.image,
            loop=loop,
        )
        if metrics is not None:
            self._measure(metrics)

    # ----- following the cluster

    def on_leadership(self, partition: Partition) -> None:
        """Takes over or gives up the ids of a partition. For partitions of other topics nothing happens."""
        if partition.topic == TRANSACTION_STATE_TOPIC:
            self._topic.follow(self._controller.image)
            self.runtime.on_leadership(partition)

    def on_metadata(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """Follows changed settings and feature levels."""
        self._topic.follow(image)
        if delta.changed_configs or delta.features_changed:
            settings = self._read_settings(image)
            if settings != self._settings:
                self._settings = settings
                for hosted in self.runtime:
                    hosted.shard.settings = settings

    def _read_settings(self, image: MetadataImage) -> TransactionSettings:
        return TransactionSettings.of(self._config, image.features.get(TRANSACTION_VERSION_FEATURE, 0))

    async def close(self) -> None:
        """Leaves what is under way to the next coordinator; whoever waits is told to look for it."""
        self._markers.close()
        await self.runtime.close()

    # ----- finding the coordinator

    def coordinator_id(self, transactional_id: str) -> int | asyncio.Future[int]:
        """The broker that coordinates an id; creates `__transaction_state` if there is none yet.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, also in the future.
        """
        return self._topic.coordinator_of(transactional_id)

    def leader_of(self, transactional_id: str) -> int | None:
        """The same without creating anything; None if there is no such broker now."""
        return self._topic.leader_of(transactional_id)

    # ----- what producers ask for

    def init_producer_id(
        self, transactional_id: str, timeout_ms: int, expected: ProducerIdentity | None
    ) -> ProducerIdentity | asyncio.Future[ProducerIdentity]:
        """InitProducerId.

        Raises:
            KafkaError: INVALID_REQUEST for an empty id, INVALID_TRANSACTION_TIMEOUT, those of `TransactionShard.init_producer_id`
                and `CoordinatorRuntime.shard_for`.
        """
        _check_id(transactional_id)
        if not 0 < timeout_ms <= self._settings.max_timeout_ms:
            raise KafkaError(
                ErrorCode.INVALID_TRANSACTION_TIMEOUT,
                f"a timeout of {timeout_ms} ms is not within 1 to {self._settings.max_timeout_ms} ms",
            )

        def operation(new_producer_id: int | None) -> _Outcome | asyncio.Future[_Outcome]:
            return self.runtime.shard_for(transactional_id).write(
                lambda shard, now: shard.init_producer_id(
                    transactional_id, timeout_ms, expected, new_producer_id, now
                )
            )

        return self._patiently(transactional_id, lambda: self._with_producer_id(operation))

    def add_partitions(
        self,
        transactional_id: str,
        producer: ProducerIdentity,
        partitions: Collection[TopicPartition],
        client_version: int,
    ) -> asyncio.Future[None] | None:
        """AddPartitionsToTxn, and AddOffsetsToTxn; raises as `TransactionShard.add_partitions` and `shard_for`."""
        _check_id(transactional_id)
        wanted = frozenset(partitions)
        return self._patiently(
            transactional_id,
            lambda: self.runtime.shard_for(transactional_id).write(
                lambda shard, now: shard.add_partitions(
                    transactional_id, producer, wanted, client_version, now
                )
            ),
        )

    def verify_partitions(
        self, transactional_id: str, producer: ProducerIdentity, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode]:
        """Whether partitions belong to a transaction; raises as `TransactionShard.verify_partitions` and `shard_for`."""
        _check_id(transactional_id)
        shard = self.runtime.shard_for(transactional_id).shard
        return shard.verify_partitions(transactional_id, producer, partitions)

    def end_transaction(
        self, transactional_id: str, producer: ProducerIdentity, *, committed: bool, client_version: int
    ) -> ProducerIdentity | asyncio.Future[ProducerIdentity]:
        """EndTxn: answered when the decision is durable; raises as `TransactionShard.end` and `shard_for`."""
        _check_id(transactional_id)

        def operation(new_producer_id: int | None) -> _Outcome | asyncio.Future[_Outcome]:
            return self.runtime.shard_for(transactional_id).write(
                lambda shard, now: shard.end(
                    transactional_id,
                    producer,
                    committed=committed,
                    client_version=client_version,
                    new_producer_id=new_producer_id,
                    now=now,
                )
            )

        return self._patiently(transactional_id, lambda: self._with_producer_id(operation))

    def _patiently(
        self, transactional_id: str, attempt: Callable[[], R | asyncio.Future[R]]
    ) -> R | asyncio.Future[R]:
        """An operation on an id that is busy waits a moment, in place of a client that would come again and again.

        Kafka answers CONCURRENT_TRANSACTIONS; it takes the requests of a connection one after another, though, so that a client
        that pipelines them does not get in its own way.
        """
        try:
            return attempt()
        except KafkaError as error:
            if error.code is not ErrorCode.CONCURRENT_TRANSACTIONS:
                raise
            until_s = self._loop.time() + self._config["add.partitions.to.txn.retry.backoff.max.ms"] / 1000
            idle = self._when_idle(transactional_id, until_s)
            if idle is None:
                raise
            return self._loop.create_task(
                self._try_again(transactional_id, attempt, idle, until_s),
                name=f"a change of {transactional_id}",
            )

    async def _try_again(
        self,
        transactional_id: str,
        attempt: Callable[[], R | asyncio.Future[R]],
        idle: asyncio.Future[None],
        until_s: float,
    ) -> R:
        while True:
            await idle
            try:
                outcome = attempt()
                return await outcome if isinstance(outcome, asyncio.Future) else outcome
            except KafkaError as error:
                if error.code is not ErrorCode.CONCURRENT_TRANSACTIONS:
                    raise
                another = self._when_idle(transactional_id, until_s)
                if another is None:
                    raise
                idle = another

    def _when_idle(self, transactional_id: str, until_s: float) -> asyncio.Future[None] | None:
        """Done once the change that an id is in is over, or when time is up; None if it is in none, or it is too late."""
        left_s = until_s - self._loop.time()
        if left_s <= 0:
            return None
        try:
            shard = self.runtime.shard_for(transactional_id).shard
        except KafkaError:
            return None
        waiter: asyncio.Future[None] = self._loop.create_future()
        if not shard.wait_until_idle(transactional_id, waiter):
            return None
        handle = self._loop.call_later(left_s, _release, waiter)

        def forget(done: asyncio.Future[None]) -> None:
            handle.cancel()
            # The id may stay busy for as long as a partition has no leader.
            shard.stop_waiting(transactional_id, done)

        waiter.add_done_callback(forget)
        return waiter

    def _with_producer_id(
        self, operation: Callable[[int | None], Any]
    ) -> ProducerIdentity | asyncio.Future[ProducerIdentity]:
        """Runs an operation, and once more with a new producer id if it turns out to need one."""
        try:
            return settle(partial(operation, None), then=_or_raise, refuse=_or_raise)
        except ProducerIdNeeded:
            return self._loop.create_task(self._again(operation), name="a producer id for a transaction")

    async def _again(self, operation: Callable[[int | None], Any]) -> ProducerIdentity:
        try:
            producer_id = await self._controller.next_producer_id()
        except KafkaError as error:
            # As Kafka while its broker has no block of ids: clients try again soon. A failed disk stays failed.
            if error.code is ErrorCode.KAFKA_STORAGE_ERROR:
                raise
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, error.message) from error
        outcome = operation(producer_id)
        return _or_raise(await outcome if isinstance(outcome, asyncio.Future) else outcome)

    # ----- administration

    def describe(self, transactional_id: str) -> DescribeTransactionsResponse.TransactionState:
        """DescribeTransactions, for one id; raises as `TransactionShard.describe` and `shard_for`."""
        _check_id(transactional_id)
        return self.runtime.shard_for(transactional_id).shard.describe(transactional_id)

    def list_transactions(self, wanted: TransactionFilter) -> list[ListTransactionsResponse.TransactionState]:
        """ListTransactions: those of this broker; COORDINATOR_LOAD_IN_PROGRESS while some are not known yet."""
        if self.runtime.loading:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return [
            state for hosted in self.runtime for state in hosted.shard.list_transactions(wanted, hosted.now())
        ]

    def _measure(self, metrics: Registry) -> None:
        prefix = "kafka_coordinator_transaction_transactionmarkerchannelmanager_"
        metrics.gauge_function(f"{prefix}unknowndestinationqueuesize", lambda: self._markers.retry_count)
        metrics.gauge_function(
            "kafka_coordinator_transaction_transactionstatemanager_numtransactionalids",
            lambda: sum(len(hosted.shard.transactions) for hosted in self.runtime),
        )
        metrics.gauge_function(
            "kafka_coordinator_transaction_transactionstatemanager_numongoingtransactions",
            lambda: sum(
                each.state is TransactionState.ONGOING
                for hosted in self.runtime
                for each in hosted.shard.transactions.values()
            ),
        )


def _check_id(transactional_id: str) -> None:
    if not transactional_id:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "the transactional id is empty")


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _or_raise(outcome: _Outcome) -> ProducerIdentity:
    if isinstance(outcome, KafkaError):
        raise outcome
    return outcome

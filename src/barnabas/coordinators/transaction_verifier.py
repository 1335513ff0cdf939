"""Asks the coordinator of a transaction whether a partition belongs to it, before the first record is written there.

Producers of transaction version 1 have added the partition themselves: it is only asked (KIP-890, part 1). Those of version 2
have not: the broker that is written to adds it for them (part 2).

The coordinator may be in this process or on another broker; an answer that has to wait for it, or for a commit, is a future.

Source: Kafka's `AddPartitionsToTxnManager`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metrics import Counter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from barnabas.config.broker import BrokerConfig
    from barnabas.coordinators.remote_transactions import RemoteTransactions
    from barnabas.coordinators.transaction.initialize import ProducerIdentity
    from barnabas.coordinators.transaction.transaction import TopicPartition
    from barnabas.coordinators.transaction_coordinator import TransactionCoordinator
    from barnabas.metrics import Registry

__all__ = ["Enlistment", "TransactionVerifier"]

_CLIENT_VERSION_OF_IMPLICIT_ADDS = 2


class Enlistment(Enum):
    """What a client's request asks for, by its version."""

    OLD_VERIFY = "verify, for clients that do not know TRANSACTION_ABORTABLE"
    VERIFY = "verify"
    ADD = "add"

    @property
    def supports_epoch_bump(self) -> bool:
        """Whether the client speaks transaction version 2."""
        return self is Enlistment.ADD

    @classmethod
    def of_produce(cls, version: int) -> Enlistment:
        """That of a Produce request."""
        return cls.ADD if version > 11 else cls.VERIFY if version > 10 else cls.OLD_VERIFY

    @classmethod
    def of_offset_commit(cls, version: int) -> Enlistment:
        """That of a TxnOffsetCommit request."""
        return cls.ADD if version > 4 else cls.VERIFY if version > 3 else cls.OLD_VERIFY


class TransactionVerifier:
    """See the module.

    Args:
        coordinator: Of the transactions of this broker.
        config: `transaction.partition.verification.enable`.
        loop: The event loop.
        metrics: Where refusals are counted.
        node_id: This broker.
        remote: The way to other coordinators; None on a single node.

    Attributes:
        tails: The last write of each producer id that still waits for its coordinator: later ones go after it.
    """

    __slots__ = ("_config", "_coordinator", "_failures", "_loop", "_node_id", "_remote", "tails")

    def __init__(
        self,
        coordinator: TransactionCoordinator,
        config: BrokerConfig,
        loop: asyncio.AbstractEventLoop,
        metrics: Registry | None = None,
        *,
        node_id: int = -1,
        remote: RemoteTransactions | None = None,
    ) -> None:
        self._node_id = node_id
        self._remote = remote
        self._coordinator = coordinator
        self._config = config
        self._loop = loop
        self.tails: dict[int, asyncio.Future[None]] = {}
        self._failures = (
            Counter()
            if metrics is None
            else metrics.counter("kafka_server_addpartitionstotxnmanager_verificationfailurerate_total")
        )

    def is_needed(self, enlistment: Enlistment) -> bool:
        """Whether anybody is asked (`transaction.partition.verification.enable`)."""
        return enlistment is Enlistment.ADD or bool(self._config["transaction.partition.verification.enable"])

    def enlist(
        self,
        transactional_id: str,
        producer: ProducerIdentity,
        partitions: Collection[TopicPartition],
        enlistment: Enlistment,
    ) -> dict[TopicPartition, ErrorCode] | asyncio.Future[dict[TopicPartition, ErrorCode]]:
        """Verifies or adds partitions; gives the refusals, as the client of that request knows them."""
        remote = self._remote
        if remote is not None:
            node_id = self._coordinator.leader_of(transactional_id)
            if node_id is not None and node_id != self._node_id:
                return self._enlisted(
                    remote.enlist(
                        node_id,
                        transactional_id,
                        producer,
                        partitions,
                        verify_only=enlistment is not Enlistment.ADD,
                    ),
                    enlistment,
                )
        try:
            if enlistment is not Enlistment.ADD:
                codes = self._coordinator.verify_partitions(transactional_id, producer, partitions)
                return self._refusals(codes, enlistment)
        except KafkaError as error:
            return self._refusals(dict.fromkeys(partitions, error.code), enlistment)
        return settle(
            lambda: self._coordinator.add_partitions(
                transactional_id, producer, partitions, _CLIENT_VERSION_OF_IMPLICIT_ADDS
            ),
            then=lambda _: {},
            refuse=lambda error: self._refusals(dict.fromkeys(partitions, error.code), enlistment),
        )

    async def _told(
        self, asked: asyncio.Future[dict[TopicPartition, ErrorCode]], enlistment: Enlistment
    ) -> dict[TopicPartition, ErrorCode]:
        return self._refusals(await asked, enlistment)

    def _enlisted(
        self, asked: asyncio.Future[dict[TopicPartition, ErrorCode]], enlistment: Enlistment
    ) -> asyncio.Future[dict[TopicPartition, ErrorCode]]:
        return self._loop.create_task(self._told(asked, enlistment), name="what another coordinator says")

    def _refusals(
        self, codes: dict[TopicPartition, ErrorCode], enlistment: Enlistment
    ) -> dict[TopicPartition, ErrorCode]:
        refusals = {
            partition: _as_known(code, enlistment)
            for partition, code in codes.items()
            if code is not ErrorCode.NONE
        }
        self._failures.add(len(refusals))
        return refusals


def _as_known(code: ErrorCode, enlistment: Enlistment) -> ErrorCode:
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH  # what producers expect of a write
    if code is ErrorCode.TRANSACTION_ABORTABLE and enlistment is Enlistment.OLD_VERIFY:
        return ErrorCode.INVALID_TXN_STATE
    return code

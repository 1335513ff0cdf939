"""Produce within a transaction: asks the transaction's coordinator before the first batch in a partition.

A partition that a transaction has been writing to is written to at once. For others the coordinator is asked whether they belong
to it (Produce up to version 11) or told that they do (12 and later). While that takes time, the records wait in a copy of their own,
and what the same producer sends meanwhile waits behind them: sequence numbers have to come in order.

Source: KIP-890; Kafka's `ReplicaManager.handleProduceAppend`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.initialize import ProducerIdentity
from barnabas.coordinators.transaction_verifier import Enlistment
from barnabas.errors import BarnabasError, ErrorCode, KafkaError, StorageError
from barnabas.handlers import produce
from barnabas.records.batch import HEADER_SIZE, TRANSACTIONAL_FLAG, parse_header
from barnabas.wire.messages.produce import ProduceResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.log.producer_entry import VerificationGuard
    from barnabas.records.batch import BatchHeader
    from barnabas.replication.partition import Partition
    from barnabas.wire.messages.produce import ProduceRequest

__all__ = ["UnverifiedError", "VerifiedPartitions", "handle"]

_TOPIC_IDS_FROM = 13
_COORDINATOR_UNREACHABLE = frozenset(
    (
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)


class UnverifiedError(KafkaError):
    """The coordinator does not vouch for a partition; clients are told why."""


class VerifiedPartitions:
    """What the coordinator said of the partitions of one request."""

    __slots__ = ("guards", "refusals")

    def __init__(self) -> None:
        self.guards: dict[Partition, VerificationGuard] = {}
        self.refusals: dict[Partition, KafkaError] = {}

    def guard(self, partition: Partition) -> VerificationGuard | None:
        """What goes with the first batch in a partition; raises KafkaError if there may be none."""
        refusal = self.refusals.get(partition)
        if refusal is not None:
            raise refusal
        return self.guards.get(partition)

    def refuse(self, partition: Partition, code: ErrorCode, enlistment: Enlistment) -> None:
        """Notes a refusal, as producers understand it."""
        error: KafkaError
        if code is ErrorCode.INVALID_TXN_STATE:
            error = UnverifiedError(code, "Partition was not added to the transaction")
        elif code in _COORDINATOR_UNREACHABLE or (
            code is ErrorCode.CONCURRENT_TRANSACTIONS and not enlistment.supports_epoch_bump
        ):
            # Clients try this one again without asking for metadata.
            error = UnverifiedError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"Unable to verify the partition has been added to the transaction. Underlying error: {code.name}",
            )
        else:
            error = KafkaError(code)
        self.refusals[partition] = error


def handle(
    broker: BrokerServices, context: RequestContext, request: ProduceRequest
) -> ProduceResponse | Awaitable[ProduceResponse | None] | None:
    """Appends at once where the coordinator need not be waited for."""
    batches = _transactional_batches(broker, context, request)
    producers = {(header.producer_id, header.producer_epoch) for header in batches.values()}
    if not producers:
        return produce.handle(broker, context, request, VerifiedPartitions())
    if len(producers) > 1:
        verified = VerifiedPartitions()
        for partition in batches:
            verified.refusals[partition] = KafkaError(
                ErrorCode.INVALID_PRODUCER_ID_MAPPING,
                "Transactional records contained more than one producer ID",
            )
        return produce.handle(broker, context, request, verified)
    producer = ProducerIdentity(*producers.pop())
    verifier = broker.transaction_verifier
    before = verifier.tails.get(producer.producer_id)
    if before is None:
        verified, asked = _ask(broker, context, request, producer, batches)
        if asked is None:
            return produce.handle(broker, context, request, verified)
    else:
        verified, asked = VerifiedPartitions(), None
    held_bytes = _keep_records(request)
    context.connection.held_bytes += held_bytes
    mine: asyncio.Future[None] = broker.loop.create_future()
    verifier.tails[producer.producer_id] = mine
    writing = broker.loop.create_task(
        _write_later(broker, context, request, producer, before, verified, asked, mine),
        name=f"Produce of {request.transactional_id}",
    )

    def let_go(_: object) -> None:
        context.connection.held_bytes -= held_bytes

    writing.add_done_callback(let_go)
    return writing


def _transactional_batches(
    broker: BrokerServices, context: RequestContext, request: ProduceRequest
) -> dict[Partition, BatchHeader]:
    """The header of each partition's batch, of those that belong to a transaction; what is wrong is found later."""
    batches = {}
    for topic in request.topic_data:
        for data in topic.partition_data:
            records = data.records
            if not isinstance(records, (memoryview, bytearray)) or len(records) < HEADER_SIZE:
                continue
            header = parse_header(records)
            if header.attributes & TRANSACTIONAL_FLAG and header.producer_id >= 0:
                try:
                    if context.api_version >= _TOPIC_IDS_FROM:
                        partition = broker.replicas.leader_by_id(topic.topic_id, data.index)
                    else:
                        partition = broker.replicas.leader(topic.name, data.index)
                except KafkaError:
                    continue
                batches[partition] = header
    return batches


def _ask(
    broker: BrokerServices,
    context: RequestContext,
    request: ProduceRequest,
    producer: ProducerIdentity,
    batches: dict[Partition, BatchHeader],
) -> tuple[VerifiedPartitions, asyncio.Future[dict[tuple[str, int], ErrorCode]] | None]:
    """Begins to ask for partitions that the transaction is new to; the future of the refusals, if they take time."""
    verified = VerifiedPartitions()
    verifier = broker.transaction_verifier
    enlistment = Enlistment.of_produce(context.api_version)
    if not verifier.is_needed(enlistment):
        return verified, None
    now_ms = broker.clock.now_ms()
    for partition, header in batches.items():
        try:
            guard = partition.begin_verification(
                header.producer_id,
                header.base_sequence,
                header.producer_epoch,
                supports_epoch_bump=enlistment.supports_epoch_bump,
                now_ms=now_ms,
            )
        except KafkaError as error:
            verified.refusals[partition] = error
        except StorageError as error:
            verified.refusals[partition] = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
        else:
            if guard is not None:
                verified.guards[partition] = guard
    if not verified.guards:
        return verified, None
    asked = verifier.enlist(
        request.transactional_id or "",
        producer,
        [(partition.topic, partition.index) for partition in verified.guards],
        enlistment,
    )
    if isinstance(asked, asyncio.Future):
        return verified, asked
    _refuse(verified, asked, enlistment)
    return verified, None


def _refuse(
    verified: VerifiedPartitions, refusals: dict[tuple[str, int], ErrorCode], enlistment: Enlistment
) -> None:
    for partition in verified.guards:
        code = refusals.get((partition.topic, partition.index))
        if code is not None:
            verified.refuse(partition, code, enlistment)


def _keep_records(request: ProduceRequest) -> int:
    """The buffer in which a request came is used again once its handler returns; gives the bytes that are kept."""
    held_bytes = 0
    for topic in request.topic_data:
        for data in topic.partition_data:
            if isinstance(data.records, memoryview):
                data.records = memoryview(bytearray(data.records))
                held_bytes += len(data.records)
    return held_bytes


async def _write_later(
    broker: BrokerServices,
    context: RequestContext,
    request: ProduceRequest,
    producer: ProducerIdentity,
    before: asyncio.Future[None] | None,
    verified: VerifiedPartitions,
    asked: asyncio.Future[dict[tuple[str, int], ErrorCode]] | None,
    mine: asyncio.Future[None],
) -> ProduceResponse | None:
    """Waits for what the producer sent before and for the coordinator, and writes then."""
    tails = broker.transaction_verifier.tails
    try:
        if before is not None:
            await asyncio.wait([before])
            if context.connection.is_closed:
                return None
            batches = _transactional_batches(broker, context, request)
            verified, asked = _ask(broker, context, request, producer, batches)
        if asked is not None:
            _refuse(verified, await asked, Enlistment.of_produce(context.api_version))
        written = produce.handle(broker, context, request, verified)
    except BarnabasError:
        if request.acks == 0:
            return None  # nobody is told
        raise
    finally:
        mine.set_result(None)
        if tails.get(producer.producer_id) is mine:
            del tails[producer.producer_id]
    return written if written is None or isinstance(written, ProduceResponse) else await written

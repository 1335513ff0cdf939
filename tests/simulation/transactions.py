"""Clients with transactions: records of several partitions and an offset of a group, all of it or nothing."""

from __future__ import annotations

import asyncio

from barnabas.errors import ErrorCode, KafkaError
from barnabas.records.builder import build_batch
from barnabas.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.end_txn import EndTxnRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest
from tests.simulation.clients import RETRIABLE, Producer, ViolationError

__all__ = ["Transaction", "TransactionalProducer"]

# Begin anew: another has the id, or a coordinator that is none any more was asked and knew nothing of the transaction.
BROKEN_OFF = (
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.PRODUCER_FENCED,
    ErrorCode.INVALID_TXN_STATE,
    ErrorCode.TRANSACTION_ABORTABLE,
)


class Transaction:
    """What a client knows of one.

    Attributes:
        outcome: "committed", "aborted", or "unknown" after a commit that nobody answered.
        parts: (partition, value) of its records, one of each.
        group: The group whose offset is set to `number`, or None.
    """

    def __init__(self, number, parts, group):
        self.number = number
        self.parts = parts
        self.group = group
        self.outcome = "aborted"

    def __repr__(self):
        return f"transaction {self.number} ({self.outcome}, {self.parts}, group {self.group})"


class TransactionalProducer(Producer):
    """Writes the same value to several partitions in one transaction, and commits or aborts it.

    Args:
        transactional_id: Another producer with the same one fences this one, and is fenced by it.
        rest_s: How long it pauses, at most, between two transactions, if not four times as long as others between batches.
    """

    def __init__(self, world, name, topic, partitions, history, *, transactional_id, rest_s=None):
        super().__init__(world, name, topic, partitions, history)
        self.transactional_id = transactional_id
        self.rest_s = 4 * world.temper.pace_s if rest_s is None else rest_s
        self.group = f"{name}-group"

    async def work(self):
        number = 0
        state = None
        while not self.stops:
            try:
                if state is None:
                    state = await self.begin_anew()
                number += 1
                await self.one(number, *state)
            except KafkaError as error:
                self.world.trace("%s: %s", self.name, error)
                if error.code not in (*RETRIABLE, *BROKEN_OFF):
                    raise ViolationError(f"{self.name} got {error.code.name}: {error}") from error
                self.forget_coordinator(self.transactional_id, 1)
                state = None
                await self.pause()
            await asyncio.sleep(self.rest_s * self.chance.random())

    async def begin_anew(self):
        node_id = await self.coordinator(self.transactional_id, 1)
        request = InitProducerIdRequest(transactional_id=self.transactional_id, transaction_timeout_ms=10_000)
        answer = await self.ask(node_id, request, 4)
        if answer.error_code:
            raise KafkaError(ErrorCode(answer.error_code))
        self.sequences = dict.fromkeys(range(self.partitions), 0)
        return answer.producer_id, answer.producer_epoch

    async def one(self, number, producer_id, epoch):
        indexes = sorted(self.chance.sample(range(self.partitions), k=min(2, self.partitions)))
        commits = self.chance.random() < 0.7
        group = self.group if self.chance.random() < 0.5 else None
        value = f"{self.name}-{number}".encode()
        transaction = Transaction(number, [(index, value) for index in indexes], group)
        self.history.transactions.append(transaction)
        await self.add_partitions(indexes, producer_id, epoch)
        for index in indexes:
            await self.write(index, value, producer_id, epoch)
        if group is not None:
            await self.commit_offset(group, number, producer_id, epoch)
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=producer_id,
            producer_epoch=epoch,
            committed=commits,
        )
        if commits:
            transaction.outcome = "unknown"
        await self.retried(
            lambda: self.ask_coordinator(self.transactional_id, 1, request, 3),
            lambda answer: answer.error_code,
            self.transactional_id,
            1,
        )
        if commits:
            transaction.outcome = "committed"
        self.world.trace("%s: %s %s", self.name, transaction.outcome, value)

    async def add_partitions(self, indexes, producer_id, epoch):
        topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=self.topic, partitions=indexes)
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=producer_id,
            v3_and_below_producer_epoch=epoch,
            v3_and_below_topics=[topic],
        )

        def code_of(answer):
            codes = [
                partition.partition_error_code
                for topic in answer.results_by_topic_v3_and_below
                for partition in topic.results_by_partition
            ]
            failed = [code for code in codes if code]
            return next(
                (code for code in failed if code != ErrorCode.OPERATION_NOT_ATTEMPTED), sum(failed[:1])
            )

        await self.retried(
            lambda: self.ask_coordinator(self.transactional_id, 1, request, 3),
            code_of,
            self.transactional_id,
            1,
        )

    async def write(self, index, value, producer_id, epoch):
        now_ms = 1_750_000_000_000 + int(asyncio.get_running_loop().time() * 1000)
        batch = build_batch(
            [(0, now_ms, None, value, ())],
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=self.sequences[index],
            is_transactional=True,
        )
        for attempt in range(30):
            code, offset = await self.produce(
                self.topic, index, bytes(batch), transactional_id=self.transactional_id
            )
            if code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                break
            if code not in RETRIABLE or attempt == 29:
                raise KafkaError(code, f"for {self.topic}-{index}")
            await self.pause()
        if offset >= 0:
            self.world.ledger.acknowledged(self.topic, index, offset + 1, f"{self.name} was told so")
        self.sequences[index] += 1

    async def commit_offset(self, group, offset, producer_id, epoch):
        """Of partition 0, within the transaction."""
        add = AddOffsetsToTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=producer_id,
            producer_epoch=epoch,
            group_id=group,
        )
        await self.retried(
            lambda: self.ask_coordinator(self.transactional_id, 1, add, 3),
            lambda answer: answer.error_code,
            self.transactional_id,
            1,
        )
        part = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(
            partition_index=0, committed_offset=offset
        )
        topic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name=self.topic, partitions=[part])
        commit = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group,
            producer_id=producer_id,
            producer_epoch=epoch,
            topics=[topic],
        )
        await self.retried(
            lambda: self.ask_coordinator(group, 0, commit, 3),
            lambda answer: answer.topics[0].partitions[0].error_code,
            group,
            0,
        )

    async def ask_coordinator(self, key, key_type, request, version):
        return await self.ask(await self.coordinator(key, key_type), request, version)

    async def retried(self, ask, code_of, key, key_type):
        for _ in range(30):
            try:
                answer = await ask()
                code = ErrorCode(code_of(answer))
            except KafkaError as error:
                code = error.code
            if code == ErrorCode.NONE:
                return answer
            if code not in RETRIABLE:
                raise KafkaError(code)
            self.forget_coordinator(key, key_type)
            await self.pause()
        raise KafkaError(ErrorCode.REQUEST_TIMED_OUT)

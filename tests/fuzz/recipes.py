"""Requests that are right, or nearly: they get a transaction, a group or a telemetry push past the first checks."""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING, NamedTuple

from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from barnabas.wire.messages.end_txn import EndTxnRequest, EndTxnResponse
from barnabas.wire.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsResponse
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from barnabas.wire.messages.produce import ProduceRequest
from barnabas.wire.messages.push_telemetry import PushTelemetryRequest
from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest
from tests.fuzz.pushes import push

if TYPE_CHECKING:
    import random

    from barnabas.wire.message import Structure

__all__ = ["Recipes"]

_TRANSACTIONAL_IDS = ("fuzz-tx-a", "fuzz-tx-b", "fuzz-tx-c")
_GROUP = "fuzz-new-group"
_TOPIC = "fuzz-a"
_PATTERNS = ("fuzz-.*", "fuzz-a|fuzz-b", "(a|aa)+$", "(.*.*)*x", "[a-z]{500}", "(", "(?=x)", "x" * 300)
_KEPT = 16
_SEQUENCES = 64


class _Producer(NamedTuple):
    transactional_id: str | None
    producer_id: int
    epoch: int


class Recipes:
    """What is known of transactions, members and clients, and requests made of it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._producers: collections.deque[_Producer] = collections.deque(maxlen=_KEPT)
        self._members: collections.deque[tuple[str, int]] = collections.deque(maxlen=_KEPT)
        self._clients: collections.deque[tuple[bytes, int]] = collections.deque(maxlen=_KEPT)

    def learn(self, request: Structure, answer: Structure) -> None:
        """Keeps what a good answer tells."""
        if getattr(answer, "error_code", 0):
            return
        if (isinstance(answer, InitProducerIdResponse) and isinstance(request, InitProducerIdRequest)) or (
            isinstance(answer, EndTxnResponse) and isinstance(request, EndTxnRequest)
        ):
            self._producers.append(
                _Producer(request.transactional_id, answer.producer_id, answer.producer_epoch)
            )
        elif isinstance(answer, ConsumerGroupHeartbeatResponse) and answer.member_id:
            self._members.append((answer.member_id, answer.member_epoch))
        elif isinstance(answer, GetTelemetrySubscriptionsResponse):
            self._clients.append((bytes(answer.client_instance_id), answer.subscription_id))

    def apply(self, message: Structure) -> None:
        """Puts what fits into a request of those that need it; now and then into some of its fields only."""
        if isinstance(message, PushTelemetryRequest):
            message.compression_type, message.metrics = push(self._chance)
            if self._clients:
                message.client_instance_id, message.subscription_id = self._chance.choice(self._clients)
        elif isinstance(message, InitProducerIdRequest):
            message.transactional_id = self._chance.choice(_TRANSACTIONAL_IDS)
            message.transaction_timeout_ms = self._chance.choice([1000, 60_000])
            message.producer_id = message.producer_epoch = -1
        elif isinstance(message, ConsumerGroupHeartbeatRequest):
            self._heartbeat(message)
        elif self._producers:
            self._transaction(
                message, self._producers[-1 - self._chance.randrange(len(self._producers)) // 4]
            )

    def _heartbeat(self, message: ConsumerGroupHeartbeatRequest) -> None:
        chance = self._chance
        message.group_id = _GROUP
        message.instance_id = message.rack_id = None
        message.server_assignor = chance.choice([None, "uniform", "range"])
        message.subscribed_topic_regex = chance.choice([None, None, *_PATTERNS])
        if self._members and chance.random() < 0.7:
            message.member_id, message.member_epoch = chance.choice(self._members)
            message.topic_partitions = chance.choice([None, [], message.topic_partitions])
            if chance.random() < 0.2:
                message.member_epoch = -1
            return
        message.member_id, message.member_epoch = f"fuzz-member-{chance.randrange(5)}", 0
        message.rebalance_timeout_ms = chance.choice([1000, 60_000])
        message.subscribed_topic_names = [_TOPIC]
        message.topic_partitions = []

    def _transaction(self, message: Structure, producer: _Producer) -> None:
        if isinstance(message, AddPartitionsToTxnRequest):
            for each in message.transactions:
                each.transactional_id, each.producer_id, each.producer_epoch = producer
                each.verify_only = False
            message.v3_and_below_transactional_id = producer.transactional_id or ""
            message.v3_and_below_producer_id = producer.producer_id
            message.v3_and_below_producer_epoch = producer.epoch
        elif isinstance(message, AddOffsetsToTxnRequest | EndTxnRequest | TxnOffsetCommitRequest):
            message.transactional_id, message.producer_id, message.producer_epoch = producer
            if isinstance(message, TxnOffsetCommitRequest):
                message.member_id, message.generation_id, message.group_instance_id = "", -1, None
        elif isinstance(message, ProduceRequest):
            message.transactional_id, message.acks = producer.transactional_id, -1
            for topic in message.topic_data:
                topic.name = _TOPIC
                for part in topic.partition_data:
                    part.index = 0
                    part.records = self._batch(producer)

    def _batch(self, producer: _Producer) -> bytes:
        record = Record(0, int(time.time() * 1000), b"k", b"v" * self._chance.choice([0, 10, 1000]), ())
        return bytes(
            build_batch(
                [record],
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                base_sequence=self._chance.choice([0, 0, 1, self._chance.randrange(_SEQUENCES)]),
                is_transactional=producer.transactional_id is not None,
            )
        )

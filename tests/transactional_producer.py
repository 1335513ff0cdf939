"""A transactional producer that says exactly what a test wants said, in both versions of transactions."""

from __future__ import annotations

import time

from barnabas.errors import ErrorCode
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import Record, iterate_batch
from barnabas.wire.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.end_txn import EndTxnRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from barnabas.wire.messages.txn_offset_commit import TxnOffsetCommitRequest
from tests import topic_requests

__all__ = [
    "TransactionalProducer",
    "call_until",
    "committed_offset",
    "create_topic",
    "find_coordinator",
    "last_stable_offset",
    "read",
    "read_on",
]

_BUSY = frozenset(
    (
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)
_DEADLINE_S = 30.0


def call_until(call, code, *, unless=_BUSY):
    """Calls again and again while the answer is one to try again after."""
    end = time.monotonic() + _DEADLINE_S
    while True:
        answer = call()
        if code(answer) not in unless or time.monotonic() > end:
            return answer
        time.sleep(0.01)


def create_topic(client, name, partitions=1, **configs):
    """Creates a topic."""
    answer = client.call(topic_requests.create_topics([name], partitions, **configs), topic_requests.CREATE)
    assert answer.topics[0].error_code == 0, answer
    return name


def find_coordinator(client, key, key_type=1):
    """Has the internal topic created, and waits for it."""
    return call_until(
        lambda: client.call(FindCoordinatorRequest(key=key, key_type=key_type), 2),
        lambda answer: answer.error_code,
    )


class TransactionalProducer:
    """One transactional id; its identity follows the answers.

    `version` is that of transactions: 1 adds partitions itself and sends old requests, 2 does not.
    """

    def __init__(self, client, transactional_id, version=2):
        self.client = client
        self.transactional_id = transactional_id
        self.version = version
        self.producer_id = -1
        self.epoch = -1
        self.sequences = {}

    def find(self):
        """Finds the coordinator."""
        return find_coordinator(self.client, self.transactional_id)

    def init(self, *, timeout_ms=60_000, version=5, keep=False):
        """InitProducerId, once; `keep` names what the producer has (KIP-360)."""
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id, transaction_timeout_ms=timeout_ms
        )
        if keep:
            request.producer_id, request.producer_epoch = self.producer_id, self.epoch
        answer = self.client.call(request, version)
        if answer.error_code == 0:
            self._now(answer.producer_id, answer.producer_epoch)
        return answer

    def start(self, **options):
        """Finds the coordinator and initialises, however long that takes."""
        self.find()
        answer = call_until(lambda: self.init(**options), lambda answer: answer.error_code)
        assert answer.error_code == 0, answer
        return self

    def _now(self, producer_id, epoch):
        self.producer_id, self.epoch = producer_id, epoch
        self.sequences = {}

    def add(self, topic, *partitions, version=3):
        """AddPartitionsToTxn; the codes by partition."""
        answer = self.client.call(
            AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self.transactional_id,
                v3_and_below_producer_id=self.producer_id,
                v3_and_below_producer_epoch=self.epoch,
                v3_and_below_topics=[
                    AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=list(partitions))
                ],
            ),
            version,
        )
        return {
            (result.name, each.partition_index): each.partition_error_code
            for result in answer.results_by_topic_v3_and_below
            for each in result.results_by_partition
        }

    def batch(self, values, *, sequence=0, transactional=True):
        """A batch of this producer."""
        now_ms = int(time.time() * 1000)
        return bytes(
            build_batch(
                [Record(index, now_ms, None, value, ()) for index, value in enumerate(values)],
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                base_sequence=sequence,
                is_transactional=transactional,
            )
        )

    def produce_request(self, topic, partition, values, *, sequence=None, transactional=True, acks=-1):
        """A Produce request, for versions with topic names."""
        if sequence is None:
            sequence = self.sequences.get((topic, partition), 0)
        data = ProduceRequest.PartitionProduceData(
            index=partition, records=self.batch(values, sequence=sequence, transactional=transactional)
        )
        return ProduceRequest(
            transactional_id=self.transactional_id,
            acks=acks,
            timeout_ms=10_000,
            topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
        )

    def produce(self, topic, partition, *values, version=None, **options):
        """Produces one batch; the partition's answer."""
        if version is None:
            version = 12 if self.version >= 2 else 9
        request = self.produce_request(topic, partition, values, **options)
        answer = self.client.call(request, version).responses[0].partition_responses[0]
        if answer.error_code == 0:
            self.sequences[topic, partition] = self.sequences.get((topic, partition), 0) + len(values)
        return answer

    def write(self, topic, partition, *values):
        """Adds the partition where that is the client's task, and produces."""
        if self.version < 2:
            codes = call_until(
                lambda: self.add(topic, partition), lambda codes: ErrorCode(next(iter(codes.values())))
            )
            assert set(codes.values()) == {0}, codes
        answer = call_until(lambda: self.produce(topic, partition, *values), lambda answer: answer.error_code)
        assert answer.error_code == 0, answer
        return answer

    def add_offsets(self, group, version=3):
        """AddOffsetsToTxn; its code."""
        return self.client.call(
            AddOffsetsToTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                group_id=group,
            ),
            version,
        ).error_code

    def offset_request(self, group, topic, offsets, *, generation=-1, member="", instance=None):
        """A TxnOffsetCommit request for offsets by partition."""
        return TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            topics=[
                TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(
                            partition_index=index, committed_offset=offset, committed_metadata=""
                        )
                        for index, offset in offsets.items()
                    ],
                )
            ],
        )

    def commit_offsets(self, group, topic, offsets, *, version=None, **options):
        """TxnOffsetCommit; the codes by partition."""
        if version is None:
            version = 5 if self.version >= 2 else 3
        answer = self.client.call(self.offset_request(group, topic, offsets, **options), version)
        return {
            (result.name, each.partition_index): each.error_code
            for result in answer.topics
            for each in result.partitions
        }

    def write_offsets(self, group, topic, offsets):
        """Adds the group where that is the client's task, and commits offsets."""
        if self.version < 2:
            assert call_until(lambda: self.add_offsets(group), ErrorCode) == 0
        codes = call_until(
            lambda: self.commit_offsets(group, topic, offsets), lambda codes: next(iter(codes.values()))
        )
        assert set(codes.values()) == {0}, codes

    def end(self, *, commit, version=None):
        """EndTxn, once."""
        if version is None:
            version = 5 if self.version >= 2 else 3
        answer = self.client.call(
            EndTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                committed=commit,
            ),
            version,
        )
        if answer.error_code == 0 and version >= 5:
            self._now(answer.producer_id, answer.producer_epoch)
        return answer

    def finish(self, *, commit):
        """Ends the transaction."""
        answer = call_until(lambda: self.end(commit=commit), lambda answer: answer.error_code)
        assert answer.error_code == 0, answer


def read(client, topic, partition=0, *, offset=0, committed=True):
    """The values that a reader gets: what was aborted is left out as a client does it."""
    return _read(client, topic, partition, offset, committed)[0]


def read_on(client, topic, partition=0):
    """All that readers of committed records get, fetch by fetch."""
    offset = 0
    everything = []
    while True:
        values, next_offset = _read(client, topic, partition, offset, True)
        if next_offset == offset:
            return everything
        everything += values
        offset = next_offset


def _read(client, topic, partition, offset, committed):
    answer = client.call(
        FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=int(committed),
            topics=[
                FetchRequest.FetchTopic(
                    topic=topic,
                    partitions=[
                        FetchRequest.FetchPartition(
                            partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20
                        )
                    ],
                )
            ],
        ),
        11,
    )
    (data,) = answer.responses[0].partitions
    assert data.error_code == 0, data
    aborted = sorted((each.first_offset, each.producer_id) for each in data.aborted_transactions or ())
    skipped = set()
    values = []
    records = bytes(data.records or b"")
    for position, header in iterate_headers(records):
        while aborted and aborted[0][0] <= header.last_offset:
            skipped.add(aborted.pop(0)[1])
        if header.is_control:
            skipped.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in skipped):
            values += [record.value for record in iterate_batch(records, position, header)]
        offset = header.next_offset
    return values, offset


def last_stable_offset(client, topic, partition=0, *, committed=True):
    """ListOffsets for the latest offset."""
    answer = client.call(
        ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(committed),
            topics=[
                ListOffsetsRequest.ListOffsetsTopic(
                    name=topic,
                    partitions=[
                        ListOffsetsRequest.ListOffsetsPartition(partition_index=partition, timestamp=-1)
                    ],
                )
            ],
        ),
        5,
    )
    (found,) = answer.topics[0].partitions
    assert found.error_code == 0
    return found.offset


def committed_offset(client, group, topic, partition=0, *, require_stable=False):
    """OffsetFetch for one partition: code and offset."""
    answer = client.call(
        OffsetFetchRequest(
            group_id=group,
            topics=[OffsetFetchRequest.OffsetFetchRequestTopic(name=topic, partition_indexes=[partition])],
            require_stable=require_stable,
        ),
        7,
    )
    if answer.error_code:
        return answer.error_code, -1
    (found,) = answer.topics[0].partitions
    return found.error_code, found.committed_offset

"""DeleteRecords and InitProducerId."""

import pytest

from barnabas.records.builder import build_batch
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests import topic_requests
from tests.handlers.node import running


async def create(node, name, **settings):
    answer = await node.call(topic_requests.create_topics([name], **settings), topic_requests.CREATE)
    assert answer.topics[0].error_code == 0


async def produce(node, name, count):
    records = build_batch([(0, 1_700_000_000_000, b"k", b"v", ()) for _ in range(count)])
    data = ProduceRequest.PartitionProduceData(index=0, records=records)
    topic = ProduceRequest.TopicProduceData(name=name, partition_data=[data])
    answer = await node.call(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[topic]), 9)
    assert answer.responses[0].partition_responses[0].error_code == 0


async def earliest(node, name):
    partition = ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=-2)
    topic = ListOffsetsRequest.ListOffsetsTopic(name=name, partitions=[partition])
    answer = await node.call(ListOffsetsRequest(replica_id=-1, topics=[topic]), 5)
    return answer.topics[0].partitions[0].offset


async def delete(node, name, offset, version=2, partition=0):
    """(code, low watermark) of one partition."""
    asked = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=partition, offset=offset)
    topic = DeleteRecordsRequest.DeleteRecordsTopic(name=name, partitions=[asked])
    answer = await node.call(DeleteRecordsRequest(topics=[topic], timeout_ms=5000), version)
    (result,) = answer.topics[0].partitions
    return result.error_code, result.low_watermark


@pytest.mark.parametrize("version", range(3))
async def test_records_before_an_offset_are_gone(tmp_path, loop, version):
    """-1 stands for the high watermark; nothing comes back, also not by asking for less."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await produce(node, "orders", 10)
        assert await delete(node, "orders", 4, version) == (0, 4)
        assert await earliest(node, "orders") == 4
        assert await delete(node, "orders", 2, version) == (0, 4)
        assert await delete(node, "orders", -1, version) == (0, 10)
        assert await earliest(node, "orders") == 10


async def test_records_that_cannot_be_deleted(tmp_path, loop):
    """Beyond the end, of compacted or internal topics, of partitions that do not exist: Kafka's codes."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await create(node, "compacted", cleanup_policy="compact")
        await create(node, "__consumer_offsets")
        assert await delete(node, "orders", 1) == (1, -1)
        assert await delete(node, "orders", -2) == (1, -1)
        assert await delete(node, "compacted", 0) == (44, -1)
        assert await delete(node, "__consumer_offsets", 0) == (17, -1)
        assert await delete(node, "none", 0) == (3, -1)
        assert await delete(node, "orders", 0, partition=9) == (3, -1)


@pytest.mark.parametrize("version", range(6))
async def test_every_idempotent_producer_gets_an_id_of_its_own(tmp_path, loop, version):
    """With epoch 0, whatever id it had before; also after a restart."""
    async with running(tmp_path) as node:
        ids = []
        for had in (
            {},
            {},
            {"producer_id": 5, "producer_epoch": 3},
            {"producer_id": 5, "producer_epoch": 32767},
        ):
            if had and version < 3:
                continue
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000, **had)
            answer = await node.call(request, version)
            assert (answer.error_code, answer.producer_epoch) == (0, 0)
            ids.append(answer.producer_id)
        assert len(set(ids)) == len(ids)
    async with running(tmp_path) as node:
        answer = await node.call(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000), version
        )
        assert answer.producer_id > max(ids)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"transactional_id": ""}, 42),
        ({"transactional_id": None, "producer_id": 5}, 42),
        ({"transactional_id": None, "producer_epoch": 5}, 42),
    ],
)
async def test_producers_that_get_no_id(tmp_path, loop, fields, code):
    """Half an identity is none, and neither is an empty name."""
    async with running(tmp_path) as node:
        answer = await node.call(InitProducerIdRequest(transaction_timeout_ms=1000, **fields), 4)
        assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)

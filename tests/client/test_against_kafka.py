"""The connection to another broker, against Apache Kafka."""

from __future__ import annotations

import asyncio

import pytest

from barnabas.client.broker_connection import connect
from barnabas.errors import ErrorCode
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("version", [KAFKA_43, KAFKA_39])
def test_a_record_goes_round(tmp_path, version):
    """A topic created, produced to and fetched from through our connection, on Kafka of both generations."""
    with kafka_broker(tmp_path, version=version) as kafka:
        asyncio.run(asyncio.wait_for(round_trip(kafka.port), 60))


async def round_trip(port):
    from barnabas.records.builder import build_batch
    from barnabas.records.record import Record

    async with await connect("127.0.0.1", port, client_id="barnabas-test") as connection:
        topic = CreateTopicsRequest.CreatableTopic(name="events", num_partitions=1, replication_factor=1)
        created = await connection.send(CreateTopicsRequest(topics=[topic], timeout_ms=10_000))
        assert created.topics[0].error_code == ErrorCode.NONE
        topic_id = created.topics[0].topic_id
        batch = build_batch([Record(offset=0, timestamp=1, key=b"k", value=b"v", headers=[])])
        partition = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
        produce = ProduceRequest(
            acks=-1,
            timeout_ms=10_000,
            topic_data=[
                ProduceRequest.TopicProduceData(name="events", topic_id=topic_id, partition_data=[partition])
            ],
        )
        for _ in range(100):
            produced = await connection.send(produce)
            code = produced.responses[0].partition_responses[0].error_code
            if code == ErrorCode.NONE:
                break
            assert code in (
                ErrorCode.UNKNOWN_TOPIC_ID,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
            )
            await asyncio.sleep(0.05)
        fetch = FetchRequest(
            replica_id=-1,
            max_wait_ms=5_000,
            min_bytes=1,
            max_bytes=1_000_000,
            session_epoch=-1,
            topics=[
                FetchRequest.FetchTopic(
                    topic="events",
                    topic_id=topic_id,
                    partitions=[
                        FetchRequest.FetchPartition(
                            partition=0, fetch_offset=0, partition_max_bytes=1_000_000
                        )
                    ],
                )
            ],
        )
        metadata, fetched = await asyncio.gather(
            connection.send(MetadataRequest(topics=None)), connection.send(fetch)
        )
        assert [topic.name for topic in metadata.topics] == ["events"]
        records = fetched.responses[0].partitions[0].records
        assert bytes(records)[57:] == bytes(batch)[57:]

"""The admin APIs beside Apache Kafka: the same requests to both, and the same answers.

Left out of the comparison is what cannot be the same: ids, addresses, sizes, documentation.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from barnabas.wire.message import Structure
from barnabas.wire.messages.alter_configs import AlterConfigsRequest
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_cluster import DescribeClusterRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from barnabas.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.list_config_resources import ListConfigResourcesRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.handlers.node import Node, running
from tests.oracle.kafka_broker import kafka_broker
from tools.differences import FIELDS

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(240)]

TOPIC, BROKER, METRICS, GROUP = 2, 4, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)

# Several requests are sent before the answers are compared, and sizes follow.
UNCOMPARED = {"throttle_time_ms", "topic_id", "partition_size", "offset_lag", *FIELDS}


def plain(value):
    """A message as dicts and sorted lists, without what cannot be compared."""
    if isinstance(value, Structure):
        return {name: plain(getattr(value, name)) for name in value.__slots__ if name not in UNCOMPARED}
    if isinstance(value, list):
        # The order of topics, settings and the like is that of some hash map in Kafka.
        return sorted((plain(item) for item in value), key=repr)
    return value


def topics(*names):
    return [MetadataRequest.MetadataRequestTopic(name=name) for name in names]


def create(name, partitions=1, replicas=1, configs=(), assignments=(), **more):
    return CreateTopicsRequest(
        topics=[
            CreateTopicsRequest.CreatableTopic(
                name=name,
                num_partitions=partitions,
                replication_factor=replicas,
                configs=[
                    CreateTopicsRequest.CreatableTopicConfig(name=key, value=value) for key, value in configs
                ],
                assignments=[
                    CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
                    for index, ids in assignments
                ],
            )
        ],
        timeout_ms=10_000,
        **more,
    )


def change(resource_type, name, *operations, **more):
    return IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=resource_type,
                resource_name=name,
                configs=[
                    IncrementalAlterConfigsRequest.AlterableConfig(
                        name=key, config_operation=number, value=value
                    )
                    for key, number, value in operations
                ],
            )
        ],
        **more,
    )


def replace(resource_type, name, *settings):
    return AlterConfigsRequest(
        resources=[
            AlterConfigsRequest.AlterConfigsResource(
                resource_type=resource_type,
                resource_name=name,
                configs=[
                    AlterConfigsRequest.AlterableConfig(name=key, value=value) for key, value in settings
                ],
            )
        ]
    )


def describe(resource_type, name, *keys, **more):
    return DescribeConfigsRequest(
        resources=[
            DescribeConfigsRequest.DescribeConfigsResource(
                resource_type=resource_type, resource_name=name, configuration_keys=list(keys) or None
            )
        ],
        **more,
    )


def more_partitions(name, count, assignments=None):
    if assignments is not None:
        assignments = [
            CreatePartitionsRequest.CreatePartitionsAssignment(broker_ids=ids) for ids in assignments
        ]
    topic = CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=assignments)
    return CreatePartitionsRequest(topics=[topic], timeout_ms=10_000)


def delete(*names):
    return DeleteTopicsRequest(topic_names=list(names), timeout_ms=10_000)


def pages(*names, limit=2000, cursor=None):
    if cursor is not None:
        cursor = DescribeTopicPartitionsRequest.Cursor(topic_name=cursor[0], partition_index=cursor[1])
    return DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequest.TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=cursor,
    )


def delete_records(topic, partition, offset):
    asked = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=partition, offset=offset)
    return DeleteRecordsRequest(
        topics=[DeleteRecordsRequest.DeleteRecordsTopic(name=topic, partitions=[asked])], timeout_ms=10_000
    )


REQUESTS = [
    # With eligible leader replicas all brokers go by one setting.
    (change(BROKER, "", ("min.insync.replicas", SET, "2")), 1),
    (change(BROKER, "", ("min.insync.replicas", DELETE, None)), 1),
    (change(BROKER, "1", ("min.insync.replicas", SET, "2")), 1),
    (change(BROKER, "1", ("min.insync.replicas", DELETE, None)), 1),
    (replace(BROKER, ""), 1),
    (change(BROKER, "", ("min.insync.replicas", SET, "1")), 1),
    # Topics
    (create("orders", 3, configs=[("retention.ms", "1000")]), 7),
    (create("pay.ments"), 5),
    (create("pay_ments"), 5),
    (create("orders"), 4),
    (create("offsets", -1, -1), 7),
    (create("dry", 2, validate_only=True), 7),
    (create("bad name"), 7),
    (create(""), 7),
    (create("__cluster_metadata"), 7),
    (create("n", 0), 7),
    (create("n", -2), 7),
    (create("n", 20_000), 7),
    (create("n", 1, 0), 7),
    (create("n", configs=[("no", "1")]), 7),
    (create("n", configs=[("retention.ms", None)]), 7),
    (create("n", configs=[("retention.ms", "x")]), 7),
    (create("n", assignments=[(0, [1])]), 7),
    (create("n", -1, 1, assignments=[(0, [1])]), 7),
    (create("n", -1, -1, assignments=[(0, [])]), 7),
    (create("n", -1, -1, assignments=[(0, [2])]), 7),
    (create("n", -1, -1, assignments=[(0, [1, 1])]), 7),
    (create("n", -1, -1, assignments=[(0, [1]), (2, [1])]), 7),
    (create("n", -1, -1, assignments=[(0, [1]), (0, [1])]), 7),
    (create("by-hand", -1, -1, assignments=[(0, [1]), (1, [1])]), 7),
    (more_partitions("pay.ments", 3), 3),
    (more_partitions("pay.ments", 3), 2),
    (more_partitions("pay.ments", 1), 2),
    (more_partitions("pay.ments", 4, []), 2),
    (more_partitions("pay.ments", 4, [[5]]), 2),
    (more_partitions("pay.ments", 4, [[1]]), 0),
    (more_partitions("none", 4), 1),
    (create("n", 1, 2), 7),
    (delete("none"), 1),
    (delete("none", "twice", "twice"), 5),
    (delete("by-hand"), 5),
    # Metadata
    *((MetadataRequest(topics=topics("orders", "pay.ments")), version) for version in range(14)),
    (MetadataRequest(topics=[]), 0),
    (MetadataRequest(topics=[]), 1),
    (MetadataRequest(topics=None), 12),
    (MetadataRequest(topics=topics("bad name", ""), allow_auto_topic_creation=False), 12),
    (MetadataRequest(topics=topics("none"), allow_auto_topic_creation=False), 4),
    (
        MetadataRequest(
            topics=topics("orders"),
            include_cluster_authorized_operations=True,
            include_topic_authorized_operations=True,
        ),
        10,
    ),
    (MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(topic_id=b"x" * 16, name=None)]), 12),
    (MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(topic_id=b"x" * 16, name="orders")]), 10),
    (pages(), 0),
    (pages("orders", "none", "bad name"), 0),
    (pages(limit=2), 0),
    (pages(limit=4), 0),
    (pages("orders", "pay.ments", cursor=("orders", 2), limit=1), 0),
    (pages("orders", cursor=("orders", -1)), 0),
    (pages("orders", cursor=("other", 0)), 0),
    # Settings
    (change(TOPIC, "orders", ("cleanup.policy", APPEND, "compact")), 1),
    (change(TOPIC, "orders", ("cleanup.policy", SUBTRACT, "compact")), 1),
    (change(TOPIC, "orders", ("cleanup.policy", APPEND, "bad")), 1),
    (change(TOPIC, "orders", ("retention.ms", APPEND, "1")), 1),
    (change(TOPIC, "orders", ("retention.ms", SET, "-5")), 1),
    (change(TOPIC, "orders", ("retention.ms", SET, None)), 1),
    (change(TOPIC, "orders", ("retention.ms", SET, "1"), ("retention.ms", SET, "2")), 1),
    (change(TOPIC, "orders", ("no", SET, "1")), 1),
    (change(TOPIC, "orders", ("no", DELETE, None)), 0),
    (change(TOPIC, "orders", ("min.compaction.lag.ms", SET, "20"), ("max.compaction.lag.ms", SET, "10")), 1),
    (change(TOPIC, "orders", ("remote.storage.enable", SET, "true")), 1),
    (change(TOPIC, "none", ("retention.ms", SET, "1")), 1),
    (change(TOPIC, "", ("retention.ms", SET, "1")), 1),
    (change(BROKER, "", ("log.retention.ms", SET, "7000")), 1),
    (change(BROKER, "1", ("log.retention.ms", SET, "8000")), 1),
    (change(BROKER, "1", ("log.retention.ms", APPEND, "8000")), 1),
    (change(BROKER, "1", ("log.cleanup.policy", APPEND, "compact")), 1),
    (change(BROKER, "1", ("log.cleanup.policy", DELETE, None)), 1),
    (change(BROKER, "1", ("node.id", SET, "2"), ("process.roles", SET, "broker")), 1),
    (change(BROKER, "1", ("message.max.bytes", SET, "-7")), 1),
    (change(BROKER, "1", ("message.max.bytes", SET, "x")), 1),
    (change(BROKER, "2", ("log.retention.ms", SET, "1")), 1),
    (change(BROKER, "x", ("log.retention.ms", SET, "1")), 1),
    (change(BROKER, "", ("ssl.keystore.type", SET, "JKS")), 1),
    (change(GROUP, "g", ("consumer.session.timeout.ms", SET, "50000")), 1),
    (change(GROUP, "g", ("consumer.session.timeout.ms", SET, "5")), 1),
    (change(GROUP, "g", ("no", SET, "5")), 1),
    (change(GROUP, "", ("no", SET, "5")), 1),
    (change(METRICS, "m", ("metrics", SET, "a,b"), ("match", SET, "client_id=x.*")), 1),
    (change(METRICS, "m", ("interval.ms", SET, "10")), 1),
    (change(METRICS, "m", ("match", SET, "client_id=(")), 1),
    (change(METRICS, "", ("metrics", SET, "a")), 1),
    (change(99, "x"), 1),
    (replace(TOPIC, "pay.ments", ("retention.ms", "5"), ("segment.ms", "6")), 2),
    (replace(TOPIC, "pay.ments", ("retention.ms", "5")), 0),
    (replace(TOPIC, "pay.ments", ("retention.ms", None)), 2),
    (replace(TOPIC, "none", ("retention.ms", "5")), 2),
    (replace(BROKER, "1", ("node.id", "5")), 2),
    (replace(8, "1", ("root", "INFO")), 2),
    (describe(TOPIC, "orders", "retention.ms", "segment.ms", "cleanup.policy", include_synonyms=True), 4),
    (describe(TOPIC, "orders", "retention.ms"), 1),
    (describe(TOPIC, "none"), 4),
    (describe(TOPIC, "bad name"), 4),
    (
        describe(
            BROKER, "1", "log.retention.ms", "log.retention.hours", "ssl.key.password", include_synonyms=True
        ),
        4,
    ),
    (describe(BROKER, "", "log.retention.ms", include_synonyms=True), 4),
    (describe(BROKER, "2"), 4),
    (describe(BROKER, "x"), 4),
    (describe(GROUP, "g", include_synonyms=True), 4),
    (describe(GROUP, ""), 4),
    (describe(METRICS, "m", include_synonyms=True), 4),
    (describe(METRICS, "n"), 4),
    (describe(METRICS, ""), 4),
    (describe(8, ""), 4),
    (describe(8, "2"), 4),
    (describe(99, "x"), 4),
    (ListConfigResourcesRequest(), 0),
    (ListConfigResourcesRequest(), 1),
    (ListConfigResourcesRequest(resource_types=[GROUP]), 1),
    (ListConfigResourcesRequest(resource_types=[99]), 1),
    # The cluster, its directories, its records
    *((DescribeClusterRequest(), version) for version in range(3)),
    (DescribeClusterRequest(include_cluster_authorized_operations=True), 0),
    (DescribeClusterRequest(endpoint_type=2), 1),
    (DescribeClusterRequest(endpoint_type=3), 1),
    *((DescribeLogDirsRequest(topics=None), version) for version in range(1, 6)),
    (DescribeLogDirsRequest(topics=[]), 4),
    (delete_records("orders", 0, 0), 0),
    (delete_records("orders", 0, -1), 2),
    (delete_records("orders", 0, 5), 2),
    (delete_records("orders", 0, -2), 2),
    (delete_records("orders", 9, 0), 2),
    (delete_records("none", 0, 0), 2),
    (InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000, producer_id=5), 3),
    (InitProducerIdRequest(transactional_id="", transaction_timeout_ms=1000), 3),
]


@asynccontextmanager
async def connected(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Node(None, reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def answers(node):
    return [plain(await node.call(request, version)) for request, version in REQUESTS]


async def compare(tmp_path, port):
    async with running(tmp_path / "ours") as node:
        ours = await answers(node)
    async with connected(("127.0.0.1", port)) as kafka:
        theirs = await answers(kafka)
    differing = [
        f"{request!r} in version {version}:\n  ours   {own}\n  Kafka's {their}"
        for (request, version), own, their in zip(REQUESTS, ours, theirs, strict=True)
        if own != their
    ]
    assert not differing, "\n".join(differing)


def test_the_same_requests_have_the_same_answers(tmp_path):
    """Codes, words, versions and shapes are Kafka's, request by request."""
    with kafka_broker(tmp_path / "kafka") as kafka:
        asyncio.run(compare(tmp_path, kafka.port))

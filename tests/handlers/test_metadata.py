from dataclasses import replace

import pytest

from barnabas.handlers.metadata import _answer
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.controller.cluster import broker, image_of, topic
from tests.handlers.node import running

NO_LEADER = 5


def by_name(*names, **more):
    return MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name=name) for name in names], **more)


def by_id(*ids, name=None):
    topics = [MetadataRequest.MetadataRequestTopic(topic_id=topic_id, name=name) for topic_id in ids]
    return MetadataRequest(topics=topics)


async def create(node, name, partitions=1):
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    answer = await node.call(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 7)
    assert answer.topics[0].error_code == 0
    return answer.topics[0].topic_id


def codes(answer):
    return {topic.name: topic.error_code for topic in answer.topics}


@pytest.mark.parametrize("version", range(14))
async def test_every_version_tells_brokers_topics_and_leaders(tmp_path, loop, version):
    """Each version has what it knows, and the rest is left out."""
    async with running(tmp_path) as node:
        topic_id = await create(node, "orders", 2)
        await create(node, "__consumer_offsets")
        answer = await node.call(by_name("orders", "__consumer_offsets"), version)
        (broker,) = answer.brokers
        assert (broker.node_id, (broker.host, broker.port)) == (1, node.address)
        assert answer.controller_id == (1 if version >= 1 else -1)
        assert answer.cluster_id == (node.image.cluster_id if version >= 2 else None)
        orders, offsets = answer.topics
        assert (orders.error_code, orders.name, orders.is_internal) == (0, "orders", False)
        assert offsets.is_internal == (version >= 1)
        assert orders.topic_id == (topic_id if version >= 10 else bytes(16))
        assert [partition.partition_index for partition in orders.partitions] == [0, 1]
        for partition in orders.partitions:
            assert (partition.error_code, partition.leader_id) == (0, 1)
            assert (partition.replica_nodes, partition.isr_nodes, partition.offline_replicas) == (
                [1],
                [1],
                [],
            )
            assert partition.leader_epoch == (0 if version >= 7 else -1)


async def test_all_topics_or_none(tmp_path, loop):
    """Null means all; an empty list means none, except in version 0, where it means all."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        assert codes(await node.call(MetadataRequest(topics=[]), 0)) == {"orders": 0}
        assert codes(await node.call(MetadataRequest(topics=[]), 1)) == {}
        assert codes(await node.call(MetadataRequest(topics=None), 1)) == {"orders": 0}
        assert codes(await node.call(MetadataRequest(topics=None), 13)) == {"orders": 0}


@pytest.mark.parametrize("version", [0, 3, 4, 12])
async def test_a_missing_topic_is_there_when_the_answer_is(tmp_path, loop, version):
    """Creation is waited for, with the broker's number of partitions; bad names are refused."""
    async with running(tmp_path, num_partitions=3) as node:
        answer = await node.call(by_name("orders", "bad name", ""), version)
        assert codes(answer) == {"orders": 0, "bad name": 17, "": 17}
        assert [partition.leader_id for partition in answer.topics[0].partitions] == [1, 1, 1]
        assert len(node.image.topics["orders"].partitions) == 3


async def test_an_internal_topic_is_created_with_its_own_settings(tmp_path, loop):
    """50 compacted partitions, on one node too."""
    async with running(tmp_path) as node:
        answer = await node.call(by_name("__consumer_offsets"), 12)
        assert (answer.topics[0].error_code, len(answer.topics[0].partitions)) == (0, 50)
        assert node.image.topic_config("__consumer_offsets")["cleanup.policy"] == "compact"


async def test_nobody_wants_a_missing_topic_to_be_created(tmp_path, loop):
    """The client says no, or the broker does."""
    async with running(tmp_path / "a") as node:
        assert codes(await node.call(by_name("x", allow_auto_topic_creation=False), 4)) == {"x": 3}
    async with running(tmp_path / "b", auto_create_topics_enable="false") as node:
        assert codes(await node.call(by_name("x"), 12)) == {"x": 3}


async def test_a_name_that_collides_is_told_for_good(tmp_path, loop):
    """Asking again would not help, so the client is not left to."""
    async with running(tmp_path) as node:
        await create(node, "a.b")
        assert codes(await node.call(by_name("a_b"), 12)) == {"a_b": 17}


async def test_topics_by_id(tmp_path, loop):
    """As soon as one is asked for by id names do not count; an unknown id is told; old versions refuse."""
    async with running(tmp_path) as node:
        topic_id = await create(node, "orders")
        answer = await node.call(by_id(topic_id, topic_id, b"x" * 16), 12)
        assert [(topic.error_code, topic.name) for topic in answer.topics] == [(0, "orders"), (100, None)]
        assert answer.topics[1].topic_id == b"x" * 16
        assert codes(await node.call(by_id(topic_id, name="ignored"), 12)) == {"orders": 0}
        assert codes(await node.call(by_id(topic_id, name="orders"), 10)) == {"orders": 42}
        assert codes(await node.call(by_id(bytes(16)), 12)) == {"": 42}


async def test_a_name_that_stands_twice_is_answered_once(tmp_path, loop):
    """In the order of the request."""
    async with running(tmp_path) as node:
        await create(node, "a")
        await create(node, "b")
        answer = await node.call(by_name("b", "a", "b"), 12)
        assert [topic.name for topic in answer.topics] == ["b", "a"]


async def test_operations_are_told_when_asked_for(tmp_path, loop):
    """Without an authorizer everybody may do everything; the bits are Kafka's."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        both = {"include_cluster_authorized_operations": True, "include_topic_authorized_operations": True}
        answer = await node.call(by_name("orders", **both), 8)
        assert answer.cluster_authorized_operations == 8096
        assert answer.topics[0].topic_authorized_operations == 3576
        answer = await node.call(
            by_name(
                "orders", "none", include_topic_authorized_operations=True, allow_auto_topic_creation=False
            ),
            13,
        )
        assert [topic.topic_authorized_operations for topic in answer.topics] == [3576, 3576]
        answer = await node.call(by_name("orders"), 10)
        assert (
            answer.cluster_authorized_operations == answer.topics[0].topic_authorized_operations == -(2**31)
        )


async def test_a_prebuilt_answer_follows_the_topic(tmp_path, loop):
    """Whatever changes, the next answer has it."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        assert len((await node.call(by_name("orders"), 12)).topics[0].partitions) == 1
        await node.call(
            DeleteTopicsRequest(topics=[DeleteTopicsRequest.DeleteTopicState(name="orders")], timeout_ms=1), 6
        )
        await create(node, "orders", 2)
        assert len((await node.call(by_name("orders"), 12)).topics[0].partitions) == 2


async def test_an_advertised_name_goes_before_the_address_that_was_used(tmp_path, loop):
    """What the operator says is told; where nothing is said, the address by which the client came."""
    async with running(tmp_path, advertised_listeners="PLAINTEXT://kafka.example:19092") as node:
        (broker,) = (await node.call(by_name(), 12)).brokers
        assert (broker.host, broker.port) == ("kafka.example", 19092)


class Connection:
    local_address = ("10.0.0.1", 9092)
    client_address = ("10.0.0.2", 1)
    listener_name = "PLAINTEXT"


class Context:
    connection = Connection()

    def __init__(self, version):
        self.api_version = version


class Services:
    def __init__(self, image):
        self.image = image


@pytest.mark.parametrize(
    ("version", "code", "leader", "replicas"),
    [(0, NO_LEADER, -1, [1]), (1, NO_LEADER, -1, [1, 2]), (5, NO_LEADER, -1, [1, 2]), (6, 72, -1, [1, 2])],
)
def test_a_leader_without_this_listener_cannot_be_told(version, code, leader, replicas):
    """Older versions are told that there is none; version 0 leaves out whom it cannot reach."""
    elsewhere = replace(broker(2), endpoints={"OTHER": ("h", 1)})
    image = image_of(broker(1), elsewhere, topics=[topic("orders", 1, (2, 1))])
    answer = _answer(Services(image), Context(version), by_name("orders"), ["orders"])
    (partition,) = answer.topics[0].partitions
    assert (partition.error_code, partition.leader_id) == (code, leader)
    assert sorted(partition.replica_nodes) == replicas
    assert partition.offline_replicas == [2]
    assert [node.node_id for node in answer.brokers] == [1]


def test_replicas_that_cannot_be_reached_are_offline():
    """Gone, fenced, or with a failed directory; version 0 calls them not available."""
    image = image_of(
        broker(1),
        broker(2, fenced=True),
        broker(4, log_dirs=(b"x" * 16,)),
        topics=[
            topic("orders", 1, (1, 2, 3, 4), directories=(b"d" * 16, bytes(16), bytes(16), b"lost".ljust(16)))
        ],
    )
    (partition,) = _answer(Services(image), Context(12), by_name("orders"), ["orders"]).topics[0].partitions
    assert (partition.error_code, partition.offline_replicas) == (0, [2, 3, 4])
    (partition,) = _answer(Services(image), Context(0), by_name("orders"), ["orders"]).topics[0].partitions
    assert (partition.error_code, partition.replica_nodes) == (9, [1, 4])
    gone = image_of(broker(1), topics=[topic("orders", 1, (7,))])
    (partition,) = _answer(Services(gone), Context(12), by_name("orders"), ["orders"]).topics[0].partitions
    assert (partition.error_code, partition.leader_id, partition.offline_replicas) == (5, -1, [7])


async def test_the_answer_about_all_topics_follows_the_image(tmp_path, loop):
    """It is built once for as long as nothing changes, for each version and listener apart, and never told when it is old."""
    async with running(tmp_path) as node:
        await create(node, "orders", 2)
        for version in (1, 8, 12, 8, 1, 0):
            topics = None if version else []
            for _ in range(2):
                assert codes(await node.call(MetadataRequest(topics=topics), version)) == {"orders": 0}
        before = node.image
        await node.call(MetadataRequest(topics=None), 8)
        assert node.image is before
        assert 0 < len(before.prebuilt) <= 4
        await create(node, "more")
        answer = await node.call(MetadataRequest(topics=None), 8)
        assert codes(answer) == {"orders": 0, "more": 0}
        assert answer.topics[0].topic_authorized_operations == -(2**31)
        answer = await node.call(MetadataRequest(topics=None, include_topic_authorized_operations=True), 8)
        assert answer.topics[0].topic_authorized_operations != -(2**31)

"""CreateTopics, DeleteTopics, CreatePartitions and DescribeTopicPartitions."""

import pytest

from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from tests.handlers.node import running

Config = CreateTopicsRequest.CreatableTopicConfig


def new(name, partitions=1, replicas=1, **more):
    return CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=replicas, **more
    )


async def create(node, *topics, version=7, **more):
    return (
        await node.call(CreateTopicsRequest(topics=list(topics), timeout_ms=5000, **more), version)
    ).topics


def deletion(*names, ids=(), version=6):
    if version < 6:
        return DeleteTopicsRequest(topic_names=list(names), timeout_ms=5000)
    state = DeleteTopicsRequest.DeleteTopicState
    return DeleteTopicsRequest(
        topics=[
            *(state(name=name) for name in names),
            *(state(name=None, topic_id=topic_id) for topic_id in ids),
        ],
        timeout_ms=5000,
    )


def growth(name, count, assignments=None):
    if assignments is not None:
        assignments = [
            CreatePartitionsRequest.CreatePartitionsAssignment(broker_ids=ids) for ids in assignments
        ]
    return CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=assignments)


@pytest.mark.parametrize("version", range(8))
async def test_create_in_every_version(tmp_path, loop, version):
    """The topic exists when the answer comes, with its settings; newer versions describe it."""
    async with running(tmp_path) as node:
        configs = [Config(name="retention.ms", value="5")]
        (created,) = await create(node, new("orders", 2, configs=configs), version=version)
        assert (created.name, created.error_code) == ("orders", 0)
        topic = node.image.topics["orders"]
        assert len(topic.partitions) == 2
        assert node.image.topic_config("orders") == {"retention.ms": "5"}
        assert node.broker.log_directories.has("orders", 1)
        if version >= 5:
            assert (created.num_partitions, created.replication_factor) == (2, 1)
            sources = {config.name: config.config_source for config in created.configs}
            assert list(sources) == sorted(sources)
            assert sources["retention.ms"] == 1
            # The Java admin client cannot read an answer with a source that it does not know.
            assert set(sources.values()) <= set(range(1, 6))
        assert created.topic_id == (topic.id if version >= 7 else bytes(16))


async def test_settings_are_told_as_they_were_written(tmp_path, loop):
    """The answer repeats the words of the request; what they mean is the affair of DescribeConfigs."""
    async with running(tmp_path) as node:
        configs = [Config(name="retention.ms", value=" 70000 "), Config(name="preallocate", value="FALSE")]
        (created,) = await create(node, new("orders", 1, configs=configs), version=5)
        values = {config.name: config.value for config in created.configs}
        assert (values["retention.ms"], values["preallocate"]) == (" 70000 ", "FALSE")
        assert values["segment.bytes"] == "1073741824"


@pytest.mark.parametrize("version", [0, 4, 7])
async def test_defaults_stand_for_minus_one(tmp_path, loop, version):
    """In all versions, though Kafka has it from version 4 on."""
    async with running(tmp_path, num_partitions=4) as node:
        (created,) = await create(node, new("orders", -1, -1), version=version)
        assert created.error_code == 0
        assert len(node.image.topics["orders"].partitions) == 4


async def test_each_topic_has_its_own_result(tmp_path, loop):
    """Refusals carry Kafka's codes and words; what is right is created."""
    async with running(tmp_path) as node:
        results = await create(node, new("orders"), new("bad name"), new("twice"), new("twice"), new("n", 0))
        assert [(each.name, each.error_code) for each in results] == [
            ("orders", 0),
            ("bad name", 17),
            ("twice", 42),
            ("n", 37),
        ]
        assert results[3].error_message == "Number of partitions was set to an invalid non-positive value."
        (again,) = await create(node, new("orders"), version=2)
        assert (again.error_code, again.error_message) == (36, "Topic 'orders' already exists.")
        results = await create(node, new("x", 20_000), new("y"))
        assert {(each.name, each.error_code) for each in results} == {("x", 44), ("y", 44)}
        assert await create(node) == []


async def test_validate_only_creates_nothing(tmp_path, loop):
    """The answer describes what would be."""
    async with running(tmp_path) as node:
        (created,) = await create(node, new("orders", 3), validate_only=True)
        assert (created.error_code, created.num_partitions) == (0, 3)
        assert "orders" not in node.image.topics


@pytest.mark.parametrize("version", range(7))
async def test_delete_in_every_version(tmp_path, loop, version):
    """Names in old versions, states in version 6; unknown names are told."""
    async with running(tmp_path) as node:
        await create(node, new("orders"), new("kept"))
        answer = await node.call(deletion("orders", "none", version=version), version)
        results = {each.name: (each.error_code, each.error_message) for each in answer.responses}
        words = "This server does not host this topic-partition." if version >= 5 else None
        assert results == {"orders": (0, None), "none": (3, words)}
        assert set(node.image.topics) == {"kept"}
        assert not node.broker.log_directories.has("orders", 0)


async def test_delete_by_id(tmp_path, loop):
    """An id finds its topic; unknown, doubled, missing and contradicting ones are told."""
    async with running(tmp_path) as node:
        first, second = await create(node, new("a"), new("b"))
        request = deletion("a", ids=[second.topic_id, b"x" * 16, b"y" * 16, b"y" * 16, first.topic_id])
        state = DeleteTopicsRequest.DeleteTopicState
        request.topics += [state(name=None), state(name="b", topic_id=b"z" * 16)]
        answer = await node.call(request, 6)
        assert sorted(
            (each.name or "", each.topic_id, each.error_code) for each in answer.responses
        ) == sorted(
            [
                ("b", second.topic_id, 0),
                ("", b"x" * 16, 100),
                ("", b"y" * 16, 42),
                ("a", first.topic_id, 42),
                ("", bytes(16), 42),
                ("b", b"z" * 16, 42),
            ]
        )
        assert set(node.image.topics) == {"a"}


@pytest.mark.parametrize(("version", "code"), [(2, 42), (3, 73), (6, 73)])
async def test_deletion_can_be_disabled(tmp_path, loop, version, code):
    """For every topic, by the broker's setting."""
    async with running(tmp_path, delete_topic_enable="false") as node:
        await create(node, new("orders"))
        answer = await node.call(deletion("orders", version=version), version)
        assert [(each.name, each.error_code) for each in answer.responses] == [("orders", code)]
        assert "orders" in node.image.topics


@pytest.mark.parametrize("version", range(4))
async def test_more_partitions_in_every_version(tmp_path, loop, version):
    """They can be used when the answer comes; refusals carry Kafka's codes."""
    async with running(tmp_path) as node:
        await create(node, new("a"), new("b", 2))
        topics = [growth("a", 3), growth("b", 1), growth("none", 2), growth("c", 2), growth("c", 3)]
        answer = await node.call(CreatePartitionsRequest(topics=topics, timeout_ms=5000), version)
        assert [(each.name, each.error_code) for each in answer.results] == [
            ("a", 0),
            ("b", 37),
            ("none", 3),
            ("c", 42),
        ]
        assert len(node.image.topics["a"].partitions) == 3
        assert node.broker.log_directories.has("a", 2)
        only = CreatePartitionsRequest(topics=[growth("a", 4, [[1]])], validate_only=True, timeout_ms=1)
        assert [each.error_code for each in (await node.call(only, version)).results] == [0]
        assert len(node.image.topics["a"].partitions) == 3


def pages(*names, limit=2000, cursor=None):
    if cursor is not None:
        cursor = DescribeTopicPartitionsRequest.Cursor(topic_name=cursor[0], partition_index=cursor[1])
    return DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequest.TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=cursor,
    )


async def describe(node, *names, **more):
    answer = await node.call(pages(*names, **more), 0)
    found = [
        (topic.name, topic.error_code, [partition.partition_index for partition in topic.partitions])
        for topic in answer.topics
    ]
    cursor = answer.next_cursor
    return found, None if cursor is None else (cursor.topic_name, cursor.partition_index)


async def test_pages_of_partitions(tmp_path, loop):
    """Topics in order, up to the limit, and a cursor from which to go on; the answers are Kafka's."""
    async with running(tmp_path) as node:
        await create(node, new("t1", 3), new("t2"))
        assert await describe(node, "t2", "t1") == ([("t1", 0, [0, 1, 2]), ("t2", 0, [0])], None)
        assert await describe(node) == ([("t1", 0, [0, 1, 2]), ("t2", 0, [0])], None)
        assert await describe(node, limit=2) == ([("t1", 0, [0, 1])], ("t1", 2))
        assert await describe(node, limit=3) == ([("t1", 0, [0, 1, 2])], ("t2", 0))
        assert await describe(node, limit=0) == ([("t1", 0, [0])], ("t1", 1))
        assert await describe(node, "t2", "t1", limit=1, cursor=("t1", 2)) == ([("t1", 0, [2])], ("t2", 0))
        assert await describe(node, "t2", "t1", cursor=("t1", 3)) == ([("t1", 0, []), ("t2", 0, [0])], None)
        assert await describe(node, cursor=("t1a", 5)) == ([("t2", 0, [0])], None)
        assert await describe(node, "bad name", "none") == ([("bad name", 17, []), ("none", 3, [])], None)
        for cursor in (("t1", -1), ("t1a", 0)):
            assert await describe(node, "t2", "t1", cursor=cursor) == ([("t2", 42, []), ("t1", 42, [])], None)
    async with running(tmp_path, max_request_partition_size_limit=2) as node:
        assert await describe(node) == ([("t1", 0, [0, 1])], ("t1", 2))


async def test_a_described_partition_has_everything(tmp_path, loop):
    """Leader, epoch, replicas, and what the client may do with the topic."""
    async with running(tmp_path) as node:
        (created,) = await create(node, new("t1"))
        (topic,) = (await node.call(pages("t1"), 0)).topics
        assert (topic.topic_id, topic.is_internal, topic.topic_authorized_operations) == (
            created.topic_id,
            False,
            3576,
        )
        (partition,) = topic.partitions
        assert (partition.leader_id, partition.leader_epoch, partition.replica_nodes) == (1, 0, [1])
        assert (partition.isr_nodes, partition.offline_replicas) == ([1], [])

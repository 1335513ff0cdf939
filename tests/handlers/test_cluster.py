"""DescribeCluster and DescribeLogDirs."""

import pytest

from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.describe_cluster import DescribeClusterRequest
from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.handlers.node import running


async def create(node, name, partitions):
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    await node.call(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 7)


@pytest.mark.parametrize("version", range(3))
async def test_a_cluster_of_one(tmp_path, loop, version):
    """Id, controller and the broker, by the address that was used."""
    async with running(tmp_path, broker_rack="r1") as node:
        answer = await node.call(DescribeClusterRequest(), version)
        assert (answer.error_code, answer.error_message) == (0, None)
        assert (answer.cluster_id, answer.controller_id) == (node.image.cluster_id, 1)
        assert answer.cluster_authorized_operations == -(2**31)
        (broker,) = answer.brokers
        assert (broker.broker_id, (broker.host, broker.port), broker.rack) == (1, node.address, "r1")
        answer = await node.call(DescribeClusterRequest(include_cluster_authorized_operations=True), version)
        assert answer.cluster_authorized_operations == 8096


async def test_controllers_are_no_endpoints_of_their_own(tmp_path, loop):
    """Whoever wants a controller is told that this is a broker."""
    async with running(tmp_path) as node:
        answer = await node.call(DescribeClusterRequest(endpoint_type=2), 1)
        assert (answer.error_code, answer.brokers) == (114, [])
        assert "wanted an endpoint of type CONTROLLER" in answer.error_message
        answer = await node.call(DescribeClusterRequest(endpoint_type=3), 2)
        assert (answer.error_code, answer.error_message) == (115, "Unsupported endpoint type 3")


def wanted(**topics):
    return DescribeLogDirsRequest(
        topics=[
            DescribeLogDirsRequest.DescribableLogDirTopic(topic=name, partitions=partitions)
            for name, partitions in topics.items()
        ]
    )


@pytest.mark.parametrize("version", range(6))
async def test_log_directories_and_their_replicas(tmp_path, loop, version):
    """All replicas, those asked for, or none; sizes of open logs and of those that are not."""
    async with running(tmp_path) as node:
        await create(node, "orders", 3)
    async with running(tmp_path) as node:
        await create(node, "new", 1)

        async def found(request):
            answer = await node.call(request, version)
            (directory,) = answer.results
            assert (answer.error_code, directory.error_code) == (0, 0)
            assert directory.log_dir == str(tmp_path / "data")
            if version >= 4:
                assert directory.total_bytes > directory.usable_bytes > 0
            return {
                topic.name: [(each.partition_index, each.partition_size) for each in topic.partitions]
                for topic in directory.topics
            }

        assert await found(DescribeLogDirsRequest(topics=None)) == {
            "orders": [(0, 0), (1, 0), (2, 0)],
            "new": [(0, 0)],
        }
        assert await found(wanted(orders=[1, 9], none=[0])) == {"orders": [(1, 0)]}
        assert await found(DescribeLogDirsRequest(topics=[])) == {}


async def test_a_failed_directory_is_told(tmp_path, loop):
    """The others are described as ever."""
    directories = f"{tmp_path / 'a'},{tmp_path / 'b'}"
    async with running(tmp_path, log_dirs=directories) as node:
        await create(node, "orders", 4)
        node.broker.log_directories.take_offline(tmp_path / "b", OSError(5, "Input/output error"))
        answer = await node.call(DescribeLogDirsRequest(topics=None), 4)
        found = {each.log_dir: (each.error_code, len(each.topics)) for each in answer.results}
        assert found == {str(tmp_path / "a"): (0, 1), str(tmp_path / "b"): (56, 0)}

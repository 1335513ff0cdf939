"""Whole brokers around a real ZooKeeper: what the other tests here show with a log in memory holds there too."""

import asyncio

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.metadata import MetadataRequest
from tests.cluster.harness import Cluster
from tests.cluster.zookeeper_log import ZooKeeperLog
from tests.event_loops import eventually
from tests.zookeeper_process import zookeeper_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with zookeeper_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def cluster(server, tmp_path, loop):
    return Cluster(tmp_path, 3, log=ZooKeeperLog(server.address, f"/{tmp_path.name}"))


async def test_three_brokers(cluster, loop):
    """They find each other, any of them takes a request, and all know the same."""
    async with cluster as brokers:
        await brokers.agree(
            lambda image: len([each for each in image.brokers.values() if not each.fenced]) == 3
        )
        for node_id in (1, 2, 3):
            await brokers.create_topic(f"topic-{node_id}", 3, 3, at=node_id)
        await brokers.agree(lambda image: len(image.topics) == 3)
        for node_id in (1, 2, 3):
            answer = await brokers.call(node_id, MetadataRequest(topics=None))
            assert {broker.node_id for broker in answer.brokers} == {1, 2, 3}
            assert answer.controller_id == brokers.log.leader
            assert {
                (topic.error_code, len(partition.replica_nodes), len(partition.isr_nodes))
                for topic in answer.topics
                for partition in topic.partitions
            } == {(ErrorCode.NONE, 3, 3)}


async def test_the_controller_is_killed(cluster, loop):
    """Another one takes over, moves what the dead one led, and takes it back when it returns; with other offsets nowhere."""
    async with cluster as brokers:
        await brokers.create_topic("events", 6, 3)
        gone = brokers.log.leader
        await brokers.kill(gone)
        await eventually(lambda: brokers.log.leader not in (-1, gone))
        await brokers.agree(
            lambda image: all(
                partition.leader not in (-1, gone) for partition in image.topics["events"].partitions
            )
        )
        await brokers.create_topic("meanwhile", 1, 2)
        await brokers.start(gone)
        await brokers.agree(
            lambda image: (
                not image.brokers[gone].fenced
                and all(len(partition.isr) == 3 for partition in image.topics["events"].partitions)
            )
        )
        images = [broker._controller.image for broker in brokers.brokers.values()]
        newest = max(image.offset for image in images)
        await brokers.agree(lambda image: image.offset >= newest)


async def test_everybody_stops_and_starts_again(cluster, loop):
    """The cluster is what it was, whoever starts first."""
    async with cluster as brokers:
        await brokers.create_topic("events", 4, 3)
        for node_id in (1, 2, 3):
            await brokers.stop(node_id)
        await asyncio.gather(*(brokers.start(node_id) for node_id in (3, 2, 1)))
        await brokers.agree(
            lambda image: all(
                partition.leader != -1 and len(partition.isr) == 3
                for partition in image.topics["events"].partitions
            )
        )

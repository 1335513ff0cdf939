"""Groups through a whole broker: what the handlers add to the state machines."""

import asyncio
import logging

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.list_groups import ListGroupsRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from tests.coordinators.requests import join, leave, offset_commit, offset_fetch, sync
from tests.handlers.node import running


async def create_topic(node, name="orders", partitions=3):
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    (created,) = (await node.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5)).topics
    assert created.error_code == 0


async def find(node, *keys, version=4, key_type=0):
    request = FindCoordinatorRequest(coordinator_keys=list(keys), key_type=key_type)
    return (await node.call(request, version)).coordinators


async def stable_member(node, group="orders-app"):
    await find(node, group)
    joined = await node.call(join(group, 9), 9)
    joined = await node.call(join(group, 9, member_id=joined.member_id), 9)
    synced = await node.call(sync(joined, 5, group=group, assignments=[(joined.member_id, b"mine")]), 5)
    assert synced.assignment == b"mine"
    return joined


def offsets(response):
    return {
        (topic.name, partition.partition_index): partition.committed_offset
        for topic in response.groups[0].topics
        for partition in topic.partitions
    }


# ----- FindCoordinator


async def test_the_first_request_creates_the_topic_and_is_answered(loop, tmp_path):
    """Nobody has to try again, and the coordinator is ready by then."""
    async with running(tmp_path) as node:
        assert "__consumer_offsets" not in node.image.topics
        (found,) = await find(node, "orders-app")
        assert (found.error_code, found.node_id, found.key) == (0, 1, "orders-app")
        assert (found.host, found.port) == node.address
        topic = node.image.topics["__consumer_offsets"]
        assert len(topic.partitions) == 50
        assert {len(partition.replicas) for partition in topic.partitions} == {1}
        assert (await node.call(join("orders-app", 9), 9)).error_code == ErrorCode.MEMBER_ID_REQUIRED


async def test_many_first_requests_create_it_once(loop, tmp_path):
    """Several keys in one request, while nothing exists yet."""
    async with running(tmp_path) as node:
        found = await find(node, "a", "b", "c")
        assert [(each.key, each.error_code) for each in found] == [("a", 0), ("b", 0), ("c", 0)]


@pytest.mark.parametrize("version", range(4))
async def test_old_versions_ask_for_one_key(loop, tmp_path, version):
    """And get it at the top of the answer."""
    async with running(tmp_path) as node:
        answer = await node.call(FindCoordinatorRequest(key="orders-app"), version)
        assert (answer.error_code, answer.node_id, answer.host, answer.port) == (0, 1, *node.address)


@pytest.mark.parametrize(
    ("key_type", "error"),
    [(2, ErrorCode.INVALID_REQUEST), (9, ErrorCode.INVALID_REQUEST)],
)
async def test_coordinators_that_are_not_there_are_refused_for_good(loop, tmp_path, key_type, error):
    """With a message, and not with an error that clients try again for ever."""
    async with running(tmp_path) as node:
        (found,) = await find(node, "x", version=6, key_type=key_type)
        assert (found.error_code, found.node_id, found.port) == (error, -1, -1)
        assert found.error_message
        answer = await node.call(FindCoordinatorRequest(key="x", key_type=key_type), 3)
        assert (answer.error_code, answer.error_message) == (error, found.error_message)


async def test_a_topic_that_can_not_be_created_is_no_crash(loop, tmp_path):
    """The client is told to try again; later it works."""
    async with running(tmp_path) as node:
        controller = node.broker._controller
        controller._is_leader = False
        (found,) = await find(node, "a")
        assert found.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        controller._is_leader = True
        (found,) = await find(node, "a")
        assert found.error_code == 0


# ----- before there is a coordinator


async def test_without_a_coordinator_everybody_is_told_to_look_for_one(loop, tmp_path):
    """Requests of clients that skip FindCoordinator."""
    async with running(tmp_path) as node:
        await create_topic(node)
        error = ErrorCode.NOT_COORDINATOR
        assert (await node.call(join("g", 9), 9)).error_code == error
        assert (await node.call(HeartbeatRequest(group_id="g"), 4)).error_code == error
        assert (await node.call(leave("g", 5, ("m", None)), 5)).error_code == error
        commit = await node.call(offset_commit("g", version=8, topics={"orders": [0], "none": [0]}), 8)
        codes = {topic.name: topic.partitions[0].error_code for topic in commit.topics}
        assert codes == {"orders": error, "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert (await node.call(offset_fetch("g", 8), 8)).groups[0].error_code == error
        assert (await node.call(offset_fetch("g", 5), 5)).error_code == error
        fetched = await node.call(offset_fetch("g", 1, topics={"orders": [1]}), 1)
        assert fetched.topics[0].partitions[0].error_code == error
        described = await node.call(DescribeGroupsRequest(groups=["g"]), 5)
        assert described.groups[0].error_code == error
        deleted = await node.call(DeleteGroupsRequest(groups_names=["g", "h"]), 2)
        assert [result.error_code for result in deleted.results] == [error, error]
        assert (await node.call(OffsetDeleteRequest(group_id="g"), 0)).error_code == error
        assert (await node.call(ListGroupsRequest(), 5)).groups == []


async def test_a_member_that_falls_silent_is_removed(loop, tmp_path):
    """By a timer of the real loop."""
    async with running(tmp_path, group_min_session_timeout_ms=10) as node:
        await find(node, "g")
        joined = await node.call(join("g", 3, session_timeout_ms=50), 3)
        await node.call(sync(joined, 2, group="g"), 2)
        end = loop.time() + 20
        while True:
            (described,) = (await node.call(DescribeGroupsRequest(groups=["g"]), 4)).groups
            if described.group_state == "Empty":
                break
            assert loop.time() < end
            await asyncio.sleep(0.01)
        assert described.members == []


# ----- offsets


@pytest.mark.parametrize("version", [0, 1])
async def test_the_oldest_versions_keep_offsets_too(loop, tmp_path, version):
    """Kafka 3.9 took them for ZooKeeper's; here they are offsets like all others."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await find(node, "old")
        partition = OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=7)
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])
        committed = await node.call(OffsetCommitRequest(group_id="old", topics=[topic]), version)
        assert committed.topics[0].partitions[0].error_code == 0
        fetched = await node.call(offset_fetch("old", version, topics={"orders": [0, 1]}), version)
        first, second = fetched.topics[0].partitions
        assert (first.committed_offset, first.error_code) == (7, 0)
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if version == 0 else 0
        assert (second.committed_offset, second.error_code) == (-1, missing)


async def test_several_groups_are_fetched_at_once(loop, tmp_path):
    """Each with its own topics (KIP-709)."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await find(node, "a", "b")
        await node.call(offset_commit("a", version=8, offset=1), 8)
        await node.call(offset_commit("b", version=8, offset=2, topics={"orders": [0, 1]}), 8)
        groups = [
            OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=None)
            for group in ("a", "b", "c")
        ]
        answer = await node.call(OffsetFetchRequest(groups=groups), 9)
        found = {
            group.group_id: sorted(
                partition.committed_offset for topic in group.topics for partition in topic.partitions
            )
            for group in answer.groups
        }
        assert found == {"a": [1], "b": [2, 2], "c": []}


async def test_a_deleted_topic_takes_its_offsets_along(loop, tmp_path):
    """A new topic of the same name begins without."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await create_topic(node, "other")
        await find(node, "g")
        await node.call(offset_commit("g", version=8, topics={"orders": [0, 1], "other": [0]}), 8)
        await node.call(DeleteTopicsRequest(topic_names=["orders"], timeout_ms=10_000), 3)
        assert offsets(await node.call(offset_fetch("g", 8), 8)) == {("other", 0): 7}
        await create_topic(node)
        assert offsets(await node.call(offset_fetch("g", 8, topics={"orders": [0]}), 8)) == {
            ("orders", 0): -1
        }


async def test_groups_and_offsets_survive_a_restart(loop, tmp_path):
    """A member goes on as if nothing had been; its session begins anew."""
    async with running(tmp_path) as node:
        await create_topic(node)
        member = await stable_member(node)
        mine = {"generation_id_or_member_epoch": 1, "member_id": member.member_id}
        await node.call(offset_commit("orders-app", version=8, **mine), 8)
    async with running(tmp_path) as node:
        heartbeat = HeartbeatRequest(group_id="orders-app", generation_id=1, member_id=member.member_id)
        # While the log is being replayed every member is taken for alive.
        assert (await node.call(heartbeat, 4)).error_code == 0
        while (await node.call(ListGroupsRequest(), 4)).error_code:
            await asyncio.sleep(0.01)
        assert (await node.call(heartbeat, 4)).error_code == 0
        (described,) = (await node.call(DescribeGroupsRequest(groups=["orders-app"]), 5)).groups
        assert described.group_state == "Stable"
        assert [each.member_id for each in described.members] == [member.member_id]
        assert offsets(await node.call(offset_fetch("orders-app", 8), 8)) == {("orders", 0): 7}
        assert (await node.call(offset_commit("orders-app", version=8, offset=9, **mine), 8)).topics[
            0
        ].partitions[0].error_code == 0


async def test_a_broker_that_stops_answers_those_who_wait(loop, tmp_path):
    """A parked JoinGroup is not left hanging."""
    async with running(tmp_path) as node:
        member = await stable_member(node)
        first = await node.call(join("orders-app", 9), 9)
        second = asyncio.ensure_future(node.call(join("orders-app", 9, member_id=first.member_id), 9))
        group = node.broker._group_coordinator.runtime.shard_for("orders-app").shard.groups["orders-app"]
        while len(group.members) < 2:
            await asyncio.sleep(0.001)
        assert not second.done()
        await node.broker._group_coordinator.close()
        assert (await second).error_code == ErrorCode.NOT_COORDINATOR
        heartbeat = HeartbeatRequest(group_id="orders-app", generation_id=1, member_id=member.member_id)
        assert (await node.call(heartbeat, 4)).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


async def test_names_that_member_ids_have_no_room_for_are_refused(loop, tmp_path):
    """A member id is the name and a random part, and has to fit into a record; the longest group id does."""
    async with running(tmp_path) as node:
        group = "g" * 32_767
        await find(node, group)
        refused = await node.call(join(group, 9, instance="i" * 32_001), 9)
        assert refused.error_code == ErrorCode.INVALID_REQUEST
        refused = await node.call(join(group, 9), 9, client_id="c" * 32_001)
        assert refused.error_code == ErrorCode.INVALID_REQUEST
        joined = await node.call(join(group, 9, instance="i" * 32_000), 9, client_id="c" * 32_001)
        assert joined.error_code == 0
        synced = await node.call(sync(joined, 5, group=group, group_instance_id="i" * 32_000), 5)
        assert synced.error_code == 0


# ----- what an operator sees


async def test_refusals_are_logged_with_the_client(loop, tmp_path, caplog):
    """Which client, which group, why."""
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as node:
        await find(node, "g")
        await node.call(join("g", 9, session_timeout_ms=1), 9, client_id="impatient")
        (line,) = [
            record.getMessage()
            for record in caplog.records
            if "INVALID_SESSION_TIMEOUT" in record.getMessage()
        ]
        for part in ("JoinGroup", "impatient", "group g", "a session timeout of 1 ms is not within 6000"):
            assert part in line


async def test_groups_and_offsets_are_counted(loop, tmp_path):
    """Under the names that Kafka dashboards know."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await stable_member(node)
        await node.call(offset_commit("simple", version=8, topics={"orders": [0, 1]}), 8)
        families = {
            family.metric.name: family.samples[0].value
            for family in node.broker.metrics.collect()
            if family.samples
        }
        prefix = "kafka_coordinator_group_groupmetadatamanager_"
        assert families[f"{prefix}numgroups"] == 2
        assert families[f"{prefix}numgroupsstable"] == 1
        assert families[f"{prefix}numgroupsempty"] == 1
        assert families[f"{prefix}numoffsets"] == 2
        prefix = "kafka_server_group_coordinator_metrics_"
        assert families[f"{prefix}offset_commit_count"] == 2
        assert families[f"{prefix}group_completed_rebalance_count"] == 1

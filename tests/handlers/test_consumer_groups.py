"""Consumer groups (KIP-848) through a whole broker: settings, features and metadata reach the state machines."""

import asyncio

from barnabas.errors import ErrorCode
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from barnabas.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests.handlers.node import running
from tests.handlers.test_groups import create_topic, find

GROUP = 32
SET = 0


def beat(epoch, *, member="m", **fields):
    if epoch == 0:
        fields = {
            "rebalance_timeout_ms": 60_000,
            "subscribed_topic_names": ["orders"],
            "topic_partitions": [],
        } | fields
    return ConsumerGroupHeartbeatRequest(
        group_id="orders-app", member_id=member, member_epoch=epoch, **fields
    )


async def test_a_member_lives_through_the_broker(loop, tmp_path):
    """Joins, is described with names, hears of more partitions, leaves."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await find(node, "orders-app")
        joined = await node.call(beat(0), 1)
        assert joined.error_code == ErrorCode.NONE
        (topic,) = joined.assignment.topic_partitions
        assert sorted(topic.partitions) == [0, 1, 2]
        (group, missing) = (
            await node.call(ConsumerGroupDescribeRequest(group_ids=["orders-app", "nobody"]), 1)
        ).groups
        assert (group.group_state, group.assignor_name) == ("Stable", "uniform")
        (member,) = group.members
        assert (member.assignment.topic_partitions[0].topic_name, member.member_type) == ("orders", 1)
        assert (missing.error_code, missing.error_message) == (
            ErrorCode.GROUP_ID_NOT_FOUND,
            "Group nobody not found.",
        )
        more = CreatePartitionsRequest.CreatePartitionsTopic(name="orders", count=5, assignments=None)
        await node.call(CreatePartitionsRequest(topics=[more], timeout_ms=10_000), 3)
        async with asyncio.timeout(20):
            # A second lies between two targets at least.
            epoch, assignment = joined.member_epoch, None
            while assignment is None:
                await asyncio.sleep(0.05)
                answer = await node.call(beat(epoch), 1)
                epoch, assignment = answer.member_epoch, answer.assignment
        assert sorted(assignment.topic_partitions[0].partitions) == [0, 1, 2, 3, 4]
        assert (await node.call(beat(-1), 1)).error_code == ErrorCode.NONE


async def test_a_groups_own_settings_count(loop, tmp_path):
    """As soon as they are answered."""
    async with running(tmp_path) as node:
        await create_topic(node)
        await find(node, "orders-app")
        epoch = (await node.call(beat(0), 1)).member_epoch
        setting = IncrementalAlterConfigsRequest.AlterableConfig(
            name="consumer.heartbeat.interval.ms", config_operation=SET, value="7000"
        )
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=GROUP, resource_name="orders-app", configs=[setting]
        )
        (changed,) = (await node.call(IncrementalAlterConfigsRequest(resources=[resource]), 1)).responses
        assert changed.error_code == ErrorCode.NONE
        assert (await node.call(beat(epoch), 1)).heartbeat_interval_ms == 7_000


async def test_the_feature_is_finalized_and_the_apis_are_announced(loop, tmp_path):
    async with running(tmp_path) as node:
        request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
        answer = await node.call(request, 4)
        ranges = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
        assert (ranges[68], ranges[69]) == ((0, 1), (0, 1))
        assert not ranges.keys() & {76, 77, 88, 89}, "share and streams groups"
        levels = {each.name: each.max_version_level for each in answer.finalized_features}
        assert levels["group.version"] == 1


async def test_the_protocol_can_be_turned_off(loop, tmp_path):
    """Then both requests are UNSUPPORTED_VERSION, as in Kafka."""
    async with running(tmp_path, group_coordinator_rebalance_protocols="classic") as node:
        await find(node, "orders-app")
        assert (await node.call(beat(0), 1)).error_code == ErrorCode.UNSUPPORTED_VERSION
        (group,) = (await node.call(ConsumerGroupDescribeRequest(group_ids=["orders-app"]), 0)).groups
        assert group.error_code == ErrorCode.UNSUPPORTED_VERSION

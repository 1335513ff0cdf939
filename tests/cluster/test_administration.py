"""Any broker takes what the controller has to do, and every broker knows the outcome."""

import pytest

from barnabas.wire.messages.alter_partition import AlterPartitionRequest
from barnabas.wire.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.elect_leaders import ElectLeadersRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from barnabas.wire.messages.unregister_broker import UnregisterBrokerRequest
from tests.event_loops import eventually

BROKER, BROKER_LOGGER, TOPIC = 4, 8, 2


def alter_partition(brokers, node_id, topic, isr, index=0):
    """What the leader of a partition proposes, in the name of `node_id`, over its own channel."""
    image = brokers.image(node_id)
    partition = image.partition(topic, index)
    request = AlterPartitionRequest(
        broker_id=node_id,
        broker_epoch=image.brokers[node_id].epoch,
        topics=[
            AlterPartitionRequest.TopicData(
                topic_id=image.topics[topic].id,
                partitions=[
                    AlterPartitionRequest.PartitionData(
                        partition_index=index,
                        leader_epoch=partition.leader_epoch,
                        partition_epoch=partition.partition_epoch,
                        new_isr_with_epochs=[
                            AlterPartitionRequest.BrokerState(
                                broker_id=each, broker_epoch=image.brokers[each].epoch
                            )
                            for each in isr
                        ],
                    )
                ],
            )
        ],
    )
    return brokers.brokers[node_id]._alter_partition(request)


async def test_a_leader_proposes_who_is_in_sync(cluster, loop):
    """The controller answers with the new state, and everybody learns it; what is out of date is refused."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", assignments=[[2, 1, 3]])
        before = brokers.partition("orders", 0).partition_epoch
        (answer,) = (await alter_partition(brokers, 2, "orders", [2, 3])).topics[0].partitions
        assert (answer.error_code, answer.isr, answer.leader_id) == (0, [2, 3], 2)
        # Broker 1 is in sync all the time, and its leader finds out.
        await brokers.agree(
            lambda image: (
                image.partition("orders", 0).partition_epoch > before
                and sorted(image.partition("orders", 0).isr) == [1, 2, 3]
            )
        )
        (answer,) = (await alter_partition(brokers, 3, "orders", [3])).topics[0].partitions
        assert answer.error_code == 42  # INVALID_REQUEST: it does not lead


async def test_a_move_goes_on_until_the_new_replicas_are_in_sync(cluster, loop):
    """All brokers tell of it meanwhile; then the old replica goes, and with it its leadership."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", assignments=[[1, 2]])
        await brokers.kill(3)
        await brokers.agree(lambda image: image.brokers[3].fenced)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=10_000,
            topics=[
                AlterPartitionReassignmentsRequest.ReassignableTopic(
                    name="orders",
                    partitions=[
                        AlterPartitionReassignmentsRequest.ReassignablePartition(
                            partition_index=0, replicas=[3, 2]
                        )
                    ],
                )
            ],
        )
        (topic,) = (await brokers.call(2, request)).responses
        assert topic.partitions[0].error_code == 0
        await brokers.agree(lambda image: image.partition("orders", 0).adding_replicas == (3,))
        for node_id in (1, 2):
            (moving,) = (
                await brokers.call(node_id, ListPartitionReassignmentsRequest(topics=None, timeout_ms=1000))
            ).topics
            (partition,) = moving.partitions
            assert (partition.replicas, partition.adding_replicas, partition.removing_replicas) == (
                [3, 2, 1],
                [3],
                [1],
            )
        await brokers.start(3)
        await brokers.agree(lambda image: image.partition("orders", 0).replicas == (3, 2))
        await brokers.agree(lambda image: image.partition("orders", 0).leader in {2, 3})
        assert brokers.leader("orders", 0) == 3
        await eventually(lambda: brokers.replica(1, "orders", 0) is None)


@pytest.mark.in_memory("what a store tells is held back")
async def test_who_was_told_of_a_topic_can_use_it(cluster, loop):
    """At the broker that said so, at once, though it had to ask the controller."""
    async with cluster(3) as brokers:
        asked = next(node_id for node_id in (1, 2, 3) if node_id != brokers.log.leader)
        slow = brokers.log.stores[asked]
        deliver = slow._deliver
        slow._deliver = lambda entry: loop.call_later(0.05, deliver, entry)
        request = CreateTopicsRequest(
            topics=[
                CreateTopicsRequest.CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
            ],
            timeout_ms=10_000,
        )
        (created,) = (await brokers.call(asked, request)).topics
        assert created.error_code == 0
        assert "orders" in brokers.image(asked).topics


async def test_settings_of_any_resource_through_any_broker(cluster, loop):
    """A topic's by all; a broker's by that broker, wherever the controller is; log levels stay where they are set."""

    def change(*resources):
        return IncrementalAlterConfigsRequest(
            resources=[
                IncrementalAlterConfigsRequest.AlterConfigsResource(
                    resource_type=kind,
                    resource_name=name,
                    configs=[
                        IncrementalAlterConfigsRequest.AlterableConfig(
                            name=key, config_operation=0, value=value
                        )
                    ],
                )
                for kind, name, key, value in resources
            ]
        )

    async with cluster(3) as brokers:
        await brokers.create_topic("orders")
        asked = next(node_id for node_id in (1, 2, 3) if node_id != brokers.log.leader)
        other = brokers.log.leader
        answer = await brokers.call(
            asked,
            change(
                (TOPIC, "orders", "retention.ms", "1234"),
                (BROKER, str(other), "log.retention.ms", "1"),
                (BROKER, str(asked), "log.cleaner.threads", "2"),
                (BROKER_LOGGER, str(asked), "barnabas.refused", "INFO"),
                (TOPIC, "unknown", "retention.ms", "1234"),
            ),
        )
        assert [each.error_code for each in answer.responses] == [0, 42, 0, 0, 3]
        await brokers.agree(
            lambda image: (
                image.topic_config("orders") == {"retention.ms": "1234"}
                and image.config(BROKER, str(asked)) == {"log.cleaner.threads": "2"}
            )
        )
        assert brokers.brokers[asked].config["log.cleaner.threads"] == 2
        assert brokers.brokers[other].config["log.cleaner.threads"] == 1


async def test_producer_ids_are_never_given_twice(cluster, loop):
    """Each broker has a block of its own, and gets another from the controller, whichever that is."""
    async with cluster(3) as brokers:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        ids = [(await brokers.call(node_id, request, 4)).producer_id for node_id in (1, 2, 3, 1, 2, 3)]
        assert len(set(ids)) == 6
        assert min(ids) >= 0
        await brokers.stop(brokers.log.leader)
        await eventually(lambda: brokers.log.leader in brokers.brokers)
        for broker in brokers.brokers.values():
            ids += [await broker._controller.next_producer_id() for _ in range(1500)]
        assert len(set(ids)) == 3006


async def test_topics_grow_and_go_everywhere(cluster, loop):
    """Partitions and deletion, asked of a broker that is not the controller."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", 1, 3)
        asked = next(node_id for node_id in (1, 2, 3) if node_id != brokers.log.leader)
        grown = await brokers.call(
            asked,
            CreatePartitionsRequest(
                topics=[
                    CreatePartitionsRequest.CreatePartitionsTopic(name="orders", count=4, assignments=None)
                ],
                timeout_ms=1000,
            ),
        )
        assert grown.results[0].error_code == 0
        await brokers.agree(lambda image: len(image.topics["orders"].partitions) == 4)
        assert all(brokers.replica(node_id, "orders", 3) for node_id in (1, 2, 3))
        gone = await brokers.call(
            asked,
            DeleteTopicsRequest(
                topics=[DeleteTopicsRequest.DeleteTopicState(name="orders")], timeout_ms=1000
            ),
        )
        assert gone.responses[0].error_code == 0
        await brokers.agree(lambda image: "orders" not in image.topics)
        assert not any(brokers.replica(node_id, "orders", 3) for node_id in (1, 2, 3))


async def test_leaders_go_back_to_their_preferred_brokers(cluster, loop):
    """By themselves, or when somebody asks any broker for it."""
    async with cluster(3, leader_imbalance_check_interval_seconds=1) as brokers:
        await brokers.create_topic("orders", assignments=[[1, 2, 3], [2, 3, 1]])
        await brokers.kill(1)
        await brokers.agree(lambda image: image.partition("orders", 0).leader == 2)
        await brokers.start(1)
        await brokers.agree(lambda image: image.is_active(1))
        await brokers.agree(lambda image: image.partition("orders", 0).leader == 1)
        request = ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=1000)
        assert (await brokers.call(3, request)).error_code == 0


async def test_a_broker_that_is_gone_is_unregistered(cluster, loop):
    """By any other broker; one that is there stays."""
    async with cluster(3) as brokers:
        asked = next(node_id for node_id in (1, 2, 3) if node_id != brokers.log.leader)
        refused = await brokers.call(asked, UnregisterBrokerRequest(broker_id=brokers.log.leader))
        assert refused.error_code == 42
        gone = next(node_id for node_id in (1, 2, 3) if node_id not in {asked, brokers.log.leader})
        await brokers.kill(gone)
        await eventually(lambda: brokers.image().brokers[gone].fenced)
        assert (await brokers.call(asked, UnregisterBrokerRequest(broker_id=gone))).error_code == 0
        await brokers.agree(lambda image: gone not in image.brokers)


async def test_clients_are_not_told_what_brokers_ask_of_each_other(cluster, loop):
    """Only a broker of the cluster is."""
    async with cluster(2) as brokers:
        answers = []
        for software in ("librdkafka", "barnabas-broker"):
            connection = await brokers.connect(1)
            request = ApiVersionsRequest(client_software_name=software, client_software_version="1")
            answers.append({each.api_key for each in (await connection.call(request)).api_keys})
            await connection.close()
        assert answers[1] - answers[0] == {56, 58, 63, 67, 73}

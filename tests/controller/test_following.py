"""A node that does not write the metadata log, or does no longer: it has what the log has, nothing else."""

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.controller import controller as controller_module
from barnabas.controller.client_quotas import QuotaAlteration
from barnabas.controller.configs import ConfigChange, ConfigReplacement
from barnabas.controller.controller import Controller
from barnabas.controller.feature_updates import FeatureUpdate
from barnabas.controller.liveness import Heartbeat
from barnabas.controller.partitions import MorePartitions
from barnabas.controller.reassignments import Reassignment
from barnabas.controller.scram_users import ScramUpsertion
from barnabas.controller.topics import NewTopic
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.features import INITIAL_FEATURES
from barnabas.metadata.snapshot import image_records
from tests.controller.cluster import broker, image_of, topic


class WaitingStore:
    """A store whose appends are answered by the test."""

    def __init__(self, loop, next_offset):
        self.loop = loop
        self.next_offset = next_offset
        self.appended = []

    async def open(self, listener):
        pass

    def append(self, records):
        self.next_offset += len(records)
        self.appended.append(self.loop.create_future())
        return self.appended[-1]

    def snapshot_if_due(self, image):
        pass


@pytest.fixture
def world(loop):
    """A controller with an image of two topics, which leads in epoch 3, and its store."""
    image = image_of(broker(1), topics=[topic("kept"), topic("gone")], features=INITIAL_FEATURES)
    store = WaitingStore(loop, 10)
    controller = Controller(store, node_id=1, cluster_id="c", config=BrokerConfig({}), loop=loop)
    controller.on_snapshot(list(image_records(image)), 9, 2)
    controller.on_leadership(1, 3)
    return controller, store


async def test_what_another_node_wrote_takes_the_place_of_ours(world, loop):
    """At the same offset, in a later epoch: our operation fails, and leaves no trace."""
    controller, store = world
    ours = controller.create_topics([NewTopic("ours", 1, 1)])
    last = store.next_offset - 1
    theirs = list(image_records(image_of(topics=[topic("theirs")])))
    theirs = [record for record in theirs if type(record).__name__ in {"TopicRecord", "PartitionRecord"}]
    assert last == 9 + len(theirs)
    controller.on_commit(theirs, last, 4)
    assert "theirs" in controller.image.topics
    assert "ours" not in controller.image.topics
    store.appended[-1].set_exception(KafkaError(ErrorCode.NOT_CONTROLLER))
    with pytest.raises(KafkaError) as refused:
        await ours
    assert refused.value.code is ErrorCode.NOT_CONTROLLER
    controller.on_leadership(2, 4)
    assert sorted(controller.image.topics) == ["gone", "kept", "theirs"]


async def test_a_snapshot_in_place_of_what_was_missed(world, loop):
    """Listeners hear what is new, what changed and what is gone since they last heard of something."""
    controller, _ = world
    heard = []
    controller.add_listener(lambda _, delta: heard.append(delta))
    now = image_of(
        broker(1),
        broker(2),
        topics=[topic("kept", 2), topic("new")],
        configs={(2, "kept"): {"retention.ms": "1"}},
    )
    controller.on_snapshot(list(image_records(now)), 50, 5)
    (delta,) = heard
    assert [each.name for each in delta.created_topics.values()] == ["new"]
    assert [each.name for each in delta.deleted_topics.values()] == ["gone"]
    ((before, after),) = delta.changed_topics.values()
    assert (len(before.partitions), len(after.partitions)) == (1, 2)
    assert delta.changed_configs == {(2, "kept")}
    assert delta.changed_brokers == {1, 2}
    assert sorted(controller.image.topics) == ["kept", "new"]


async def test_who_waits_for_the_image_is_told_once(world, loop):
    """At once where it is so already, else with the change that makes it so."""
    controller, _ = world
    assert await controller.wait_for(lambda image: "kept" in image.topics or None)
    waiting = controller.wait_for(lambda image: image.topics.get("new"))
    assert not waiting.done()
    records = image_records(image_of(topics=[topic("new")]))
    wanted = [record for record in records if type(record).__name__ in {"TopicRecord", "PartitionRecord"}]
    controller.on_commit(wanted, 11, 3)
    assert (await waiting).name == "new"


async def test_a_broker_hears_that_it_is_fenced_when_that_is_so_for_good(world, loop):
    """It stops leading when it hears of it: with a change that never gets into the log nobody would lead in its place."""
    controller, store = world
    epoch = controller.image.brokers[1].epoch
    controller.on_live_brokers({})  # it has gone, which is on its way into the log
    answer = controller.heartbeat(Heartbeat(1, epoch, controller.image.offset))
    assert store.appended
    assert not answer.done()
    for appended in store.appended:
        appended.set_exception(KafkaError(ErrorCode.NOT_CONTROLLER))
    with pytest.raises(KafkaError) as refused:
        await answer
    assert refused.value.code is ErrorCode.NOT_CONTROLLER


async def test_who_knows_less_than_a_broker_does_not_lead(world):
    """Somebody else has written since: what this node says of the broker may be old."""
    controller, _ = world
    epoch = controller.image.brokers[1].epoch
    with pytest.raises(KafkaError) as refused:
        await controller.heartbeat(Heartbeat(1, epoch, controller.image.offset + 1))
    assert refused.value.code is ErrorCode.NOT_CONTROLLER
    assert not (await controller.heartbeat(Heartbeat(1, epoch, controller.image.offset))).is_fenced


CLIENTS_CHANGES = {
    "create topics": lambda controller: controller.create_topics([NewTopic("new", 1, 1)]),
    "create missing topics": lambda controller: controller.create_missing_topics(["new"]),
    "delete topics": lambda controller: controller.delete_topics([topic("kept").id]),
    "create partitions": lambda controller: controller.create_partitions([MorePartitions("kept", 5)]),
    "elect leaders": lambda controller: controller.elect_leaders(0, None),
    "reassign": lambda controller: controller.alter_partition_reassignments(
        [Reassignment("kept", 0, [1])], allow_replication_factor_change=True
    ),
    "change settings": lambda controller: controller.incremental_alter_configs(
        [ConfigChange(2, "kept", [("segment.ms", 0, "6")])]
    ),
    "replace settings": lambda controller: controller.alter_configs(
        [ConfigReplacement(2, "kept", [("segment.ms", "6")])]
    ),
    "change quotas": lambda controller: controller.alter_client_quotas(
        [QuotaAlteration((("user", "a"),), [("request_percentage", 5.0)])], hosts=()
    ),
    "change users": lambda controller: controller.alter_scram_users(
        [], [ScramUpsertion("a", 1, 8192, b"salt", b"password")]
    ),
    "forget a broker": lambda controller: controller.unregister_broker(3),
    "change features": lambda controller: controller.update_features(
        [FeatureUpdate("transaction.version", 0, 2)]
    ),
}


@pytest.mark.parametrize("change", CLIENTS_CHANGES.values(), ids=CLIENTS_CHANGES)
async def test_no_client_begins_a_change_while_too_many_wait(world, loop, change, monkeypatch):
    """Brokers do: asking again for the same changes nothing."""
    controller, store = world
    kept = topic("kept", replicas=[2, 1], leader=1)
    brokers = broker(1), broker(2), broker(3, fenced=True), broker(4)
    image = image_of(*brokers, topics=[kept], features=INITIAL_FEATURES)
    controller.on_snapshot(list(image_records(image)), store.next_offset - 1, 3)
    monkeypatch.setattr(controller_module, "CHANGES_WAITING_MAX", 1)
    offered = store.next_offset
    controller.assign_directories(1, {(kept.id, 0): b"e" * 16})
    assert store.next_offset > offered
    offered = store.next_offset
    with pytest.raises(KafkaError, match="1 changes wait") as refusal:
        change(controller)
    assert refusal.value.code is ErrorCode.REQUEST_TIMED_OUT
    assert store.next_offset == offered
    controller.heartbeat(Heartbeat(4, controller.image.brokers[4].epoch, 0, want_fence=True))
    assert store.next_offset > offered
    monkeypatch.setattr(controller_module, "CHANGES_WAITING_MAX", 1_000)
    offered = store.next_offset
    change(controller)
    assert store.next_offset > offered

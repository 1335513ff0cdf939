"""A node that does not write the metadata log, or does no longer: it has what the log has, nothing else."""

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.controller.controller import Controller
from barnabas.controller.liveness import Heartbeat
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

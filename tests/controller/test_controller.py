import asyncio
import threading

import pytest

from barnabas.controller import controller as controller_module
from barnabas.controller import producer_ids
from barnabas.controller.brokers import BrokerRegistration
from barnabas.controller.configs import ConfigChange, ConfigReplacement
from barnabas.controller.partitions import MorePartitions
from barnabas.controller.topics import NewTopic
from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.log.files import Files
from barnabas.metadata.features import INITIAL_FEATURES
from tests.controller.one_node import open_controller


class FailingFiles(Files):
    error = None

    def sync(self, file):
        if self.error is not None:
            raise self.error
        super().sync(file)


class HangingFiles(Files):
    """Files on a disk that takes its time, from `hang` until `go_on`."""

    def __init__(self):
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.hang, self.go_on = self.goes_on.clear, self.goes_on.set

    def sync(self, file):
        self.goes_on.wait()
        super().sync(file)


def retention(name, value):
    return [ConfigChange(2, name, [("retention.ms", 0, str(value))])]


async def test_a_new_cluster_has_its_features_and_its_broker(tmp_path, loop):
    """The first start writes the levels once; the broker is registered with each start."""
    controller = await open_controller(tmp_path)
    assert controller.image.features == INITIAL_FEATURES
    assert controller.image.controller_id == 1
    assert controller.image.cluster_id == "GkqhtaJqRZaHC44OXN4CyQ"
    first = controller.image.brokers[1]
    assert first.is_active
    await controller.close()
    controller = await open_controller(tmp_path)
    again = controller.image.brokers[1]
    assert again.epoch > first.epoch
    assert again.incarnation_id != first.incarnation_id
    await controller.close()


async def test_everything_is_there_after_a_restart(tmp_path, loop):
    """Topics, partitions, settings, deletions, and where the producer ids go on."""
    controller = await open_controller(tmp_path)
    await controller.create_topics([NewTopic("orders", 2, configs={"retention.ms": "5"}), NewTopic("gone")])
    await controller.create_partitions([MorePartitions("orders", 3)])
    await controller.delete_topics([controller.image.topics["gone"].id])
    await controller.incremental_alter_configs([ConfigChange(2, "orders", [("segment.ms", 0, "6")])])
    await controller.alter_configs([ConfigReplacement(32, "g", [("consumer.session.timeout.ms", "50000")])])
    assert await controller.next_producer_id() == 0
    before = controller.image
    await controller.close()
    controller = await open_controller(tmp_path)
    image = controller.image
    assert image.topics == before.topics
    assert image.configs == before.configs
    assert dict(image.topic_config("orders")) == {"retention.ms": "5", "segment.ms": "6"}
    assert len(image.topics["orders"].partitions) == 3
    # The block from which the first id came is gone for good.
    assert await controller.next_producer_id() == 1000
    await controller.close()


async def test_after_a_crash_partitions_have_new_leader_epochs(tmp_path, loop):
    """Also when there are more of them than one operation may change."""
    controller = await open_controller(tmp_path)
    for number in range(3):
        await controller.create_topics([NewTopic(f"topic-{number}", 4000)])
    await controller.close()
    controller = await open_controller(tmp_path, clean=False)
    epochs = {
        partition.leader_epoch for topic in controller.image.topics.values() for partition in topic.partitions
    }
    assert epochs == {1}
    await controller.close()


async def test_operations_follow_one_another_without_waiting(tmp_path, loop):
    """Each sees what the ones before it do, though nothing is committed yet, and the image shows none of it."""
    controller = await open_controller(tmp_path)
    created = controller.create_topics([NewTopic("orders")])
    again = controller.create_topics([NewTopic("orders")])
    more = controller.create_partitions([MorePartitions("orders", 5)])
    changed = controller.incremental_alter_configs([ConfigChange(2, "orders", [("retention.ms", 0, "5")])])
    assert "orders" not in controller.image.topics
    assert not created.done()
    assert (await again)[0].error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    assert (await created)[0].error is None
    assert (await more) == {"orders": None}
    assert (await changed) == [None]
    assert len(controller.image.topics["orders"].partitions) == 5
    await controller.close()


async def test_listeners_know_before_the_answer(tmp_path, loop, caplog):
    """An operation is answered when everybody follows; a listener that fails does not stop the others."""
    controller = await open_controller(tmp_path)
    seen = []

    def failing(image, delta):
        raise RuntimeError("no")

    controller.add_listener(failing)
    controller.add_listener(lambda image, delta: seen.append((image, delta)))
    await controller.create_topics([NewTopic("orders")])
    ((image, delta),) = seen
    assert image is controller.image
    assert [topic.name for topic in delta.created_topics.values()] == ["orders"]
    assert "a listener failed" in caplog.text
    await controller.close()


async def test_validate_only_changes_nothing(tmp_path, loop):
    """The results are those of a real change."""
    controller = await open_controller(tmp_path)
    before = controller.image
    (created,) = await controller.create_topics([NewTopic("orders", 3)], validate_only=True)
    assert (created.error, created.partition_count) == (None, 3)
    assert await controller.incremental_alter_configs(
        [ConfigChange(4, "", [("log.retention.ms", 0, "5")])], validate_only=True
    ) == [None]
    assert await controller.alter_configs(
        [ConfigReplacement(4, "", [("min.insync.replicas", "1")])], validate_only=True
    ) == [None]
    assert (await controller.create_partitions([MorePartitions("none", 3)], validate_only=True))[
        "none"
    ] is not None
    assert controller.image is before
    await controller.close()


async def test_missing_topics_are_created_once(tmp_path, loop):
    """Who asks for a topic that somebody else is just creating waits for it; a bad name is told."""
    controller = await open_controller(tmp_path)
    first = controller.create_missing_topics(["orders", "__consumer_offsets", "bad name"])
    second = controller.create_missing_topics(["orders", "orders"])
    assert await second == {"orders": None}
    assert "orders" in controller.image.topics
    results = await first
    assert results["orders"] is results["__consumer_offsets"] is None
    assert results["bad name"].code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert len(controller.image.topics["__consumer_offsets"].partitions) == 50
    assert await controller.create_missing_topics(["orders"]) == {"orders": None}
    assert await controller.create_missing_topics([]) == {}
    await controller.close()


async def test_broker_settings_take_effect_at_once_and_after_a_restart(tmp_path, loop):
    """This broker's own settings come before those of all brokers, and both before the file."""
    controller = await open_controller(tmp_path)
    config = controller._config
    await controller.incremental_alter_configs([ConfigChange(4, "", [("log.retention.ms", 0, "5")])])
    assert config["log.retention.ms"] == 5
    await controller.incremental_alter_configs([ConfigChange(4, "1", [("log.retention.ms", 0, "6")])])
    assert config["log.retention.ms"] == 6
    await controller.close()
    controller = await open_controller(tmp_path)
    assert controller._config["log.retention.ms"] == 6
    await controller.incremental_alter_configs([ConfigChange(4, "1", [("log.retention.ms", 1, None)])])
    assert controller._config["log.retention.ms"] == 5
    await controller.close()


async def test_producer_ids_are_unique(tmp_path, loop):
    """Over blocks, and among those who ask at once."""
    controller = await open_controller(tmp_path)
    ids = await asyncio.gather(*(controller.next_producer_id() for _ in range(2500)))
    assert sorted(ids) == list(range(2500))
    await controller.close()


async def test_when_the_log_fails_nothing_is_changed(tmp_path, loop):
    """What was built upon lost records is lost with them; the image stays as it was."""
    files = FailingFiles()
    controller = await open_controller(tmp_path, files=files)
    before = controller.image
    files.error = StorageError("the disk is gone")
    created = controller.create_topics([NewTopic("orders")])
    more = controller.create_partitions([MorePartitions("orders", 5)])
    missing = controller.create_missing_topics(["orders"])
    for future in (created, more, missing):
        with pytest.raises(KafkaError, match=r"KAFKA_STORAGE_ERROR.*the disk is gone"):
            await future
    assert controller.image is before
    with pytest.raises(KafkaError, match="KAFKA_STORAGE_ERROR"):
        await controller.create_topics([NewTopic("orders")])
    with pytest.raises(KafkaError, match="KAFKA_STORAGE_ERROR"):
        await controller.next_producer_id()
    await controller.close()


async def test_who_does_not_lead_does_not_write(tmp_path, loop):
    """Until this node leads the metadata log, or after another one took over."""
    controller = await open_controller(tmp_path)
    epoch = controller.image.epoch
    controller.on_leadership(2, 9)
    assert controller.image.controller_id == 2
    with pytest.raises(KafkaError) as refusal:
        controller.create_topics([NewTopic("orders")])
    assert refusal.value.code is ErrorCode.NOT_CONTROLLER
    # A refusal that needs no writing is still one.
    (refused,) = await controller.create_topics([NewTopic("")])
    assert refused.error.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    controller.on_leadership(1, epoch)
    assert (await controller.create_topics([NewTopic("orders")]))[0].error is None
    await controller.close()


async def test_an_assignment_that_changes_nothing_waits_for_what_it_relies_on(tmp_path, loop):
    """The same may have been asked a moment ago: whoever moves a log must know that it is in the metadata for good."""
    controller = await open_controller(tmp_path)
    await controller.create_topics([NewTopic("orders")])
    topic = controller.image.topics["orders"]
    first = controller.assign_directories(1, {(topic.id, 0): b"e" * 16})
    second = controller.assign_directories(1, {(topic.id, 0): b"e" * 16})
    assert not second.done()
    await second
    assert first.done()
    assert controller.image.topics["orders"].partitions[0].directories == (b"e" * 16,)
    await controller.assign_directories(1, {(topic.id, 0): b"e" * 16})
    await controller.close()


async def test_what_others_write_is_followed(tmp_path, loop):
    """A node that does not lead has the image that the log makes."""
    controller = await open_controller(tmp_path)
    await controller.create_topics([NewTopic("orders")])
    await controller.close()
    follower = await open_controller(tmp_path / ".", register=False)
    registered = await follower.register(BrokerRegistration(2, b"i" * 16, {}))
    assert follower.image.brokers[2].epoch == registered
    assert follower.image.brokers[2].fenced
    await follower.close()


async def test_excessive_operations_are_refused(tmp_path, loop):
    """One operation is one batch, which has to be read in one piece."""
    controller = await open_controller(tmp_path)
    settings = [(f"plug.in.{number}", "v") for number in range(10_001)]
    with pytest.raises(KafkaError) as refusal:
        controller.alter_configs([ConfigReplacement(4, "1", settings)])
    assert refusal.value.code is ErrorCode.POLICY_VIOLATION
    await controller.close()


async def test_who_waits_in_vain_for_an_image_is_forgotten(tmp_path, loop):
    """At once: the next image may be hours away."""
    controller = await open_controller(tmp_path)
    given_up = [controller.wait_for(lambda image: image.topics.get("orders")) for _ in range(3)]
    patient = controller.wait_for(lambda image: image.topics.get("orders"))
    for future in given_up:
        future.cancel()
    await asyncio.sleep(0)
    assert list(controller._waiters) == [patient]
    await controller.create_topics([NewTopic("orders")])
    assert (await patient).name == "orders"
    assert not controller._waiters
    await controller.close()


async def test_waiters_are_told_in_their_order_whatever_their_conditions_do(tmp_path, loop):
    """One that has another image published, and others give up or wait, disturbs nobody."""
    controller = await open_controller(tmp_path)
    told, late = [], []

    def wait(name):
        def condition(image):
            if "orders" not in image.topics:
                return None
            told.append(name)
            if name == "meddler" and not late:
                given_up.cancel()
                late.append(controller.wait_for(lambda newer: newer.topics.get("payments")))
                controller.on_commit([], image.offset, image.epoch)
            return name

        return controller.wait_for(condition)

    first, meddler, given_up, last = [wait(name) for name in ("first", "meddler", "given up", "last")]
    await controller.create_topics([NewTopic("orders")])
    assert await asyncio.gather(first, meddler, last) == ["first", "meddler", "last"]
    assert told == ["first", "meddler", "meddler", "last"]
    assert list(controller._waiters) == late
    await controller.create_topics([NewTopic("payments")])
    assert (await late[0]).name == "payments"
    await controller.close()


async def test_while_the_disk_hangs_so_many_changes_wait_and_no_more(tmp_path, loop):
    """What was refused does not come to pass, what was taken does; brokers' own changes are taken all the same."""
    files = HangingFiles()
    controller = await open_controller(tmp_path, files=files)
    await controller.create_topics([NewTopic("orders")])
    topic = controller.image.topics["orders"]
    files.hang()
    try:
        limit = controller_module.CHANGES_WAITING_MAX
        taken = [controller.incremental_alter_configs(retention("orders", number)) for number in range(limit)]
        begin_another = [
            lambda: controller.incremental_alter_configs(retention("orders", 99_999)),
            lambda: controller.create_topics([NewTopic("refused")]),
            lambda: controller.create_missing_topics(["refused"]),
            lambda: controller.delete_topics([topic.id]),
        ]
        for begin in begin_another:
            with pytest.raises(KafkaError, match=r"1000 changes wait.*not begun") as refusal:
                begin()
            assert refusal.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert await controller.delete_topics([b"?" * 16])  # changes nothing
        assert (await controller.create_topics([NewTopic("asked")], validate_only=True))[0].error is None
        placed = controller.assign_directories(1, {(topic.id, 0): b"e" * 16})
        producer_id = controller.next_producer_id()
        assert not any(future.done() for future in (*taken, placed, producer_id))
    finally:
        files.go_on()
    assert await asyncio.gather(*taken) == [[None]] * limit
    assert await producer_id == 0
    await placed
    assert set(controller.image.topics) == {"orders"}
    assert (await controller.create_topics([NewTopic("later")]))[0].error is None
    await controller.close()
    controller = await open_controller(tmp_path)
    assert set(controller.image.topics) == {"orders", "later"}
    assert dict(controller.image.topic_config("orders")) == {"retention.ms": str(limit - 1)}
    assert controller.image.topics["orders"].partitions[0].directories == (b"e" * 16,)
    await controller.close()


async def test_while_the_disk_hangs_so_many_requests_wait_and_no_more(tmp_path, loop, monkeypatch):
    """For a topic that somebody else has asked for, and for producer ids."""
    monkeypatch.setattr(controller_module, "AWAITING_OTHERS_MAX", 5)
    monkeypatch.setattr(producer_ids, "WAITING_MAX", 5)
    files = HangingFiles()
    controller = await open_controller(tmp_path, files=files)
    for topic in ("orders", "payments"):
        files.hang()
        try:
            waiting = [controller.create_missing_topics([topic]) for _ in range(6)]
            with pytest.raises(KafkaError, match=r"5 requests wait.*not begun") as refusal:
                controller.create_missing_topics([topic])
            assert refusal.value.code is ErrorCode.REQUEST_TIMED_OUT
        finally:
            files.go_on()
        assert await asyncio.gather(*waiting) == [{topic: None}] * 6
    files.hang()
    try:
        ids = [controller.next_producer_id() for _ in range(5)]
        with pytest.raises(KafkaError, match="5 requests wait for a producer id") as refusal:
            controller.next_producer_id()
        assert refusal.value.code is ErrorCode.REQUEST_TIMED_OUT
    finally:
        files.go_on()
    assert await asyncio.gather(*ids) == [0, 1, 2, 3, 4]
    assert await controller.next_producer_id() == 5
    await controller.close()

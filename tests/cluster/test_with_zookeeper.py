"""Brokers as processes, around a real Apache ZooKeeper: what `barnabas serve --zookeeper` promises."""

import contextlib
import time

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from barnabas.controller.store.metadata_log import METADATA_DIRECTORY
from tests.broker_process import BrokerProcess, DidNotStart, wait_until
from tests.zookeeper_process import zookeeper_server


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory):
    with zookeeper_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@contextlib.contextmanager
def three_brokers(zookeeper, directory, *, session_timeout_ms, **more_settings):
    """By node id; they are started, and killed in the end. Settings with underscores for dots."""
    settings = {
        "zookeeper.connect": f"{zookeeper.address}/{directory.name}",
        "zookeeper.session.timeout.ms": str(session_timeout_ms),
        **{name.replace("_", "."): str(value) for name, value in more_settings.items()},
    }
    started = {
        node_id: BrokerProcess(directory / str(node_id), settings={**settings, "node.id": str(node_id)})
        for node_id in (1, 2, 3)
    }
    try:
        for broker in started.values():
            broker.start()
        yield started
    finally:
        for broker in started.values():
            broker.kill()


@pytest.fixture
def brokers(zookeeper, tmp_path):
    """Three of them, by node id."""
    with three_brokers(zookeeper, tmp_path, session_timeout_ms=2_000) as brokers:
        yield brokers


def test_a_leader_is_killed_while_a_client_produces(brokers):
    """Another one takes over; every acknowledged record is there, once, and the dead one comes back in sync."""
    quiet = {
        "log_level": 0,
        "bootstrap.servers": ",".join(each.bootstrap_server for each in brokers.values()),
    }
    admin = AdminClient(quiet)
    topic = NewTopic("orders", 1, 3, config={"min.insync.replicas": "2"})
    admin.create_topics([topic])["orders"].result(30)

    def partition():
        found = admin.list_topics("orders", timeout=10).topics.get("orders")
        return found.partitions.get(0) if found else None

    first = wait_until(lambda: (known := partition()) and known.leader > 0 and known, what="a leader").leader
    acknowledged, failed = [], []

    def told(error, message):
        (failed if error else acknowledged).append(error or int(message.value()))

    producer = Producer({**quiet, "acks": "all", "enable.idempotence": True})
    number = 0

    def produce_until(condition, deadline_s=60):
        nonlocal number
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end
            producer.produce("orders", str(number).encode(), callback=told)
            number += 1
            producer.poll(0.005)

    produce_until(lambda: len(acknowledged) > 100)
    brokers[first].kill()
    before = len(acknowledged)
    produce_until(lambda: len(acknowledged) > before + 100)
    brokers[first].start()
    assert producer.flush(60) == 0
    assert not failed
    wait_until(lambda: sorted(partition().isrs) == [1, 2, 3], 60, "all replicas in sync")

    consumer = Consumer({**quiet, "group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe(["orders"])
    read = []

    def everything():
        message = consumer.poll(1)
        if message is not None:
            assert not message.error() or message.error().code() == KafkaError._ALL_BROKERS_DOWN
            read.append(int(message.value()))
        return len(read) >= len(acknowledged)

    wait_until(everything, 60, "all records")
    consumer.close()
    assert read == sorted(acknowledged) == list(range(number))
    assert [broker.stop() for broker in brokers.values()] == [0, 0, 0]


@pytest.fixture(scope="module")
def patient_zookeeper(tmp_path_factory):
    """One that lets sessions be half a minute long."""
    with zookeeper_server(tmp_path_factory.mktemp("patient"), tick_ms=2000) as server:
        yield server


def test_a_process_that_ends_is_noticed_before_its_session_ends(patient_zookeeper, tmp_path):
    """Killed as the controller or not, it is replaced as a leader at once, although ZooKeeper would wait for half a minute."""
    with three_brokers(patient_zookeeper, tmp_path, session_timeout_ms=30_000) as brokers:
        admin = AdminClient({"log_level": 0, "bootstrap.servers": brokers[1].bootstrap_server})
        admin.create_topics([NewTopic("orders", 3, 3)])["orders"].result(30)

        def leaders(seen_by):
            client = AdminClient({"log_level": 0, "bootstrap.servers": brokers[seen_by].bootstrap_server})
            found = client.list_topics("orders", timeout=10)
            return found.controller_id, [each.leader for each in found.topics["orders"].partitions.values()]

        wait_until(lambda: sorted(leaders(1)[1]) == [1, 2, 3], what="a leader for each partition")
        controller, _ = leaders(1)
        follower, last = (node_id for node_id in brokers if node_id != controller)
        for gone in (follower, controller):
            began = time.monotonic()
            brokers[gone].kill()
            wait_until(lambda gone=gone: gone not in leaders(last)[1], 10, f"broker {gone} is replaced")
            assert time.monotonic() - began < 10
        assert leaders(last) == (last, [last] * 3)
        brokers[controller].start()
        wait_until(
            lambda: sum(len(each) for each in _in_sync(brokers[last], "orders")) == 6,
            what="the one that came back is in sync",
        )


def test_with_fsync_always_all_disks_have_what_is_acknowledged(zookeeper, tmp_path):
    """Followers sync what they fetch, and say so on their disks; killed all at once, they have everything when they are back."""
    with three_brokers(
        zookeeper,
        tmp_path,
        session_timeout_ms=2_000,
        barnabas_durability="fsync-always",
        log_flush_offset_checkpoint_interval_ms=50,
    ) as brokers:
        client = {
            "log_level": 0,
            "bootstrap.servers": ",".join(each.bootstrap_server for each in brokers.values()),
        }
        admin = AdminClient(client)
        topic = NewTopic("orders", 1, 3, config={"min.insync.replicas": "3"})
        admin.create_topics([topic])["orders"].result(30)
        failed = []
        producer = Producer({**client, "acks": "all", "linger.ms": 0})
        for number in range(50):
            producer.produce(
                "orders", b"%d" % number, callback=lambda error, _: error and failed.append(error)
            )
            producer.poll(0.005)
        assert (producer.flush(30), failed) == (0, [])
        for broker in brokers.values():
            checkpoint = broker.data_directory / "recovery-point-offset-checkpoint"
            wait_until(
                lambda checkpoint=checkpoint: "orders 0 50" in checkpoint.read_text().splitlines(),
                what=f"{checkpoint} says that all is synced",
            )
        for broker in brokers.values():
            broker.kill()
        for broker in brokers.values():
            broker.start()
        wait_until(lambda: [sorted(each) for each in _in_sync(brokers[1], "orders")] == [[1, 2, 3]])
        consumer = Consumer({**client, "group.id": "g", "auto.offset.reset": "earliest"})
        try:
            consumer.subscribe(["orders"])
            found = wait_until(lambda: consumer.consume(50, timeout=10))
            assert [int(message.value()) for message in found] == list(range(50))
        finally:
            consumer.close()


def _in_sync(broker, topic):
    found = AdminClient({"log_level": 0, "bootstrap.servers": broker.bootstrap_server}).list_topics(topic)
    return [each.isrs for each in found.topics[topic].partitions.values()]


def test_the_data_of_a_single_node_does_not_join(zookeeper, tmp_path):
    """Nobody in the cluster would know its topics: the start is refused, and nothing is touched."""
    broker = BrokerProcess(tmp_path)
    broker.start()
    broker.stop()
    broker.settings["zookeeper.connect"] = f"{zookeeper.address}/{tmp_path.name}"
    with pytest.raises(DidNotStart, match="metadata of a single node"):
        broker.start()
    assert (broker.data_directory / METADATA_DIRECTORY).exists()
    del broker.settings["zookeeper.connect"]
    broker.start()
    broker.stop()

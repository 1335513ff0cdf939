"""A whole data directory goes from Apache Kafka to Barnabas and back: topics, records, settings, group offsets."""

from __future__ import annotations

import re

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from barnabas import cli
from barnabas.wire.messages.metadata import MetadataRequest
from tests.broker_process import BrokerProcess
from tests.oracle.kafka_broker import KafkaBroker
from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43, run_java
from tests.oracle.log.kafka_data import At, create_topic, fill_topic, produce, read_all, read_in_group
from tests.wire_client import WireClient

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]


def setting(broker, topic, name):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    return admin.describe_configs([resource])[resource].result(30)[name].value


def ids(broker):
    """The id of each topic by its name."""
    with WireClient(broker.bootstrap) as client:
        found = client.call(MetadataRequest(topics=None, allow_auto_topic_creation=False), 12)
    return {topic.name: topic.topic_id for topic in found.topics if not topic.is_internal}


def transact(broker, count, *, ends=True):
    """A transaction of the one producer, which comes back under the same name."""
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "transactional.id": "t",
            "transaction.timeout.ms": 600_000,
        }
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    fill_topic(producer, "transactions", count)
    producer.flush()
    if ends:
        producer.commit_transaction(60)


def read_by_new_protocol(broker, count):
    """Where a consumer group goes on, after which it reads and commits so many records."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "new",
            "group.protocol": "consumer",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe(["events"])
        messages = []
        while len(messages) < count:
            messages += consumer.consume(count - len(messages), 30)
        consumer.commit(messages[-1], asynchronous=False)
        return messages[0].offset()
    finally:
        consumer.close()


@pytest.mark.parametrize("version", [KAFKA_43, KAFKA_39])
def test_from_kafka_to_barnabas_and_back(tmp_path, version, capsys):
    """Each goes on where the other stopped; nobody who reads or writes notices more than a restart.

    A transaction that was open when its broker stopped is ended when its producer comes back to another one.
    """
    kafka = KafkaBroker(tmp_path, version=version)
    ours = BrokerProcess(
        tmp_path / "ours",
        settings={"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "1"},
    )
    back = KafkaBroker(tmp_path / "back", version=version)
    ours.data_directory = back.data_directory = kafka.data_directory
    try:
        kafka.start()
        create_topic(kafka, "events", retention_ms="123456789")
        produce(kafka, "events", 300, **{"compression.type": "zstd"})
        assert read_in_group(kafka, 100) == 0
        written = read_all(kafka, "events")
        create_topic(kafka, "transactions")
        transact(kafka, 10, ends=False)
        topic_ids = ids(kafka)
        kafka.stop()
        assert cli.main(["verify", str(kafka.data_directory)]) == 0
        assert cli.main(["adopt", str(kafka.data_directory)]) == 0
        printed = capsys.readouterr().out
        assert "1 groups with 1 committed offsets.\n1 transactional ids." in printed
        assert "transactions of t are open" in printed

        with ours:
            here = At(ours.bootstrap_server)
            assert read_all(here, "events") == written
            assert ids(here) == topic_ids
            assert read_all(here, "transactions", isolation="read_committed") == []
            transact(here, 20)
            assert len(read_all(here, "transactions", isolation="read_committed")) == 20
            transact(here, 5, ends=False)
            assert setting(here, "events", "retention.ms") == "123456789"
            assert read_in_group(here, 50) == 100
            produce(here, "events", 200, **{"compression.type": "lz4"})
            admin = AdminClient({"bootstrap.servers": here.bootstrap})
            made = NewTopic("made-here", 2, 1, config={"retention.ms": "987654321"})
            admin.create_topics([made])["made-here"].result(30)
            produce(here, "made-here", 100)
            written = read_all(here, "events")
            made_here = read_all(here, "made-here")
            assert (len(written), len(made_here)) == (500, 100)
            topic_ids = ids(here)
            assert ours.stop() == 0
        assert cli.main(["verify", str(kafka.data_directory)]) == 0

        back.start()
        assert read_all(back, "events") == written
        assert ids(back) == topic_ids
        assert len(read_all(back, "transactions", isolation="read_committed")) == 20
        transact(back, 30)
        assert len(read_all(back, "transactions", isolation="read_committed")) == 50
        assert read_all(back, "made-here") == made_here
        assert setting(back, "made-here", "retention.ms") == "987654321"
        assert read_in_group(back, 50) == 150
        produce(back, "made-here", 10)
        assert len(read_all(back, "made-here")) == 110
    finally:
        kafka.kill()
        back.kill()


def test_the_advice_on_feature_levels_is_good(tmp_path, capsys):
    """What was made by Kafka 3.9 gets the levels of 4.3 by the command that `adopt` prints; groups of KIP-848 work then, and 4.3 goes on."""
    kafka = KafkaBroker(tmp_path / "kafka", version=KAFKA_39)
    ours = BrokerProcess(tmp_path / "ours", settings={"offsets.topic.num.partitions": "1"})
    next_one = KafkaBroker(tmp_path / "next")
    ours.data_directory = next_one.data_directory = kafka.data_directory
    try:
        kafka.start()
        create_topic(kafka, "events")
        produce(kafka, "events", 300)
        kafka.stop()
        assert cli.main(["adopt", str(kafka.data_directory)]) == 0
        (advice,) = re.findall(r"\(kafka-features.sh (.*?)\)", capsys.readouterr().out)
        with ours:
            here = At(ours.bootstrap_server)
            tool = "org.apache.kafka.tools.FeatureCommand"
            shown = run_java(tool, ["--bootstrap-server", here.bootstrap, *advice.split()]).stdout
            assert "group.version was upgraded to 1." in shown
            assert read_by_new_protocol(here, 100) == 0
            assert ours.stop() == 0
        next_one.start()
        assert read_by_new_protocol(next_one, 100) == 100
    finally:
        kafka.kill()
        next_one.kill()


def test_two_disks_change_hands(tmp_path):
    """Both know which partition lies on which disk, since the metadata and the directories' ids say so."""
    disks = [tmp_path / "first", tmp_path / "second"]
    log_dirs = ",".join(map(str, disks))
    kafka = KafkaBroker(tmp_path / "kafka", config={"log.dirs": log_dirs})
    kafka.data_directory = disks[0]
    ours = BrokerProcess(tmp_path / "ours", settings={"offsets.topic.num.partitions": "1"})
    ours.data_directory = log_dirs
    try:
        with ours:
            here = At(ours.bootstrap_server)
            admin = AdminClient({"bootstrap.servers": here.bootstrap})
            admin.create_topics([NewTopic("events", 4, 1)])["events"].result(30)
            produce(here, "events", 100)
            written = read_all(here, "events")
            assert ours.stop() == 0
        kafka.start()
        assert read_all(kafka, "events") == written
        create_topic(kafka, "more")
        produce(kafka, "more", 50)
        more = read_all(kafka, "more")
        produce(kafka, "events", 100)
        written = read_all(kafka, "events")
        kafka.stop()
        placed = [sorted(path.name for path in disk.glob("*-[0-9]")) for disk in disks]
        with ours:
            here = At(ours.bootstrap_server)
            assert read_all(here, "events") == written
            assert read_all(here, "more") == more
            assert ours.stop() == 0
        assert [sorted(path.name for path in disk.glob("*-[0-9]")) for disk in disks] == placed
        disks[1].rename(tmp_path / "away")
        disks[1].mkdir()
        with ours:
            assert "log directory is missing" in ours.log_tail()
            assert ours.stop() == 0
    finally:
        kafka.kill()

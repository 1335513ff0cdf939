"""A whole data directory goes from Apache Kafka to Barnabas and back: topics, records, settings, group offsets."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from tests.broker_process import BrokerProcess
from tests.oracle.kafka_broker import KafkaBroker
from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43
from tests.oracle.log.kafka_data import At, create_topic, produce, read_all, read_in_group

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]


def setting(broker, topic, name):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    return admin.describe_configs([resource])[resource].result(30)[name].value


@pytest.mark.parametrize("version", [KAFKA_43, KAFKA_39])
def test_from_kafka_to_barnabas_and_back(tmp_path, version):
    """Each goes on where the other stopped; nobody who reads or writes notices more than a restart.

    Back to 4.3: our metadata has records that an older version does not know.
    """
    kafka = KafkaBroker(tmp_path, version=version)
    ours = BrokerProcess(tmp_path / "ours", settings={"offsets.topic.num.partitions": "1"})
    back = KafkaBroker(tmp_path / "back")
    ours.data_directory = back.data_directory = kafka.data_directory
    try:
        kafka.start()
        create_topic(kafka, "events", retention_ms="123456789")
        produce(kafka, "events", 300, **{"compression.type": "zstd"})
        assert read_in_group(kafka, 100) == 0
        written = read_all(kafka, "events")
        kafka.stop()

        with ours:
            here = At(ours.bootstrap_server)
            assert read_all(here, "events") == written
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
            assert ours.stop() == 0

        back.start()
        assert read_all(back, "events") == written
        assert read_all(back, "made-here") == made_here
        assert setting(back, "made-here", "retention.ms") == "987654321"
        assert read_in_group(back, 50) == 150
        produce(back, "made-here", 10)
        assert len(read_all(back, "made-here")) == 110
    finally:
        kafka.kill()
        back.kill()

"""The oracle itself: it starts, serves a client, stops cleanly and starts again on its data."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer

from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.kafka_jars import KAFKA_39, KAFKA_43

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("version", [KAFKA_43, KAFKA_39])
def test_a_record_survives_a_restart(tmp_path, version):
    """What is produced is consumed, also after a clean restart."""
    with kafka_broker(tmp_path, version=version) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce("events", b"first")
        assert producer.flush(30) == 0
        kafka.stop()
        assert (kafka.data_directory / ".kafka_cleanshutdown").exists()
        kafka.start()
        consumer = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": "readers", "auto.offset.reset": "earliest"}
        )
        try:
            consumer.subscribe(["events"])
            message = consumer.poll(30)
            assert message is not None
            assert message.value() == b"first"
        finally:
            consumer.close()

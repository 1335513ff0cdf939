"""What the tests of config/ share."""

from __future__ import annotations

import time

import pytest

from tests.config.kafka_oracle import KafkaConfigOracle


@pytest.fixture(scope="session")
def kafka_config(tmp_path_factory):
    """Apache Kafka's own configuration classes."""
    oracle = KafkaConfigOracle(tmp_path_factory.mktemp("config-oracle"))
    yield oracle
    oracle.close()


@pytest.fixture
def kafka_with_settings(tmp_path):
    """A running Apache Kafka with static and dynamic settings, and a topic `described` with overrides.

    Gives the broker and the dynamic settings of it.
    """
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewTopic,
        ResourceType,
    )

    from tests.oracle.kafka_broker import kafka_broker

    static = {
        "log.retention.hours": "100",
        "ssl.keystore.password": "secret",
        "log.cleaner.io.buffer.load.factor": ".7",
    }
    dynamic = {"message.max.bytes": "900000", "log.roll.ms": "5000000"}
    with kafka_broker(tmp_path, config=static) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        topic = NewTopic("described", 1, config={"retention.ms": "77", "cleanup.policy": "compact"})
        changes = ConfigResource(
            ResourceType.BROKER,
            "1",
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in dynamic.items()
            ],
        )
        for future in (
            *admin.create_topics([topic]).values(),
            *admin.incremental_alter_configs([changes]).values(),
        ):
            future.result(30)
        deadline = time.monotonic() + 30
        while not _in_force(admin, ConfigResource(ResourceType.BROKER, "1"), dynamic):
            assert time.monotonic() < deadline, "Apache Kafka does not take its dynamic settings over"
            time.sleep(0.05)
        yield kafka, dynamic


def _in_force(admin, broker, settings):
    """Whether the broker answers with these settings: it follows the controller, which answered first."""
    (future,) = admin.describe_configs([broker], request_timeout=30).values()
    found = future.result()
    return all(found[name].value == value for name, value in settings.items())

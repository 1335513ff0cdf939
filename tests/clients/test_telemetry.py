"""Real clients measure what they are asked for, and the broker shows it (KIP-714)."""

from __future__ import annotations

import re
import urllib.request

import pytest

from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.oracle.building import build
from tests.our_broker import replicas_at, wire_client
from tests.ports import free_ports

pytestmark = pytest.mark.clients


@pytest.fixture
def measured(tmp_path):
    """A broker that shows metrics, and the port where it does."""
    port = free_ports(1)[0]
    with BrokerProcess(tmp_path / "broker", settings={"barnabas.metrics.port": str(port)}) as broker:
        yield broker, port


def scrape(port):
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def ask_for(broker, **settings):
    configs = [
        {"name": key.replace("_", "."), "config_operation": 0, "value": value}
        for key, value in settings.items()
    ]
    resource = {"resource_type": 16, "resource_name": "everything", "configs": configs}
    with wire_client(broker.bootstrap_server) as client:
        answer = client.call(build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
        assert answer.responses[0].error_code == 0


@pytest.mark.parametrize(
    ("name", "software"),
    [("java-4.3", "apache-kafka-java"), ("confluent-kafka", "confluent-kafka-python")],
)
def test_clients_push_what_they_are_asked_for(measured, peers, unique, name, software):
    """A producer's connections and requests appear among the metrics of the broker, under its ids and software."""
    broker, port = measured
    ask_for(broker, metrics="org.apache.kafka.producer.", interval_ms="200")
    client = peers.another(name)
    topic = unique("measured")
    client.call(
        "admin",
        call="create_topic",
        bootstrap=broker.bootstrap_server,
        topic=topic,
        partitions=1,
        replication_factor=replicas_at(broker.bootstrap_server),
    )
    producer = client.start(
        "steady", bootstrap=broker.bootstrap_server, topic=topic, partitions=1, prefix="k"
    )

    def shown():
        found = [line for line in scrape(port).splitlines() if line.startswith("kafka_client_producer_")]
        return [line for line in found if f'client_software_name="{software}"' in line]

    lines = wait_until(shown, what="metrics of the client")
    assert any(line.startswith("kafka_client_producer_connection_creation_") for line in lines)
    assert all(re.search(r'client_instance_id="[\w-]{22}"', line) for line in lines)
    assert all('client_source_address="127.0.0.1"' in line for line in lines)
    assert "kafka_server_client_metrics_plugin_error_count 0.0" in scrape(port)
    producer.stop()
    client.close()

"""How soon a fresh broker's first group gets its first record."""

from __future__ import annotations

import time

import pytest

from tests.clients.peer import encoded
from tests.our_broker import replicas_at

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("name", ["confluent-kafka", "franz-go", "kafkajs"])
def test_the_first_group_soon_gets_its_first_record(broker, peers, unique, name):
    """No rebalance delay and no slow creation of internal topics stand before the first record.

    The promise is 200 ms; what is asserted is only that Kafka's initial delay of 3 s is not there.
    """
    client = peers(name)
    topic = unique("first")
    bootstrap = broker.bootstrap_server
    client.call(
        "admin",
        call="create_topic",
        bootstrap=bootstrap,
        topic=topic,
        partitions=1,
        replication_factor=replicas_at(bootstrap),
    )
    record = {
        "partition": 0,
        "key": encoded(b"first"),
        "value": encoded(b"record"),
        "headers": [],
        "timestamp": time.time_ns() // 1_000_000,
    }
    client.call("produce", bootstrap=bootstrap, topic=topic, codec="none", idempotent=True, records=[record])
    start = time.perf_counter()
    member = client.start(
        "member",
        bootstrap=bootstrap,
        topics=[topic],
        group=unique("first-group"),
        strategy="roundrobin",
        instance=None,
    )
    member.wait_for(lambda: member.records, "the first record")
    elapsed_ms = (time.perf_counter() - start) * 1000
    print(f"{client.client}: the first record {elapsed_ms:.0f} ms after subscribing")
    assert elapsed_ms < 2500
    member.stop()

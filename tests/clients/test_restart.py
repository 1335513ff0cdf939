"""The broker stops, or dies, and comes back; clients go on by themselves."""

from __future__ import annotations

import pytest

from tests.clients.programs import CLIENTS
from tests.clients.test_groups import keys_seen, wait_for_any
from tests.our_broker import replicas_at

pytestmark = [pytest.mark.clients, pytest.mark.durability]

PARTITIONS = 2


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_outlive_a_restart_and_a_kill(broker, peers, unique, name):
    """A producer and a group's member go on after a clean restart and after kill -9; nothing acknowledged is lost.

    The producers are idempotent: what was acknowledged is there once, at the offset that the acknowledgement named.
    """
    client = peers(name)
    bootstrap = broker.bootstrap_server
    topic = unique("restarted")
    client.call(
        "admin",
        call="create_topic",
        bootstrap=bootstrap,
        topic=topic,
        partitions=PARTITIONS,
        replication_factor=replicas_at(bootstrap),
    )
    producer = client.start("steady", bootstrap=bootstrap, topic=topic, partitions=PARTITIONS, prefix="key")
    member = client.start(
        "member",
        bootstrap=bootstrap,
        topics=[topic],
        group=unique("group"),
        strategy="roundrobin" if name == "kafkajs" else "range",
        instance=None,
    )

    def go_on(what):
        """Waits for new acknowledgements, and for the member to have seen all until then."""
        start = len(producer.all_of("acked"))
        wait_for_any(
            [producer, member], lambda: len(producer.all_of("acked")) >= start + 30, f"records {what}"
        )
        acknowledged = {key.encode() for key, _, _ in producer.all_of("acked")}
        wait_for_any([producer, member], lambda: acknowledged <= keys_seen(member), f"reading {what}")

    go_on("before")
    broker.stop()
    broker.start()
    go_on("after a restart")
    broker.kill()
    broker.start()
    go_on("after kill -9")

    written = producer.stop()
    reader = client.start("read", bootstrap=bootstrap, topic=topic, **{"from": "earliest"})
    reader.result()
    there = {(record.partition, record.offset): record.key.decode() for record in reader.records}
    acknowledged = producer.all_of("acked")
    assert len(acknowledged) == written
    for key, partition, offset in acknowledged:
        # An answer that came to a repeated request may lack the offset.
        assert offset == -1 or there[partition, offset] == key
    for partition in range(PARTITIONS):
        keys = [record.key.decode() for record in reader.records if record.partition == partition]
        assert keys == [f"key-{number}" for number in range(partition, written, PARTITIONS)]
    member.stop()

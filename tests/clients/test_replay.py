"""Reading again: from the beginning, from an offset, from a point in time."""

from __future__ import annotations

import secrets

import pytest

from tests.clients.peer import encoded
from tests.our_broker import replicas_at

pytestmark = pytest.mark.clients

PARTITIONS = 3
PER_PARTITION = 20
START = 1_700_000_000_000
STEP_MS = 1000


@pytest.fixture(scope="module")
def history(bootstrap, peers):
    """A topic whose partitions each have records a second apart, written in several batches."""
    writer = peers("franz-go")
    topic = f"history-{secrets.token_hex(4)}"
    writer.call(
        "admin",
        call="create_topic",
        bootstrap=bootstrap,
        topic=topic,
        partitions=PARTITIONS,
        replication_factor=replicas_at(bootstrap),
        configs={"retention.ms": "-1"},
    )
    for first in range(0, PER_PARTITION, 5):
        records = [
            {
                "partition": partition,
                "key": encoded(f"{partition}-{number}".encode()),
                "value": encoded(b"value"),
                "headers": [],
                "timestamp": START + number * STEP_MS,
            }
            for number in range(first, first + 5)
            for partition in range(PARTITIONS)
        ]
        writer.call(
            "produce", bootstrap=bootstrap, topic=topic, codec="lz4", idempotent=True, records=records
        )
    return topic


def read(client, bootstrap, topic, start):
    """What a client reads from there on: offsets by partition."""
    job = client.start("read", bootstrap=bootstrap, topic=topic, **{"from": start})
    job.result()
    offsets = {partition: [] for partition in range(PARTITIONS)}
    for record in job.records:
        assert record.key == f"{record.partition}-{record.offset}".encode()
        assert record.timestamp == START + record.offset * STEP_MS
        offsets[record.partition].append(record.offset)
    return offsets


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("earliest", 0),
        ({"offset": 7}, 7),
        ({"offset": PER_PARTITION}, PER_PARTITION),
        ({"timestamp": START - 1}, 0),
        ({"timestamp": START + 7 * STEP_MS}, 7),
        ({"timestamp": START + 7 * STEP_MS + 1}, 8),
        ({"timestamp": START + PER_PARTITION * STEP_MS}, PER_PARTITION),
    ],
    ids=["earliest", "offset", "end", "before all", "exact time", "between", "after all"],
)
def test_a_client_reads_again_from_any_place(client, bootstrap, history, start, first):
    """Every record from the place on comes, in order, and none before it."""
    expected = {partition: list(range(first, PER_PARTITION)) for partition in range(PARTITIONS)}
    assert read(client, bootstrap, history, start) == expected


@pytest.mark.parametrize(
    ("at", "offset"),
    [
        ("earliest", 0),
        ("latest", PER_PARTITION),
        ("max-timestamp", PER_PARTITION - 1),
        (START + 3 * STEP_MS, 3),
        (START + 3 * STEP_MS + 1, 4),
    ],
)
def test_admin_clients_list_offsets(client, bootstrap, history, at, offset):
    """Each admin client that can list offsets finds the same ones."""
    if client.name == "aiokafka":
        return  # its admin client has no such call; its consumer's is tested above
    if client.name == "kafkajs" and at == "max-timestamp":
        return  # it does not know this one
    found = client.call("admin", call="list_offsets", bootstrap=bootstrap, topic=history, at=at)
    assert found == [[partition, offset] for partition in range(PARTITIONS)]


def test_offsets_of_an_empty_partition(client, bootstrap, unique):
    """A new, empty partition answers at once: it begins and ends at 0."""
    topic = unique("empty")
    client.call(
        "admin",
        call="create_topic",
        bootstrap=bootstrap,
        topic=topic,
        partitions=1,
        replication_factor=replicas_at(bootstrap),
    )
    job = client.start("read", bootstrap=bootstrap, topic=topic, **{"from": "earliest"})
    assert job.result() == 0
    if client.name != "aiokafka":
        for at in ("earliest", "latest"):
            assert client.call("admin", call="list_offsets", bootstrap=bootstrap, topic=topic, at=at) == [
                [0, 0]
            ]

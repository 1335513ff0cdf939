"""What one client writes, every other reads, to the byte."""

from __future__ import annotations

import random
import secrets

import pytest

from tests.clients.peer import ReadRecord, encoded, read_record
from tests.clients.programs import CLIENTS
from tests.our_broker import replicas_at

pytestmark = pytest.mark.clients

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 3
_NO_NULL_HEADERS = {"kafkajs", "kafka-python"}  # they refuse to send a header without a value
_START = 1_700_000_000_000


def records_of(client: str) -> list[dict]:
    """What is written with each codec: everything that a record can be, over several partitions."""
    randomness = random.Random(client)
    text = " ".join(randomness.choices(("alpha", "beta", "gamma", "delta"), k=3000)).encode()
    headers = [
        ["trace", b"\x00\x01\xff"],
        ["again", b"1"],
        ["again", b"2"],
        ["empty", b""],
        ["größe", "ü".encode()],
    ]
    if client not in _NO_NULL_HEADERS:
        headers.append(["null", None])
    plain = [
        (0, b"key", b"value", headers, _START),
        (1, None, b"without a key", [], _START + 1),
        (2, b"", b"with an empty key", [], _START + 2),
        (0, b"tombstone", None, [], _START + 1_000_000),
        (1, b"with an empty value", b"", [["only", b"header"]], _START - 1_000_000),
        (2, b"", None, [], 1),
        (0, b"text", text, [], _START + 3),
        (1, "schlüssel ✓".encode(), "wert ✓".encode(), [], _START + 4),
        (2, b"a megabyte", randomness.randbytes(1_000_000), [], _START + 5),
        (0, b"last", bytes(range(256)), [], _START + 6),
    ]
    return [
        {
            "partition": partition,
            "key": encoded(key),
            "value": encoded(value),
            "headers": [[name, encoded(data)] for name, data in fields],
            "timestamp": timestamp,
        }
        for partition, key, value, fields, timestamp in plain
    ]


def as_read(topic: str, offset: int, fields: dict) -> ReadRecord:
    return read_record({"topic": topic, "offset": offset, **fields})


class Written:
    """A topic that one client wrote with all codecs, and what must be read from it."""

    def __init__(self, bootstrap, peer, topic) -> None:
        self.topic = topic
        peer.call(
            "admin",
            call="create_topic",
            bootstrap=bootstrap,
            topic=topic,
            partitions=PARTITIONS,
            replication_factor=replicas_at(bootstrap),
            # The records' timestamps are old; they must not fall to the retention.
            configs={"retention.ms": "-1"},
        )
        self.expected: list[list[ReadRecord]] = [[] for _ in range(PARTITIONS)]
        for codec in CODECS:
            # Where an old client's idempotent producer and its plain one differ, both are used.
            idempotent = codec not in ("gzip", "lz4")
            records = records_of(peer.name)
            places = peer.call(
                "produce",
                bootstrap=bootstrap,
                topic=topic,
                codec=codec,
                idempotent=idempotent,
                records=records,
            )
            for fields, (partition, offset) in zip(records, places, strict=True):
                assert partition == fields["partition"]
                assert offset == len(self.expected[partition])
                self.expected[partition].append(as_read(topic, offset, fields))


@pytest.fixture(scope="module")
def written(bootstrap, peers):
    """`written("kafkajs")` is what KafkaJS wrote, once for all readers of a worker."""
    topics: dict[str, Written] = {}

    def written(client):
        if client not in topics:
            topics[client] = Written(bootstrap, peers(client), f"written-by-{client}-{secrets.token_hex(4)}")
        return topics[client]

    return written


@pytest.mark.parametrize("reader", CLIENTS)
@pytest.mark.parametrize("writer", CLIENTS)
def test_every_client_reads_what_every_client_wrote(bootstrap, peers, written, writer, reader):
    """Keys, values, headers, timestamps and offsets come back as they were written, whichever the codec."""
    topic = written(writer)
    job = peers(reader).start("read", bootstrap=bootstrap, topic=topic.topic, **{"from": "earliest"})
    assert job.result() == sum(map(len, topic.expected))
    for partition, expected in enumerate(topic.expected):
        found = [record for record in job.records if record.partition == partition]
        assert [record.offset for record in found] == [record.offset for record in expected]
        for one, other in zip(found, expected, strict=True):
            assert one._replace(value=None) == other._replace(value=None)
            assert one.value == other.value, f"the value of {other.key!r} at {other.offset}"

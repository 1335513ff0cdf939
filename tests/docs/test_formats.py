"""docs/formats describes what a broker leaves on the disk, and to the byte."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from barnabas.log import offset_index, producer_snapshot, time_index, transaction_index
from barnabas.records.batch import HEADER_SIZE, HEADER_STRUCT
from tests.broker_process import BrokerProcess, wait_until

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"
EPOCH_DIGITS = 10
OFFSET_DIGITS = 20

SETTINGS = {
    "log.segment.bytes": str(1 << 20),
    "log.retention.check.interval.ms": "50",
    "log.segment.delete.delay.ms": "3600000",
    "log.flush.offset.checkpoint.interval.ms": "50",
    "log.flush.start.offset.checkpoint.interval.ms": "50",
    "replica.high.watermark.checkpoint.interval.ms": "50",
    "offsets.topic.num.partitions": "2",
}


def page(name):
    return (FORMATS / name).read_text()


def kind(name):
    """A file's or directory's name as the pages write it: numbers by their letters, unique parts left out."""
    if suffix := re.search(r"-\d+\.[0-9a-f]{32}(-\w+)$", name):
        return suffix[1]
    name = re.sub(rf"^\d{{{OFFSET_DIGITS}}}-\d{{{EPOCH_DIGITS}}}(?=\.)", "N-E", name)
    name = re.sub(rf"^\d{{{OFFSET_DIGITS}}}(?=\.)", "N", name)
    if name.endswith(".deleted"):
        return ".deleted"
    return re.sub(r"^(events|gone|__consumer_offsets)-\d+$", r"\1-N", name)


def kinds(directory):
    found = set()
    for _, directories, files in os.walk(directory):
        found |= {kind(name) for name in [*directories, *files] if not name.endswith(".tmp")}
    return found


def described():
    """Every kind that a page has in code font, and where."""
    found = {"events-N": "README.md", "__consumer_offsets-N": "README.md"}
    for path in FORMATS.glob("*.md"):
        found |= dict.fromkeys(re.findall(r"`([^`\s]+)`", path.read_text()), path.name)
    return found


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """Kinds of files that a broker has while it is busy, after kill -9, and after a clean stop."""
    broker = BrokerProcess(tmp_path_factory.mktemp("formats"), settings=SETTINGS)
    with broker:
        servers = {"bootstrap.servers": broker.bootstrap_server}
        admin = AdminClient(servers)
        limits = {"retention.bytes": str(1 << 20)}
        for made in admin.create_topics(
            [NewTopic("events", 1, 1, config=limits), NewTopic("gone", 1, 1)]
        ).values():
            made.result(30)
        producer = Producer(servers | {"enable.idempotence": True})
        for _ in range(60):
            producer.produce("events", os.urandom(100_000))
            producer.flush(30)
        consumer = Consumer(servers | {"group.id": "readers", "auto.offset.reset": "earliest"})
        consumer.subscribe(["events"])
        wait_until(lambda: consumer.consume(1, 0.1), what="a record")
        consumer.commit(asynchronous=False)
        consumer.close()
        for deleted in admin.delete_topics(["gone"]).values():
            deleted.result(30)
        data = broker.data_directory
        wait_until(lambda: list(data.glob("events-0/*.deleted")), what="retention")
        wait_until((data / "log-start-offset-checkpoint").exists, what="a checkpoint")
        found = kinds(data)
        broker.kill()
        found |= kinds(data)
        broker.start()
        assert broker.stop() == 0
        found |= kinds(data)
    return found


def test_every_file_is_described(left_behind):
    """What lies in a data directory has a page that names it."""
    expected = {
        "N.log",
        "N.index",
        "N.timeindex",
        "N.snapshot",
        ".kafka_cleanshutdown",
        ".deleted",
        "-delete",
    }
    assert expected <= left_behind
    assert sorted(left_behind - set(described())) == []


def test_every_page_is_in_the_index():
    """The README of the formats links each page once, and nothing else beside them."""
    linked = re.findall(r"\]\((?!\.\.)([\w-]+\.md)\)", page("README.md"))
    assert sorted(linked) == sorted(path.name for path in FORMATS.glob("*.md") if path.name != "README.md")


def rows(name, heading="| Position | Size | Field |"):
    """The tables of positions, sizes and fields in a page."""
    tables = []
    for part in page(name).split(heading)[1:]:
        table = []
        for line in part.splitlines()[2:]:
            if not line.startswith("|"):
                break
            position, size, field = (cell.strip() for cell in line.split("|")[1:4])
            table.append((int(position), int(size) if size else None, field))
        tables.append(table)
    return tables


def sizes(layout):
    return [struct.calcsize(f">{letter}") for letter in layout.format.lstrip(">")]


@pytest.mark.parametrize(
    ("name", "table", "layout"),
    [
        ("segment.md", 0, HEADER_STRUCT),
        ("offset-index.md", 0, offset_index._ENTRY),
        ("time-index.md", 0, time_index._ENTRY),
        ("transaction-index.md", 0, transaction_index._ENTRY),
        ("producer-snapshot.md", 1, producer_snapshot._ENTRY),
    ],
)
def test_tables_agree_with_the_code(name, table, layout):
    """Positions follow from sizes, and sizes are those that the code packs."""
    fields = [row for row in rows(name)[table] if row[1] is not None]
    assert [size for _, size, _ in fields] == sizes(layout)
    position = 0
    for at, size, field in fields:
        assert at == position, field
        position += size
    assert position == layout.size


def test_sizes_in_prose_agree_with_the_code():
    """The sizes of entries as they are said."""
    assert f"Entries of {offset_index.ENTRY_SIZE} bytes" in page("offset-index.md")
    assert f"Entries of {time_index.ENTRY_SIZE} bytes" in page("time-index.md")
    assert f"Entries of {transaction_index.ENTRY_SIZE} bytes" in page("transaction-index.md")
    assert f"for each producer {producer_snapshot._ENTRY.size} bytes" in page("producer-snapshot.md")
    assert rows("segment.md")[0][-1] == (HEADER_SIZE, None, "records")

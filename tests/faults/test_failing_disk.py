"""Disks that vanish or cannot be synced: what was acknowledged stays, nothing else is claimed, the others serve on."""

from __future__ import annotations

import asyncio
import contextlib

from barnabas.errors import ErrorCode
from barnabas.log.files import Files
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.handlers import node
from tests.topic_requests import FETCH, create_topics, fetch, offset_and_values, produce, produced
from tests.wire_client import WireClient

STORAGE = ErrorCode.KAFKA_STORAGE_ERROR
VALUE_BYTES = 20_000


def code_of(answer):
    return produced(answer).error_code


def read(client, topic, partition):
    """All values of a partition, or the error code."""
    values, offset = [], 0
    while True:
        offset, found = offset_and_values(client.call(fetch(topic, partition, offset), FETCH), offset)
        if not found or not isinstance(found, list):
            return found or values
        values += found


def broker_on(tmp_path, *directories):
    """A broker with these log directories; the metadata is in the first one."""
    broker = BrokerProcess(tmp_path / "broker")
    broker.data_directory = ",".join(map(str, directories))
    return broker


def numbered(number):
    return b"%d " % number + b"x" * VALUE_BYTES


def partitions_in(directory, topic, count):
    return [number for number in range(count) if (directory / f"{topic}-{number}").exists()]


def list_offsets(topic, partition, timestamp):
    part = ListOffsetsRequest.ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
    return ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=[part])]
    )


def test_a_broker_without_a_disk_ends(tmp_path):
    """When the last directory fails, the broker says so and ends; given back, it has all that was acknowledged."""
    only = tmp_path / "only"
    with broker_on(tmp_path, only) as broker:
        acknowledged = 0
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 1, segment_bytes=1 << 20), 5)
            assert code_of(client.call(produce("t", 0, numbered(acknowledged)), 8)) == 0
            acknowledged += 1
            only.rename(tmp_path / "gone")
            with contextlib.suppress(ConnectionError):
                while code_of(client.call(produce("t", 0, numbered(acknowledged)), 8)) == 0:
                    acknowledged += 1
                    assert acknowledged < 200
        assert broker.process.wait(30) == 1
        assert f"every log directory is offline, at last {only}" in broker.log_tail()
        assert "Traceback" not in broker.log_path.read_text()
        broker.kill()
        (tmp_path / "gone").rename(only)
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            values = read(client, "t", 0)
            assert values[:acknowledged] == [numbered(number) for number in range(acknowledged)]
            assert len(values) <= acknowledged + 1


def test_a_directory_that_vanishes_is_offline(tmp_path):
    """A directory that is moved away is noticed at the next new segment; the other one serves on; moved back, it has everything."""
    first, second = tmp_path / "first", tmp_path / "second"
    with broker_on(tmp_path, first, second) as broker:
        acknowledged = 0
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 2, segment_bytes=1 << 20), 5)
            wait_until(lambda: partitions_in(second, "t", 2) and partitions_in(first, "t", 2))
            here, there = partitions_in(second, "t", 2)[0], partitions_in(first, "t", 2)[0]
            for _ in range(3):
                assert code_of(client.call(produce("t", here, numbered(acknowledged)), 8)) == 0
                acknowledged += 1
            second.rename(tmp_path / "gone")
            while (code := code_of(client.call(produce("t", here, numbered(acknowledged)), 8))) == 0:
                acknowledged += 1
                assert acknowledged < 200
            assert code == STORAGE
            assert code_of(client.call(produce("t", there, b"v"), 8)) == 0
            assert read(client, "t", there) == [b"v"]
            # What is new goes where there is a disk.
            client.call(create_topics(["new"], 2), 5)
            for partition in range(2):
                assert code_of(client.call(produce("new", partition, b"v"), 8)) == 0
        assert f"log directory is offline directory={second}" in broker.log_tail()
        assert broker.stop() == 0
        (tmp_path / "gone").rename(second)
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            values = read(client, "t", here)
            assert values[:acknowledged] == [numbered(number) for number in range(acknowledged)]
            assert read(client, "new", 1) == [b"v"]


class UnsyncableFiles(Files):
    """A disk that cannot be synced below some directory."""

    failing = None
    attempts = 0

    def sync(self, file):
        if self.failing and str(file.path).startswith(str(self.failing)):
            type(self).attempts += 1
            raise OSError(5, "Input/output error")
        super().sync(file)


def test_what_cannot_be_synced_is_not_acknowledged(tmp_path, monkeypatch):
    """After a failed fsync nothing is acknowledged any more, and it is not tried again: the next success would be a lie."""

    monkeypatch.setattr("barnabas.broker.Files", UnsyncableFiles)
    monkeypatch.setattr(UnsyncableFiles, "attempts", 0)
    bad = tmp_path / "bad"

    async def scenario():
        async with node.running(
            tmp_path, log_dirs=f"{tmp_path / 'good'},{bad}", metadata_log_dir=str(tmp_path / "good")
        ) as one:
            await one.call(create_topics(["t"], 4), 5)
            await one.call(list_offsets("t", 3, -1), 4)
            here, there = partitions_in(bad, "t", 4), partitions_in(tmp_path / "good", "t", 4)
            assert code_of(await one.call(produce("t", here[0], b"safe"), 8)) == 0
            UnsyncableFiles.failing = bad
            answers = [await one.call(produce("t", here[0], b"lost"), 8)]
            answers += [
                await one.call(produce("t", partition, b"lost", acks=acks), 8)
                for partition in here
                for acks in (-1, 1)
            ]
            assert {code_of(answer) for answer in answers} == {STORAGE}
            assert UnsyncableFiles.attempts == 1
            for partition in there:
                assert code_of(await one.call(produce("t", partition, b"safe"), 8)) == 0
            UnsyncableFiles.failing = None
            assert code_of(await one.call(produce("t", here[0], b"lost"), 8)) == STORAGE

    asyncio.run(scenario())
    assert not (bad / ".kafka_cleanshutdown").exists()
    assert (tmp_path / "good" / ".kafka_cleanshutdown").exists()

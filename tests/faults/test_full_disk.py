"""Disks that are full: produces are refused, reads go on, and with room all goes on by itself; nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from barnabas.errors import ErrorCode
from barnabas.records.builder import build_batch
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.faults.test_failing_disk import (
    VALUE_BYTES,
    broker_on,
    code_of,
    numbered,
    partitions_in,
    read,
)
from tests.topic_requests import create_topics, produce
from tests.wire_client import WireClient

STORAGE = ErrorCode.KAFKA_STORAGE_ERROR
PRODUCER_ID = 4000


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes; `remount` gives it another size."""
    directory = tmp_path / "small"
    directory.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", directory],
            capture_output=True,
            check=False,
        )

    try:
        mounted = mount("size=4m")
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        reason = f"no file system may be mounted here: {mounted.stderr.decode().strip()}"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield directory, lambda size: mount("remount", f"size={size}")
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def produce_in_sequence(client, number, topic="t", partition=0):
    """An idempotent producer's next record; the error code."""
    batch = build_batch(
        [(0, 1_700_000_000_000, None, numbered(number), ())],
        producer_id=PRODUCER_ID,
        producer_epoch=0,
        base_sequence=number,
    )
    data = ProduceRequest.PartitionProduceData(index=partition, records=batch)
    topics = [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])]
    return code_of(client.call(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=topics), 8))


def fill(client, topic="t", partition=0, first=0):
    """Produces until there is no room; gives how many records were acknowledged in all."""
    number = first
    while (code := produce_in_sequence(client, number, topic, partition)) == 0:
        number += 1
        assert number * VALUE_BYTES < 8 << 20
    assert code == STORAGE
    return number


def fill_to_the_brim(directory):
    """Another program takes all the room that is left."""
    with (directory / "ballast").open("ab", buffering=0) as ballast:
        for size in (1 << 16, 4096, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError:
                continue


def has_no_traceback(broker):
    return "Traceback" not in broker.log_path.read_text()


def test_a_full_disk_refuses_produces_and_recovers_by_itself(tmp_path, small_disk):
    """The full directory is read on and refuses produces, the other one serves on; with room, the same producer goes on."""
    small, remount = small_disk
    large = tmp_path / "large"
    with broker_on(tmp_path, large, small) as broker:
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 4, segment_bytes=1 << 20), 5)
            wait_until(lambda: partitions_in(small, "t", 4), what="a partition on the small disk")
            here, there = partitions_in(small, "t", 4)[0], partitions_in(large, "t", 4)[0]
            count = fill(client, partition=here)
            assert count > 50
            for _ in range(3):
                assert produce_in_sequence(client, count, partition=here) == STORAGE
                assert read(client, "t", here) == [numbered(number) for number in range(count)]
                assert code_of(client.call(produce("t", there, b"v"), 8)) == 0
            # New partitions go where there is room.
            client.call(create_topics(["new"], 4), 5)
            for partition in range(4):
                assert code_of(client.call(produce("new", partition, b"v"), 8)) == 0
            assert len(partitions_in(large, "new", 4)) == 4
            remount("8m")
            for number in range(count, count + 20):
                assert produce_in_sequence(client, number, partition=here) == 0
            count = fill(client, partition=here, first=count + 20)
            remount("16m")
            assert produce_in_sequence(client, count, partition=here) == 0
            wait_until(lambda: "log directory has room again" in broker.log_tail())
            expected = [numbered(number) for number in range(count + 1)]
            assert read(client, "t", here) == expected
        log = broker.log_path.read_text()
        assert "log directory is full" in log
        assert "offline" not in log
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            assert read(client, "t", here) == expected
            assert produce_in_sequence(client, count, partition=here) == 0, "a duplicate"
            assert produce_in_sequence(client, count + 1, partition=here) == 0
            assert len(read(client, "t", here)) == count + 2
        assert broker.stop() == 0
        assert has_no_traceback(broker)


def offsets_of(commit_or_fetch, client):
    if commit_or_fetch is None:
        request = OffsetFetchRequest(
            group_id="g", topics=[OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0])]
        )
        return client.call(request, 5).topics[0].partitions[0].committed_offset
    part = OffsetCommitRequest.OffsetCommitRequestPartition(
        partition_index=0, committed_offset=commit_or_fetch, committed_metadata="m" * 4000
    )
    request = OffsetCommitRequest(
        group_id="g", topics=[OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[part])]
    )
    return client.call(request, 2).topics[0].partitions[0].error_code


def test_everything_on_one_full_disk(tmp_path, small_disk):
    """Metadata and offsets lie on it, too: a topic can still be deleted to make room, and then all goes on."""
    small, _ = small_disk
    broker = broker_on(tmp_path, small)
    broker.settings["offsets.topic.num.partitions"] = "1"
    with broker, WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["t", "big"], 1, file_delete_delay_ms=1), 5)
        assert produce_in_sequence(client, 0) == 0
        client.call(FindCoordinatorRequest(key="g"), 2)
        wait_until(lambda: offsets_of(1, client) == 0, what="a commit")
        fill(client, "big")
        fill_to_the_brim(small)
        committed = 1
        while (code := offsets_of(committed + 1, client)) == 0:
            committed += 1
        assert code == ErrorCode.NOT_COORDINATOR
        assert offsets_of(None, client) == committed
        assert produce_in_sequence(client, 1) == STORAGE
        for number in range(12):
            # There is no room for their logs, but there is for the metadata.
            created = client.call(create_topics([f"later-{number}"], 1), 5)
            assert created.topics[0].error_code == 0
        assert code_of(client.call(produce("later-0", 0, b"v"), 8)) == STORAGE
        deleted = client.call(DeleteTopicsRequest(topic_names=["big"], timeout_ms=10_000), 5)
        assert deleted.responses[0].error_code == 0
        wait_until(lambda: produce_in_sequence(client, 1) == 0, what="room")
        for number in range(12):
            wait_until(lambda n=number: code_of(client.call(produce(f"later-{n}", 0, b"v"), 8)) == 0)
            assert set(read(client, f"later-{number}", 0)) == {b"v"}
        assert offsets_of(committed + 1, client) == 0
        assert read(client, "t", 0) == [numbered(0), numbered(1)]
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as again:
            assert read(again, "t", 0) == [numbered(0), numbered(1)]
            wait_until(lambda: offsets_of(None, again) == committed + 1)
            assert code_of(again.call(produce("later-3", 0, b"v"), 8)) == 0
        assert has_no_traceback(broker)


def test_changes_of_metadata_are_refused_when_the_reserve_is_used_up(tmp_path, small_disk):
    """What finds no room is refused, nothing is half done, and with room changes are possible again without a restart."""
    small, remount = small_disk
    with broker_on(tmp_path, small) as broker, WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["t"], 1), 5)
        fill(client)
        fill_to_the_brim(small)
        created = []
        for number in range(10_000):
            code = client.call(create_topics([f"{number:0100}"], 50), 5).topics[0].error_code
            if code:
                break
            created.append(f"{number:0100}")
        assert code == STORAGE
        assert created
        assert client.call(create_topics(["other"], 200), 5).topics[0].error_code == STORAGE
        remount("32m")
        wait_until(lambda: client.call(create_topics(["other"], 200), 5).topics[0].error_code == 0)
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as again:
            assert code_of(again.call(produce("other", 199, b"v"), 8)) == 0
            assert code_of(again.call(produce(created[-1], 49, b"v"), 8)) == 0
        assert has_no_traceback(broker)


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_a_start_on_a_full_disk(tmp_path, small_disk, ending):
    """A broker that ended on a full disk starts on it; what has to be recovered waits for room, and all is there then."""
    small, remount = small_disk
    with broker_on(tmp_path, small) as broker:
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 1, segment_bytes=1 << 20), 5)
            count = fill(client)
        fill_to_the_brim(small)
        if ending == "killed":
            broker.kill()
        else:
            broker.stop()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            assert read(client, "t", 0) in (STORAGE, [numbered(number) for number in range(count)])
            assert produce_in_sequence(client, count) == STORAGE
            remount("8m")
            assert produce_in_sequence(client, count) == 0
            assert read(client, "t", 0) == [numbered(number) for number in range(count + 1)]
        assert has_no_traceback(broker)


def test_a_limit_on_the_size_of_files(tmp_path):
    """Under RLIMIT_FSIZE a log goes on in the next segment when one is as large as it may be; nothing is lost."""
    pytest.importorskip("resource")
    command = (
        sys.executable,
        "-c",
        (
            "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)); "
            "runpy.run_module('barnabas', run_name='__main__', alter_sys=True)"
        ),
    )
    with BrokerProcess(tmp_path, command=command) as broker:
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 1), 5)
            for number in range(60):
                code = produce_in_sequence(client, number)
                if code == STORAGE:  # as a client does, which retries this error
                    code = produce_in_sequence(client, number)
                assert code == 0
            assert read(client, "t", 0) == [numbered(number) for number in range(60)]
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            assert read(client, "t", 0) == [numbered(number) for number in range(60)]
        assert has_no_traceback(broker)

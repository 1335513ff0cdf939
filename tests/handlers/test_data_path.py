"""Produce, Fetch and ListOffsets through a whole broker: parking, progress, order, durability."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests import topic_requests
from tests.broker_process import BrokerProcess, wait_until
from tests.wire_client import WireClient


@pytest.fixture
def client(shared_broker):
    with WireClient(shared_broker.bootstrap_server) as client:
        yield client


@pytest.fixture
def topic(client):
    return _create(client, partitions=3)


def _create(client, *, partitions=1, **configs):
    name = f"t-{uuid.uuid4().hex[:12]}"
    answer = client.call(topic_requests.create_topics([name], partitions, **configs), topic_requests.CREATE)
    assert answer.topics[0].error_code == 0, answer
    return name


def _batch(count=1, size_bytes=10, timestamp=None):
    now_ms = int(time.time() * 1000) if timestamp is None else timestamp
    return bytes(build_batch([Record(i, now_ms, None, b"x" * size_bytes, ()) for i in range(count)]))


def _produce(topic, batch=None, *, partition=0, acks=-1):
    return ProduceRequest(
        acks=acks,
        timeout_ms=10_000,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name=topic,
                partition_data=[
                    ProduceRequest.PartitionProduceData(index=partition, records=batch or _batch())
                ],
            )
        ],
    )


def _fetch(topic, *offsets, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, partition_max_bytes=1 << 20):
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        session_epoch=-1,
        topics=[
            FetchRequest.FetchTopic(
                topic=topic,
                partitions=[
                    FetchRequest.FetchPartition(
                        partition=partition, fetch_offset=offset, partition_max_bytes=partition_max_bytes
                    )
                    for partition, offset in offsets
                ],
            )
        ],
    )


def _sizes(answer):
    return [len(part.records or b"") for topic in answer.responses for part in topic.partitions]


def test_a_parked_fetch_is_answered_by_an_append(client, topic, shared_broker):
    """A consumer at the end of a partition gets a record as soon as it is appended, long before max_wait_ms."""
    client.send(_fetch(topic, (0, 0), max_wait_ms=60_000), 11)
    with WireClient(shared_broker.bootstrap_server) as producer:
        producer.call(_produce(topic), 9)
    answer = client.receive()
    assert _sizes(answer)[0] > 0
    assert answer.responses[0].partitions[0].high_watermark == 1


def test_a_parked_fetch_waits_for_min_bytes(client, topic, shared_broker):
    """With min_bytes a fetch is answered when there is enough, over all its partitions."""
    size = len(_batch())
    client.send(_fetch(topic, (0, 0), (1, 0), max_wait_ms=60_000, min_bytes=2 * size), 11)
    with WireClient(shared_broker.bootstrap_server) as producer:
        producer.call(_produce(topic), 9)
        producer.call(_produce(topic, partition=1), 9)
    assert _sizes(client.receive()) == [size, size]


def test_a_fetch_without_records_is_answered_after_max_wait(client, topic):
    """When nothing comes, the answer is empty and comes when max_wait_ms is over."""
    answer = client.call(_fetch(topic, (0, 0), max_wait_ms=50), 11)
    assert _sizes(answer) == [0]
    assert answer.responses[0].partitions[0].error_code == 0


def test_a_parked_fetch_hears_of_its_topics_deletion(client, topic, shared_broker):
    """A consumer of a topic that is deleted is not left waiting."""
    client.send(_fetch(topic, (0, 0), max_wait_ms=60_000), 11)
    with WireClient(shared_broker.bootstrap_server) as admin:
        admin.call(DeleteTopicsRequest(topic_names=[topic], timeout_ms=10_000), 4)
    assert client.receive().responses[0].partitions[0].error_code != 0


def test_a_big_batch_always_makes_progress(client, topic):
    """A batch over every limit is given whole when it is the first, and alone."""
    for _ in range(2):
        client.call(_produce(topic, _batch(1, 5000)), 9)
    client.call(_produce(topic, _batch(1, 5000), partition=1), 9)
    answer = client.call(_fetch(topic, (0, 0), (1, 0), max_bytes=10, partition_max_bytes=10), 11)
    sizes = _sizes(answer)
    assert sizes[0] == len(_batch(1, 5000))
    assert sizes[1] == 0


def test_max_bytes_bounds_the_whole_answer(client, topic):
    """Later partitions get what the earlier ones leave."""
    size = len(_batch(1, 1000))
    for partition in range(3):
        client.call(_produce(topic, _batch(1, 1000), partition=partition), 9)
    answer = client.call(_fetch(topic, (0, 0), (1, 0), (2, 0), max_bytes=2 * size + 10), 11)
    assert _sizes(answer) == [size, size, 0]


def test_pipelined_produces_are_answered_in_order(client, topic):
    """Requests on one connection are appended and answered in their order, acks=all and acks=1 mixed."""
    for number in range(200):
        client.send(_produce(topic, acks=-1 if number % 3 else 1), 9)
    offsets = [client.receive().responses[0].partition_responses[0].base_offset for _ in range(200)]
    assert offsets == list(range(200))


def test_a_parked_fetch_holds_back_later_answers_only(client, topic):
    """A request after a parked fetch is carried out at once, though its answer has to wait its turn."""
    client.send(_fetch(topic, (0, 0), max_wait_ms=60_000), 11)
    client.send(_produce(topic), 9)
    assert _sizes(client.receive())[0] > 0
    assert client.receive().responses[0].partition_responses[0].base_offset == 0


def test_offsets_and_epochs_are_in_the_batches(client, topic):
    """What is read back has the offsets that the answers promised."""
    for count in (3, 1, 5):
        client.call(_produce(topic, _batch(count)), 9)
    records = client.call(_fetch(topic, (0, 0)), 11).responses[0].partitions[0].records
    headers = [header for _, header in iterate_headers(records)]
    assert [header.base_offset for header in headers] == [0, 3, 4]
    assert {header.partition_leader_epoch for header in headers} == {0}


def test_log_append_time_is_the_brokers(client):
    """With message.timestamp.type=LogAppendTime the answer and the batch tell when it was appended."""
    topic = _create(client, message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    answer = client.call(_produce(topic, _batch(2, timestamp=1000)), 9)
    stamped = answer.responses[0].partition_responses[0].log_append_time_ms
    assert before - 1000 <= stamped <= int(time.time() * 1000) + 1000
    records = client.call(_fetch(topic, (0, 0)), 11).responses[0].partitions[0].records
    (_, header), *_ = iterate_headers(records)
    assert header.is_log_append_time
    assert header.max_timestamp == stamped


def test_a_compacted_topic_wants_keys(client):
    """Records without a key are refused with their places in the batch (KIP-467)."""
    topic = _create(client, cleanup_policy="compact")
    answer = client.call(_produce(topic, _batch(2)), 9).responses[0].partition_responses[0]
    assert answer.error_code == 87
    assert [error.batch_index for error in answer.record_errors] == [0, 1]


def test_offsets_of_version_0_are_segments(client):
    """ListOffsets 0 gives where segments begin and the end, newest first."""
    topic = _create(client, segment_bytes=1 << 20)
    for _ in range(4):
        client.call(_produce(topic, _batch(1, 900_000)), 9)
    request = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsRequest.ListOffsetsTopic(
                name=topic,
                partitions=[
                    ListOffsetsRequest.ListOffsetsPartition(
                        partition_index=0, timestamp=-1, max_num_offsets=3
                    )
                ],
            )
        ],
    )
    answer = client.call(request, 0).topics[0].partitions[0]
    assert answer.old_style_offsets == [4, 3, 2]


@pytest.mark.parametrize("durability", ["page-cache", "fsync-when-alone", "fsync-always"])
def test_every_durability_serves(tmp_path, durability):
    """All three settings acknowledge acks=1 and acks=all, and a kill -9 takes nothing."""
    with BrokerProcess(tmp_path, settings={"barnabas.durability": durability}) as broker:
        with WireClient(broker.bootstrap_server) as client:
            topic = _create(client)
            for acks in (1, -1, 1, -1):
                assert (
                    client.call(_produce(topic, acks=acks), 9).responses[0].partition_responses[0].error_code
                    == 0
                )
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            answer = client.call(_fetch(topic, (0, 0)), 11)
            assert answer.responses[0].partitions[0].high_watermark == 4


def test_flush_messages_flushes_before_the_answer(tmp_path):
    """With flush.messages=1 every acknowledged record is below the recovery point, as in Kafka."""
    settings = {"barnabas.durability": "page-cache", "log.flush.offset.checkpoint.interval.ms": "10"}
    with BrokerProcess(tmp_path, settings=settings) as broker, WireClient(broker.bootstrap_server) as client:
        topic = _create(client, flush_messages=1)
        other = _create(client)
        for name in (topic, other):
            client.call(_produce(name, _batch(5), acks=1), 9)
        checkpoint = broker.data_directory / "recovery-point-offset-checkpoint"
        wait_until(
            lambda: checkpoint.exists() and f"{topic} 0 5\n" in checkpoint.read_text(),
            what="the recovery point",
        )
        assert f"{other} 0 5\n" not in checkpoint.read_text()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the page cache cannot be emptied here")
def test_cold_segments_are_served(tmp_path):
    """Segments that are not in the page cache come whole, while others are answered meanwhile."""
    with BrokerProcess(tmp_path) as broker, WireClient(broker.bootstrap_server) as client:
        topic = _create(client, segment_bytes=1 << 20)
        batch = _batch(10, 50_000)
        for _ in range(30):
            client.call(_produce(topic, batch), 9)
        _empty_page_cache(broker.data_directory / f"{topic}-0")
        offset, total = 0, 0
        with WireClient(broker.bootstrap_server) as other:
            while offset < 300:
                client.send(_fetch(topic, (0, offset), max_bytes=1 << 22, partition_max_bytes=1 << 22), 11)
                assert other.call(ApiVersionsRequest(), 0).error_code == 0
                records = client.receive().responses[0].partitions[0].records
                for _, header in iterate_headers(records):
                    assert header.base_offset == offset
                    offset = header.next_offset
                    total += header.size_bytes
        assert total == 30 * len(batch)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the page cache cannot be emptied here")
def test_cold_timestamps_are_found(tmp_path):
    """A search by timestamp through segments that are not in the page cache finds the same as through warm ones."""
    with BrokerProcess(tmp_path) as broker, WireClient(broker.bootstrap_server) as client:
        topic = _create(client, segment_bytes=1 << 20, message_timestamp_before_max_ms=2**62)
        for number in range(9):
            client.call(_produce(topic, _batch(3, 100_000, timestamp=1000 * (number + 1))), 9)
        for timestamp, offset in ((500, 0), (1000, 0), (4001, 12), (9000, 24), (9001, -1), (-3, 24)):
            _empty_page_cache(broker.data_directory / f"{topic}-0")
            request = ListOffsetsRequest(
                replica_id=-1,
                topics=[
                    ListOffsetsRequest.ListOffsetsTopic(
                        name=topic,
                        partitions=[
                            ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
                        ],
                    )
                ],
            )
            answer = client.call(request, 7).topics[0].partitions[0]
            assert (answer.error_code, answer.offset) == (0, offset), timestamp


def _empty_page_cache(directory):
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def test_a_clean_restart_keeps_offsets(tmp_path):
    """SIGTERM finishes what was accepted; the next start continues where it ended."""
    broker = BrokerProcess(tmp_path).start()
    with WireClient(broker.bootstrap_server) as client:
        topic = _create(client)
        client.call(_produce(topic, _batch(7)), 9)
        client.send(_fetch(topic, (0, 7), max_wait_ms=60_000), 11)
        assert broker.stop() == 0
        assert _sizes(client.receive()) == [0], "a parked fetch is answered, not dropped"
    broker.start()
    with WireClient(broker.bootstrap_server) as client:
        answer = client.call(_produce(topic), 9)
        assert answer.responses[0].partition_responses[0].base_offset == 7
    assert broker.stop() == 0


def test_a_client_that_leaves_takes_its_parked_fetch_along(shared_broker, topic):
    """Nothing of a gone client stays parked; the next append finds nobody to wake."""
    with WireClient(shared_broker.bootstrap_server) as gone:
        gone.send(_fetch(topic, (0, 0), max_wait_ms=60_000), 11)
    with WireClient(shared_broker.bootstrap_server) as client:
        wait_until(
            lambda: client.call(_produce(topic), 9).responses[0].partition_responses[0].error_code == 0,
            what="a produce",
        )

"""Requests that the broker has to keep for a while: they end with their connection or their time, and hold it up when they are many."""

from __future__ import annotations

import asyncio
import random
import struct
import threading
import time

import pytest

from barnabas.coordinators.transaction_verifier import TransactionVerifier
from barnabas.errors import ErrorCode
from barnabas.handlers import transactional_produce
from barnabas.records.builder import build_batch
from barnabas.replication import recompression
from barnabas.replication.partition import Partition
from barnabas.wire.headers import RequestHeader, encode_request_header
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.produce import ProduceRequest, ProduceResponse
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.event_loops import eventually
from tests.handlers.node import running
from tests.topic_requests import CREATE, create_topics

VERSION = 9
VALUE = random.Random(1).randbytes(60_000)
LIMIT_BYTES = 200_000
"""What a connection may have waiting; reached with the fourth of these values."""


async def create(node, name, **configs):
    answer = await node.call(create_topics([name], **configs), CREATE)
    assert answer.topics[0].error_code == 0


def frame(topic, *, acks, timeout_ms=10_000, transactional_id=None, value=VALUE, **batch):
    records = bytes(build_batch([(0, int(time.time() * 1000), None, value, ())], **batch))
    data = ProduceRequest.PartitionProduceData(index=0, records=records)
    request = ProduceRequest(
        transactional_id=transactional_id,
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
    )
    body = encode_request_header(RequestHeader(0, VERSION, 7, "test")) + request.encode(VERSION)
    return struct.pack(">i", len(body)) + body


async def answer(reader):
    data = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
    (topic,) = ProduceResponse.decode(data, VERSION, 5).responses
    return topic.partition_responses[0]


@pytest.fixture
def packing(monkeypatch):
    """An event; before it is set nothing is packed. Sizes of what is packed are in `sizes`."""
    may_pack = threading.Event()
    may_pack.sizes = []
    pack = recompression._pack_at_length

    def held(job):
        may_pack.wait()
        may_pack.sizes.append(len(job.records))
        return pack(job)

    monkeypatch.setattr(recompression, "_pack_at_length", held)
    yield may_pack
    may_pack.set()


@pytest.mark.parametrize("acks", [0, 1, -1])
async def test_batches_that_wait_to_be_packed_hold_up_their_connection(
    loop, tmp_path, packing, monkeypatch, acks
):
    """However many a client sends, and however little time it gives them; they keep their order, and nothing is refused."""
    kept = []
    add = recompression.Recompressions.add

    def noted(jobs, *arguments):
        kept.append(len(jobs._jobs) + 1)
        return add(jobs, *arguments)

    monkeypatch.setattr(recompression.Recompressions, "add", noted)
    async with running(
        tmp_path,
        barnabas_outgoing_bytes_per_connection=LIMIT_BYTES,
        barnabas_durability="page-cache",
    ) as node:
        await create(node, "packed", compression_type="gzip")
        partition = node.broker._replicas.leader("packed", 0)
        reader, writer = await asyncio.open_connection(*node.address)
        for number in range(12):
            writer.write(frame("packed", acks=acks, timeout_ms=0, value=b"%d" % number + VALUE))
        await eventually(lambda: len(kept) == 4, what="as many as there is room for")
        packing.set()
        if acks:
            answers = [await answer(reader) for _ in range(12)]
            assert [(each.error_code, each.base_offset) for each in answers] == [
                (0, number) for number in range(12)
            ]
        await eventually(lambda: partition.log_end_offset == 12, what="all records")
        assert max(kept) == 4
        writer.close()
        await writer.wait_closed()


async def test_batches_that_wait_to_be_packed_go_with_their_client(loop, tmp_path, packing):
    """It was promised nothing; only the one whose turn it was is there."""
    async with running(tmp_path) as node:
        await create(node, "packed", compression_type="gzip")
        partition = node.broker._replicas.leader("packed", 0)
        _, writer = await asyncio.open_connection(*node.address)
        for _ in range(5):
            writer.write(frame("packed", acks=1))
        await eventually(lambda: partition._recompressions and len(partition._recompressions._jobs) == 5)
        writer.transport.abort()
        await eventually(lambda: node.broker._server.connection_count == 1, what="the end of the connection")
        packing.set()
        await eventually(lambda: not partition._recompressions._jobs)
        assert len(packing.sizes) == 1
        assert partition.log_end_offset == 1


async def test_transactional_batches_without_acknowledgement_hold_up_their_connection(
    loop, tmp_path, monkeypatch
):
    """While the coordinator does not answer; the rest is not even read."""
    kept = []
    keep = transactional_produce._keep_records

    def noted(request):
        kept.append(keep(request))
        return kept[-1]

    monkeypatch.setattr(transactional_produce, "_keep_records", noted)
    asked = []

    def enlist(*_):
        asked.append(loop.create_future())
        return asked[-1]

    async with running(tmp_path, barnabas_outgoing_bytes_per_connection=LIMIT_BYTES) as node:
        await create(node, "orders")
        producer = await node.call(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000), 4
        )
        monkeypatch.setattr(TransactionVerifier, "enlist", enlist)
        partition = node.broker._replicas.leader("orders", 0)
        _, writer = await asyncio.open_connection(*node.address)
        for sequence in range(12):
            writer.write(
                frame(
                    "orders",
                    acks=0,
                    transactional_id="till",
                    producer_id=producer.producer_id,
                    producer_epoch=producer.producer_epoch,
                    base_sequence=sequence,
                    is_transactional=True,
                )
            )
        await eventually(lambda: len(kept) == 4, what="as many as there is room for")
        assert len(asked) == 1
        asked[0].set_result({})
        await eventually(lambda: partition.log_end_offset == 12, what="all records")
        assert len(asked) == 1
        writer.close()
        await writer.wait_closed()


async def test_a_marker_that_is_not_committed_in_time_is_forgotten(loop, tmp_path, monkeypatch):
    """The coordinator on another broker has given up by then, and sends it again: for hours, while a dead follower counts as in sync."""
    commits = []

    def wait_committed(*_):
        commits.append(loop.create_future())
        return commits[-1]

    monkeypatch.setattr(Partition, "wait_committed", wait_committed)
    async with running(tmp_path, request_timeout_ms=50) as node:
        await create(node, "orders")
        marker = WriteTxnMarkersRequest.WritableTxnMarker(
            producer_id=7,
            producer_epoch=0,
            transaction_result=True,
            topics=[
                WriteTxnMarkersRequest.WritableTxnMarkerTopic(name="orders", partition_indexes=[0, 1]),
            ],
        )
        (result,) = (await node.call(WriteTxnMarkersRequest(markers=[marker]), 1)).markers
        codes = {each.partition_index: each.error_code for each in result.topics[0].partitions}
        assert codes == {0: ErrorCode.REQUEST_TIMED_OUT, 1: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert [commit.cancelled() for commit in commits] == [True]

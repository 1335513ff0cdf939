"""`compression.type` of a topic: what Apache Kafka 4.3 stores, and in which order."""

from __future__ import annotations

import itertools
import random

import pytest

from barnabas.errors import ErrorCode
from barnabas.records.batch import check_crc, compute_crc, iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.record import iterate_records
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.oracle.leaders import wait_until_led
from tests.transactional_producer import create_topic

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

NAMES = {"uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_numbers = itertools.count()


def batch(codec, count=3, value_bytes=20, **options):
    chance = random.Random(count * value_bytes)
    records = []
    for number in range(count):
        value = chance.randbytes(value_bytes // 2) + b"half" * (value_bytes // 8)
        headers = (("header", b"%d" % number), ("null", None)) if number % 2 else ()
        records.append((0, 1_700_000_000_000 + number, b"key-%d" % number, value, headers))
    return bytes(build_batch(records, compression=codec, **options))


def request(topic, records):
    data = ProduceRequest.PartitionProduceData(index=0, records=records)
    topic_data = ProduceRequest.TopicProduceData(name=topic, partition_data=[data])
    return ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic_data])


def produce(client, topic, records):
    return client.call(request(topic, records), 9).responses[0].partition_responses[0]


def fetch(client, topic):
    asked = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 24)
    answer = client.call(
        FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 24,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=[asked])],
        ),
        11,
    )
    return bytes(answer.responses[0].partitions[0].records)


def stored(client, topic):
    """Headers and records, but for what the codec makes of them."""
    data = fetch(client, topic)
    headers = [
        header._replace(crc=0, batch_length=0, partition_leader_epoch=0)
        for position, header in iterate_headers(data)
        if check_crc(data, position)
    ]
    return headers, list(iterate_records(data))


def new_topic(pair, **configs):
    name = f"packed-{next(_numbers)}"
    for client in (pair.kafka, pair.ours):
        create_topic(client, name, **configs)
        wait_until_led(client, name)
    return name


@pytest.mark.parametrize("target", NAMES)
def test_batches_are_stored_in_the_topics_codec(pair, target):
    """From each codec, small and large: the same codec, records, times, offsets and producer fields as with Kafka."""
    topic = new_topic(pair, compression_type=target)
    for codec in Codec:
        for records in (batch(codec), batch(codec, 500, 600), batch(codec, 1, 5)):
            theirs, ours = (produce(client, topic, records) for client in (pair.kafka, pair.ours))
            assert theirs.error_code == ours.error_code == 0
            assert theirs.base_offset == ours.base_offset
    theirs, ours = stored(pair.kafka, topic), stored(pair.ours, topic)
    assert ours == theirs
    assert {header.compression for header in ours[0]} == {NAMES[target]}
    assert len(ours[0]) == 15


def test_a_batch_in_the_right_codec_is_left_as_it_is(pair):
    """Byte for byte, whatever its level; and so is every batch of a topic that keeps its producers' codecs."""
    for configs in ({"compression_type": "gzip", "compression_gzip_level": "9"}, {}):
        topic = new_topic(pair, **configs)
        records = batch(Codec.GZIP, 100, 200, compression_level=1)
        for client in (pair.kafka, pair.ours):
            assert produce(client, topic, records).error_code == 0
            assert fetch(client, topic)[21:] == records[21:]


@pytest.mark.parametrize(
    "configs",
    [
        {"compression_type": "gzip", "compression_gzip_level": "1"},
        {"compression_type": "gzip", "compression_gzip_level": "9"},
        {"compression_type": "zstd", "compression_zstd_level": "-7"},
        {"compression_type": "zstd", "compression_zstd_level": "19"},
        {"compression_type": "lz4", "compression_lz4_level": "1"},
        {"compression_type": "lz4", "compression_lz4_level": "17"},
    ],
)
def test_levels_count(pair, configs):
    """A higher level packs more tightly, by about as much as with Kafka."""
    topic = new_topic(pair, **configs)
    text = b"".join(b"a line of text, the %dth of many, %d\n" % (n, n * n % 97) for n in range(4000))
    records = bytes(build_batch([(0, 1_700_000_000_000, b"key", text, ())]))
    sizes = []
    for client in (pair.kafka, pair.ours):
        assert produce(client, topic, records).error_code == 0
        sizes.append(len(fetch(client, topic)))
    # Kafka's lz4 is another program, with another search.
    assert sizes[1] == pytest.approx(sizes[0], rel=0.3 if "compression_lz4_level" in configs else 0.12)


def test_the_order_stays(pair):
    """Large batches, which take long, and small ones behind them on the same connection: all in the order of their sending."""
    topic = new_topic(pair, compression_type="gzip")
    client = pair.ours
    for number in range(30):
        value = b"%d " % number + random.Random(number).randbytes(200_000 if number % 3 == 0 else 20)
        records = build_batch(
            [(0, 1_700_000_000_000, b"key", value, ())], compression=Codec.GZIP if number % 5 == 1 else 0
        )
        client.send(request(topic, bytes(records)), 9)
    answers = [client.receive().responses[0].partition_responses[0] for _ in range(30)]
    assert [answer.error_code for answer in answers] == [0] * 30
    assert [answer.base_offset for answer in answers] == list(range(30))
    values = [record.value for record in iterate_records(fetch(client, topic))]
    assert [int(value.split()[0]) for value in values] == list(range(30))


def test_a_batch_that_grows_too_large_is_refused(pair):
    """max.message.bytes holds for what is stored, too."""
    topic = new_topic(pair, compression_type="uncompressed", max_message_bytes="50000")
    for size in (60_000, 900_000):
        records = bytes(
            build_batch([(0, 1_700_000_000_000, b"key", bytes(size), ())], compression=Codec.ZSTD)
        )
        theirs, ours = (produce(client, topic, records) for client in (pair.kafka, pair.ours))
        assert theirs.error_code == ours.error_code == ErrorCode.MESSAGE_TOO_LARGE
        assert ours.base_offset == theirs.base_offset == -1
    assert fetch(pair.ours, topic) == b""


def test_idempotent_producers_and_append_time(pair):
    """Sequence numbers survive, a repeated batch is answered as the first, and the log's time is that of the records."""
    topic = new_topic(pair, compression_type="zstd", message_timestamp_type="LogAppendTime")
    records = batch(Codec.NONE, 200, 500, producer_id=4711, producer_epoch=0, base_sequence=0)
    for client in (pair.kafka, pair.ours):
        first = produce(client, topic, records)
        again = produce(client, topic, records)
        assert (first.error_code, again.error_code, again.base_offset) == (0, 0, 0)
        assert first.log_append_time_ms > 0
        ((header, *rest), found) = stored(client, topic)
        assert not rest
        assert (header.producer_id, header.base_sequence, header.compression) == (4711, 0, Codec.ZSTD)
        assert header.is_log_append_time
        assert {record.timestamp for record in found} == {first.log_append_time_ms}


def test_damaged_records_are_refused(pair):
    """What cannot be unpacked cannot be packed anew; nothing is appended."""
    topic = new_topic(pair, compression_type="gzip")
    whole = bytearray(batch(Codec.ZSTD, 50, 100))
    whole[70:90] = bytes(20)
    whole[17:21] = compute_crc(whole).to_bytes(4, "big")
    theirs, ours = (produce(client, topic, bytes(whole)) for client in (pair.kafka, pair.ours))
    assert theirs.error_code == ErrorCode.UNKNOWN_SERVER_ERROR  # it has no better name for it
    assert ours.error_code == ErrorCode.INVALID_RECORD
    assert fetch(pair.ours, topic) == b""

"""Produce, Fetch, ListOffsets and OffsetForLeaderEpoch beside Apache Kafka 4.3: the same requests, the same answers."""

from __future__ import annotations

import itertools
import struct
import time
import uuid

import pytest

from barnabas.records.batch import DELETE_HORIZON_FLAG, LOG_APPEND_TIME_FLAG, compute_crc, parse_header
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.oracle.conftest import differences
from tests.oracle.leaders import wait_until_led
from tests.topic_requests import CREATE, create_topics

pytestmark = pytest.mark.oracle

NOW_MS = int(time.time() * 1000)
_names = itertools.count()


def _topic(pair, *, partitions=1, **configs):
    name = f"t-{uuid.uuid4().hex[:8]}-{next(_names)}"
    for answer in pair.ask(create_topics([name], partitions, **configs), CREATE):
        assert answer.topics[0].error_code == 0, answer
    ask = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False
    )
    pair.until(
        lambda: pair.ask(ask, 9),
        lambda answer: answer.topics[0].error_code == 0 and len(answer.topics[0].partitions) == partitions,
    )
    for client in (pair.kafka, pair.ours):
        wait_until_led(client, name, partitions)
    return name


def _topic_ids(pair, name):
    ask = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False
    )
    return [answer.topics[0].topic_id for answer in pair.ask(ask, 12)]


def _batch(count=3, *, timestamp=NOW_MS, value=b"v", **options):
    return bytes(build_batch([Record(i, timestamp + i, b"k", value, ()) for i in range(count)], **options))


def _produce(name, batch, *, partition=0, acks=-1, topic_id=bytes(16), transactional_id=None):
    return ProduceRequest(
        transactional_id=transactional_id,
        acks=acks,
        timeout_ms=10_000,
        topic_data=[
            ProduceRequest.TopicProduceData(
                name=name,
                topic_id=topic_id,
                partition_data=[ProduceRequest.PartitionProduceData(index=partition, records=batch)],
            )
        ],
    )


def _without_messages(answer):
    for topic in answer.responses:
        for partition in topic.partition_responses:
            # The words are ours, and we say why in more cases than Kafka does.
            partition.error_message = None
            for error in partition.record_errors:
                error.batch_index_error_message = bool(error.batch_index_error_message)
    return answer


def _fetch(name, offset=0, *, partition=0, max_bytes=1 << 20, partition_max_bytes=1 << 20, **options):
    settings = {"max_wait_ms": 0, "min_bytes": 0, "isolation_level": 0, "session_id": 0, "session_epoch": -1}
    settings.update(options)
    epoch = settings.pop("current_leader_epoch", -1)
    last_fetched = settings.pop("last_fetched_epoch", -1)
    topic_id = settings.pop("topic_id", bytes(16))
    return FetchRequest(
        replica_id=-1,
        max_bytes=max_bytes,
        topics=[
            FetchRequest.FetchTopic(
                topic=name,
                topic_id=topic_id,
                partitions=[
                    FetchRequest.FetchPartition(
                        partition=partition,
                        fetch_offset=offset,
                        partition_max_bytes=partition_max_bytes,
                        current_leader_epoch=epoch,
                        last_fetched_epoch=last_fetched,
                    )
                ],
            )
        ],
        forgotten_topics_data=[],
        rack_id="",
        **settings,
    )


def _plain_fetch(answer):
    answer.session_id = bool(answer.session_id)
    for topic in answer.responses:
        topic.topic_id = bool(any(topic.topic_id))
        for partition in topic.partitions:
            partition.records = bytes(partition.records or b"")
    return answer


@pytest.mark.parametrize("version", range(3, 13))
def test_a_produce_is_answered_alike(pair, version):
    """Offsets, log append time and log start offset of a good produce are Kafka's, in every version."""
    name = _topic(pair)
    for acks in (-1, 1):
        pair.agree(_produce(name, _batch(), acks=acks), version, normalise=_without_messages)


def test_a_produce_by_topic_id_is_answered_alike(pair):
    """Version 13 names topics by id."""
    name = _topic(pair)
    theirs, ours = _topic_ids(pair, name)
    first = pair.kafka.call(_produce("", _batch(), topic_id=theirs), 13)
    second = pair.ours.call(_produce("", _batch(), topic_id=ours), 13)
    first.responses[0].topic_id = second.responses[0].topic_id = bytes(16)
    assert not differences(first, second)
    unknown = uuid.uuid4().bytes
    pair.agree(_produce("", _batch(), topic_id=unknown), 13, normalise=_without_messages)


def _broken(field_offset, value, *, fix_crc=False):
    batch = bytearray(_batch())
    batch[field_offset : field_offset + len(value)] = value
    if fix_crc:
        from barnabas.records.checksum import crc32c

        batch[17:21] = crc32c(memoryview(batch)[21:]).to_bytes(4, "big")
    return bytes(batch)


BAD_BATCHES = {
    "a wrong CRC": _broken(60, b"\x55"),
    "magic 1": _broken(16, b"\x01"),
    "magic 0": _broken(16, b"\x00"),
    "magic 9": _broken(16, b"\x09"),
    "a batch length too short": _broken(8, struct.pack(">i", 20)),
    "a negative batch length": _broken(8, struct.pack(">i", -1)),
    "a batch length too long": _broken(8, struct.pack(">i", 10_000)),
    "two batches": _batch() + _batch(),
    "no batch": b"",
    "a few bytes": b"\x00" * 10,
    "a count that is too high": _broken(57, struct.pack(">i", 9), fix_crc=True),
    "a negative count": _broken(57, struct.pack(">i", -3), fix_crc=True),
    "a last offset delta that is too high": _broken(23, struct.pack(">i", 7), fix_crc=True),
    "a control batch": _broken(21, b"\x00\x20", fix_crc=True),
    "an unknown codec": _broken(21, b"\x00\x06", fix_crc=True),
    "a base offset": _broken(0, struct.pack(">q", 5)),
    "a future timestamp": _batch(timestamp=NOW_MS + 86_400_000),
    "a producer id without sequence": _broken(43, struct.pack(">qhi", 7, 0, -1), fix_crc=True),
    "a sequence gap at once": _broken(43, struct.pack(">qhi", 77, 0, 5), fix_crc=True),
    "a transaction": _broken(21, b"\x00\x10", fix_crc=True),
}


@pytest.mark.parametrize("version", [5, 7, 8, 12])
@pytest.mark.parametrize("flaw", BAD_BATCHES)
def test_a_bad_batch_is_refused_alike(pair, flaw, version):
    """A batch with a flaw gets Kafka's error, and nothing is appended."""
    name = _topic(pair)
    pair.agree(_produce(name, BAD_BATCHES[flaw]), version, normalise=_without_messages)
    pair.agree(_list_offsets(name, -1), 5, normalise=_plain_offsets)


@pytest.mark.parametrize("version", [3, 7, 9, 12])
def test_a_produce_to_the_wrong_place_is_refused_alike(pair, version):
    """Unknown topics and partitions, bad acks, internal topics."""
    name = _topic(pair)
    pair.agree(_produce("nowhere", _batch()), version, normalise=_without_messages)
    pair.agree(_produce(name, _batch(), partition=7), version, normalise=_without_messages)
    pair.agree(_produce(name, _batch(), partition=-1), version, normalise=_without_messages)
    pair.agree(_produce(name, _batch(), acks=5), version, normalise=_without_messages)
    pair.agree(_produce("", _batch()), version, normalise=_without_messages)


def test_a_batch_over_the_limit_is_refused_alike(pair):
    """max.message.bytes counts the whole batch."""
    name = _topic(pair, max_message_bytes=1000)
    pair.agree(_produce(name, _batch(1, value=b"x" * 2000)), 9, normalise=_without_messages)
    pair.agree(_produce(name, _batch(1, value=b"x" * 500)), 9, normalise=_without_messages)


def test_min_insync_replicas_counts_alike(pair):
    """acks=all needs min.insync.replicas, acks=1 does not."""
    name = _topic(pair, min_insync_replicas=2)
    pair.agree(_produce(name, _batch(), acks=-1), 9, normalise=_without_messages)
    pair.agree(_produce(name, _batch(), acks=1), 9, normalise=_without_messages)


def test_idempotent_producers_are_judged_alike(pair):
    """Sequences, duplicates, gaps, old epochs and new ones."""
    name = _topic(pair)

    def batch(sequence, *, epoch=0, count=2, producer_id=4242):
        return _batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)

    steps = [
        batch(0),
        batch(2),
        batch(4),
        batch(4),  # duplicate of the last
        batch(0),  # duplicate of the first
        batch(9),  # gap
        batch(6),
        batch(8),
        batch(10),
        batch(12),
        batch(0),  # too old to be known as a duplicate
        batch(5, epoch=1),  # a new epoch begins at 0
        batch(0, epoch=1),
        batch(14),  # the old epoch is fenced
        batch(3, count=3, producer_id=99),  # an unknown producer may begin anywhere
        batch(6, count=1, producer_id=99),
    ]
    for step in steps:
        pair.agree(_produce(name, step), 9, normalise=_without_messages)
    pair.agree(_fetch(name), 11, normalise=_plain_fetch)


@pytest.mark.parametrize("timeout_ms", [0, 1, -1, -(2**31)])
def test_a_time_out_is_not_for_the_leaders_own_disk(pair, timeout_ms):
    """Where no other replica is waited for, an acknowledgement comes whatever the client has time for, also from the disk."""
    name = _topic(pair)
    for _ in range(3):  # the second time it is a request that is known
        request = _produce(name, _batch())
        request.timeout_ms = timeout_ms
        pair.agree(request, 9, normalise=_without_messages)


def test_acks_zero_is_not_answered_and_a_failure_hangs_up(pair):
    """acks=0 has no answer; where it fails the connection is closed, as Kafka does."""
    name = _topic(pair)
    for client in (pair.kafka, pair.ours):
        client.send(_produce(name, _batch(), acks=0), 9, is_answered=False)
        client.send(_list_offsets(name, -1), 5)
        assert client.receive().topics[0].partitions[0].offset == 3
        client.send(_produce("nowhere", _batch(), acks=0), 9, is_answered=False)
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("version", range(4, 13))
def test_fetched_bytes_are_the_same(pair, version):
    """The batches that a reader gets are the same bytes: offsets, epochs, timestamps, CRC."""
    name = _topic(pair)
    for count in (1, 5, 3):
        pair.agree(_produce(name, _batch(count)), 9, normalise=_without_messages)
    for offset in (0, 1, 4, 6, 8, 9):
        pair.agree(_fetch(name, offset), version, normalise=_plain_fetch)


@pytest.mark.parametrize("options", [{}, {"compression": 1}, {"delete_horizon": True}], ids=str)
def test_only_the_log_stamps_the_time_of_its_records(pair, options):
    """A batch that claims LogAppendTime is kept with its producer's times, its checksum renewed."""
    name = _topic(pair)
    batch = bytearray(_batch(compression=options.get("compression", 0)))
    attributes = int.from_bytes(batch[21:23]) | LOG_APPEND_TIME_FLAG
    if "delete_horizon" in options:
        attributes |= DELETE_HORIZON_FLAG
    batch[21:23] = attributes.to_bytes(2)
    batch[17:21] = compute_crc(batch).to_bytes(4)
    pair.agree(_produce(name, bytes(batch)), 9, normalise=_without_messages)
    ours = pair.agree(_fetch(name), 12, normalise=_plain_fetch)
    assert not parse_header(ours.responses[0].partitions[0].records).is_log_append_time


@pytest.mark.parametrize("version", [13, 15, 16, 17, 18])
def test_fetch_by_topic_id_is_the_same(pair, version):
    """From version 13 on topics are named by id."""
    name = _topic(pair)
    theirs, ours = _topic_ids(pair, name)
    pair.agree(_produce(name, _batch(4)), 9, normalise=_without_messages)
    first = _plain_fetch(pair.kafka.call(_fetch("", topic_id=theirs), version))
    second = _plain_fetch(pair.ours.call(_fetch("", topic_id=ours), version))
    assert not differences(first, second)
    pair.agree(_fetch("", topic_id=uuid.uuid4().bytes), version, normalise=_plain_fetch)


@pytest.mark.parametrize("version", [4, 9, 11, 12])
def test_odd_fetches_are_answered_alike(pair, version):
    """Offsets out of range, unknown partitions, wrong epochs, small limits."""
    name = _topic(pair)
    for count in (2, 2, 2):
        pair.agree(_produce(name, _batch(count, value=b"x" * 300)), 9, normalise=_without_messages)
    odd = [
        _fetch(name, -1),
        _fetch(name, 7),
        _fetch(name, 2**40),
        _fetch("nowhere"),
        _fetch(name, partition=3),
        _fetch(name, 0, partition_max_bytes=1),
        _fetch(name, 0, max_bytes=1),
        _fetch(name, 0, partition_max_bytes=700),
        _fetch(name, 2, partition_max_bytes=0),
        _fetch(name, 0, partition_max_bytes=1500),
    ]
    if version >= 9:
        odd += [_fetch(name, 0, current_leader_epoch=epoch) for epoch in (0, 1, 5)]
    if version >= 12:
        odd += [_fetch(name, 2, last_fetched_epoch=epoch) for epoch in (0, 1)]
        odd += [_fetch(name, 9, last_fetched_epoch=0, isolation_level=level) for level in (0, 1)]
    for request in odd:
        pair.agree(request, version, normalise=_plain_fetch)


_MIB = 1 << 20
_HALF = 500_000


@pytest.mark.parametrize(
    ("configs", "waits"),
    [
        (
            {},
            {
                "more than of one partition, within max_bytes",
                "more than of one partition",
                "the end of the log",
            },
        ),
        ({"segment_bytes": _MIB}, {"the end of the log"}),
    ],
    ids=["one segment", "three segments"],
)
def test_fetches_wait_for_the_same(pair, configs, waits):
    """Which fetches are answered though there is less than `min_bytes`: where `max_bytes` allows no more, and in old segments."""
    name = _topic(pair, **configs)
    for _ in range(30):
        pair.agree(_produce(name, _batch(1, value=b"x" * 100_000)), 9, normalise=_without_messages)
    for what, offset, min_bytes, max_bytes, partition_max_bytes in [
        ("more than max_bytes", 0, 10 * _MIB, _MIB, _MIB),
        ("max_bytes of less than a batch", 0, _MIB, 50_000, _MIB),
        ("less than a batch", 0, 90_000, 50_000, 50_000),
        ("more than of one partition, within max_bytes", 0, 600_000, 10 * _MIB, _HALF),
        ("more than of one partition", 0, _MIB, _MIB, _HALF),
        ("where a segment of a MiB ends", 9, _MIB, _MIB, _MIB),
        ("the end of the log", 25, _MIB, _MIB, _MIB),
    ]:
        max_wait_ms = 200 if what in waits else 60_000
        request = _fetch(
            name,
            offset,
            max_bytes=max_bytes,
            partition_max_bytes=partition_max_bytes,
            min_bytes=min_bytes,
            max_wait_ms=max_wait_ms,
        )
        sizes = []
        for client in (pair.kafka, pair.ours):
            asked = time.monotonic()
            answer = client.call(request, 11)
            waited_ms = (time.monotonic() - asked) * 1000
            assert (waited_ms >= max_wait_ms) == (what in waits), (what, waited_ms)
            sizes.append(len(answer.responses[0].partitions[0].records))
        assert sizes[0] == sizes[1] > 0, what


@pytest.mark.parametrize("version", [4, 11, 12, 13, 17])
def test_fetches_wait_beside_errors_alike(pair, version):
    """An unknown partition has nobody answered sooner who asks for others, too; any other error does."""
    name = _topic(pair, partitions=2)
    nowhere = uuid.uuid4().bytes
    ids = _topic_ids(pair, name)

    def ask(client, topic_id, partitions, max_wait_ms):
        topics = []
        for topic, index, offset in partitions:
            by_id = {"topic": "", "topic_id": topic_id if topic == name else nowhere}
            topics.append(
                FetchRequest.FetchTopic(
                    **(by_id if version >= 13 else {"topic": topic}),
                    partitions=[
                        FetchRequest.FetchPartition(
                            partition=index, fetch_offset=offset, partition_max_bytes=1000
                        )
                    ],
                )
            )
        request = FetchRequest(
            max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=1000, session_epoch=-1, topics=topics
        )
        asked = time.monotonic()
        answer = client.call(request, version)
        codes = sorted(partition.error_code for topic in answer.responses for partition in topic.partitions)
        return codes, (time.monotonic() - asked) * 1000

    for bad, waits in [
        ([("nowhere", 0, 0)], True),
        ([(name, 9, 0)], True),
        ([("nowhere", 0, 0), (name, 9, 0)], True),
        ([(name, 1, 5)], False),
        ([("nowhere", 0, 0), (name, 1, 5)], False),
    ]:
        max_wait_ms = 200 if waits else 60_000
        told = []
        for client, topic_id in zip((pair.kafka, pair.ours), ids, strict=True):
            codes, waited_ms = ask(client, topic_id, [*bad, (name, 0, 0)], max_wait_ms)
            assert (waited_ms >= max_wait_ms) == waits, (bad, waited_ms)
            alone, _ = ask(client, topic_id, bad, 60_000)
            told.append((codes, alone))
        assert told[0] == told[1], bad


def test_fetch_sessions_are_kept_alike(pair):
    """Full, incremental and final fetches, forgotten partitions, wrong epochs and unknown sessions (KIP-227)."""
    name = _topic(pair, partitions=3)

    def part(index, offset=0):
        return FetchRequest.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)

    def request(session, epoch, parts, forgotten=()):
        return FetchRequest(
            replica_id=-1,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            isolation_level=0,
            session_id=session,
            session_epoch=epoch,
            topics=[FetchRequest.FetchTopic(topic=name, partitions=parts)] if parts else [],
            forgotten_topics_data=(
                [FetchRequest.ForgottenTopic(topic=name, partitions=list(forgotten))] if forgotten else []
            ),
            rack_id="",
        )

    sessions = [0, 0]

    def step(epoch, parts, forgotten=(), wrong=0):
        answers = []
        for index, client in enumerate((pair.kafka, pair.ours)):
            session = sessions[index] + wrong if sessions[index] else wrong
            answer = client.call(request(session, epoch, parts, forgotten), 11)
            if epoch == 0:
                sessions[index] = answer.session_id
            answers.append(_plain_fetch(answer))
        assert not differences(*answers), (epoch, differences(*answers))

    step(0, [part(0), part(1), part(2)])
    step(1, [])
    pair.agree(_produce(name, _batch(), partition=1), 9, normalise=_without_messages)
    step(2, [])
    step(3, [part(1, 3)])
    step(4, [])
    pair.agree(_produce(name, _batch(), partition=0), 9, normalise=_without_messages)
    pair.agree(_produce(name, _batch(), partition=2), 9, normalise=_without_messages)
    step(5, [], forgotten=[0])
    step(6, [part(2, 3)])
    step(9, [])  # a wrong epoch
    step(7, [], wrong=1)  # an unknown session
    step(7, [part(1, 99)])  # out of range
    step(8, [])
    step(-1, [part(0)])  # final
    step(9, [])


def _list_offsets(name, timestamp, *, partition=0, isolation_level=0, epoch=-1, replica_id=-1):
    return ListOffsetsRequest(
        replica_id=replica_id,
        isolation_level=isolation_level,
        topics=[
            ListOffsetsRequest.ListOffsetsTopic(
                name=name,
                partitions=[
                    ListOffsetsRequest.ListOffsetsPartition(
                        partition_index=partition, current_leader_epoch=epoch, timestamp=timestamp
                    )
                ],
            )
        ],
        timeout_ms=5000,
    )


def _plain_offsets(answer):
    return answer


@pytest.mark.parametrize("version", range(1, 12))
def test_offsets_are_listed_alike(pair, version):
    """Every kind of timestamp on an empty partition and on one with records, in every version."""
    empty = _topic(pair)
    full = _topic(pair)
    for start in (1000, 5000, 2000):
        pair.agree(
            _produce(full, _batch(3, timestamp=NOW_MS - 10_000 + start)), 9, normalise=_without_messages
        )
    times = [
        -1,
        -2,
        -3,
        -4,
        -5,
        -6,
        -7,
        0,
        NOW_MS - 9_000,
        NOW_MS - 8_999,
        NOW_MS - 6_000,
        NOW_MS - 4_998,
        NOW_MS,
    ]
    for name, timestamp in itertools.product((empty, full), times):
        pair.agree(_list_offsets(name, timestamp), version, normalise=_plain_offsets)


@pytest.mark.parametrize("version", [1, 4, 7])
def test_odd_list_offsets_are_answered_alike(pair, version):
    """Unknown partitions, wrong epochs, a partition asked for twice."""
    name = _topic(pair)
    pair.agree(_list_offsets("nowhere", -1), version)
    pair.agree(_list_offsets(name, -1, partition=5), version)
    if version >= 4:
        for epoch in (0, 1, 9):
            pair.agree(_list_offsets(name, -1, epoch=epoch), version)
    twice = _list_offsets(name, -1)
    twice.topics[0].partitions *= 2
    pair.agree(twice, version)
    if version == 4:
        for timestamp in (-3, -4, -8):  # means nothing yet, and that is said first
            pair.agree(_list_offsets(name, timestamp, epoch=9), version)
            pair.agree(_list_offsets("nowhere", timestamp), version)
    pair.agree(_list_offsets(name, -1, replica_id=3), version)
    pair.agree(_list_offsets(name, -1, replica_id=-2), version)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_ends_of_epochs_are_told_alike(pair, version):
    """OffsetForLeaderEpoch for known, older, newer and unknown epochs."""
    name = _topic(pair)
    pair.agree(_produce(name, _batch(4)), 9, normalise=_without_messages)
    for topic, partition, epoch, current in [
        (name, 0, 0, -1),
        (name, 0, 0, 0),
        (name, 0, 1, -1),
        (name, 0, -1, -1),
        (name, 0, 0, 3),
        (name, 9, 0, -1),
        ("nowhere", 0, 0, -1),
    ]:
        request = OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[
                OffsetForLeaderEpochRequest.OffsetForLeaderTopic(
                    topic=topic,
                    partitions=[
                        OffsetForLeaderEpochRequest.OffsetForLeaderPartition(
                            partition=partition, current_leader_epoch=current, leader_epoch=epoch
                        )
                    ],
                )
            ],
        )
        pair.agree(request, version)

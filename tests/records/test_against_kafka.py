from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnabas.errors import ErrorCode, KafkaError
from barnabas.records.batch import (
    check_crc,
    compute_crc,
    parse_header,
    set_base_offset_and_epoch,
    set_create_time,
    set_log_append_time,
)
from barnabas.records.builder import build_batch, build_empty_batch, recompress
from barnabas.records.compression import Codec
from barnabas.records.control import build_end_marker
from barnabas.records.record import iterate_records, uncompressed_records
from barnabas.records.validation import validate_produced
from tests.records.kafka_oracle import describe
from tests.records.strategies import codecs, record_lists

pytestmark = pytest.mark.oracle

NOW_MS = 1_700_000_000_000
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
more = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Field: position, struct format.
FIELDS = {
    "base_offset": (0, ">q"),
    "batch_length": (8, ">i"),
    "leader_epoch": (12, ">i"),
    "magic": (16, ">b"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "record_count": (57, ">i"),
}


def patched(batch: bytearray, renew_crc: bool = True, **fields: int) -> bytearray:
    for name, value in fields.items():
        position, kind = FIELDS[name]
        struct.pack_into(kind, batch, position, value)
    if renew_crc:
        struct.pack_into(">I", batch, 17, compute_crc(batch))
    return batch


def plain(count: int = 3, timestamp: int = NOW_MS, **options) -> bytearray:
    return build_batch([(0, timestamp, b"key", b"value", ())] * count, **options)


def appended(records: bytes, **options) -> tuple[ErrorCode, bytes]:
    """What our leader makes of `records`, at epoch 7 in an empty log."""
    buffer = bytearray(records)
    log_append_time = options.get("log_append_time", False)
    try:
        header = validate_produced(memoryview(buffer), **options)
    except KafkaError as error:
        return error.code, b""
    set_base_offset_and_epoch(buffer, 0, 0, 7)
    if log_append_time:
        set_log_append_time(buffer, 0, options["now_ms"])
    elif header.is_log_append_time:
        set_create_time(buffer, 0, header.max_timestamp)
    return ErrorCode.NONE, bytes(buffer[: header.size_bytes])


def compare(kafka, records: bytes, **options) -> ErrorCode:
    options = {"api_version": 9, "now_ms": NOW_MS, "max_message_bytes": 2**20, **options}
    theirs = kafka.append(bytes(records), **options)
    ours = appended(records, **options)
    assert ours == theirs, parse_header(records) if len(records) >= 61 else bytes(records)
    return ours[0]


@few
@given(record_lists)
def test_uncompressed_batches_are_byte_for_byte_kafkas(kafka, records):
    """The builder writes what Kafka's own builder writes."""
    assert build_batch(records) == kafka.build(Codec.NONE, records)


@few
@given(record_lists, codecs)
def test_kafka_reads_what_we_write(kafka, records, codec):
    """Kafka's reader gets the same records out of our batches, for every codec."""
    batch = build_batch(records, compression=codec, base_offset=5)
    ok, text = kafka.read(batch)
    assert ok, text
    assert text == describe(iterate_records(batch))


@few
@given(record_lists, codecs)
def test_we_read_what_kafka_writes(kafka, records, codec):
    """Our reader gets the same records out of Kafka's batches, for every codec."""
    batch = kafka.build(codec, records)
    assert [record[1:] for record in iterate_records(batch)] == [record[1:] for record in records]


@pytest.mark.parametrize("codec", Codec)
def test_large_batches_cross_block_borders(kafka, codec):
    """Batches of many blocks, packable and not, pass both ways."""
    import random

    records = [(0, 1, None, random.Random(1).randbytes(100_000) + bytes(100_000), ())] * 3
    batch = build_batch(records, compression=codec)
    ok, text = kafka.read(batch)
    assert ok, text
    assert text == describe(iterate_records(batch))
    assert [record[1:] for record in iterate_records(kafka.build(codec, records))] == [r[1:] for r in records]


@pytest.mark.parametrize("is_commit", [True, False])
def test_end_markers_are_byte_for_byte_kafkas(kafka, is_commit):
    """The end of a transaction is written as Kafka writes it."""
    fields = {
        "base_offset": 12,
        "timestamp_ms": NOW_MS,
        "leader_epoch": 3,
        "producer_id": 2**40,
        "producer_epoch": 9,
        "is_commit": is_commit,
        "coordinator_epoch": 77,
    }
    assert build_end_marker(**fields) == kafka.end_marker(**fields)


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.parametrize("log_append_time_ms", [None, NOW_MS])
def test_empty_batches_are_byte_for_byte_kafkas(kafka, codec, log_append_time_ms):
    """What compaction leaves of a producer's last batch is written as Kafka writes it."""
    batch = plain(
        base_offset=9,
        leader_epoch=4,
        compression=codec,
        producer_id=3,
        producer_epoch=1,
        base_sequence=5,
        is_transactional=True,
        log_append_time_ms=log_append_time_ms,
    )
    assert build_empty_batch(parse_header(batch)) == kafka.empty(batch)


INVALID = ErrorCode.INVALID_RECORD
CORRUPT = ErrorCode.CORRUPT_MESSAGE

CASES = {
    "plain": (plain(), {}, ErrorCode.NONE),
    "idempotent": (plain(producer_id=4, producer_epoch=0, base_sequence=0), {}, ErrorCode.NONE),
    "nothing": (b"", {}, INVALID),
    "less than a length": (plain()[:11], {}, INVALID),
    "less than a magic": (plain()[:16], {}, INVALID),
    "part of a header": (plain()[:40], {}, INVALID),
    "all but a byte": (plain()[:-1], {}, INVALID),
    "two batches": (plain() + plain(), {}, INVALID),
    "an unfinished batch behind": (plain() + plain()[:-1], {}, ErrorCode.NONE),
    "a few bytes behind": (plain() + b"garbage", {}, ErrorCode.NONE),
    "zeros behind": (plain() + bytes(12), {}, CORRUPT),
    "a strange magic behind": (plain() + patched(plain(), magic=9)[:17], {}, CORRUPT),
    "magic 0": (patched(plain(), magic=0), {}, INVALID),
    "magic 1": (patched(plain(), magic=1), {}, INVALID),
    "magic 3": (patched(plain(), magic=3), {}, CORRUPT),
    "magic -1": (patched(plain(), magic=-1), {}, CORRUPT),
    "length 13": (patched(plain(), renew_crc=False, batch_length=13), {}, CORRUPT),
    "length -1": (patched(plain(), renew_crc=False, batch_length=-1), {}, CORRUPT),
    "length too large": (patched(plain(), renew_crc=False, batch_length=2**31 - 13), {}, INVALID),
    "wrong crc": (patched(plain(), renew_crc=False, producer_id=7), {}, CORRUPT),
    "base offset": (patched(plain(), base_offset=1), {}, INVALID),
    "negative base offset": (patched(plain(), base_offset=-1), {}, INVALID),
    "any leader epoch": (patched(plain(), leader_epoch=55), {}, ErrorCode.NONE),
    "count too high": (patched(plain(), record_count=4), {}, INVALID),
    "count too low": (patched(plain(), record_count=2), {}, INVALID),
    "count too high for the size": (patched(plain(), record_count=7, last_offset_delta=6), {}, INVALID),
    "smallest records": (build_batch([(0, NOW_MS, None, None, ())] * 9), {}, ErrorCode.NONE),
    "count zero": (patched(plain(), record_count=0), {}, INVALID),
    "count negative": (patched(plain(), record_count=-1), {}, INVALID),
    "delta negative": (patched(plain(), last_offset_delta=-1, record_count=0), {}, INVALID),
    "delta too high": (patched(plain(), last_offset_delta=3), {}, INVALID),
    "control": (plain(is_control=True), {}, INVALID),
    "no sequence": (plain(producer_id=4, producer_epoch=0), {}, INVALID),
    "sequence without producer": (plain(base_sequence=4), {}, ErrorCode.NONE),
    "producer id -2": (plain(producer_id=-2), {}, ErrorCode.NONE),
    "unknown codec": (patched(plain(), attributes=5), {}, ErrorCode.UNKNOWN_SERVER_ERROR),
    "unknown codec, old version": (
        patched(plain(), attributes=7),
        {"api_version": 5},
        ErrorCode.UNKNOWN_SERVER_ERROR,
    ),
    "zstd, version 6": (
        plain(compression=4),
        {"api_version": 6},
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    ),
    "zstd, version 7": (plain(compression=4), {"api_version": 7}, ErrorCode.NONE),
    "gzip, version 3": (plain(compression=1), {"api_version": 3}, ErrorCode.NONE),
    "too large": (plain(), {"max_message_bytes": len(plain()) - 1}, ErrorCode.MESSAGE_TOO_LARGE),
    "just fits": (plain(), {"max_message_bytes": len(plain())}, ErrorCode.NONE),
    "too large for a segment": (
        build_batch([(0, NOW_MS, None, bytes(2**20), ())]),
        {"max_message_bytes": 2**22, "segment_bytes": 2**20},
        ErrorCode.RECORD_LIST_TOO_LARGE,
    ),
    "an hour ahead": (plain(timestamp=NOW_MS + 3_600_000), {}, ErrorCode.NONE),
    "more than an hour ahead": (plain(timestamp=NOW_MS + 3_600_001), {}, ErrorCode.INVALID_TIMESTAMP),
    "very old": (plain(timestamp=0), {}, ErrorCode.NONE),
    "just not too old": (
        plain(timestamp=NOW_MS - 100),
        {"timestamp_before_max_ms": 100},
        ErrorCode.NONE,
    ),
    "too old": (
        plain(timestamp=NOW_MS - 101),
        {"timestamp_before_max_ms": 100},
        ErrorCode.INVALID_TIMESTAMP,
    ),
    "no timestamp": (plain(timestamp=-1), {"timestamp_before_max_ms": 100}, ErrorCode.NONE),
    "log append time": (plain(timestamp=5), {"log_append_time": True}, ErrorCode.NONE),
    "log append time, any timestamp": (
        plain(timestamp=NOW_MS * 2),
        {"log_append_time": True},
        ErrorCode.NONE,
    ),
    "sets log append time": (
        plain(log_append_time_ms=NOW_MS),
        {"log_append_time": True},
        ErrorCode.INVALID_TIMESTAMP,
    ),
    "sets log append time where none is asked": (plain(log_append_time_ms=NOW_MS), {}, ErrorCode.NONE),
    "sets log append time ahead": (
        plain(log_append_time_ms=NOW_MS + 3_600_001),
        {},
        ErrorCode.INVALID_TIMESTAMP,
    ),
    "sets log append time without time": (plain(log_append_time_ms=-1), {}, ErrorCode.INVALID_TIMESTAMP),
    "keyless": (
        build_batch([(0, NOW_MS, b"k", b"v", ()), (0, NOW_MS, None, b"v", ())]),
        {"keys_required": True},
        INVALID,
    ),
    "keyless and too new": (
        build_batch([(0, NOW_MS * 2, b"k", b"v", ()), (0, NOW_MS, None, b"v", ())]),
        {"keys_required": True},
        ErrorCode.INVALID_TIMESTAMP,
    ),
    "with keys": (plain(compression=2), {"keys_required": True}, ErrorCode.NONE),
    "with empty keys": (build_batch([(0, 1, b"", None, ())]), {"keys_required": True}, ErrorCode.NONE),
    "delete horizon": (patched(plain(), attributes=0x40), {}, ErrorCode.NONE),
    "unknown attributes": (patched(plain(), attributes=0x7F80), {}, ErrorCode.NONE),
    "transactional": (
        plain(producer_id=4, producer_epoch=0, base_sequence=0, is_transactional=True),
        {},
        ErrorCode.NONE,
    ),
    "transactional without producer": (plain(is_transactional=True), {}, ErrorCode.NONE),
}


@pytest.mark.parametrize("name", CASES)
def test_leader_answers_as_kafka(kafka, name):
    """For each fault in a batch we answer Kafka's code, and what is accepted is stored as the same bytes."""
    records, options, code = CASES[name]
    assert compare(kafka, records, **options) is code


@pytest.mark.parametrize("size", range(27, 61))
def test_batches_shorter_than_a_header_are_answered_as_kafka(kafka, size):
    """A length that holds no header never passes."""
    batch = patched(plain(), renew_crc=False, batch_length=size - 12)[:size]
    assert compare(kafka, batch) is not ErrorCode.NONE


@pytest.mark.parametrize(
    "batch",
    [
        patched(plain(), renew_crc=False, batch_length=14)[:26],
        patched(plain(), renew_crc=False, batch_length=2**31 - 12),
    ],
)
def test_lengths_that_break_kafkas_arithmetic_are_corrupt(kafka, batch):
    """Where Kafka runs into an exception of Java we say what is wrong."""
    assert kafka.append(batch, now_ms=NOW_MS)[0] is ErrorCode.UNKNOWN_SERVER_ERROR
    assert appended(batch, api_version=9, now_ms=NOW_MS, max_message_bytes=2**20)[0] is CORRUPT


interesting = st.sampled_from([-(2**15), -2, -1, 0, 1, 2, 3, 4, 7, 8, 16, 32, 64, 2**15 - 1])


@more
@given(
    st.dictionaries(st.sampled_from(sorted(set(FIELDS) - {"max_timestamp"})), interesting, max_size=3),
    st.booleans(),
    st.sampled_from([3, 6, 7, 9, 13]),
    st.booleans(),
)
def test_any_mix_of_header_faults_is_answered_as_kafka(
    kafka, fields, renew_crc, api_version, log_append_time
):
    """Of several faults in a header we answer the one that Kafka answers."""
    batch = plain(producer_id=4, producer_epoch=0, base_sequence=0)
    fields = {
        name: max(-128, min(127, value)) if name == "magic" else value for name, value in fields.items()
    }
    if fields.get("attributes", 0) & 7:
        fields[
            "attributes"
        ] &= ~7  # a payload that does not unpack is refused by Kafka alone, which unpacks it
    if fields.get("producer_epoch", 0) < 0:
        del fields["producer_epoch"]  # the producer state's affair
    if (fields.get("record_count", 3), fields.get("last_offset_delta", 2)) in {
        (1, 0),
        (2, 1),
        (4, 3),
        (8, 7),
    }:
        del fields["record_count"]  # a false but consistent count is noticed by Kafka alone too
    # A wrong length under a good checksum is a false oath about the records, which Kafka alone unpacks.
    patched(batch, renew_crc=renew_crc and "batch_length" not in fields, **fields)
    compare(kafka, batch, api_version=api_version, log_append_time=log_append_time)


@pytest.mark.parametrize("target", Codec)
@pytest.mark.parametrize("source", Codec)
def test_recompressed_batches_read_the_same_as_kafkas(kafka, source, target):
    """A topic with its own codec stores the same records and header as Kafka does."""
    records = [(0, NOW_MS + i, b"%d" % i, b"value" * 20, (("h", b"x"),)) for i in range(50)]
    batch = build_batch(records, compression=source, producer_id=3, producer_epoch=1, base_sequence=0)
    name = "uncompressed" if target is Codec.NONE else target.name.lower()
    code, theirs = kafka.append(batch, now_ms=NOW_MS, compression_type=name)
    assert code is ErrorCode.NONE
    header = parse_header(batch)
    ours = recompress(header, uncompressed_records(batch, 0, header), target)
    set_base_offset_and_epoch(ours, 0, 0, 7)
    assert check_crc(ours)
    assert list(iterate_records(ours)) == list(iterate_records(theirs))
    skip = {"batch_length": 0, "crc": 0}
    assert parse_header(ours)._replace(**skip) == parse_header(theirs)._replace(**skip)

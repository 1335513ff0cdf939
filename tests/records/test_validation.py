"""Without Kafka at hand; `test_against_kafka.py` compares every answer with its own."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.config.topic import LogConfig
from barnabas.errors import ErrorCode, KafkaError
from barnabas.records.batch import compute_crc, parse_header
from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.validation import (
    MAX_RECORD_ERRORS,
    RecordsRefusedError,
    accept_produced,
    validate_produced,
)

NOW_MS = 1_700_000_000_000
OPTIONS = {"api_version": 9, "now_ms": NOW_MS, "max_message_bytes": 2**20}


def plain(count: int = 3, **options) -> bytearray:
    return build_batch([(0, NOW_MS, b"key", b"value", ())] * count, **options)


@pytest.mark.parametrize("codec", Codec)
def test_a_good_batch_passes(codec):
    """The header comes back, for whole buffers and those with an unfinished batch behind."""
    batch = plain(compression=codec, producer_id=1, producer_epoch=0, base_sequence=0)
    assert validate_produced(memoryview(batch), **OPTIONS) == parse_header(batch)
    assert validate_produced(memoryview(batch + batch[:30]), **OPTIONS) == parse_header(batch)


def test_single_records_are_named():
    """The answer can say which records were out of time, and which had no key."""
    times = [NOW_MS, NOW_MS * 2, NOW_MS, NOW_MS * 3]
    batch = build_batch([(0, time, b"k", None, ()) for time in times], compression=Codec.ZSTD)
    with pytest.raises(RecordsRefusedError) as caught:
        validate_produced(batch, **OPTIONS)
    assert caught.value.code is ErrorCode.INVALID_TIMESTAMP
    assert [index for index, _ in caught.value.record_errors] == [1, 3]
    batch = build_batch([(0, NOW_MS, key, None, ()) for key in (b"k", None, b"")])
    with pytest.raises(RecordsRefusedError) as caught:
        validate_produced(batch, **OPTIONS, keys_required=True)
    assert caught.value.code is ErrorCode.INVALID_RECORD
    assert [index for index, _ in caught.value.record_errors] == [1]


def test_the_list_of_single_records_is_bounded():
    """A large batch does not make a large answer."""
    batch = build_batch([(0, NOW_MS * 2, None, None, ())] * (MAX_RECORD_ERRORS + 10))
    with pytest.raises(RecordsRefusedError) as caught:
        validate_produced(batch, **OPTIONS)
    assert len(caught.value.record_errors) == MAX_RECORD_ERRORS
    with pytest.raises(RecordsRefusedError) as caught:
        validate_produced(batch, **OPTIONS, log_append_time=True, keys_required=True)
    assert len(caught.value.record_errors) == MAX_RECORD_ERRORS


@pytest.mark.parametrize("compression", [Codec.NONE, Codec.GZIP])
def test_a_header_that_lies_about_time_is_refused(compression):
    """A highest timestamp that no record has is refused too, and so is one over records that do not parse."""
    batch = plain(compression=compression)
    struct.pack_into(">q", batch, 35, NOW_MS * 2)
    struct.pack_into(">I", batch, 17, compute_crc(batch))
    for damage in (0, 1):
        batch[-1] ^= damage
        struct.pack_into(">I", batch, 17, compute_crc(batch))
        with pytest.raises(RecordsRefusedError) as caught:
            validate_produced(batch, **OPTIONS)
        assert caught.value.code is ErrorCode.INVALID_TIMESTAMP


@pytest.mark.parametrize("codec", list(Codec)[1:])
def test_keys_are_not_looked_for_in_bombs(codec):
    """A compacted topic refuses a batch that unpacks beyond the limit."""
    batch = build_batch([(0, NOW_MS, b"k", bytes(10_000_000), ())], compression=codec)
    with pytest.raises(KafkaError) as caught:
        validate_produced(batch, **OPTIONS, keys_required=True, decompressed_limit_bytes=1_000_000)
    assert caught.value.code is ErrorCode.INVALID_RECORD


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 300),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_damage_raises_kafka_error_only(damage, size, renew_crc, keys_required, log_append_time):
    """Whatever bytes a client sends, they pass or are refused with a code; the glance says the same as the long look."""
    batch = plain(producer_id=1, producer_epoch=0, base_sequence=0)
    for position, byte in damage:
        batch[position % len(batch)] = byte
    batch = batch[:size]
    if renew_crc and len(batch) >= 61:
        with contextlib.suppress(ValueError):
            struct.pack_into(">I", batch, 17, compute_crc(batch))
    limits = LogConfig(
        cleanup_policy=frozenset({"compact" if keys_required else "delete"}),
        message_timestamp_type="LogAppendTime" if log_append_time else "CreateTime",
        max_message_bytes=OPTIONS["max_message_bytes"],
    ).produce_limits
    accepted = accept_produced(memoryview(batch), limits, OPTIONS["api_version"], NOW_MS)
    try:
        header = validate_produced(
            memoryview(batch), **OPTIONS, keys_required=keys_required, log_append_time=log_append_time
        )
    except KafkaError:
        assert accepted is None
        return
    assert accepted == (header if header.size_bytes == len(batch) and not keys_required else None)
    assert header.size_bytes <= len(batch)
    assert header.record_count == header.last_offset_delta + 1 > 0


@given(st.binary(max_size=150))
def test_random_bytes_raise_kafka_error(data):
    """Random bytes never pass."""
    with pytest.raises(KafkaError):
        validate_produced(data, **OPTIONS)


@pytest.mark.parametrize(
    ("age_ms", "size", "codec", "version", "passes"),
    [
        (0, 200, Codec.NONE, 3, True),
        (1000, 200, Codec.NONE, 3, True),
        (1001, 200, Codec.NONE, 3, False),
        (-500, 200, Codec.NONE, 3, True),
        (-501, 200, Codec.NONE, 3, False),
        (0, 10, Codec.NONE, 3, False),
        (0, 200, Codec.ZSTD, 6, False),
        (0, 200, Codec.ZSTD, 7, True),
    ],
)
def test_the_glance_knows_the_limits(age_ms, size, codec, version, passes):
    """Times, sizes and codecs at their very limits pass, and what is beyond is left to the long look."""
    batch = build_batch([(0, NOW_MS - age_ms, None, b"v", ())], compression=codec)
    config = LogConfig(
        max_message_bytes=size, message_timestamp_before_max_ms=1000, message_timestamp_after_max_ms=500
    )
    header = accept_produced(memoryview(batch), config.produce_limits, version, NOW_MS)
    assert (header is not None) == passes

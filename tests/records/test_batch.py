from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.records.batch import (
    HEADER_SIZE,
    check_crc,
    compute_crc,
    iterate_headers,
    next_sequence,
    parse_header,
    set_base_offset_and_epoch,
    set_create_time,
    set_log_append_time,
)
from barnabas.records.builder import build_batch

RECORDS = [(0, 1000, b"k", b"v", ()), (0, 990, None, None, ()), (0, 1005, b"", b"", (("h", None),))]


def batch(**options) -> bytearray:
    return build_batch(RECORDS, **options)


def test_header_states_what_was_built():
    """Every field stands where the header view looks for it."""
    data = batch(
        base_offset=2**40,
        leader_epoch=9,
        producer_id=2**50,
        producer_epoch=4,
        base_sequence=7,
        is_transactional=True,
    )
    header = parse_header(b"???" + data, 3)
    assert header.base_offset == 2**40
    assert header.size_bytes == len(data)
    assert header.partition_leader_epoch == 9
    assert header.magic == 2
    assert header.crc == compute_crc(data)
    assert header.last_offset == 2**40 + 2
    assert header.next_offset == 2**40 + 3
    assert (header.base_timestamp, header.max_timestamp) == (1000, 1005)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (2**50, 4, 7)
    assert header.last_sequence == 9
    assert header.record_count == 3
    assert header.compression == 0
    assert header.is_transactional
    assert header.has_producer_id
    assert not header.is_control
    assert not header.is_log_append_time
    assert header.delete_horizon_ms is None


def test_flags_are_told_apart():
    """Each attribute bit has its own property."""
    plain = parse_header(batch())
    assert plain._replace(attributes=0x08).is_log_append_time
    assert plain._replace(attributes=0x10).is_transactional
    assert plain._replace(attributes=0x20).is_control
    assert plain._replace(attributes=0x40).delete_horizon_ms == 1000
    assert plain._replace(attributes=0x7D).compression == 5
    assert not plain.has_producer_id
    assert plain.last_sequence == -1


def test_sequence_numbers_wrap():
    """After 2^31 - 1 comes 0, as in Kafka's `DefaultRecordBatch.incrementSequence`."""
    assert next_sequence(2**31 - 1, 1) == 0
    assert next_sequence(2**31 - 3, 5) == 2
    header = parse_header(batch(producer_id=1, producer_epoch=0, base_sequence=2**31 - 1))
    assert header.last_sequence == 1


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_offset_and_epoch_are_patched_without_the_crc(base_offset, leader_epoch):
    """A leader patches 12 bytes, and the checksum still holds."""
    data = bytearray(b"x") + batch()
    before = bytes(data)
    set_base_offset_and_epoch(memoryview(data), 1, base_offset, leader_epoch)
    header = parse_header(data, 1)
    assert (header.base_offset, header.partition_leader_epoch) == (base_offset, leader_epoch)
    assert check_crc(data, 1)
    assert data[:1] + data[9:13] + data[17:] == before[:1] + before[9:13] + before[17:]


def test_log_append_time_is_patched_with_the_crc():
    """The log's time becomes that of the batch; taking it back restores every byte."""
    data = batch(compression=3)
    original = bytes(data)
    set_log_append_time(data, 0, 123456)
    header = parse_header(data)
    assert header.is_log_append_time
    assert header.compression == 3
    assert header.max_timestamp == 123456
    assert check_crc(data)
    set_create_time(data, 0, 1005)
    assert data == original


def test_headers_of_several_batches():
    """Every batch is found, one that is cut is not."""
    first, second = batch(), batch(base_offset=3, compression=1)
    found = list(iterate_headers(memoryview(first + second + batch()[:-1])))
    assert [(position, header.base_offset) for position, header in found] == [(0, 0), (len(first), 3)]
    assert list(iterate_headers(b"")) == []
    assert list(iterate_headers(first[:60])) == []


@pytest.mark.parametrize(("position", "data"), [(16, b"\x01"), (8, struct.pack(">i", 48)), (8, b"\xff" * 4)])
def test_what_is_not_a_batch_is_refused(position, data):
    """Old magic and lengths without room for a header are DecodeErrors."""
    bad = batch()
    bad[position : position + len(data)] = data
    with pytest.raises(DecodeError):
        list(iterate_headers(bad))


@pytest.mark.parametrize("size", [0, 20, 21, 60, 62])
def test_short_buffers_are_refused(size):
    """Nothing reads past the end."""
    data = batch()[:size]
    if size < HEADER_SIZE:
        with pytest.raises(DecodeError):
            parse_header(data)
    with pytest.raises(DecodeError):
        compute_crc(data)
    with pytest.raises(DecodeError):
        check_crc(data)


@given(st.integers(21, 80), st.integers(1, 255))
def test_crc_covers_everything_from_the_attributes_on(position, flip):
    """No changed byte goes unnoticed."""
    data = batch()
    data[position] ^= flip
    assert not check_crc(data)

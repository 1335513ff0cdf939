from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from barnabas.errors import DecodeError, KafkaError
from barnabas.records.batch import compute_crc, parse_header
from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.control import build_end_marker
from barnabas.records.record import (
    Record,
    iterate_batch,
    iterate_records,
    keyless_indexes,
    uncompressed_records,
)
from tests.records.strategies import codecs, record_lists

PLAIN = [(0, 1000, b"k", b"v", ()), (0, 990, None, b"w", (("h", b"x"),))]


def payload(batch: bytes) -> bytes:
    return uncompressed_records(batch, 0, parse_header(batch))


def with_payload(data: bytes, count: int = 1) -> bytearray:
    """A batch with a good checksum around any bytes."""
    batch = build_batch([PLAIN[0]])[:61] + data
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">i", batch, 57, count)
    struct.pack_into(">I", batch, 17, compute_crc(batch))
    return batch


@given(record_lists, codecs, st.integers(0, 2**62))
def test_round_trip(records, codec, base_offset):
    """Every record comes back with the offset it was given."""
    batch = build_batch(records, base_offset=base_offset, compression=codec)
    expected = [Record(base_offset + index, *record[1:]) for index, record in enumerate(records)]
    assert list(iterate_records(memoryview(batch))) == expected


def test_large_numbers_of_all_lengths():
    """Deltas and lengths that take more than two bytes are read."""
    records = [
        Record(0, 2**40, b"k" * 70_000, b"v" * 9000, ()),
        Record(2**20, 0, None, b"v" * 3_000_000, (("h" * 200, b"x" * 20_000),)),
    ]
    assert list(iterate_records(build_batch(records, keep_offsets=True))) == records


def test_log_append_time_is_that_of_the_batch():
    """With log append time all records carry it."""
    batch = build_batch(PLAIN, log_append_time_ms=55)
    assert [record.timestamp for record in iterate_records(batch)] == [55, 55]


def test_control_batches_are_passed_over_unless_asked_for():
    """A plain reader never takes a marker for data."""
    marker = build_end_marker(
        is_commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=5, base_offset=2
    )
    log = build_batch(PLAIN) + marker + build_batch(PLAIN, base_offset=3)
    assert [record.offset for record in iterate_records(log)] == [0, 1, 3, 4]
    assert [record.offset for record in iterate_records(log, control=True)] == [0, 1, 2, 3, 4]


def test_checksum_is_verified_unless_told_otherwise():
    """A changed value does not pass."""
    batch = build_batch(PLAIN)
    batch[-1 - len("x") - 3] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        list(iterate_records(batch))
    assert next(iterate_records(batch, verify=False)).key == b"k"


def test_header_keys_that_are_not_utf8_survive():
    """Bytes of a header's key come back as they were."""
    good = build_batch([(0, 1, None, None, (("ab", None),))])
    bad = with_payload(payload(good).replace(b"ab", b"\xff\xfe"))
    (record,) = iterate_records(bad)
    assert payload(build_batch([(0, 1, None, None, record.headers)])) == payload(bad)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x01", 1),  # length -1
        (b"\x0e\0\0\0\x01\x01", 1),  # ends before the headers
        (b"\x0c\0\0\0\x01\x01\0", 2),  # fewer than claimed
        (b"\x0c\0\0\0\x01\x01\0\x0c\0\0\0\x01\x01\0", 1),  # more than claimed
        (b"\x0e\0\0\0\x01\x01\0", 1),  # longer than its content
        (b"\x0a\0\0\0\x01\x01\0", 1),  # shorter than its content
        (b"\x0c\0\0\0\x01\xfe\xff\xff\xff\x0f\0", 1),  # a value of 2 GiB
        (b"\x0c\0\0\0\xfe\xff\xff\xff\x0f\x01\0", 1),  # a key of 2 GiB
        (b"\x0c\0\0\0\x01\x01\x01", 1),  # -1 headers
        (b"\x14\0\0\0\x01\x01\xfe\xff\xff\xff\x0f", 1),  # 2^31 - 1 headers
        (b"\x10\0\0\0\x01\x01\x02\x01\x01", 1),  # header key null
        (b"\x10\0\0\0\x01\x01\x02\x00\x06", 1),  # header value past the end
        (b"\xff\xff\xff\xff\xff\xff", 1),  # endless length
        (b"\x0c\0\0\0\x01\x01\0", -1),
        (b"\x0c\0\0\0\x01\x01\0", 2**31 - 1),
    ],
)
def test_malformed_records_are_refused(data, count):
    """Every lie that a record can tell is a DecodeError."""
    with pytest.raises(DecodeError):
        list(iterate_records(with_payload(data, count)))


@given(st.binary(max_size=60), st.integers(-1, 3))
@example(b"\x0c\0\0\0\x01\x01\0", 1)
def test_random_records_raise_decode_error_only(data, count):
    """Random bytes are records or a DecodeError, for each of the readers."""
    batch = with_payload(data, count)
    for read in (lambda: list(iterate_records(batch)), lambda: keyless_indexes(data, count)):
        with contextlib.suppress(DecodeError):
            read()


@given(codecs, st.integers(0, 10_000), st.integers(1, 255))
def test_damaged_batches_raise_decode_error_only(codec, position, flip):
    """A flipped bit anywhere is noticed or harmless, also without the checksum."""
    batch = build_batch(PLAIN * 5, compression=codec)
    batch[position % len(batch)] ^= flip
    for verify in (True, False):
        with contextlib.suppress(DecodeError, KafkaError):
            list(iterate_records(batch, verify=verify, limit_bytes=100_000))


@pytest.mark.parametrize("codec", list(Codec)[1:])
def test_bombs_are_refused(codec):
    """A batch that unpacks to more than the limit is not unpacked."""
    batch = build_batch([(0, 1, None, bytes(10_000_000), ())], compression=codec)
    with pytest.raises(DecodeError):
        list(iterate_records(batch, limit_bytes=1_000_000))


def test_cut_batches():
    """A batch that is not all there is passed over in a buffer, and refused by itself."""
    batch = build_batch(PLAIN)
    assert list(iterate_records(batch[:-1])) == []
    with pytest.raises(DecodeError):
        list(iterate_batch(batch[:-1], 0, parse_header(batch)))


@given(record_lists, codecs)
def test_keyless_records_are_found(records, codec):
    """The records without a key, by their places in the batch."""
    batch = build_batch(records, compression=codec)
    expected = [index for index, record in enumerate(records) if record[2] is None]
    assert keyless_indexes(payload(batch), len(records)) == expected

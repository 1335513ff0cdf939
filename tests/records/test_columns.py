"""Many records at once: the same as one after the other, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.columns import (
    UnusualError,
    check_offsets,
    cut_records,
    find_starts,
    find_tombstones,
    read_heads,
    read_keys,
    read_timestamps,
    records_between,
)
from barnabas.records.filtering import scan_keys, timestamp_delta_at
from barnabas.records.record import uncompressed_records
from barnabas.records.varint import encode_varint

NOW_MS = 1_700_000_000_000
TIMES = st.one_of(*(st.integers(NOW_MS - 10**power, NOW_MS + 10**power) for power in (1, 3, 7)))
KEYS = st.binary(min_size=1, max_size=6) | st.binary(min_size=1, max_size=200)
VALUES = st.none() | st.binary(max_size=3) | st.binary(max_size=200)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2).map(tuple)
RECORDS = st.lists(st.tuples(st.just(0), TIMES, KEYS, VALUES, HEADERS), min_size=1, max_size=90)


def payload_of(records):
    batch = bytes(build_batch(records))
    return uncompressed_records(batch, 0, parse_header(batch))


def read(payload, count):
    """The columns that `scan_keys` gives, and the timestamps."""
    starts = find_starts(payload, count)
    records = records_between(payload, starts)
    assert cut_records(payload, count) == records
    heads = read_heads(records)
    keys = read_keys(records, heads)
    return starts, keys, find_tombstones(records, heads.key_ends), read_timestamps(heads), heads


def assert_same(payload, count):
    starts, keys, tombstones, timestamps, heads = read(payload, count)
    places = scan_keys(payload, count)
    assert starts == places.starts
    assert keys == places.keys
    assert max(map(len, keys)) <= heads.longest_key <= max(24, *map(len, keys))
    assert tombstones == places.without_value
    assert timestamps == [timestamp_delta_at(payload, start) for start in starts[:-1]]
    return places, heads


@given(RECORDS)
def test_the_same_as_one_after_the_other(records):
    """Where records are, their keys, which have no value, and their times; whatever the lengths and times."""
    places, heads = assert_same(payload_of(records), len(records))
    assert places.offset_deltas == list(range(len(records)))
    check_offsets(heads, [len(records)])


@settings(max_examples=30)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_batches_are_read_together(batches):
    """The records of some batches, and that the offsets of each begin with its own."""
    payloads = [payload_of(records) for records in batches]
    counts = [len(records) for records in batches]
    joined = b"".join(payloads)
    _, heads = assert_same(joined, sum(counts))
    check_offsets(heads, counts)
    if len(counts) > 1:
        with pytest.raises(UnusualError):
            check_offsets(heads, [sum(counts)])


@pytest.mark.parametrize("count", [63, 64, 65, 128, 8191, 8192, 8193, 20_000])
def test_offsets_of_any_size(count):
    """Differences of one, two and three bytes."""
    payload = payload_of([(0, NOW_MS + at // 7, b"k%d" % at, b"v" * (at % 90), ()) for at in range(count)])
    _, heads = assert_same(payload, count)
    check_offsets(heads, [count])


@settings(max_examples=400)
@given(RECORDS, st.data())
def test_damaged_records_are_unusual(records, data):
    """Whatever the bytes: what is found is what is there, or UnusualError, and never anything else."""
    payload = bytearray(payload_of(records))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, keys, tombstones, timestamps, _ = read(bytes(payload), len(records))
    except UnusualError:
        return
    try:
        places = scan_keys(bytes(payload), len(records))
    except DecodeError as error:
        assert "negative offset" in str(error)  # noqa: PT017 - which only `check_offsets` looks at
        return
    assert (keys, tombstones) == (places.keys, places.without_value)
    assert timestamps == [timestamp_delta_at(bytes(payload), start) for start in places.starts[:-1]]


def record(body):
    return encode_varint(len(body)) + body


@pytest.mark.parametrize(
    "odd",
    [
        record(b"\0\0\2\x01\2v\0"),
        record(b"\0\0\2\0\2v\0"),
        record(b"\0\0\2\x06ke"),
        record(b"\0\0\2"),
        record(b"\0\0\2\2"),
        record(b"\0\0\4\2k\2v\0"),
        record(b"\0\0\x03\2k\2v\0"),
        record(b"\0" + b"\xff" * 9 + b"\1\2\2k\2v\0"),
        record(b"\0\0\2\2k" + encode_varint(9000) + bytes(9000) + b"\0"),
        record(b"\0\0\2" + encode_varint(8192) + bytes(8192) + b"\2v\0"),
    ],
    ids=[
        "no key",
        "an empty key",
        "a key that goes beyond",
        "no key's length",
        "nothing after the length",
        "another offset",
        "a negative offset",
        "a time of ten bytes",
        "more than 8 KiB",
        "a key of 8 KiB",
    ],
)
def test_odd_records_are_left_to_others(odd):
    """UnusualError, so that they are read one after the other."""
    usual = record(b"\0\0\0\2k\2v\0")
    assert_same(usual, 1)
    with pytest.raises(UnusualError):
        check_offsets(read(usual + odd, 2)[-1], [2])


@pytest.mark.parametrize("payload", [b"", b"\0", b"\x0e", b"\xff\xff", record(b"\0\0\0\2k\2v\0") + b"\0"])
def test_what_is_not_filled_by_its_records_is_unusual(payload):
    """Nothing, half a record, and more than one."""
    with pytest.raises(UnusualError):
        cut_records(payload, 1)

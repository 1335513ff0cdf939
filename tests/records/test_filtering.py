"""Taking records out of a batch: what is left is as it was."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.records.batch import check_crc, parse_header
from barnabas.records.builder import build_batch
from barnabas.records.filtering import filter_batch, scan_keys
from barnabas.records.record import iterate_batch, uncompressed_records

NOW_MS = 1_700_000_000_000
LIMIT = {"now_ms": NOW_MS, "delete_retention_ms": 1000, "limit_bytes": 1 << 20}
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(NOW_MS - 10**9, NOW_MS + 10**9),
        st.none() | st.binary(max_size=200),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=30,
)


def with_gaps(drawn):
    """Records with rising offsets, as compaction leaves them."""
    offset = 99
    for gap, *fields in drawn:
        offset += 1 + gap
        yield (offset, *fields)


def batch_of(drawn, **options):
    return bytes(build_batch(with_gaps(drawn), base_offset=100, keep_offsets=True, **options))


@given(RECORDS, st.sampled_from([0, 1, 2, 3, 4]))
def test_places_and_keys_are_found(drawn, codec):
    """The same records as a whole decoding finds."""
    batch = batch_of(drawn, compression=codec)
    header = parse_header(batch)
    places = scan_keys(uncompressed_records(batch, 0, header), header.record_count)
    records = list(iterate_batch(batch, 0, header))
    assert places.keys == [record.key for record in records]
    assert list(places.offsets(100)) == [record.offset for record in records]
    assert places.without_value == [at for at, record in enumerate(records) if record.value is None]


@given(RECORDS, st.sets(st.integers(100, 300)), st.sampled_from([0, 1, 4]), st.booleans())
def test_what_is_left_is_as_it_was(drawn, old, codec, is_append_time):
    """Offset, time, key, value and headers of each, the batch's own offsets, producer and codec, under a right checksum."""
    batch = batch_of(
        drawn,
        compression=codec,
        producer_id=7,
        producer_epoch=3,
        base_sequence=11,
        log_append_time_ms=NOW_MS if is_append_time else None,
    )
    header = parse_header(batch)
    records = list(iterate_batch(batch, 0, header))
    newest = [record.offset + 1 if record.offset in old else -1 for record in records]
    found = filter_batch(batch, header, lambda keys: newest[: len(keys)], **LIMIT)
    left = [record for record in records if record.offset not in old and record.key is not None]
    assert found.record_count == len(left)
    assert found.keyless == sum(record.key is None for record in records)
    if not left:
        assert found.batch is None
        return
    after = parse_header(found.batch)
    assert check_crc(found.batch)
    assert list(iterate_batch(found.batch, 0, after)) == left
    assert (after.base_offset, after.last_offset) == (header.base_offset, header.last_offset)
    assert after[9:12] == header[9:12]
    assert after.compression == codec
    assert after.max_timestamp == (NOW_MS if is_append_time else max(record.timestamp for record in left))
    has_tombstone = any(record.value is None for record in left)
    assert after.delete_horizon_ms == (NOW_MS + 1000 if has_tombstone else None)
    if len(left) == len(records) and not has_tombstone:
        assert bytes(found.batch) == batch


def test_tombstones_stay_until_their_horizon():
    """The first cleaning sets it, a later one does not move it, and one behind it drops the tombstone, and nothing else."""
    batch = bytes(build_batch([(0, NOW_MS - 5000, b"gone", None, ()), (0, NOW_MS - 5, b"there", b"v", ())]))

    def clean(batch, now_ms):
        options = LIMIT | {"now_ms": now_ms}
        return filter_batch(batch, parse_header(batch), lambda keys: [-1] * len(keys), **options)

    first = clean(batch, NOW_MS)
    assert parse_header(first.batch).delete_horizon_ms == NOW_MS + 1000
    second = clean(bytes(first.batch), NOW_MS + 999)
    assert bytes(second.batch) == bytes(first.batch)
    third = clean(bytes(second.batch), NOW_MS + 1000)
    (record,) = iterate_batch(third.batch, 0, parse_header(third.batch))
    assert (record.offset, record.timestamp, record.key) == (1, NOW_MS - 5, b"there")


@settings(max_examples=300)
@given(RECORDS, st.data())
def test_damaged_records_are_refused(drawn, data):
    """Whatever the bytes, DecodeError or a result, and never anything else."""
    batch = batch_of(drawn)
    payload = bytearray(uncompressed_records(batch, 0, parse_header(batch)))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        scan_keys(bytes(payload), len(drawn))
    with pytest.raises(DecodeError):
        scan_keys(bytes(payload[:-1]) if len(payload) > 1 else b"", len(drawn) + 1)

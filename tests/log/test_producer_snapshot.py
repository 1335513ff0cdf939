from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.log.producer_entry import AppendedBatch, ProducerEntry
from barnabas.log.producer_snapshot import (
    decode_snapshot,
    encode_snapshot,
    snapshot_file_name,
    snapshot_offset,
)

int64 = st.integers(0, 2**63 - 1)
batches = st.builds(AppendedBatch, st.integers(0, 2**31 - 1), int64, st.integers(0, 2**31 - 1), int64)


@st.composite
def entries(draw):
    last_batch = draw(st.none() | batches)
    return ProducerEntry(
        draw(int64),
        epoch=draw(st.integers(-1, 32767)),
        coordinator_epoch=draw(st.integers(-1, 2**31 - 1)),
        last_timestamp_ms=last_batch.timestamp_ms if last_batch else draw(int64),
        transaction_first_offset=draw(st.integers(-1, 2**63 - 1)),
        last_batch=last_batch,
    )


@given(st.lists(entries(), max_size=5))
def test_what_is_written_is_read(written):
    """A snapshot keeps every producer with its last batch."""
    read = decode_snapshot(encode_snapshot(written))
    assert [repr(entry) for entry in read] == [repr(entry) for entry in written]


def test_layout():
    """The bytes are those of Apache Kafka's ProducerSnapshot, version 1."""
    entry = ProducerEntry(
        1,
        epoch=2,
        coordinator_epoch=3,
        last_timestamp_ms=4,
        transaction_first_offset=5,
        last_batch=AppendedBatch(6, 7, 8, 4),
    )
    data = encode_snapshot([entry])
    assert data[:2] == b"\0\1"
    assert data[6:] == bytes.fromhex(
        "00000001 0000000000000001 0002 00000006 0000000000000007 00000008"
        "0000000000000004 00000003 0000000000000005"
    )


@given(st.binary(max_size=120))
def test_random_bytes_are_refused(data):
    """Whatever is not a snapshot raises DecodeError."""
    with pytest.raises(DecodeError):
        decode_snapshot(data)


@given(st.lists(entries(), min_size=1, max_size=3), st.data())
def test_damage_is_found(written, data):
    """A snapshot with one flipped bit, or cut short, raises DecodeError."""
    good = encode_snapshot(written)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError):
        decode_snapshot(bytes(damaged))
    with pytest.raises(DecodeError):
        decode_snapshot(good[: data.draw(st.integers(0, len(good) - 1))])


def test_names():
    """Twenty digits and the suffix; anything else is not a snapshot."""
    assert snapshot_file_name(42) == "00000000000000000042.snapshot"
    assert snapshot_offset("00000000000000000042.snapshot") == 42
    for name in (
        "42.snapshot",
        "00000000000000000042.log",
        "00000000000000000042.snapshot.deleted",
        ".snapshot",
    ):
        assert snapshot_offset(name) is None

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.records.batch import check_crc, parse_header
from barnabas.records.control import (
    ControlType,
    EndMarker,
    build_end_marker,
    control_key,
    decode_control_type,
    decode_end_marker,
)
from barnabas.records.record import iterate_records


@given(st.booleans(), st.integers(0, 2**63 - 1), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1))
def test_end_marker_round_trip(is_commit, producer_id, producer_epoch, coordinator_epoch):
    """A marker says how the transaction ended, in a control batch of the producer without sequence number."""
    batch = build_end_marker(
        is_commit=is_commit,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        coordinator_epoch=coordinator_epoch,
        timestamp_ms=17,
    )
    header = parse_header(batch)
    assert check_crc(batch)
    assert header.is_control
    assert header.is_transactional
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (
        producer_id,
        producer_epoch,
        -1,
    )
    (record,) = iterate_records(batch, control=True)
    assert decode_end_marker(record.key, record.value) == EndMarker(is_commit, coordinator_epoch)


def test_other_control_records_are_told_apart():
    """Types beside the end of a transaction are none, and so are types of later versions."""
    assert decode_control_type(control_key(ControlType.LEADER_CHANGE)) is ControlType.LEADER_CHANGE
    assert decode_end_marker(control_key(ControlType.LEADER_CHANGE), b"") is None
    assert decode_control_type(b"\0\0\0\x63") is None
    assert decode_end_marker(b"\0\0\0\x63", None) is None
    assert decode_end_marker(b"\0\x01\0\x01more", b"\0\x01\0\0\0\x05more") == EndMarker(True, 5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"\0\0\0\0\0\0"),
        (b"\0\0\0", b"\0\0\0\0\0\0"),
        (b"\xff\xff\0\0", b"\0\0\0\0\0\0"),
        (b"\0\0\0\0", None),
        (b"\0\0\0\x01", b"\0\0\0\0\0"),
        (b"\0\0\0\x01", b"\xff\xff\0\0\0\0"),
    ],
)
def test_malformed_markers_are_refused(key, value):
    """What is too short for a marker is a DecodeError."""
    with pytest.raises(DecodeError):
        decode_end_marker(key, value)

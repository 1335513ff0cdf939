from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError
from barnabas.records.varint import encode_varint, read_varint, read_varlong


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (63, "7e"),
        (-64, "7f"),
        (64, "8001"),
        (8191, "fe7f"),
        (8192, "808001"),
        (2**31 - 1, "feffffff0f"),
        (-(2**31), "ffffffff0f"),
        (2**63 - 1, "feffffffffffffffff01"),
        (-(2**63), "ffffffffffffffffff01"),
    ],
)
def test_known_encodings(value, encoded):
    """Numbers at the borders have the bytes that Kafka's `ByteUtilsTest` lists."""
    assert encode_varint(value).hex() == encoded
    read = read_varint if -(2**31) <= value < 2**31 else read_varlong
    assert read(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_round_trip(small, large, rest):
    """Every number comes back, and the position after it."""
    data = encode_varint(small) + encode_varint(large) + rest
    value, position = read_varint(data, 0)
    assert value == small
    assert read_varlong(data, position) == (large, len(data) - len(rest))


@pytest.mark.parametrize(("read", "size"), [(read_varint, 5), (read_varlong, 10)])
def test_endless_varints_are_refused(read, size):
    """A varint that does not end in time is a DecodeError, one that is cut an IndexError."""
    with pytest.raises(DecodeError):
        read(b"\x80" * size + b"\0", 0)
    with pytest.raises(IndexError):
        read(b"\x80" * (size - 1), 0)

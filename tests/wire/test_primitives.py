from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import DecodeError, EncodeError
from barnabas.wire.primitives import (
    COMPACT_SIZES,
    STRING_SIZES,
    ZERO_UUID,
    close_tag,
    decode_unsigned_varint,
    encode_unsigned_varint,
    random_uuid,
    skip_tags,
    uuid_from_text,
    uuid_to_text,
)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_152, "80808001"),
        (268_435_456, "8080808001"),
        (2**32 - 1, "ffffffff0f"),
    ],
)
def test_unsigned_varints(value, data):
    """Seven bits per byte, least significant first, the top bit says "more"."""
    assert encode_unsigned_varint(value).hex() == data
    assert decode_unsigned_varint(b"x" + bytes.fromhex(data) + b"x", 1) == (value, 1 + len(data) // 2)


@pytest.mark.parametrize(
    "data", ["", "80", "ffffffff", "8080808080", "ffffffff10", "ffffffffff01", "ff" * 100]
)
def test_bad_varints_are_refused(data):
    """A varint that never ends, ends too late, or has more bits than fit."""
    with pytest.raises(DecodeError):
        decode_unsigned_varint(bytes.fromhex(data), 0)


def test_numbers_out_of_range_are_refused():
    """What does not fit is not wrapped."""
    for value in (-1, 2**32):
        with pytest.raises(EncodeError):
            encode_unsigned_varint(value)


def test_sizes_are_one_more_than_the_size():
    """Before compact values stands size + 1, ready made or not; strings have a limit."""
    for size in (0, 126, 127, 511, 512, 20_000):
        assert COMPACT_SIZES[size] == STRING_SIZES[size] == encode_unsigned_varint(size + 1)
    assert STRING_SIZES[32_767]
    with pytest.raises(EncodeError):
        STRING_SIZES[32_768]
    with pytest.raises(EncodeError):
        COMPACT_SIZES[2**31 - 1]


def test_tags_are_closed_and_skipped():
    """A tagged field is tag, size, bytes; a section of unknown ones is skipped whole."""
    pieces = [b"before", b"ab", b"c"]
    close_tag(pieces, 1, 300)
    assert pieces == [b"before", b"\xac\x02\x03abc"]
    section = b"\x02" + pieces[1] + b"\x00\x00"
    assert skip_tags(section, 1, section[0]) == len(section)


def test_uuid_text_is_kafkas():
    """The text is URL-safe base64 without padding, 22 characters."""
    assert uuid_to_text(ZERO_UUID) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_to_text(bytes.fromhex("fbffbf" * 5 + "01")) == "-_-_-_-_-_-_-_-_-_-_AQ"


@given(st.binary(min_size=16, max_size=16))
def test_uuids_come_back(uuid):
    """Every uuid is read from its text."""
    assert uuid_from_text(uuid_to_text(uuid)) == uuid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "A" * 21,
        "A" * 23,
        "A" * 24,
        "A" * 21 + "=",
        "A" * 21 + "ä",
        "A" * 21 + "B",
        "A" * 20 + "\n ",
        "+" * 22,
    ],
)
def test_other_text_is_no_uuid(text):
    """Text of another length or alphabet is refused."""
    with pytest.raises(ValueError, match="is no uuid"):
        uuid_from_text(text)


def test_random_uuids_are_of_version_4_and_no_tool_takes_them_for_an_option():
    """They differ, and the text of none begins with a dash."""
    made = {random_uuid() for _ in range(500)}
    assert len(made) == 500
    for uuid in made:
        assert UUID(bytes=uuid).version == 4
        assert not uuid_to_text(uuid).startswith("-")

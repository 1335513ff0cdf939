"""The variable-length encodings of the protocol, as far as the generated codecs do not inline them.

    unsigned varint    7 bits per byte, least significant first, the top bit says "more"; at most 5 bytes
    compact string     unsigned varint of size + 1 (0 is null), then UTF-8
    compact bytes      the same with plain bytes
    uuid               16 bytes; as text Kafka writes URL-safe base64 without padding
    tag section        unsigned varint count, then per field: tag, size, that many bytes

The generated code reads the common case (a size below 128) inline and calls the `..._tail` functions here for
the rest: they are handed the first byte, and the offset behind it.

Sources: `org.apache.kafka.common.utils.ByteUtils`, KIP-482 (tagged fields), `org.apache.kafka.common.Uuid`.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any, TypeAlias

from barnabas.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COMPACT_SIZES",
    "RESERVED_UUIDS",
    "STRING_SIZES",
    "ZERO_UUID",
    "BytesLike",
    "close_tag",
    "compact_nullable_size_tail",
    "compact_nullable_string_tail",
    "compact_size_tail",
    "compact_string_tail",
    "decode_unsigned_varint",
    "encode_unsigned_varint",
    "random_uuid",
    "skip_tags",
    "tag_header",
    "unsigned_varint_tail",
    "uuid_from_text",
    "uuid_to_text",
]

BytesLike: TypeAlias = bytes | bytearray | memoryview

ZERO_UUID = bytes(16)
"""The id that stands for "none"."""

RESERVED_UUIDS = 100
"""Kafka keeps the uuids below this number for itself."""

MAX_STRING_SIZE = 0x7FFF
"""Strings are limited to what the old two-byte size could say, in the compact encoding too."""


def encode_unsigned_varint(value: int) -> bytes:
    """The bytes of `value`, 0 to 2**32 - 1.

    Raises:
        EncodeError: the value is out of range.
    """
    if not 0 <= value <= 0xFFFFFFFF:
        raise EncodeError(f"{value} is no unsigned 32-bit number")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def unsigned_varint_tail(buffer: BytesLike, offset: int, first: int) -> tuple[int, int]:
    """The value that began with the byte `first` before `offset`, and where it ends.

    Raises:
        DecodeError: more than 32 bits.
        IndexError: the buffer ends first (the caller makes it a DecodeError).
    """
    value = first & 0x7F
    shift = 7
    byte = first
    while byte > 0x7F:
        byte = buffer[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > 0xFFFFFFFF or shift > 35:
            raise DecodeError("a varint has more than 32 bits")
    return value, offset


def decode_unsigned_varint(buffer: BytesLike, offset: int) -> tuple[int, int]:
    """The unsigned varint at `offset`, and where it ends.

    Raises:
        DecodeError: it is longer than 32 bits, or the buffer ends first.
    """
    try:
        return unsigned_varint_tail(buffer, offset + 1, buffer[offset])
    except IndexError:
        raise DecodeError("a varint runs past the end") from None


class _Sizes(dict[int, bytes]):
    """What stands before a compact value of n bytes or elements: n + 1 as an unsigned varint.

    The small ones are ready made, so that the generated code needs neither a branch nor a call for them.
    """

    __slots__ = ("_limit",)

    def __init__(self, ready_made: dict[int, bytes], limit: int) -> None:
        super().__init__(ready_made)
        self._limit = limit

    def __missing__(self, n: int) -> bytes:
        if n > self._limit:
            raise EncodeError(f"a size of {n} is beyond the limit of {self._limit}")
        return encode_unsigned_varint(n + 1)


_READY_MADE = {n: encode_unsigned_varint(n + 1) for n in range(512)}

COMPACT_SIZES: Mapping[int, bytes] = _Sizes(_READY_MADE, 0x7FFF_FFFE)
"""`COMPACT_SIZES[n]` stands before an array of n elements, or before n bytes."""

STRING_SIZES: Mapping[int, bytes] = _Sizes(_READY_MADE, MAX_STRING_SIZE)
"""`STRING_SIZES[n]` stands before a string of n bytes."""


def compact_string_tail(buffer: BytesLike, offset: int, first: int) -> tuple[str, int]:
    """A compact string whose size began with the byte `first`, and where it ends."""
    value, offset = compact_nullable_string_tail(buffer, offset, first)
    if value is None:
        raise DecodeError("a string that cannot be null is null")
    return value, offset


def compact_nullable_string_tail(buffer: BytesLike, offset: int, first: int) -> tuple[str | None, int]:
    """A compact string or null whose size began with the byte `first`, and where it ends."""
    size, offset = unsigned_varint_tail(buffer, offset, first)
    if size == 0:
        return None, offset
    size -= 1
    if size > MAX_STRING_SIZE:
        raise DecodeError(f"a string of {size} bytes is too long")
    stop = offset + size
    return str(buffer[offset:stop], "utf-8"), stop


def compact_size_tail(buffer: BytesLike, offset: int, first: int) -> tuple[int, int]:
    """The size of compact bytes or of an array that began with the byte `first`, and where it ends."""
    size, offset = unsigned_varint_tail(buffer, offset, first)
    if size == 0:
        raise DecodeError("a field that cannot be null is null")
    return size - 1, offset


def compact_nullable_size_tail(buffer: BytesLike, offset: int, first: int) -> tuple[int, int]:
    """The same, or -1 for null."""
    size, offset = unsigned_varint_tail(buffer, offset, first)
    return size - 1, offset


def tag_header(buffer: BytesLike, offset: int) -> tuple[int, int, int]:
    """The head of a tagged field: its tag, where its bytes begin, and where they end."""
    tag = buffer[offset]
    offset += 1
    if tag > 0x7F:
        tag, offset = unsigned_varint_tail(buffer, offset, tag)
    size = buffer[offset]
    offset += 1
    if size > 0x7F:
        size, offset = unsigned_varint_tail(buffer, offset, size)
    return tag, offset, offset + size


def skip_tags(buffer: BytesLike, offset: int, first: int) -> int:
    """Where a tag section ends of which we know no tag; its count began with the byte `first`."""
    count, offset = unsigned_varint_tail(buffer, offset, first)
    for _ in range(count):
        _, _, offset = tag_header(buffer, offset)
    return offset


def close_tag(pieces: list[Any], mark: int, tag: int) -> None:
    """Make one piece of all from `mark` on, a tagged field: its tag, its size, its bytes."""
    body = b"".join(pieces[mark:])
    pieces[mark:] = [encode_unsigned_varint(tag) + encode_unsigned_varint(len(body)) + body]


def random_uuid() -> bytes:
    """A random version 4 uuid, as `Uuid.randomUuid` makes them.

    It is none of those that Kafka reserves, and its text begins with no dash, which tools take for an option.
    """
    while True:
        raw = bytearray(os.urandom(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        # The first base64 digit is the top six bits; digit 62 is the dash.
        if raw[0] >> 2 != 62 and int.from_bytes(raw) >= RESERVED_UUIDS:
            return bytes(raw)


def uuid_to_text(uuid: bytes) -> str:
    """A uuid as Kafka prints it: 22 characters of URL-safe base64."""
    return b2a_base64(uuid, newline=False).rstrip(b"=").decode().replace("+", "-").replace("/", "_")


def uuid_from_text(text: str) -> bytes:
    """The 16 bytes of a uuid that Kafka printed.

    Raises:
        ValueError: the text is no uuid.
    """
    try:
        uuid = a2b_base64(text.replace("-", "+").replace("_", "/") + "==", strict_mode=True)
    except ValueError:
        uuid = b""
    if len(text) != 22 or len(uuid) != 16 or uuid_to_text(uuid) != text:
        raise ValueError(f"{text!r} is no uuid: 22 characters of URL-safe base64 are needed")
    return uuid

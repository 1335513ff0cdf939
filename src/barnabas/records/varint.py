"""Zig-zag varints, in which a record states its lengths and deltas.

A number n is folded to (n << 1) ^ (n >> 63), so that small negative numbers stay short, then written seven bits
a byte, lowest first, with the high bit set on all bytes but the last: 0 -> 00, -1 -> 01, 1 -> 02, 64 -> 80 01.

Source: KIP-98; Protocol Buffers encoding, "Signed Integers"; Kafka's `ByteUtils`.
"""

from __future__ import annotations

from barnabas.errors import DecodeError

__all__ = ["encode_varint", "read_varint", "read_varlong"]


def _encode(value: int) -> bytes:
    folded = value << 1 if value >= 0 else (~value << 1) | 1
    encoded = bytearray()
    while folded > 0x7F:
        encoded.append(folded & 0x7F | 0x80)
        folded >>= 7
    encoded.append(folded)
    return bytes(encoded)


_SMALL = tuple(_encode(value) for value in range(1024))


def encode_varint(value: int) -> bytes:
    """The varint of `value`; 32- and 64-bit numbers are written alike."""
    if 0 <= value < 1024:
        return _SMALL[value]
    return _encode(value)


def _read(payload: bytes | memoryview, position: int, bits: int) -> tuple[int, int]:
    folded = 0
    for shift in range(0, bits, 7):
        byte = payload[position]
        position += 1
        folded |= (byte & 0x7F) << shift
        if byte < 0x80:
            folded &= (1 << bits) - 1
            return (folded >> 1) ^ -(folded & 1), position
    raise DecodeError(f"varint at {position} is longer than {bits} bits")


def read_varint(payload: bytes | memoryview, position: int) -> tuple[int, int]:
    """The 32-bit number at `position`, and the position after it.

    IndexError at the end of `payload`, DecodeError after more than five bytes.
    """
    return _read(payload, position, 32)


def read_varlong(payload: bytes | memoryview, position: int) -> tuple[int, int]:
    """The 64-bit number at `position`, and the position after it.

    IndexError at the end of `payload`, DecodeError after more than ten bytes.
    """
    return _read(payload, position, 64)

"""The number by which a group notices that its topics changed, as Apache Kafka computes it.

    topic    0x00, id, name, partition count, then for each partition its index and the racks of its replicas, sorted
    group    the topics' numbers in the order of their names; 0 for no topics at all

Each is an XXH3 hash of 64 bits, without seed. Integers are little-endian; a string is its UTF-16 code units followed by their number, and
that number stands in front of a rack, too. Racks have to tell apart "a","b" and "ab".

Source: `Utils.computeTopicHash` and `computeGroupHash` of Kafka 4.3; the XXH3 specification.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["group_hash", "topic_hash", "xxh3_64"]

_MASK = 2**64 - 1
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_PRIME32_1 = 0x9E3779B1
_PRIME32_2 = 0x85EBCA77
_PRIME32_3 = 0xC2B2AE3D
_PRIME64_1 = 0x9E3779B185EBCA87
_PRIME64_2 = 0xC2B2AE3D27D4EB4F
_PRIME64_3 = 0x165667B19E3779F9
_PRIME64_4 = 0x85EBCA77C2B2AE63
_PRIME64_5 = 0x27D4EB2F165667C5
_PRIME_MX1 = 0x165667919E3779F9
_PRIME_MX2 = 0x9FB21C651E98DF25
_STRIPE_SIZE = 64
_STRIPES_PER_BLOCK = 16
_BLOCK_SIZE = _STRIPE_SIZE * _STRIPES_PER_BLOCK
_LAST_SECRET = len(_SECRET) - _STRIPE_SIZE
_STRIPE = struct.Struct("<8Q")

_unpack_u32 = struct.Struct("<I").unpack_from
_unpack_u64 = struct.Struct("<Q").unpack_from
_unpack_u64_pair = struct.Struct("<2Q").unpack_from


def topic_hash(name: str, topic_id: bytes, racks: Sequence[Sequence[str]]) -> int:
    """The number of one topic; `racks`: for each partition, those of its replicas, sorted."""
    high, low = struct.unpack(">2Q", topic_id)
    pieces = [b"\0", struct.pack("<2Q", high, low), _string(name), struct.pack("<i", len(racks))]
    for index, of_partition in enumerate(racks):
        pieces.append(struct.pack("<i", index))
        for rack in of_partition:
            text = _string(rack)
            pieces += (text[-4:], text)
    return _signed(xxh3_64(b"".join(pieces)))


def group_hash(topics: Mapping[str, int]) -> int:
    """The number of a group that subscribes to topics with these numbers, by name."""
    if not topics:
        return 0
    return _signed(xxh3_64(struct.pack(f"<{len(topics)}q", *[topics[name] for name in sorted(topics)])))


def _string(text: str) -> bytes:
    units = text.encode("utf-16-le", "surrogatepass")
    return units + struct.pack("<i", len(units) // 2)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


# ----- XXH3


def xxh3_64(data: bytes) -> int:
    """The XXH3 hash of 64 bits with the default secret and no seed."""
    size = len(data)
    if size > 240:
        return _hash_long(data)
    if size > 16:
        return _hash_medium(data)
    if size > 8:
        low = _u64(data, 0) ^ _secret(24) ^ _secret(32)
        high = _u64(data, size - 8) ^ _secret(40) ^ _secret(48)
        return _avalanche(size + int.from_bytes(low.to_bytes(8, "little"), "big") + high + _fold(low, high))
    if size > 3:
        value = (_u32(data, size - 4) + (_u32(data, 0) << 32)) ^ _secret(8) ^ _secret(16)
        value ^= _rotated(value, 49) ^ _rotated(value, 24)
        value = value * _PRIME_MX2 & _MASK
        value ^= (value >> 35) + size
        value = value * _PRIME_MX2 & _MASK
        return value ^ value >> 28
    if size:
        value = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        return _avalanche64(value ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    return _avalanche64(_secret(56) ^ _secret(64))


def _hash_medium(data: bytes) -> int:
    size = len(data)
    value = size * _PRIME64_1
    if size <= 128:
        for step in range((size - 1) // 32 + 1):
            value += _mix(data, 16 * step, 32 * step) + _mix(data, size - 16 * (step + 1), 32 * step + 16)
        return _avalanche(value)
    for step in range(8):
        value += _mix(data, 16 * step, 16 * step)
    value = _avalanche(value)
    for step in range(8, size // 16):
        value += _mix(data, 16 * step, 16 * (step - 8) + 3)
    return _avalanche(value + _mix(data, size - 16, 119))


def _hash_long(data: bytes) -> int:
    size = len(data)
    lanes = [
        *(_PRIME32_3, _PRIME64_1, _PRIME64_2, _PRIME64_3),
        *(_PRIME64_4, _PRIME32_2, _PRIME64_5, _PRIME32_1),
    ]
    block_count = (size - 1) // _BLOCK_SIZE
    for block in range(block_count):
        for stripe in range(_STRIPES_PER_BLOCK):
            _accumulate(lanes, data, block * _BLOCK_SIZE + stripe * _STRIPE_SIZE, 8 * stripe)
        for index, key in enumerate(_STRIPE.unpack_from(_SECRET, _LAST_SECRET)):
            lane = lanes[index]
            lanes[index] = (lane ^ lane >> 47 ^ key) * _PRIME32_1 & _MASK
    start = block_count * _BLOCK_SIZE
    for stripe in range((size - 1 - start) // _STRIPE_SIZE):
        _accumulate(lanes, data, start + stripe * _STRIPE_SIZE, 8 * stripe)
    _accumulate(lanes, data, size - _STRIPE_SIZE, _LAST_SECRET - 7)
    value = size * _PRIME64_1
    for pair in range(4):
        value += _fold(
            lanes[2 * pair] ^ _secret(11 + 16 * pair), lanes[2 * pair + 1] ^ _secret(19 + 16 * pair)
        )
    return _avalanche(value)


def _accumulate(lanes: list[int], data: bytes, offset: int, secret_offset: int) -> None:
    keys = _STRIPE.unpack_from(_SECRET, secret_offset)
    for index, value in enumerate(_STRIPE.unpack_from(data, offset)):
        key = value ^ keys[index]
        lanes[index ^ 1] = (lanes[index ^ 1] + value) & _MASK
        lanes[index] = (lanes[index] + (key & 0xFFFFFFFF) * (key >> 32)) & _MASK


def _mix(data: bytes, offset: int, secret_offset: int) -> int:
    low, high = _unpack_u64_pair(data, offset)
    low_key, high_key = _unpack_u64_pair(_SECRET, secret_offset)
    return _fold(low ^ low_key, high ^ high_key)


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & _MASK) ^ product >> 64


def _avalanche(value: int) -> int:
    value &= _MASK
    value ^= value >> 37
    value = value * _PRIME_MX1 & _MASK
    return value ^ value >> 32


def _avalanche64(value: int) -> int:
    value ^= value >> 33
    value = value * _PRIME64_2 & _MASK
    value ^= value >> 29
    value = value * _PRIME64_3 & _MASK
    return value ^ value >> 32


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _u32(data: bytes, offset: int) -> int:
    (value,) = _unpack_u32(data, offset)
    return value  # type: ignore[no-any-return]  # an int by its format


def _u64(data: bytes, offset: int) -> int:
    (value,) = _unpack_u64(data, offset)
    return value  # type: ignore[no-any-return]  # an int by its format


def _secret(offset: int) -> int:
    return _u64(_SECRET, offset)

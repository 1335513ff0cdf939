"""Which partition of an internal topic a group or transactional id belongs to.

Clients never compute this, but other brokers and tools do: it has to be Java's `String.hashCode`, over UTF-16 code units.
Source: Kafka's `GroupCoordinatorService.partitionFor`, `Utils.abs`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

__all__ = ["NAMES_REMEMBERED_MAX", "java_string_hash", "partition_for"]

_INT_MIN = -(2**31)

NAMES_REMEMBERED_MAX = 1024
"""Hashing one anew takes two microseconds."""


def java_string_hash(text: str) -> int:
    """`String.hashCode()`: a signed 32-bit number."""
    encoded = text.encode("utf-16-be", "surrogatepass")
    result = 0
    for unit in struct.unpack(f">{len(encoded) // 2}H", encoded):
        result = (31 * result + unit) & 0xFFFFFFFF
    return result - 2**32 if result >= 2**31 else result


@lru_cache(maxsize=NAMES_REMEMBERED_MAX)
def partition_for(key: str, partition_count: int) -> int:
    """The partition that holds the state of `key`."""
    number = java_string_hash(key)
    return (0 if number == _INT_MIN else abs(number)) % partition_count

"""The newest offset of each key in the part of a log that is being cleaned, in bounded memory.

A key of at most 64 bytes stands for itself, a longer one for its 16-byte digest, which costs more time than the rest. The digest is
salted with random bytes: who writes records cannot know two keys that share one.

Source: `SkimpyOffsetMap` of Apache Kafka 4.3, which digests all keys and takes 24 bytes for each, where this takes `BYTES_PER_KEY`, or
more for a key of more than 24 bytes.
"""

from __future__ import annotations

import os
from array import array
from itertools import repeat
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["BYTES_PER_KEY", "OffsetMap"]

BYTES_PER_KEY = 176
"""What a key of up to 24 bytes takes at most: itself, its offset and its place in the table, also while that grows."""

_COUNTED_BYTES = 24
_LONGEST_KEY = 64
_DIGEST_BYTES = 16


def _cost(key_bytes: int) -> int:
    """What a key of so many bytes takes at most."""
    return BYTES_PER_KEY + max(key_bytes - _COUNTED_BYTES, 0)


def _longest(keys: Sequence[bytes]) -> int:
    return len(max(keys, key=len, default=b""))


class OffsetMap:
    """Key -> newest offset; full after a number of keys.

    Args:
        memory_bytes: what it may take.
        load_factor: the share of its room that is used (`log.cleaner.io.buffer.load.factor`).

    Attributes:
        latest_offset: up to where the log is reflected here, -1 for nothing.
    """

    __slots__ = ("_memory_bytes", "_offsets", "_room_bytes", "_salt", "_used_bytes", "latest_offset")

    def __init__(self, memory_bytes: int, load_factor: float) -> None:
        self._memory_bytes = max(memory_bytes, 1)
        self._room_bytes = memory_bytes * load_factor
        self._used_bytes = 0
        self.latest_offset = -1
        self._offsets: dict[bytes | int, int] = {}
        self._salt = os.urandom(16)

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def utilization(self) -> float:
        """The share of the room that is taken."""
        return min(self._used_bytes / self._memory_bytes, 1.0)

    def put_all(
        self, keys: Sequence[bytes | None], offsets: Iterable[int], longest: int | None = None
    ) -> bool:
        """Notes the newest offsets of keys, in rising order; False, and as many are noted as there is room for, if the map is full.

        Args:
            keys: None stands for no key, which is passed over.
            offsets: of each.
            longest: given if it is known that none is None and none longer.
        """
        known = self._offsets
        if longest is not None or None not in keys:
            with_key = cast("Sequence[bytes]", keys)
            if longest is None:
                longest = _longest(with_key)
            cost = _cost(min(longest, _LONGEST_KEY))
            if self._used_bytes + len(keys) * cost <= self._room_bytes:
                before = len(known)
                known.update(zip(self._names(with_key, longest), offsets, strict=True))
                self._used_bytes += (len(known) - before) * cost
                return True
        for key, offset in zip(keys, offsets, strict=True):
            if key is None:
                continue
            cost = _cost(min(len(key), _LONGEST_KEY))
            # One is taken even if there is room for none.
            if self._used_bytes + cost > self._room_bytes and known:
                return False
            name = key if len(key) <= _LONGEST_KEY else self._digest(key)
            if name not in known:
                self._used_bytes += cost
            known[name] = offset
            self.latest_offset = offset
        return True

    def newest_offsets(self, keys: Sequence[bytes]) -> Iterable[int]:
        """The newest offset of each key, -1 for one that is not known."""
        return map(self._offsets.get, self._names(keys, _longest(keys)), repeat(-1))

    def has(self, keys: Sequence[bytes], longest: int) -> Iterable[bool]:
        """Whether each key is known; none is longer than `longest`."""
        return map(self._offsets.__contains__, self._names(keys, longest))

    def all_offsets(self) -> array[int]:
        """All newest offsets, in rising order."""
        return array("q", sorted(self._offsets.values()))

    def _names(self, keys: Sequence[bytes], longest: int) -> Sequence[bytes | int]:
        """What the keys are known by."""
        if longest <= _LONGEST_KEY:
            return keys
        digest = self._digest
        return [key if len(key) <= _LONGEST_KEY else digest(key) for key in keys]

    def _digest(self, key: bytes) -> int:
        """A number, so that it is never taken for a key."""
        from hashlib import blake2b

        return int.from_bytes(blake2b(key, digest_size=_DIGEST_BYTES, salt=self._salt).digest(), "little")

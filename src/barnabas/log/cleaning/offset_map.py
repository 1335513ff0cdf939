"""The newest offset of each key in the part of a log that is being cleaned, in bounded memory.

A key of less than 16 bytes stands for itself, a longer one for its 16-byte digest. The digest is salted with random bytes: who
writes records cannot know two keys that share one.

Source: `SkimpyOffsetMap` of Apache Kafka 4.3, which takes 24 bytes a key where this takes `BYTES_PER_KEY`.
"""

from __future__ import annotations

import os
from hashlib import blake2b

__all__ = ["BYTES_PER_KEY", "OffsetMap"]

BYTES_PER_KEY = 176
"""What a key takes at most: its digest, its offset and its place in the table, also while that grows."""

_DIGEST_BYTES = 16


class OffsetMap:
    """Key -> newest offset; full after a number of keys.

    Args:
        memory_bytes: what it may take.
        load_factor: the share of its room that is used (`log.cleaner.io.buffer.load.factor`).

    Attributes:
        latest_offset: up to where the log is reflected here, -1 for nothing.
        capacity: how many keys it takes.
    """

    __slots__ = ("_offsets", "_salt", "capacity", "latest_offset", "slots")

    def __init__(self, memory_bytes: int, load_factor: float) -> None:
        self.slots = max(memory_bytes // BYTES_PER_KEY, 1)
        self.capacity = max(int(self.slots * load_factor), 1)
        self.latest_offset = -1
        self._offsets: dict[bytes, int] = {}
        self._salt = os.urandom(16)

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def utilization(self) -> float:
        """The share of the room that is taken."""
        return len(self._offsets) / self.slots

    def put(self, key: bytes, offset: int) -> bool:
        """Notes a key's newest offset; False, and nothing is noted, if the map is full."""
        offsets = self._offsets
        if len(offsets) >= self.capacity:
            return False
        if len(key) >= _DIGEST_BYTES:
            key = blake2b(key, digest_size=_DIGEST_BYTES, salt=self._salt).digest()
        offsets[key] = offset
        self.latest_offset = offset
        return True

    def is_newest(self, key: bytes, offset: int) -> bool:
        """Whether no later record of this key is known; also of records behind what is reflected here."""
        if len(key) >= _DIGEST_BYTES:
            key = blake2b(key, digest_size=_DIGEST_BYTES, salt=self._salt).digest()
        return offset >= self._offsets.get(key, -1)

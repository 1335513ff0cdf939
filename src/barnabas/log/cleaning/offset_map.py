"""The newest offset of each key in the part of a log that is being cleaned, in bounded memory.

A key of less than 16 bytes stands for itself, a longer one for its 16-byte digest. The digest is salted with random bytes: who
writes records cannot know two keys that share one.

Source: `SkimpyOffsetMap` of Apache Kafka 4.3, which takes 24 bytes a key where this takes `BYTES_PER_KEY`.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from itertools import repeat
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    def put_all(self, keys: Sequence[bytes | None], offsets: Sequence[int]) -> bool:
        """Notes the newest offsets of keys, in rising order; False, and as many are noted as there is room for, if the map is full.

        None stands for no key, which is passed over.
        """
        known = self._offsets
        if len(known) + len(keys) <= self.capacity and None not in keys:
            known.update(zip(self._shortened(cast("Sequence[bytes]", keys)), offsets, strict=True))
            return True
        for key, offset in zip(keys, offsets, strict=True):
            if key is None:
                continue
            if len(known) >= self.capacity:
                return False
            known[key if len(key) < _DIGEST_BYTES else self._digest(key)] = offset
            self.latest_offset = offset
        return True

    def newest_offsets(self, keys: Sequence[bytes]) -> Iterable[int]:
        """The newest offset of each key, -1 for one that is not known."""
        return map(self._offsets.get, self._shortened(keys), repeat(-1))

    def _shortened(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        if len(max(keys, key=len, default=b"")) < _DIGEST_BYTES:
            return keys
        digest = self._digest
        return [key if len(key) < _DIGEST_BYTES else digest(key) for key in keys]

    def _digest(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=_DIGEST_BYTES, salt=self._salt).digest()

"""Reads the keys of batches of data into the map of keys, many batches at a time.

They are read in columns (`records/columns.py`) where that can be done, else a batch after the other (`scan_keys`). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING

from barnabas.records.batch import CODEC_MASK, HEADER_SIZE, LENGTH_END
from barnabas.records.columns import (
    UnusualError,
    check_offsets,
    cut_records,
    read_heads,
    read_keys,
)
from barnabas.records.compression import DEFAULT_LIMIT_BYTES
from barnabas.records.filtering import scan_keys
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from barnabas.log.cleaning.offset_map import OffsetMap
    from barnabas.records.batch import BatchHeader

__all__ = ["KeyReader"]

MOST_RECORDS = 2000
FEWEST_RECORDS = 24
"""With fewer records than this, one after the other is faster."""


class KeyReader:
    """See the module.

    Args:
        keys: where the keys go.
        start_offset: records below it are passed over.
        most_bytes: of records, after which those that are held are read.

    Attributes:
        position: of the batch that is added next, for errors.
        is_regular: whether all records had keys, and offsets as their batches' headers say.
    """

    def __init__(self, keys: OffsetMap, start_offset: int, *, most_bytes: int) -> None:
        self._keys = keys
        self._start_offset = start_offset
        self._most_bytes = most_bytes
        self._held: list[tuple[BatchHeader, bytes, int]] = []
        self._held_bytes = self._held_records = 0
        self.is_regular = True
        self.position = 0

    def add(self, header: BatchHeader, buffer: bytes, at: int) -> bool:
        """Takes the next batch; False if the map is full, which then holds as many records as it has room for.

        Args:
            header: the batch's, which is at `position` in its segment.
            buffer: the batch is in there, its CRC checked.
            at: where it begins.

        Raises:
            DecodeError: the records of a batch do not parse; `position` is now its position.
        """
        if header.attributes & CODEC_MASK:
            payload = uncompressed_records(buffer, at, header, limit_bytes=DEFAULT_LIMIT_BYTES)
        else:
            payload = buffer[at + HEADER_SIZE : at + LENGTH_END + header.batch_length]
        self._held.append((header, payload, self.position))
        self._held_bytes += len(payload)
        self._held_records += header.record_count
        if self._held_records >= MOST_RECORDS or self._held_bytes >= self._most_bytes:
            return self.finish()
        return True

    def finish(self) -> bool:
        """Reads what is held; False if the map is full."""
        held, self._held = self._held, []
        records = self._held_records
        self._held_bytes = self._held_records = 0
        if not held:
            return True
        if records >= FEWEST_RECORDS and held[0][0].base_offset >= self._start_offset:
            try:
                keys, longest = _keys_of(held)
            except UnusualError:
                pass
            else:
                offsets = [range(header.base_offset, header.next_offset) for header, _, _ in held]
                return self._put(held[-1][0], keys, chain.from_iterable(offsets), longest)
        return all(self._read(*each) for each in held)

    def _put(
        self,
        header: BatchHeader,
        keys: Sequence[bytes | None],
        offsets: Iterable[int],
        longest: int | None = None,
    ) -> bool:
        if not self._keys.put_all(keys, offsets, longest):
            return False
        self._keys.latest_offset = header.last_offset
        return True

    def _read(self, header: BatchHeader, payload: bytes, position: int) -> bool:
        self.position = position
        places = scan_keys(payload, header.record_count)
        keys, deltas = places.keys, places.offset_deltas
        count = header.record_count
        if None in keys or (header.last_offset_delta + 1 == count and deltas != list(range(count))):
            self.is_regular = False
        offsets = places.offsets(header.base_offset)
        if header.base_offset < self._start_offset:
            first = bisect_left(offsets, self._start_offset)
            keys, offsets = keys[first:], offsets[first:]
        return self._put(header, keys, offsets)


def _keys_of(batches: list[tuple[BatchHeader, bytes, int]]) -> tuple[list[bytes], int]:
    """The keys, and how long they are at most."""
    records = []
    counts = []
    for header, payload, _ in batches:
        count = header.record_count
        if header.last_offset_delta != count - 1:
            raise UnusualError
        records += cut_records(payload, count)
        counts.append(count)
    heads = read_heads(records)
    check_offsets(heads, counts)
    return read_keys(records, heads), heads.longest_key

"""Reads the keys of batches of data into the map of keys, many batches at a time.

They are read in columns (`records/columns.py`) where that can be done, else a batch after the other (`scan_keys`). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.records.columns import (
    UnusualError,
    check_offsets,
    find_starts,
    read_heads,
    read_keys,
    records_between,
)
from barnabas.records.compression import DEFAULT_LIMIT_BYTES
from barnabas.records.filtering import scan_keys
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
        is_regular: whether all records had keys, and offsets as their batches' headers say.
    """

    def __init__(self, keys: OffsetMap, start_offset: int, *, most_bytes: int) -> None:
        self._keys = keys
        self._start_offset = start_offset
        self._most_bytes = most_bytes
        self._held: list[tuple[BatchHeader, bytes, Callable[[DecodeError], DecodeError]]] = []
        self._held_bytes = self._held_records = 0
        self.is_regular = True

    def add(self, header: BatchHeader, batch: bytes, located: Callable[[DecodeError], DecodeError]) -> bool:
        """Takes the next batch; False if the map is full, which then holds as many records as it has room for.

        Args:
            header: the batch's.
            batch: the whole batch, its CRC checked.
            located: tells in an error where the batch is.

        Raises:
            DecodeError: the records of this batch, or of one that came before, do not parse.
        """
        try:
            payload = uncompressed_records(batch, 0, header, limit_bytes=DEFAULT_LIMIT_BYTES)
        except DecodeError as error:
            raise located(error) from error
        self._held.append((header, payload, located))
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
                keys = _keys_of([(header, payload) for header, payload, _ in held])
            except UnusualError:
                pass
            else:
                offsets = [range(header.base_offset, header.next_offset) for header, _, _ in held]
                return self._put(held[-1][0], keys, chain.from_iterable(offsets))
        return all(self._read(*each) for each in held)

    def _put(self, header: BatchHeader, keys: Sequence[bytes | None], offsets: Iterable[int]) -> bool:
        if not self._keys.put_all(keys, offsets):
            return False
        self._keys.latest_offset = header.last_offset
        return True

    def _read(
        self, header: BatchHeader, payload: bytes, located: Callable[[DecodeError], DecodeError]
    ) -> bool:
        try:
            places = scan_keys(payload, header.record_count)
        except DecodeError as error:
            raise located(error) from error
        keys, deltas = places.keys, places.offset_deltas
        count = header.record_count
        if None in keys or (header.last_offset_delta + 1 == count and deltas != list(range(count))):
            self.is_regular = False
        offsets = places.offsets(header.base_offset)
        if header.base_offset < self._start_offset:
            first = bisect_left(offsets, self._start_offset)
            keys, offsets = keys[first:], offsets[first:]
        return self._put(header, keys, offsets)


def _keys_of(batches: list[tuple[BatchHeader, bytes]]) -> list[bytes]:
    records = []
    counts = []
    for header, payload in batches:
        count = header.record_count
        if header.last_offset_delta != count - 1:
            raise UnusualError
        records += records_between(payload, find_starts(payload, count))
        counts.append(count)
    heads = read_heads(records)
    check_offsets(heads, counts)
    return read_keys(records, heads)

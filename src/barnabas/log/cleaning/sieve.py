"""What stays of batches of data, many of them at a time.

A batch whose keys were all read when the map of keys was made needs no look at its keys: a record of it stays if its offset is among
the newest. A batch that was clean before stays but for the records whose keys are in the map. Either way what must be known of the
records is read in columns (`records/columns.py`); what cannot be, a batch after the other (`filter_batch`). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import compress, groupby
from operator import not_
from typing import TYPE_CHECKING

from barnabas.records.columns import (
    UnusualError,
    find_starts,
    find_tombstones,
    read_heads,
    read_keys,
    read_timestamps,
    records_between,
)
from barnabas.records.compression import DEFAULT_LIMIT_BYTES
from barnabas.records.filtering import Filtered, filter_batch, rebuild, scan_keys, timestamp_delta_at
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Sequence

    from barnabas.log.cleaning.offset_map import OffsetMap
    from barnabas.records.batch import BatchHeader

__all__ = ["NOTHING", "Sieve"]

NOTHING = Filtered(None, 0, 0)
"""Of a batch of which nothing stays."""
FEWEST_RECORDS = 24
"""With fewer records than this, one after the other is faster."""
MOST_RECORDS = 2000


class _Held:
    """A batch that waits: its records, or those of them that are the newest of their keys."""

    __slots__ = ("batch", "header", "records")

    def __init__(self, header: BatchHeader, batch: bytes, records: list[bytes]) -> None:
        self.header = header
        self.batch = batch
        self.records = records


class Sieve:
    """See the module.

    Args:
        keys: the newest offsets, complete.
        start_offset: from which offset on the keys were read.
        newest: all offsets in the map, in rising order; None if records had no keys, or other offsets than their batches' headers say.
        now_ms: the time of the cleaning.
        delete_retention_ms: how long tombstones stay.
        most_bytes: of records, after which the sieve is full.
    """

    def __init__(
        self,
        keys: OffsetMap,
        start_offset: int,
        newest: array[int] | None,
        *,
        now_ms: int,
        delete_retention_ms: int,
        most_bytes: int,
    ) -> None:
        self._keys = keys
        self._start_offset = start_offset
        self._now_ms = now_ms
        self._delete_retention_ms = delete_retention_ms
        self._most_bytes = most_bytes
        self._all_newest = newest
        self._held: list[_Held] = []
        self._held_bytes = self._held_records = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to `drain`."""
        return self._held_records >= MOST_RECORDS or self._held_bytes >= self._most_bytes

    def add(self, header: BatchHeader, batch: bytes) -> Filtered | None:
        """Takes the next batch; gives what stays of it, or None if `drain` will. DecodeError if its records do not parse."""
        newest = self._newest_in(header)
        if newest is None and header.last_offset >= self._start_offset:
            return self._filter(header, batch)
        if newest is not None and not newest:
            return NOTHING
        payload = uncompressed_records(batch, 0, header, limit_bytes=DEFAULT_LIMIT_BYTES)
        try:
            starts = find_starts(payload, header.record_count)
        except UnusualError:
            return self._filter(header, batch)
        if newest is None or len(newest) == header.record_count:
            records = records_between(payload, starts)
            self._held_bytes += len(batch) + len(payload)
        else:
            base_offset = header.base_offset
            records = [
                payload[starts[offset - base_offset] : starts[offset - base_offset + 1]] for offset in newest
            ]
            self._held_bytes += len(payload) * len(records) // header.record_count
            batch = b""
        self._held.append(_Held(header, batch, records))
        self._held_records += len(records)
        return None

    def _newest_in(self, header: BatchHeader) -> Sequence[int] | None:
        """The offsets of those records that stay, as far as keys say; None if only their keys can tell."""
        all_newest = self._all_newest
        if (
            all_newest is None
            or header.base_offset < self._start_offset
            or header.last_offset > self._keys.latest_offset
            or header.last_offset_delta + 1 != header.record_count
            or header.is_transactional
        ):
            return None
        first = bisect_left(all_newest, header.base_offset)
        return all_newest[first : bisect_left(all_newest, header.next_offset, first)]

    def drain(self) -> Iterator[Filtered]:
        """What stays of the batches for which `add` gave nothing, in order. DecodeError if the records of one do not parse."""
        held, self._held = self._held, []
        self._held_bytes = self._held_records = 0
        for was_clean, group in groupby(held, self._was_clean):
            some = list(group)
            found: Iterable[Filtered]
            try:
                found = self._sift(some, was_clean=was_clean)
            except UnusualError:
                found = (self._sift_slowly(each, was_clean=was_clean) for each in some)
            yield from found

    def _was_clean(self, held: _Held) -> bool:
        return held.header.base_offset < self._start_offset

    def _filter(self, header: BatchHeader, batch: bytes) -> Filtered:
        return filter_batch(
            batch,
            header,
            self._keys.newest_offsets,
            now_ms=self._now_ms,
            delete_retention_ms=self._delete_retention_ms,
            limit_bytes=DEFAULT_LIMIT_BYTES,
        )

    def _sift(self, held: list[_Held], *, was_clean: bool) -> list[Filtered]:
        records = [record for each in held for record in each.records]
        if len(records) < FEWEST_RECORDS:
            raise UnusualError
        heads = read_heads(records)
        key_ends: Sequence[int] = heads.key_ends
        timestamps = read_timestamps(heads)
        counts = [len(each.records) for each in held]
        if was_clean:
            # What is in the map is newer than they.
            stays = list(map(not_, self._keys.has(read_keys(records, heads))))
            records = list(compress(records, stays))
            key_ends = list(compress(key_ends, stays))
            timestamps = list(compress(timestamps, stays))
            at = 0
            for place, count in enumerate(counts):
                counts[place] = sum(stays[at : at + count])
                at += count
        tombstones = find_tombstones(records, key_ends)
        found = []
        at = 0
        for each, count in zip(held, counts, strict=True):
            end = at + count
            found.append(
                self._rest(
                    each,
                    records[at:end],
                    timestamps[at:end],
                    _between(tombstones, at, end) if tombstones else (),
                )
            )
            at = end
        return found

    def _sift_slowly(self, held: _Held, *, was_clean: bool) -> Filtered:
        """The same for a batch, a record after the other."""
        if was_clean:
            return self._filter(held.header, held.batch)
        payload = b"".join(held.records)
        places = scan_keys(payload, len(held.records))
        timestamps = [timestamp_delta_at(payload, start) for start in places.starts[:-1]]
        return self._rest(held, held.records, timestamps, places.without_value)

    def _rest(
        self, held: _Held, records: list[bytes], timestamps: list[int], tombstones: Sequence[int]
    ) -> Filtered:
        header = held.header
        horizon_ms = header.delete_horizon_ms
        if tombstones and horizon_ms is not None and self._now_ms >= horizon_ms:
            gone = set(tombstones)
            stays = [place for place in range(len(records)) if place not in gone]
            records = [records[place] for place in stays]
            timestamps = [timestamps[place] for place in stays]
            tombstones = ()
        if not records:
            return NOTHING
        batch = rebuild(
            held.batch,
            header,
            records,
            max(timestamps),
            delete_horizon_ms=self._now_ms + self._delete_retention_ms if tombstones else None,
            limit_bytes=DEFAULT_LIMIT_BYTES,
        )
        return Filtered(batch, len(records), 0)


def _between(places: Sequence[int], first: int, end: int) -> list[int]:
    """Those of some rising places, counted from the first."""
    return [place - first for place in places[bisect_left(places, first) : bisect_left(places, end)]]

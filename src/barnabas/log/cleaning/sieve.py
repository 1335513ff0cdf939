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

from barnabas.records.batch import CODEC_MASK, HEADER_SIZE, LENGTH_END, TRANSACTIONAL_FLAG, BatchHeader
from barnabas.records.columns import (
    UnusualError,
    cut_records,
    find_starts,
    find_tombstones,
    read_heads,
    read_keys,
    read_timestamps,
)
from barnabas.records.compression import DEFAULT_LIMIT_BYTES
from barnabas.records.filtering import Filtered, filter_batch, rebuild, scan_keys, timestamp_delta_at
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Sequence

    from barnabas.log.cleaning.offset_map import OffsetMap

__all__ = ["NOTHING", "Sieve"]

NOTHING = Filtered(None, 0, 0)
"""Of a batch of which nothing stays."""
FEWEST_RECORDS = 24
"""With fewer records than this, one after the other is faster."""
MOST_RECORDS = 2000


_Held = tuple[BatchHeader, bytes, list[bytes]]
"""A batch that waits: its header, itself if all of it may stay, and its records, or those that are the newest of their keys."""


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

    def add(self, header: BatchHeader, buffer: bytes, at: int) -> Filtered | None:
        """Takes the next batch; gives what stays of it, or None if `drain` will.

        Args:
            header: the batch's.
            buffer: the batch is in there, its CRC checked.
            at: where it begins.

        Raises:
            DecodeError: its records do not parse.
        """
        count = header.record_count
        end = at + LENGTH_END + header.batch_length
        newest = self._newest_in(header)
        if newest is None:
            if header.last_offset >= self._start_offset:
                return self._filter(header, buffer[at:end])
        elif not newest:
            return NOTHING
        if header.attributes & CODEC_MASK:
            payload = uncompressed_records(buffer, at, header, limit_bytes=DEFAULT_LIMIT_BYTES)
        else:
            payload = buffer[at + HEADER_SIZE : end]
        batch = b""
        try:
            if newest is None or len(newest) == count:
                batch = buffer[at:end]
                records = cut_records(payload, count)
            else:
                starts = find_starts(payload, count)
                base_offset = header.base_offset
                records = [
                    payload[starts[offset - base_offset] : starts[offset - base_offset + 1]]
                    for offset in newest
                ]
        except UnusualError:
            return self._filter(header, buffer[at:end])
        self._held.append((header, batch, records))
        self._held_bytes += len(batch) + len(payload) * len(records) // count
        self._held_records += len(records)
        return None

    def _newest_in(self, header: BatchHeader) -> Sequence[int] | None:
        """The offsets of those records that stay, as far as keys say; None if only their keys can tell."""
        all_newest = self._all_newest
        base_offset, _, _, _, _, attributes, last_delta, *_, count = header
        if (
            all_newest is None
            or base_offset < self._start_offset
            or base_offset + last_delta > self._keys.latest_offset
            or last_delta + 1 != count
            or attributes & TRANSACTIONAL_FLAG
        ):
            return None
        first = bisect_left(all_newest, base_offset)
        return all_newest[first : bisect_left(all_newest, base_offset + count, first)]

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
        return held[0].base_offset < self._start_offset

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
        records = [record for _, _, some in held for record in some]
        if len(records) < FEWEST_RECORDS:
            raise UnusualError
        heads = read_heads(records)
        key_ends: Sequence[int] = heads.key_ends
        timestamps = read_timestamps(heads)
        counts = [len(some) for _, _, some in held]
        if was_clean:
            # What is in the map is newer than they.
            stays = list(map(not_, self._keys.has(read_keys(records, heads), heads.longest_key)))
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
        for (header, batch, _), count in zip(held, counts, strict=True):
            end = at + count
            if tombstones and (gone := _between(tombstones, at, end)):
                found.append(self._rest(header, batch, records[at:end], timestamps[at:end], gone))
            elif count == header.record_count:
                found.append(Filtered(batch, count, 0))
            else:
                found.append(self._rest(header, batch, records[at:end], timestamps[at:end], ()))
            at = end
        return found

    def _sift_slowly(self, held: _Held, *, was_clean: bool) -> Filtered:
        """The same for a batch, a record after the other."""
        header, batch, records = held
        if was_clean:
            return self._filter(header, batch)
        payload = b"".join(records)
        places = scan_keys(payload, len(records))
        timestamps = [timestamp_delta_at(payload, start) for start in places.starts[:-1]]
        return self._rest(header, batch, records, timestamps, places.without_value)

    def _rest(
        self,
        header: BatchHeader,
        batch: bytes,
        records: list[bytes],
        timestamps: list[int],
        tombstones: Sequence[int],
    ) -> Filtered:
        horizon_ms = header.delete_horizon_ms
        if tombstones and horizon_ms is not None and self._now_ms >= horizon_ms:
            gone = set(tombstones)
            stays = [place for place in range(len(records)) if place not in gone]
            records = [records[place] for place in stays]
            timestamps = [timestamps[place] for place in stays]
            tombstones = ()
        if not records:
            return NOTHING
        kept = rebuild(
            batch,
            header,
            records,
            max(timestamps),
            delete_horizon_ms=self._now_ms + self._delete_retention_ms if tombstones else None,
            limit_bytes=DEFAULT_LIMIT_BYTES,
        )
        return Filtered(kept, len(records), 0)


def _between(places: Sequence[int], first: int, end: int) -> list[int]:
    """Those of some rising places, counted from the first."""
    return [place - first for place in places[bisect_left(places, first) : bisect_left(places, end)]]

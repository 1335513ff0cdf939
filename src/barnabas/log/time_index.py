"""The time index, `%020d.timeindex`: the highest timestamp up to some offsets of the segment.

Entries of 12 bytes, big-endian, both fields rising:

    timestamp        int64   milliseconds, the highest of all batches up to and with the one below
    relative offset  int32   the last offset of the batch that has it, minus the segment's base offset

An entry means: whatever is later than `timestamp` lies behind `offset`. Written with the entries of the offset index where
the highest timestamp rose, and once more when the segment is rolled or closed, so that the last entry is the highest timestamp
of the segment.

Source: KIP-33; `TimeIndex` of Apache Kafka 4.3.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from barnabas.log.index_file import IndexFile

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["ENTRY_SIZE", "NO_TIMESTAMP", "TimeIndex", "TimestampOffset"]

ENTRY_SIZE = 12
NO_TIMESTAMP = -1

_ENTRY = struct.Struct(">qi")


def _timestamp_ms(entries: bytes, at: int) -> int:
    timestamp_ms: int = _ENTRY.unpack_from(entries, at)[0]
    return timestamp_ms


def _relative_offset(entries: bytes, at: int) -> int:
    offset: int = _ENTRY.unpack_from(entries, at)[1]
    return offset


class TimestampOffset(NamedTuple):
    """A timestamp (milliseconds) and the offset that it belongs to."""

    timestamp_ms: int
    offset: int


class TimeIndex:
    """The time index of one segment.

    Args:
        size: the file's size in bytes, None if it does not exist yet.
    """

    __slots__ = ("_base_offset", "_last", "entries")

    def __init__(self, files: Files, path: Path | str, base_offset: int, *, size: int | None = None) -> None:
        self._base_offset = base_offset
        self._last: TimestampOffset | None = None
        self.entries = IndexFile(files, path, ENTRY_SIZE, size=size)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self.entries.count

    def entry(self, index: int, *, wait: bool = True) -> TimestampOffset:
        """Entry `index`."""
        timestamp_ms, relative_offset = _ENTRY.unpack(self.entries.entry(index, wait=wait))
        return TimestampOffset(timestamp_ms, self._base_offset + relative_offset)

    def last(self, *, wait: bool = True) -> TimestampOffset:
        """The last entry; NO_TIMESTAMP and the base offset if there is none."""
        last = self._last
        if last is None:
            if self.entries.count:
                last = self.entry(self.entries.count - 1, wait=wait)
            else:
                last = TimestampOffset(NO_TIMESTAMP, self._base_offset)
            self._last = last
        return last

    def maybe_append(self, timestamp_ms: int, offset: int) -> None:
        """Notes a new highest timestamp; nothing if it is not higher than the last one noted."""
        last = self.last()
        if timestamp_ms > last.timestamp_ms and offset >= last.offset:
            self.entries.append(_ENTRY.pack(timestamp_ms, offset - self._base_offset))
            self._last = TimestampOffset(timestamp_ms, offset)

    def lookup(self, timestamp_ms: int, *, wait: bool = True) -> TimestampOffset:
        """The last entry with this timestamp or an earlier one; NO_TIMESTAMP and the base offset if there is none.

        ColdRead as in `IndexFile.entry`.
        """
        index = self.entries.place(bisect_right, timestamp_ms, _timestamp_ms, wait=wait)
        return self.entry(index - 1, wait=wait) if index else TimestampOffset(NO_TIMESTAMP, self._base_offset)

    def truncate_to(self, offset: int) -> None:
        """Drops the entries at `offset` and later."""
        self.entries.truncate(self.entries.place(bisect_left, offset - self._base_offset, _relative_offset))
        self._last = None

    def rising_entries(self) -> list[TimestampOffset]:
        """Each entry up to the first that does not rise, as after zeros from a power failure."""
        entries: list[TimestampOffset] = []
        last_ms, last_relative = NO_TIMESTAMP, -1
        for timestamp_ms, relative_offset in _ENTRY.iter_unpack(self.entries.read_all()):
            if timestamp_ms <= last_ms or relative_offset < last_relative:
                break
            entries.append(TimestampOffset(timestamp_ms, self._base_offset + relative_offset))
            last_ms, last_relative = timestamp_ms, relative_offset
        return entries

    def clear(self) -> None:
        """Drops all entries."""
        self.entries.truncate(0)
        self._last = None

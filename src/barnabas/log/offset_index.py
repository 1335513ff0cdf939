"""The offset index, `%020d.index`: where in the segment some of its batches begin.

Entries of 8 bytes, big-endian, rising:

    relative offset  int32   the last offset of a batch, minus the segment's base offset
    position         int32   where that batch begins in the segment's file

One entry about every `index.interval.bytes`. No checksum: after a crash the index is rebuilt from the segment.

Source: `OffsetIndex` of Apache Kafka 4.3.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from barnabas.log.index_file import IndexFile

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["ENTRY_SIZE", "OffsetIndex"]

ENTRY_SIZE = 8

_ENTRY = struct.Struct(">ii")


def _relative_offset(entries: bytes, at: int) -> int:
    offset: int = _ENTRY.unpack_from(entries, at)[0]
    return offset


def _position(entries: bytes, at: int) -> int:
    position: int = _ENTRY.unpack_from(entries, at)[1]
    return position


class OffsetIndex:
    """The offset index of one segment.

    Args:
        size: the file's size in bytes, None if it does not exist yet.
    """

    __slots__ = ("_base_offset", "entries")

    def __init__(self, files: Files, path: Path | str, base_offset: int, *, size: int | None = None) -> None:
        self._base_offset = base_offset
        self.entries = IndexFile(files, path, ENTRY_SIZE, size=size)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self.entries.count

    def append(self, last_offset: int, position: int) -> None:
        """Notes that the batch which ends with `last_offset` begins at `position`; both rise from call to call."""
        self.entries.append(_ENTRY.pack(last_offset - self._base_offset, position))

    def entry(self, index: int, *, wait: bool = True) -> tuple[int, int]:
        """Offset and position of entry `index`."""
        relative_offset, position = _ENTRY.unpack(self.entries.entry(index, wait=wait))
        return self._base_offset + relative_offset, position

    def lookup(self, offset: int, *, wait: bool = True) -> int:
        """The position of the last batch in the index that ends at `offset` or before, 0 if there is none.

        The batch that holds `offset` begins there or later. ColdRead as in `IndexFile.entry`.
        """
        if not self.entries.count:
            return 0
        index = self.entries.place(bisect_right, offset - self._base_offset, _relative_offset, wait=wait)
        return self.entry(index - 1, wait=wait)[1] if index else 0

    def offset_at(self, position: int, *, wait: bool = True) -> int | None:
        """The last offset of the first batch in the index that begins at `position` or later, None if there is none."""
        index = self.entries.place(bisect_left, position, _position, wait=wait)
        return self.entry(index, wait=wait)[0] if index < self.entries.count else None

    def last(self, *, wait: bool = True) -> tuple[int, int] | None:
        """Offset and position of the last entry, None if there is none."""
        return self.entry(self.entries.count - 1, wait=wait) if self.entries.count else None

    def truncate_to(self, offset: int) -> None:
        """Drops the entries of batches that end at `offset` or later."""
        self.entries.truncate(self.entries.place(bisect_left, offset - self._base_offset, _relative_offset))

    def rising_entries(self) -> list[tuple[int, int]]:
        """Offset and position of each entry up to the first that does not rise, as after zeros from a power failure."""
        entries: list[tuple[int, int]] = []
        last_relative, last_position = -1, -1
        for relative_offset, position in _ENTRY.iter_unpack(self.entries.read_all()):
            if relative_offset <= last_relative or position <= last_position:
                break
            entries.append((self._base_offset + relative_offset, position))
            last_relative, last_position = relative_offset, position
        return entries

    def clear(self) -> None:
        """Drops all entries."""
        self.entries.truncate(0)

"""A file of fixed-size entries in rising order, of which the newest are also held in memory.

New entries are appended in memory and written now and then, when enough of them came together and when the segment is
rolled or closed. Nothing is lost by that: after a crash the indexes of a segment are rebuilt from its batches. Unlike
Apache Kafka's, the file is never longer than its entries, so an idle partition holds neither memory nor a mapping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from barnabas.log.files import File, Files

__all__ = ["IndexFile"]

_NONE = bytearray()

WINDOW_ENTRIES = 1024
"""How many entries are held in memory at most; half of them are dropped when they are written."""

TOGETHER_ENTRIES = 512
"""How many entries a search reads at once: a page of offsets."""


class IndexFile:
    """Entries 0 to `count` - 1; those from `_window_start` on are in memory, those below `_written` in the file.

    Invariants: `_window_start` <= `_written` <= `count`; the file is `_written` entries long (and may be missing
    while that is 0 and the segment is the active one).
    """

    __slots__ = (
        "_entry_size",
        "_excess",
        "_exists",
        "_files",
        "_window",
        "_window_start",
        "_written",
        "count",
        "file",
    )

    def __init__(self, files: Files, path: Path | str, entry_size: int, *, size: int | None) -> None:
        """`size` is the file's size in bytes, None if it does not exist yet."""
        self._files = files
        self._entry_size = entry_size
        self._exists = size is not None
        self.file: File = files.handle(path)
        self.count = (size or 0) // entry_size
        self._excess = (size or 0) % entry_size != 0
        self._written = self.count
        self._window_start = self.count
        self._window = _NONE  # a buffer of its own comes with the first entry: most indexes never see one

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries."""
        return self.count * self._entry_size

    def append(self, entry: bytes) -> None:
        """Adds an entry."""
        window = self._window
        if window is _NONE:
            window = self._window = bytearray()
        window += entry
        self.count += 1
        if self.count - self._window_start >= WINDOW_ENTRIES:
            try:
                self.write()
            except DiskFullError:
                return  # the batch is written: its entry stays in memory until there is room
            dropped = WINDOW_ENTRIES // 2
            del window[: dropped * self._entry_size]
            self._window_start += dropped

    def entry(self, index: int, *, wait: bool = True) -> bytes:
        """The bytes of entry `index`, 0 <= index < count.

        Raises:
            ColdRead: `wait` is False, and the entry is not in the page cache.
            StorageError: the file cannot be read or is shorter than it was.
        """
        size = self._entry_size
        at = (index - self._window_start) * size
        if at >= 0:
            return bytes(self._window[at : at + size])
        return self._files.read_at(self.file, index * size, size, wait=wait)

    def place(
        self, bisect: Callable[..., int], value: int, key: Callable[[bytes, int], int], *, wait: bool = True
    ) -> int:
        """Where `bisect` (bisect_left or bisect_right) puts `value` among the entries, by `key` of a buffer and a position in it, which rises.

        The last steps are made among entries that were read together: a system call for each was most of what it costs to find
        an offset.

        Raises:
            ColdRead, StorageError: as `entry`.
        """
        low, high = 0, self.count
        while high - low > TOGETHER_ENTRIES:
            middle = (low + high) // 2
            if bisect((key(self.entry(middle, wait=wait), 0),), value):
                low = middle + 1
            else:
                high = middle
        size = self._entry_size
        together = self._read(low, high, wait=wait)
        return low + bisect(range(high - low), value, key=lambda index: key(together, index * size))

    def _read(self, first: int, end: int, *, wait: bool = True) -> bytes:
        """Entries `first` to `end` - 1."""
        size = self._entry_size
        start = self._window_start
        if first >= start:
            return bytes(self._window[(first - start) * size : (end - start) * size])
        in_file = self._files.read_at(self.file, first * size, (min(end, start) - first) * size, wait=wait)
        return in_file if end <= start else in_file + self._window[: (end - start) * size]

    def read_all(self) -> bytes:
        """All entries."""
        return self._read(0, self.count)

    def write(self) -> None:
        """Writes the entries that are not in the file yet, creating it if need be."""
        if not self._exists:
            self.file = self._files.create(self.file.path)
            self._exists = True
        if self._written < self.count:
            size = self._entry_size
            start = (self._written - self._window_start) * size
            self._files.write_at(self.file, self._written * size, self._window[start:])
            self._written = self.count

    def truncate(self, count: int) -> None:
        """Drops the entries from `count` on."""
        if count >= self.count and not self._excess:
            return
        count = min(count, self.count)
        self.count = count
        if count < self._window_start:
            self._window = _NONE
            self._window_start = count
        else:
            self._window = self._window[: (count - self._window_start) * self._entry_size]
        if self._written > count or self._excess:
            self._written = min(count, self._written)
            self._excess = False
            if self._exists:
                self._files.truncate(self.file, self._written * self._entry_size)

    def retire(self) -> None:
        """Writes what is missing and drops the entries from memory: nothing will be appended soon."""
        self.write()
        self._window = _NONE
        self._window_start = self.count

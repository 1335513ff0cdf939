"""The transaction index, `%020d.txnindex`: the aborted transactions whose marker is in the segment.

Entries of 34 bytes, big-endian, in the order of the markers:

    version             int16   0
    producer id         int64
    first offset        int64   of the transaction
    last offset         int64   the marker's
    last stable offset  int64   where read_committed readers stood once the marker was replicated

Read_committed consumers are told of the aborted transactions in what they fetch. The file exists only where there are
any; after a crash it is rebuilt from the segment.

Source: KIP-98; `TransactionIndex` and `AbortedTxn` of Apache Kafka 4.3.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, DiskFullError

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import File, Files

__all__ = ["ENTRY_SIZE", "AbortedTransaction", "TransactionIndex"]

ENTRY_SIZE = 34
VERSION = 0

_ENTRY = struct.Struct(">hqqqq")


class AbortedTransaction(NamedTuple):
    """One entry."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionIndex:
    """The transaction index of one segment; entries are written as they come, and read on first use.

    Args:
        size: the file's size in bytes, None if it does not exist.

    Attributes:
        file: the handle.
        is_dirty: whether it was changed since it was last synced; whoever syncs it takes that back.
        is_new: whether the file was created since its directory was last synced; likewise.
    """

    __slots__ = ("_base_offset", "_entries", "_files", "_size", "file", "is_dirty", "is_new")

    def __init__(self, files: Files, path: Path | str, base_offset: int, *, size: int | None = None) -> None:
        self._files = files
        self._base_offset = base_offset
        self._size = size
        self._entries: list[AbortedTransaction] | None = None if size else []
        self.file: File = files.handle(path)
        self.is_dirty = False
        self.is_new = False

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self._size is not None

    @property
    def is_empty(self) -> bool:
        """Whether no transaction of this segment was aborted."""
        return not self._size and not self._entries

    def append(self, transaction: AbortedTransaction) -> None:
        """Adds a transaction whose marker was just appended; on a full disk it is written with what comes next."""
        self._load().append(transaction)
        self.is_dirty = True
        with contextlib.suppress(DiskFullError):
            self.write()

    def write(self) -> None:
        """Writes the entries that are not in the file yet; raises DiskFullError."""
        if self._entries is None:
            return
        size = self._size or 0
        missing = self._entries[size // ENTRY_SIZE :]
        if not missing:
            return
        if self._size is None:
            self.file = self._files.create(self.file.path)
            self.is_new = True
            self._size = 0
        data = b"".join(_ENTRY.pack(VERSION, *transaction) for transaction in missing)
        self._files.write_at(self.file, size, data)
        self._size = size + len(data)

    def sync(self) -> None:
        """Writes and syncs what was changed; raises OSError (DiskFullError if there is no room)."""
        if not self.is_dirty:
            return
        self.write()
        if self._size is not None:
            self._files.sync_file(self.file.path)
        if self.is_new:
            self._files.sync_directory(self.file.path.parent)
        self.is_dirty = self.is_new = False

    def entries(self) -> list[AbortedTransaction]:
        """All entries, in the order of their markers; DecodeError if the file is damaged."""
        return list(self._load())

    def _load(self) -> list[AbortedTransaction]:
        if self._entries is None:
            self._entries = self._decode(self._files.read_at(self.file, 0, self._size or 0))
        return self._entries

    def _decode(self, data: bytes) -> list[AbortedTransaction]:
        if len(data) % ENTRY_SIZE:
            raise DecodeError(f"{self.file.path} has {len(data)} bytes, not a multiple of {ENTRY_SIZE}")
        entries = []
        before = self._base_offset - 1
        for version, *fields in _ENTRY.iter_unpack(data):
            entry = AbortedTransaction(*fields)
            producer_id, first_offset, last_offset, last_stable_offset = entry
            # Markers follow one another, and each comes after a record.
            if (
                version != VERSION
                or producer_id < 0
                or not 0 <= first_offset < last_offset
                or last_offset <= before
                or not 0 <= last_stable_offset <= last_offset + 1
            ):
                raise DecodeError(f"{self.file.path} has a damaged entry: version {version}, {entry}")
            entries.append(entry)
            before = last_offset
        return entries

    def collect(self, start_offset: int, end_offset: int, found: list[AbortedTransaction]) -> bool:
        """Adds to `found` what was aborted between two offsets; True if no later segment can add to it.

        Raises:
            DecodeError: the file is damaged; nothing was added.
        """
        for entry in self._load():
            if entry.last_offset >= start_offset and entry.first_offset < end_offset:
                found.append(entry)
            if entry.last_stable_offset >= end_offset:
                return True
        return False

    def truncate_to(self, offset: int) -> None:
        """Drops the entries whose marker is at `offset` or later."""
        if self.is_empty:
            return
        entries = self._load()
        keep = next(
            (index for index, entry in enumerate(entries) if entry.last_offset >= offset), len(entries)
        )
        if keep < len(entries):
            del entries[keep:]
            if keep * ENTRY_SIZE < (self._size or 0):
                self._files.truncate(self.file, keep * ENTRY_SIZE)
                self._size = keep * ENTRY_SIZE
            self.is_dirty = True

    @property
    def is_damaged(self) -> bool:
        """Whether the file does not make sense; it is read for that."""
        try:
            self._load()
        except DecodeError:
            return True
        return False

    def clear(self) -> None:
        """Drops all entries."""
        self._entries = []
        if self._size:
            self._files.truncate(self.file, 0)
            self._size = 0
            self.is_dirty = True

    def drop_damaged(self) -> None:
        """Drops what does not make sense, from the first such entry on."""
        if not self._size or self._entries is not None:
            return
        data = self._files.read_at(self.file, 0, self._size)
        whole = len(data) // ENTRY_SIZE
        while True:
            try:
                self._entries = self._decode(data[: whole * ENTRY_SIZE])
                break
            except DecodeError:
                whole -= 1
        if whole * ENTRY_SIZE != self._size:
            self._size = whole * ENTRY_SIZE
            self._files.truncate(self.file, self._size)

"""The producer snapshot file, `%020d.snapshot`: the producers that a partition knew below the offset in its name.

All numbers are big-endian:

    version              int16    1
    crc                  uint32   CRC32C of everything after this field
    count                int32
    count times (46 bytes):
      producer_id              int64
      epoch                    int16
      last_sequence            int32   -1: no data since the last epoch change
      last_offset              int64   -1: likewise
      offset_delta             int32   last minus first offset of the last batch
      timestamp_ms             int64   of the last batch or marker
      coordinator_epoch        int32   of the last marker, -1: none yet
      transaction_first_offset int64   -1: no open transaction

Only the last batch of the five remembered ones is kept. A file whose CRC does not match is not used: the next older
one is, and the log after it is read instead.

Source: `ProducerSnapshot.json` (version 1) and `ProducerStateManager` of Apache Kafka 4.3.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError, DiskFullError
from barnabas.log.producer_entry import AppendedBatch, ProducerEntry
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["ProducerSnapshots", "decode_snapshot", "encode_snapshot", "snapshot_file_name", "snapshot_offset"]

logger = logging.getLogger(__name__)

SNAPSHOT_SUFFIX = ".snapshot"
VERSION = 1

_HEAD = struct.Struct(">hI")
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")


def snapshot_file_name(offset: int) -> str:
    """The name of the snapshot of everything below `offset`."""
    return f"{offset:020d}{SNAPSHOT_SUFFIX}"


def snapshot_offset(name: str) -> int | None:
    """The offset in a snapshot's file name, or None if it is not one."""
    stem = name.removesuffix(SNAPSHOT_SUFFIX)
    if len(stem) == 20 and stem != name and stem.isascii() and stem.isdigit():
        return int(stem)
    return None


def encode_snapshot(entries: Iterable[ProducerEntry]) -> bytes:
    """The content of a snapshot file."""
    packed = []
    for entry in entries:
        batches = entry.batches
        last = batches[-1] if batches else None
        packed.append(
            _ENTRY.pack(
                entry.producer_id,
                entry.epoch,
                last.last_sequence if last else -1,
                last.last_offset if last else -1,
                last.offset_delta if last else 0,
                entry.last_timestamp_ms,
                entry.coordinator_epoch,
                entry.transaction_first_offset,
            )
        )
    body = _COUNT.pack(len(packed)) + b"".join(packed)
    return _HEAD.pack(VERSION, crc32c(body)) + body


def decode_snapshot(data: bytes) -> list[ProducerEntry]:
    """The producers in a snapshot file.

    Raises:
        DecodeError: the file is torn or damaged, or has another version.
    """
    if len(data) < _HEAD.size + _COUNT.size:
        raise DecodeError(f"producer snapshot of {len(data)} bytes is too short")
    version, crc = _HEAD.unpack_from(data)
    if version != VERSION:
        raise DecodeError(f"producer snapshot has version {version}, not {VERSION}")
    body = memoryview(data)[_HEAD.size :]
    if crc32c(body) != crc:
        raise DecodeError("producer snapshot is damaged: its checksum does not match")
    (count,) = _COUNT.unpack_from(body)
    records = body[_COUNT.size :]
    if count * _ENTRY.size != len(records):
        raise DecodeError(f"producer snapshot says {count} producers and has {len(records)} bytes for them")
    entries = []
    for (
        producer_id,
        epoch,
        last_sequence,
        last_offset,
        offset_delta,
        timestamp_ms,
        coordinator_epoch,
        transaction_first_offset,
    ) in _ENTRY.iter_unpack(records):
        last_batch = (
            AppendedBatch(last_sequence, last_offset, offset_delta, timestamp_ms)
            if last_offset >= 0
            else None
        )
        entries.append(
            ProducerEntry(
                producer_id,
                epoch=epoch,
                coordinator_epoch=coordinator_epoch,
                last_timestamp_ms=timestamp_ms,
                transaction_first_offset=max(transaction_first_offset, -1),
                last_batch=last_batch,
            )
        )
    return entries


class ProducerSnapshots:
    """The snapshot files of one partition. Creating one touches no file: `scan` says which there are."""

    __slots__ = ("_files", "_offsets", "directory")

    def __init__(self, directory: Path, files: Files) -> None:
        self.directory = directory
        self._files = files
        self._offsets: set[int] = set()

    @property
    def offsets(self) -> list[int]:
        """The offsets of the files, ascending."""
        return sorted(self._offsets)

    @property
    def latest_offset(self) -> int | None:
        """The offset of the latest file."""
        return max(self._offsets, default=None)

    def path(self, offset: int) -> Path:
        """Where the snapshot of everything below `offset` lies, whether it exists or not."""
        return self.directory / snapshot_file_name(offset)

    def scan(self, names: Iterable[str] | None = None) -> None:
        """Learn which files exist, from a listing of the directory (read here if not given)."""
        if names is None:
            names = self._files.list_directory(self.directory)
        self._offsets = {offset for name in names if (offset := snapshot_offset(name)) is not None}

    def write(self, offset: int, entries: Iterable[ProducerEntry], *, sync: bool) -> Path:
        """Write a snapshot."""
        path = self.path(offset)
        self._files.write_file(path, encode_snapshot(entries), sync=sync)
        self._offsets.add(offset)
        return path

    def load_latest(self) -> tuple[int, list[ProducerEntry]] | None:
        """The latest snapshot that can be read: its offset and producers. Damaged ones are deleted."""
        for offset in sorted(self._offsets, reverse=True):
            path = self.path(offset)
            try:
                return offset, decode_snapshot(self._files.read_file(path))
            except (DecodeError, FileNotFoundError) as error:
                logger.warning("%s is not used and deleted: %s", path, error)
                self.delete(offset)
        return None

    def delete(self, offset: int) -> None:
        """Delete a file, if there is one."""
        if offset in self._offsets:
            self._offsets.discard(offset)
            self._files.delete(self.path(offset))

    def delete_outside(self, first_offset: int, last_offset: int) -> None:
        """Delete the files at or below `first_offset` and those above `last_offset`."""
        for offset in self.offsets:
            if not first_offset < offset <= last_offset:
                self.delete(offset)

    def delete_strays(self, segment_base_offsets: Iterable[int]) -> None:
        """Delete files that belong to no segment, except that of a clean shutdown after the last segment."""
        bases = set(segment_base_offsets)
        highest_base = max(bases, default=-1)
        strays = sorted(self._offsets - bases)
        keep = strays[-1] if strays and strays[-1] > highest_base else None
        for offset in strays:
            if offset != keep:
                self.delete(offset)

    def forget(self, offset: int) -> Path | None:
        """Take a file out of use and rename it to `.deleted`, to be deleted later together with its segment."""
        if offset not in self._offsets:
            return None
        self._offsets.discard(offset)
        path = self.path(offset)
        renamed = path.with_name(path.name + ".deleted")
        try:
            self._files.rename(path, renamed)
        except FileNotFoundError:
            return None
        except DiskFullError:
            self._files.delete(path)
            return None
        return renamed

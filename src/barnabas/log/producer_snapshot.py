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

import struct
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.log.producer_entry import AppendedBatch, ProducerEntry
from barnabas.records.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["decode_snapshot", "encode_snapshot", "snapshot_file_name", "snapshot_offset"]

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

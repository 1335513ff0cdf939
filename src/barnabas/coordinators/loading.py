"""Replays a partition of an internal topic into a shard, without holding up the loop.

Chunks are read in a worker thread, since they may not be in the page cache, and replayed for a few milliseconds at a time.
Source: Kafka's `CoordinatorLoaderImpl`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError
from barnabas.records.batch import check_crc, iterate_headers
from barnabas.records.control import decode_end_marker
from barnabas.records.record import iterate_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barnabas.clock import Clock
    from barnabas.coordinators.shard import Shard
    from barnabas.records.batch import BatchHeader
    from barnabas.replication.partition import Partition

__all__ = ["LoadSummary", "load"]

LOAD_SLICE_MS = 5.0
RECORDS_BETWEEN_LOOKS = 200


@dataclass(slots=True)
class LoadSummary:
    """How much was replayed."""

    record_count: int = 0
    size_bytes: int = 0


async def load(partition: Partition, shard: Shard, *, chunk_bytes: int, clock: Clock) -> LoadSummary:
    """Replays everything that the partition's log holds.

    Args:
        partition: Led by this broker, so that nobody but its coordinator appends.
        shard: Empty.
        chunk_bytes: How much is read at a time; a bigger batch is read whole.
        clock: To stop for others in time.

    Raises:
        DecodeError: a record can not be understood; the message says which.
        KafkaError, StorageError: the log can not be read.
    """
    loop = asyncio.get_running_loop()
    log = partition.log
    summary = LoadSummary()
    start = offset = log.log_start_offset
    while offset < log.log_end_offset:
        found = log.read(offset, chunk_bytes, up_to_offset=log.log_end_offset, min_one_batch=True)
        if found.region is None:
            if found.end_offset <= offset:
                break
            offset = found.end_offset
            continue
        try:
            data = await loop.run_in_executor(None, found.region.read)
        finally:
            found.region.release()
        before = offset
        slice_ends_ms = clock.monotonic_ms() + LOAD_SLICE_MS
        for position, header in iterate_headers(data):
            try:
                for count in _replay(shard, data, position, header, start):
                    summary.record_count += count
                    if clock.monotonic_ms() >= slice_ends_ms:
                        await asyncio.sleep(0)
                        slice_ends_ms = clock.monotonic_ms() + LOAD_SLICE_MS
            except DecodeError as error:
                raise DecodeError(
                    f"{partition.topic}-{partition.index}, batch at offset {header.base_offset}: {error}"
                ) from error
            summary.size_bytes += header.size_bytes
            offset = max(offset, header.next_offset)
        if offset == before:
            raise DecodeError(f"{partition.topic}-{partition.index}: no batch at offset {offset}")
    return summary


def _replay(
    shard: Shard, data: bytes, position: int, header: BatchHeader, start_offset: int
) -> Iterator[int]:
    """Replays a batch; gives how many records that were, a few hundred at a time."""
    if not check_crc(data, position):
        raise DecodeError("the checksum is wrong")
    producer_id, producer_epoch = header.producer_id, header.producer_epoch
    records = iterate_batch(data, position, header)
    if header.is_control:
        for _, _, key, value, _ in records:
            marker = decode_end_marker(key, value)
            if marker is not None:
                shard.replay_end_transaction_marker(producer_id, producer_epoch, committed=marker.is_commit)
        yield 0
        return
    count = 0
    for offset, _, key, value, _ in records:
        if offset < start_offset:
            continue
        if key is None:
            raise DecodeError(f"the record at offset {offset} has no key")
        shard.replay(offset, producer_id, producer_epoch, key, value)
        count += 1
        if count == RECORDS_BETWEEN_LOOKS:
            yield count
            count = 0
    yield count

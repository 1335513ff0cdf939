"""The metadata log as znodes: chunks of record batches, each named by the offset of its first record.

A chunk is what a segment of the log in a file would be: batches, one behind the other. It is at most `CHUNK_BYTES` long, because
ZooKeeper takes no request above 1 MB; a single batch that is longer lies in several pieces. Nothing counts that lies behind the head:
what a controller left there when it lost its office is deleted by the next one before it writes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.store.batches import Replay, scan_log
from barnabas.controller.store.zookeeper.layout import LOG, chunk_offset, chunk_path
from barnabas.controller.store.zookeeper.znodes import Delete, NoNodeError
from barnabas.errors import DecodeError
from barnabas.records.batch import HEADER_SIZE, parse_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from barnabas.controller.store.zookeeper.znodes import ZNodes

__all__ = ["CHUNK_BYTES", "Batch", "LogTrimmedError", "delete_beyond", "delete_quietly", "pieces", "read_log"]

CHUNK_BYTES = 900_000
"""Content of a node at most: below ZooKeeper's `jute.maxbuffer` (1 MB), which counts the rest of the request too."""

_READ_AHEAD = 32
_DELETED_AT_ONCE = 100


class LogTrimmedError(Exception):
    """The log does not begin that early any more: a snapshot holds what was there."""


class Batch(NamedTuple):
    """What one append wrote.

    Attributes:
        records: The changes.
        last_offset: The offset of the last record.
        epoch: The writer's.
        size_bytes: Its bytes.
    """

    records: list[Any]
    last_offset: int
    epoch: int
    size_bytes: int


def pieces(content: bytes, limit: int = CHUNK_BYTES) -> list[bytes]:
    """Cuts what one node cannot hold."""
    return [content[start : start + limit] for start in range(0, len(content), limit)]


def _batches(content: bytes, base_offset: int) -> Iterator[Batch]:
    """The batches of a chunk.

    Raises:
        DecodeError: It is damaged, or not whole.
    """
    position, offset = 0, base_offset
    while position < len(content):
        remaining = content[position:]
        size_bytes = (
            parse_header(remaining, 0).size_bytes if len(remaining) >= HEADER_SIZE else len(remaining)
        )
        replay = Replay()
        scan = scan_log(remaining[:size_bytes], replay, expected_offset=offset, from_offset=0)
        if scan.complaint is not None or scan.size_bytes != size_bytes:
            raise DecodeError(
                f"{chunk_path(base_offset)} is damaged at byte {position}: {scan.complaint or 'the batch is not whole'}"
            )
        yield Batch(replay.records, scan.next_offset - 1, scan.epoch, size_bytes)
        position += size_bytes
        offset = scan.next_offset


def _is_cut(content: bytes) -> bool:
    """Whether this is a batch of which more pieces follow."""
    return len(content) >= HEADER_SIZE and parse_header(content, 0).size_bytes > len(content)


async def _read_chunk(nodes: ZNodes, base_offset: int) -> bytes:
    """A chunk with all its pieces; NoNodeError."""
    content = (await nodes.get(chunk_path(base_offset))).data
    if not _is_cut(content):
        return content
    parts = [content]
    missing = parse_header(content, 0).size_bytes - len(content)
    while missing > 0:
        part = (await nodes.get(chunk_path(base_offset, len(parts)))).data
        if not part:
            raise DecodeError(f"{chunk_path(base_offset, len(parts))} is empty")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


async def read_log(nodes: ZNodes, next_offset: int, last_offset: int) -> AsyncIterator[list[Batch]]:
    """The batches from `next_offset` up to `last_offset` (the head's), chunk by chunk.

    Raises:
        LogTrimmedError: The log begins later.
        DecodeError: It is damaged.
        ZooKeeperError: As `ZNodes`.
    """
    # Who follows closely misses one chunk, and knows its name.
    try:
        content = await _read_chunk(nodes, next_offset)
    except NoNodeError:
        pass
    else:
        batches = list(_batches(content, next_offset))
        yield batches
        next_offset = batches[-1].last_offset + 1
    while next_offset <= last_offset:
        bases = sorted({chunk_offset(name) for name in await nodes.children(LOG)})
        # A snapshot may end within a chunk; then its later batches are still needed.
        begun = [base for base in bases if base < next_offset][-1:]
        wanted = [*begun, *(base for base in bases if next_offset <= base <= last_offset)]
        before = next_offset
        async for base, content in _read_chunks(nodes, wanted):
            batches = [each for each in _batches(content, base) if each.last_offset >= next_offset]
            if not batches:
                continue
            if base > next_offset:
                raise LogTrimmedError
            yield batches
            next_offset = batches[-1].last_offset + 1
        if next_offset == before:
            raise LogTrimmedError


async def _read_chunks(nodes: ZNodes, bases: Sequence[int]) -> AsyncIterator[tuple[int, bytes]]:
    for start in range(0, len(bases), _READ_AHEAD):
        window = bases[start : start + _READ_AHEAD]
        contents = await asyncio.gather(
            *(_read_chunk(nodes, base) for base in window), return_exceptions=True
        )
        for base, content in zip(window, contents, strict=True):
            if isinstance(content, NoNodeError):
                raise LogTrimmedError from content
            if isinstance(content, BaseException):
                raise content
            yield base, content


async def delete_beyond(nodes: ZNodes, last_offset: int) -> int:
    """Deletes what lies behind the head; gives the number of chunks that remain."""
    names = await nodes.children(LOG)
    beyond = [f"{LOG}/{name}" for name in names if chunk_offset(name) > last_offset]
    await delete_quietly(nodes, beyond)
    return len(names) - len(beyond)


async def delete_quietly(nodes: ZNodes, paths: Iterable[str]) -> None:
    """Deletes nodes, many at once; it does not matter whether one is gone already."""
    paths = list(paths)
    for start in range(0, len(paths), _DELETED_AT_ONCE):
        group = paths[start : start + _DELETED_AT_ONCE]
        try:
            await nodes.commit([Delete(path) for path in group])
        except NoNodeError:
            for path in group:
                try:
                    await nodes.commit([Delete(path)])
                except NoNodeError:
                    continue

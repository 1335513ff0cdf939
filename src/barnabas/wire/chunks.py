"""Record data in an answer: bytes, or runs of file bytes that Python never touches.

A response is encoded to a list of chunks. What the codec writes itself is `bytes`; records that lie in a segment
file stay a `FileRegion`, which the connection hands to the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Chunk", "FileRegion", "Records", "add_records", "join_chunks", "records_size"]


@runtime_checkable
class FileRegion(Protocol):
    """A run of file bytes that goes to a socket without being copied in Python."""

    size: int
    """How many bytes the region has."""

    def read(self) -> bytes:
        """All of it, copied (for what is small, for TLS, and for tests)."""
        ...

    def send_to(self, socket_fd: int, offset: int, count: int) -> int:
        """Send at most `count` bytes from `offset` in the region to a non-blocking socket; how many went.

        Raises:
            BlockingIOError: the socket takes nothing now.
        """
        ...

    def release(self) -> None:
        """The region is not needed any more: its file may be closed."""
        ...


Records: TypeAlias = bytes | bytearray | memoryview | FileRegion | list[Any] | None
"""The value of a `records` field. Decoded, it is a memoryview of the input or None. To be encoded, it may be anything
bytes-like, a `FileRegion`, None, or a list of these."""

Chunk: TypeAlias = bytes | FileRegion

_OWN_CHUNK_SIZE = 16_384
"""From this size on, `bytes` become a chunk of their own rather than being copied to join their neighbours."""


def records_size(records: Records) -> int:
    """How many bytes the value of a records field has (0 for None)."""
    if isinstance(records, bytes | bytearray):
        return len(records)
    if records is None:
        return 0
    if isinstance(records, memoryview):
        return records.nbytes
    if isinstance(records, list):
        return sum(map(records_size, records))
    return records.size


def add_records(pieces: list[Any], records: Records) -> None:
    """Add the value of a records field to the pieces of a message, one piece for each of its parts."""
    if isinstance(records, list):
        for part in records:
            add_records(pieces, part)
    elif records is not None:
        pieces.append(records)


def join_chunks(pieces: Iterable[Any]) -> list[Chunk]:
    """The pieces in as few chunks as make sense: neighbouring bytes joined, file regions left alone."""
    chunks: list[Chunk] = []
    run: list[Any] = []
    for piece in pieces:
        kind = type(piece)
        if kind is bytes:
            if len(piece) < _OWN_CHUNK_SIZE:
                run.append(piece)
                continue
        elif kind is memoryview or kind is bytearray:
            run.append(piece)
            continue
        if run:
            chunks.append(b"".join(run))
            run = []
        chunks.append(piece)
    if run:
        chunks.append(b"".join(run))
    return chunks

"""Record data in an answer: bytes, or runs of file bytes that Python never touches.

A response is encoded to a list of chunks. What the codec writes itself is `bytes`; records that lie in a segment
file stay a `FileRegion`, which the connection hands to the kernel.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Chunk", "FileRegion", "Records", "add_records", "join_chunks", "read_regions", "records_size"]


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


def records_size(records: Any) -> int:
    """How many bytes the value of a records field has (0 for None)."""
    kind = type(records)
    if kind is bytes or kind is bytearray:
        return len(records)
    if kind is memoryview:
        size: int = records.nbytes
    elif kind is list:
        size = sum(map(records_size, records))
    else:
        size = 0 if records is None else records.size
    return size


def add_records(pieces: list[Any], places: list[int], parts: list[Any]) -> None:
    """Add the parts of a records field to the pieces of a message, and their places to `places`."""
    for part in parts:
        if type(part) is list:
            add_records(pieces, places, part)
        elif part is not None:
            places.append(len(pieces))
            pieces.append(part)


def join_chunks(pieces: list[Any], places: list[int]) -> list[Chunk]:
    """The pieces in as few chunks as make sense: neighbouring bytes joined, file regions left alone.

    `places` are the indexes of the pieces that may be something else than a few bytes.
    """
    chunks: list[Chunk] = []
    start = 0
    for place in places:
        piece = pieces[place]
        kind = type(piece)
        if kind is bytes:
            if len(piece) < _OWN_CHUNK_SIZE:
                continue
        elif kind is memoryview or kind is bytearray:
            continue
        if start < place:
            chunks.append(b"".join(pieces[start:place]))
        chunks.append(piece)
        start = place + 1
    if start < len(pieces):
        chunks.append(b"".join(pieces[start:]))
    return chunks


def read_regions(pieces: list[Any], places: list[int]) -> None:
    """Replace file regions among the pieces by their bytes."""
    for place in places:
        if not isinstance(pieces[place], bytes | bytearray | memoryview):
            pieces[place] = pieces[place].read()

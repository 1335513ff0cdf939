"""The bytes and file regions that wait for a client to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.wire.chunks import FileRegion

    Buffer = bytes | bytearray | memoryview
    Chunk = Buffer | FileRegion

__all__ = ["BYTES_LIKE", "Outgoing", "size_of"]

BYTES_LIKE = (bytes, bytearray, memoryview)
"""A chunk that is none of these is a file region."""

BIG_BYTES = 32 * 1024
"""A buffer from this size on is sent by itself; smaller ones are cheaper to copy together than to send apart."""

JOINED_BYTES_MAX = 256 * 1024
"""Small buffers copied together for one send, in sum: no more than a socket takes anyway."""


def size_of(chunk: Chunk) -> int:
    """The number of bytes that `chunk` puts on the wire."""
    return len(chunk) if isinstance(chunk, BYTES_LIKE) else chunk.size


class Outgoing:
    """A queue of chunks, taken from the front in whatever portions the socket accepts.

    A file region is released when its last byte has left, or when the queue is cleared.

    Attributes:
        pending_bytes: What has not left yet. Invariant: the sum of the chunks' sizes less `region_offset`.
        region_offset: If the first chunk is a region, how much of it has left; else 0.
        held: A region that a worker thread is reading. `clear` leaves its release to whoever set this.
    """

    __slots__ = ("_chunks", "_has_big", "held", "pending_bytes", "region_offset")

    def __init__(self) -> None:
        # A list, not a deque: an empty list is 56 bytes, an empty deque 600, and connections are mostly idle.
        self._chunks: list[Chunk] = []
        self._has_big = False
        self.pending_bytes = 0
        self.region_offset = 0
        self.held: FileRegion | None = None

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def append(self, payload: Buffer, prefix: bytes) -> None:
        """Queue `prefix` and `payload`."""
        size = len(payload)
        if size >= BIG_BYTES:
            self._has_big = True
        self._chunks += (prefix, payload)
        self.pending_bytes += size + len(prefix)

    def extend(self, chunks: Sequence[Chunk]) -> None:
        """Queue all of `chunks` but the empty ones."""
        for chunk in chunks:
            size = size_of(chunk)
            if size == 0:
                if not isinstance(chunk, BYTES_LIKE):
                    chunk.release()
                continue
            if size >= BIG_BYTES or not isinstance(chunk, BYTES_LIKE):
                self._has_big = True
            self._chunks.append(chunk)
            self.pending_bytes += size

    def small(self) -> bytes | None:
        """All that there is in one piece, if it is little and there are only bytes; None otherwise, and for nothing."""
        chunks = self._chunks
        if self._has_big or not chunks or self.pending_bytes > JOINED_BYTES_MAX:
            return None
        return b"".join(chunks)  # type: ignore[arg-type] # a region sets _has_big

    def clear_small(self) -> None:
        """What `small` gave has left."""
        self._chunks.clear()
        self.pending_bytes = 0

    def region(self) -> FileRegion | None:
        """The first chunk if it is a file region, of which `region_offset` bytes have left."""
        if self._chunks and self._has_big:
            first = self._chunks[0]
            if not isinstance(first, BYTES_LIKE):
                return first
        return None

    def inline_region(self) -> None:
        """Replace the first chunk, a region, by its bytes, for a socket that cannot take file bytes from the kernel."""
        first = self._chunks[0]
        assert not isinstance(first, BYTES_LIKE)
        assert self.region_offset == 0
        self._chunks[0] = first.read()
        first.release()

    def gather(self) -> tuple[Buffer, bool]:
        """The bytes to send next, up to the next region, and whether more follows them.

        Only to be called when the first chunk is not a region.
        """
        chunks = self._chunks
        if not self._has_big and self.pending_bytes <= JOINED_BYTES_MAX:
            # All that there is; no chunk needs a look. (The chunks are bytes: a region sets _has_big.)
            return b"".join(chunks) if len(chunks) > 1 else chunks[0], False  # type: ignore[arg-type, return-value]
        first = chunks[0]
        assert isinstance(first, BYTES_LIKE)
        if len(first) >= BIG_BYTES:
            return first, len(chunks) > 1
        joined: list[Buffer] = []
        total = 0
        for chunk in chunks:
            if (
                not isinstance(chunk, BYTES_LIKE)
                or len(chunk) >= BIG_BYTES
                or total + len(chunk) > JOINED_BYTES_MAX
            ):
                break
            joined.append(chunk)
            total += len(chunk)
        return b"".join(joined), len(joined) < len(chunks)

    def skip(self, count: int) -> None:
        """Take `count` bytes off the region at the front, which is longer."""
        self.pending_bytes -= count
        self.region_offset += count

    def advance(self, count: int) -> None:
        """Take `count` bytes off the front; they have been sent."""
        assert 0 <= count <= self.pending_bytes
        self.pending_bytes -= count
        chunks = self._chunks
        if self.pending_bytes == 0 and not self._has_big:
            chunks.clear()
            return
        gone = 0
        for chunk in chunks:
            if isinstance(chunk, BYTES_LIKE):
                left = len(chunk)
                if count < left:
                    if count:
                        chunks[gone] = memoryview(chunk)[count:]
                    break
            else:
                left = chunk.size - self.region_offset
                if count < left:
                    self.region_offset += count
                    break
                self.region_offset = 0
                chunk.release()
            count -= left
            gone += 1
        del chunks[:gone]
        if not chunks:
            self._has_big = False

    def clear(self) -> None:
        """Drop everything; the connection is gone."""
        chunks, self._chunks = self._chunks, []
        self.pending_bytes = 0
        self.region_offset = 0
        self._has_big = False
        for chunk in chunks:
            if not isinstance(chunk, BYTES_LIKE) and chunk is not self.held:
                chunk.release()

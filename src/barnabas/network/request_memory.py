"""Memory for requests that have not arrived in full: buffers to receive them into, and a limit on their sum.

Most requests never come here: they arrive whole and are handled in the loop's shared receive buffer. What is
left is the unfinished request of a connection, received straight into a buffer of its own.

A length is only a claim until the bytes are there. Short buffers are ordinary memory; long ones are anonymous
mappings, which the kernel backs with memory page by page as bytes arrive, so that a lying length costs nothing.
Page faults make a fresh mapping ten times slower to fill than used memory, so that a few mappings are kept for
the next long requests.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RequestMemory"]

MAPPED_FROM_BYTES = 32 * 1024
"""Buffers of this size and above are mappings."""

KEPT_BYTES_MAX = 32 * 1024 * 1024
"""Mappings kept for the next long requests, in sum: one of ten full batches of 1 MB, which takes 16 MB, for each of two producers."""


class RequestMemory:
    """Hands out buffers for unfinished requests and counts them.

    The limit works as `queued.max.request.bytes` does in Kafka: while it is exhausted no connection begins another
    unfinished request, but the ones that have begun may go on, so that the sum can exceed the limit by one
    request and nobody waits for memory that only he himself could free.

    Attributes:
        limit_bytes: The limit; below 1 there is none.
        used_bytes: The announced sizes of all unfinished requests, and the requests put aside until their
            connection may handle them.
    """

    __slots__ = ("_kept", "_kept_bytes", "_waiting", "_was_taken", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = -1) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._kept: list[mmap.mmap] = []
        self._kept_bytes = 0
        self._was_taken = False
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def is_exhausted(self) -> bool:
        """No further unfinished request may begin."""
        return 0 < self.limit_bytes <= self.used_bytes

    def charge(self, size: int) -> None:
        """Count `size` bytes."""
        self.used_bytes += size

    def discharge(self, size: int) -> None:
        """Uncount `size` bytes, and call all who wait if there is room again."""
        self.used_bytes -= size
        assert self.used_bytes >= 0
        if self._waiting and not self.is_exhausted:
            waiting, self._waiting = self._waiting, {}
            for callback in waiting:
                callback()

    def call_when_free(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the limit is no longer exhausted."""
        self._waiting[callback] = None

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call `callback` after all."""
        self._waiting.pop(callback, None)

    def take(self, size: int) -> memoryview:
        """A writable buffer of exactly `size` bytes, its content undefined; give it back by `give`."""
        if size < MAPPED_FROM_BYTES:
            return memoryview(bytearray(size))
        self._was_taken = True
        best = -1
        for index, mapping in enumerate(self._kept):
            if size <= len(mapping) <= 4 * size and (best < 0 or len(mapping) < len(self._kept[best])):
                best = index
        if best >= 0:
            mapping = self._kept.pop(best)
            self._kept_bytes -= len(mapping)
        else:
            # Powers of two, so that the next request of about this size fits as well.
            mapping = mmap.mmap(-1, 1 << (size - 1).bit_length())
        return memoryview(mapping)[:size]

    def give(self, buffer: memoryview) -> None:
        """Take back a buffer whose content nobody needs any longer.

        A mapping that is not kept is unmapped when the last view of it dies.
        """
        mapping = buffer.obj
        if isinstance(mapping, mmap.mmap) and self._kept_bytes + len(mapping) <= KEPT_BYTES_MAX:
            self._kept.append(mapping)
            self._kept_bytes += len(mapping)

    def trim(self) -> None:
        """Lets go of the mappings that are kept, if nobody needed one since the last call."""
        if not self._was_taken:
            self._kept.clear()
            self._kept_bytes = 0
        self._was_taken = False

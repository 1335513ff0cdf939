"""File regions that can be read into the page cache before they are sent, so that sendfile does not stall the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from barnabas.wire.chunks import FileRegion

__all__ = ["WarmableRegion", "as_warmable"]


class WarmableRegion(Protocol):
    """A `FileRegion` that can tell whether the kernel has its bytes in memory."""

    def is_cached(self, offset: int, count: int) -> bool:
        """Whether sending `count` bytes from `offset` on needs no disk; cheap, may err."""
        ...

    def warm(self, offset: int, count: int) -> None:
        """Have the kernel read these bytes; called in a worker thread, may wait for the disk.

        Raises:
            OSError: the disk failed.
        """
        ...


def as_warmable(region: FileRegion) -> WarmableRegion | None:
    """`region` if it can be warmed, else None."""
    # An isinstance with a protocol takes longer than sending a small region.
    return cast("WarmableRegion", region) if hasattr(region, "is_cached") else None

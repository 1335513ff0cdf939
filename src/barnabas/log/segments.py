"""The segments of a log, in order of their base offsets; there is always at least one, the last is the active one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from barnabas.errors import DiskFullError
from barnabas.log.file_names import DELETED_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from barnabas.log.files import Files
    from barnabas.log.segment import Segment

__all__ = ["Segments", "rename_to_deleted"]


class Segments:
    """The segments of one log.

    Attributes:
        active: the last one, which takes the appends.
    """

    __slots__ = ("_bases", "_segments", "active")

    def __init__(self, segments: list[Segment]) -> None:
        assert segments
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self.active = segments[-1]

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def first(self) -> Segment:
        """The oldest one."""
        return self._segments[0]

    @property
    def in_order(self) -> list[Segment]:
        """All of them, oldest first; not to be changed."""
        return self._segments

    @property
    def base_offsets(self) -> list[int]:
        """Their base offsets."""
        return list(self._bases)

    @property
    def size_bytes(self) -> int:
        """Bytes of batches in all of them."""
        return sum(segment.size for segment in self._segments)

    def floor(self, offset: int) -> Segment:
        """The one where `offset` belongs, the first one for offsets before it."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0)]

    def starting_at(self, offset: int) -> list[Segment]:
        """The one where `offset` belongs, and all after it."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0) :]

    def after(self, segment: Segment) -> Segment | None:
        """The next one."""
        index = bisect_right(self._bases, segment.base_offset)
        return self._segments[index] if index < len(self._segments) else None

    def add(self, segment: Segment) -> None:
        """The next active one."""
        assert segment.base_offset > self._bases[-1]
        self._segments.append(segment)
        self._bases.append(segment.base_offset)
        self.active = segment

    def replace_all(self, segment: Segment) -> list[Segment]:
        """Makes `segment` the only one; returns the others."""
        removed = self._segments
        self._segments = [segment]
        self._bases = [segment.base_offset]
        self.active = segment
        return removed

    def hold(self, segments: list[Segment]) -> bool:
        """Whether these segments follow each other here, the active one not among them."""
        first = bisect_left(self._bases, segments[0].base_offset)
        end = first + len(segments)
        return end < len(self._segments) and all(
            one is other for one, other in zip(self._segments[first:end], segments, strict=True)
        )

    def replace_some(self, removed: list[Segment], added: Segment) -> None:
        """Puts `added` in the place of segments that it holds."""
        assert added.base_offset == removed[0].base_offset
        first = bisect_left(self._bases, added.base_offset)
        self._segments[first : first + len(removed)] = [added]
        self._bases[first : first + len(removed)] = [added.base_offset]

    def remove_oldest(self, count: int) -> list[Segment]:
        """Takes out the oldest ones, not all."""
        assert count < len(self._segments)
        removed = self._segments[:count]
        del self._segments[:count], self._bases[:count]
        return removed

    def remove_after(self, offset: int) -> list[Segment]:
        """Takes out those whose base offset is above `offset`, not all."""
        keep = max(bisect_right(self._bases, offset), 1)
        removed = self._segments[keep:]
        del self._segments[keep:], self._bases[keep:]
        self.active = self._segments[-1]
        return removed


def rename_to_deleted(files: Files, segment: Segment) -> list[Path]:
    """Takes a segment's files out of use; returns their new names, under which they are to be deleted later.

    Whoever is being sent from them goes on undisturbed.
    """
    paths = segment.paths()
    segment.detach()
    renamed = []
    for path in paths:
        target = path.with_name(path.name + DELETED_SUFFIX)
        try:
            files.rename(path, target)
        except DiskFullError:  # a longer name may need room, too: just now it is better made
            files.delete(path)
        else:
            renamed.append(target)
    return renamed

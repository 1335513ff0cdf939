"""Transactions of one partition that hold readers back: open ones, and completed ones that are not replicated yet.

Pure: offsets in, offsets out. `ProducerState` keeps one and tells it of every first record and every marker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OpenTransactions"]


class OpenTransactions:
    """What read_committed readers must not see yet.

    `first_unstable_offset` is the first record of any transaction that is open, or whose marker may not be replicated;
    None if there is none.
    """

    __slots__ = ("_ongoing", "_unreplicated", "first_unstable_offset")

    def __init__(self) -> None:
        # First offset -> producer id, in ascending order: transactions begin at ever higher offsets.
        self._ongoing: dict[int, int] = {}
        # First offset -> marker's offset, in ascending order of the markers.
        self._unreplicated: dict[int, int] = {}
        self.first_unstable_offset: int | None = None

    @property
    def first_undecided_offset(self) -> int | None:
        """The first record of the oldest transaction without a marker."""
        return next(iter(self._ongoing), None)

    @property
    def oldest_producer_id(self) -> int | None:
        """Whose the oldest transaction without a marker is."""
        return next(iter(self._ongoing.values()), None)

    @property
    def has_unreplicated(self) -> bool:
        """Whether a completed transaction waits for its marker to be replicated."""
        return bool(self._unreplicated)

    def begin(self, first_offset: int, producer_id: int) -> None:
        """A transaction's first record was written."""
        self._ongoing[first_offset] = producer_id
        self._find_first_unstable()

    def end(self, first_offset: int, marker_offset: int) -> int:
        """A transaction's marker was written; returns where readers stop once it is replicated."""
        del self._ongoing[first_offset]
        self._unreplicated[first_offset] = marker_offset
        self._find_first_unstable()
        return next(iter(self._ongoing), marker_offset + 1)

    def settle_below(self, offset: int) -> None:
        """Markers below `offset` are replicated (or gone from the log)."""
        if not self._unreplicated:
            return
        settled = []
        for first_offset, marker_offset in self._unreplicated.items():
            if marker_offset >= offset:
                break
            settled.append(first_offset)
        for first_offset in settled:
            del self._unreplicated[first_offset]
        if settled:
            self._find_first_unstable()

    def load(self, ongoing: Iterable[tuple[int, int]]) -> None:
        """Start over with open transactions: first offset and producer id of each."""
        self._ongoing = dict(sorted(ongoing))
        self._unreplicated.clear()
        self._find_first_unstable()

    def _find_first_unstable(self) -> None:
        first = next(iter(self._ongoing), None)
        if self._unreplicated:
            completed = min(self._unreplicated)
            first = completed if first is None else min(first, completed)
        self.first_unstable_offset = first

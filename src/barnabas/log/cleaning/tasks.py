"""What a worker is asked, and what it answers: plain numbers, text and bytes, so that they can go to another process.

`Index` is answered by `Indexed`, then `Clean`, for one group of segments after another, by `Cleaned`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Clean", "Cleaned", "Index", "Indexed", "Source"]


class Source(NamedTuple):
    """A segment to read: where it begins, its bytes, and where the next one begins."""

    base_offset: int
    size: int
    next_base_offset: int


class Index(NamedTuple):
    """Read the keys of a log's dirty segments.

    Attributes:
        directory: the partition's.
        sources: the dirty segments that may be cleaned, in order.
        start_offset: where the dirty part begins, in the first of them.
        aborted: the aborted transactions that reach into the part of the log that will be cleaned, in the index' format.
        memory_bytes: for the map of keys.
        load_factor: the share of it that is used.
        buffer_bytes: how much is read, and written, at once.
        bytes_per_second: how much is read and written per second at most.
    """

    directory: str
    sources: list[Source]
    start_offset: int
    aborted: Sequence[tuple[int, int, int, int]]
    memory_bytes: int
    load_factor: float
    buffer_bytes: int
    bytes_per_second: float


class Indexed(NamedTuple):
    """The keys are known up to `latest_offset`, and take this share of the map."""

    latest_offset: int
    utilization: float
    record_count: int
    bytes_read: int


class Clean(NamedTuple):
    """Make one segment out of some that follow each other, without what has become old.

    Attributes:
        directory: the partition's.
        sources: the segments.
        end_offset: where the part of the log ends that this cleaning covers; the batch that ends there stays, if only empty.
        now_ms: when the cleaning began.
        delete_retention_ms: how long tombstones and end markers stay.
        index_interval_bytes: how dense the indexes are.
        modified_ms: when the last of the segments was last written.
        producers: three numbers for each producer that is known: its id, the last offset of its last batch (-1 for none), its
            epoch; as an `array("q")`'s bytes.
    """

    directory: str
    sources: list[Source]
    end_offset: int
    now_ms: int
    delete_retention_ms: int
    index_interval_bytes: int
    modified_ms: int
    producers: bytes


class Cleaned(NamedTuple):
    """The new segment lies beside the others under the names of `sizes` (suffix to bytes) with `.cleaned` added, synced."""

    sizes: dict[str, int]
    records_read: int
    records_written: int
    bytes_read: int
    bytes_written: int
    keyless: int

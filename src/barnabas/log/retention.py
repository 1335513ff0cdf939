"""Which segments a log may delete: pure decisions.

Segments go from the oldest on, whole, and only below the high watermark. Those that lie below the log start offset go in
any case; with the cleanup policy `delete`, also those that are too many bytes (`retention.bytes`) or too old
(`retention.ms`, by the highest timestamp of the segment).

Source: `UnifiedLog.deleteOldSegments` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.config.topic import LogConfig
    from barnabas.log.segment import Segment

__all__ = ["count_below_start", "count_deletable", "count_too_large", "count_too_old"]


def count_deletable(
    segments: Sequence[Segment],
    config: LogConfig,
    *,
    log_start_offset: int,
    log_end_offset: int,
    high_watermark: int,
    now_ms: int,
) -> int:
    """How many of the oldest segments are to be deleted, for whatever reason."""
    count = count_below_start(segments, log_start_offset)
    if config.deletes_by_retention:
        count = max(
            count,
            count_too_large(segments, config.retention_bytes),
            count_too_old(segments, config.retention_ms, now_ms),
        )
    return _count_settled(segments, count, log_end_offset, high_watermark)


def count_below_start(segments: Sequence[Segment], log_start_offset: int) -> int:
    """How many of the oldest segments end below the log start offset; never the last one."""
    count = 0
    for following in segments[1:]:
        if following.base_offset > log_start_offset:
            break
        count += 1
    return count


def count_too_large(segments: Sequence[Segment], retention_bytes: int) -> int:
    """How many of the oldest segments can go so that the others still are `retention_bytes`; -1 is no limit."""
    if retention_bytes < 0:
        return 0
    excess = sum(segment.size for segment in segments) - retention_bytes

    def is_excess(segment: Segment) -> bool:
        nonlocal excess
        excess -= segment.size
        return excess >= 0

    return _count_while(segments, is_excess)


def count_too_old(segments: Sequence[Segment], retention_ms: int, now_ms: int) -> int:
    """How many of the oldest segments have nothing younger than `retention_ms`; -1 is no limit."""
    if retention_ms < 0:
        return 0
    return _count_while(segments, lambda segment: now_ms - segment.largest_timestamp_ms > retention_ms)


def _count_while(segments: Sequence[Segment], is_deletable: Callable[[Segment], bool]) -> int:
    count = 0
    for segment in segments:
        if not is_deletable(segment):
            break
        count += 1
    return count


def _count_settled(segments: Sequence[Segment], count: int, log_end_offset: int, high_watermark: int) -> int:
    """At most so many of `count` that end below the high watermark; an empty last segment stays."""
    for index in range(count):
        is_last = index + 1 == len(segments)
        end_offset = log_end_offset if is_last else segments[index + 1].base_offset
        if end_offset > high_watermark or (is_last and segments[index].size == 0):
            return index
    return count

"""Which log is dirty, and which part of it may be cleaned: pure decisions.

    log start ... first dirty offset ... first uncleanable offset ... log end
             cleaned before          dirty             the active segment, what is open, too young, or not synced yet

A log is due when its dirty bytes are more than `min.cleanable.dirty.ratio` of those that may be cleaned and those that were, or
when its oldest dirty record is older than `max.compaction.lag.ms`.

Nothing above the recovery point is cleaned, unlike in Apache Kafka: a record on the disk must not go in favour of one that the
next power failure takes.

Source: `LogCleanerManager` and `Cleaner.groupSegmentsBySize` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.config.definition import LONG_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.config.topic import LogConfig
    from barnabas.log.segment import Segment

__all__ = ["GROUP_SEGMENTS_MAX", "Dirtiness", "assess", "group_segments"]

GROUP_SEGMENTS_MAX = 16
"""How many segments become one at most. Their files are renamed in one go, on the event loop."""

_MAX_RELATIVE_OFFSET = 2**31 - 1


class Dirtiness(NamedTuple):
    """What there is to clean in a log.

    Attributes:
        first_dirty_offset: below it all was cleaned before.
        first_uncleanable_offset: where a segment begins that must not be cleaned yet.
        clean_bytes: of the segments that begin below the first dirty offset.
        cleanable_bytes: of those that may be cleaned and hold dirty offsets.
        delay_ms: for how long it has been due by `max.compaction.lag.ms`.
        is_reset: whether what was known of the first dirty offset could not be.
    """

    first_dirty_offset: int
    first_uncleanable_offset: int
    clean_bytes: int
    cleanable_bytes: int
    delay_ms: int
    is_reset: bool

    @property
    def ratio(self) -> float:
        """The share of the bytes that is dirty."""
        total = self.clean_bytes + self.cleanable_bytes
        return self.cleanable_bytes / total if total else 0.0

    def is_due(self, config: LogConfig) -> bool:
        """Whether the log is to be cleaned."""
        return self.cleanable_bytes > 0 and (
            self.delay_ms > 0 or self.ratio > config.min_cleanable_dirty_ratio
        )


def assess(
    segments: Sequence[Segment],
    config: LogConfig,
    *,
    cleaned_offset: int | None,
    log_start_offset: int,
    log_end_offset: int,
    stable_offset: int,
    now_ms: int,
) -> Dirtiness:
    """What there is to clean in a log of these segments.

    Args:
        segments: all of them, the active one last.
        config: the topic's settings.
        cleaned_offset: where the last cleaning ended, None if there was none.
        log_start_offset: the first that can be read.
        log_end_offset: the next one.
        stable_offset: from here on nothing may be cleaned: the last stable offset, or the recovery point if that is lower.
        now_ms: the time.
    """
    first_dirty = log_start_offset if cleaned_offset is None else cleaned_offset
    is_reset = not log_start_offset <= first_dirty <= log_end_offset
    if is_reset:
        first_dirty = log_start_offset
    inactive = segments[:-1]
    bases = [segment.base_offset for segment in segments]
    dirty_from = _floor_index(bases, first_dirty)

    uncleanable = min(stable_offset, bases[-1])
    if config.min_compaction_lag_ms > 0:
        for segment in inactive[dirty_from:]:
            if segment.largest_timestamp_ms > now_ms - config.min_compaction_lag_ms:
                uncleanable = min(uncleanable, segment.base_offset)
                break
    uncleanable = max(uncleanable, first_dirty)
    uncleanable_index = min(_floor_index(bases, uncleanable), len(bases) - 1)
    first_uncleanable = bases[uncleanable_index]

    clean_bytes = sum(segment.size for segment in segments if segment.base_offset < first_dirty)
    cleanable_bytes = sum(segment.size for segment in segments[dirty_from:uncleanable_index])
    return Dirtiness(
        first_dirty,
        first_uncleanable,
        clean_bytes,
        cleanable_bytes,
        _overdue_ms(inactive[dirty_from:], config, now_ms),
        is_reset,
    )


def _floor_index(bases: list[int], offset: int) -> int:
    """Which segment holds `offset`; the first one for what lies before it."""
    index = 0
    for index, base in enumerate(bases):
        if base > offset:
            return max(index - 1, 0)
    return index


def _overdue_ms(dirty: Sequence[Segment], config: LogConfig, now_ms: int) -> int:
    if config.max_compaction_lag_ms == LONG_MAX:
        return 0
    timestamps = [timestamp for segment in dirty if (timestamp := segment.first_timestamp_ms) > 0]
    if not timestamps:
        return 0
    return max(now_ms - config.max_compaction_lag_ms - min(timestamps), 0)


def group_segments(segments: Sequence[Segment], config: LogConfig, end_offset: int) -> list[list[Segment]]:
    """The segments in groups that become one segment each, none of them larger than a segment may be.

    `end_offset` is where the segment after the last one begins.
    """
    groups: list[list[Segment]] = []
    log_bytes = index_bytes = time_index_bytes = 0
    for at, segment in enumerate(segments):
        next_base = segments[at + 1].base_offset if at + 1 < len(segments) else end_offset
        own_index = segment.offset_index.entries.size_bytes
        own_time_index = segment.time_index.entries.size_bytes
        if (
            groups
            and len(groups[-1]) < GROUP_SEGMENTS_MAX
            and log_bytes + segment.size <= config.segment_bytes
            and index_bytes + own_index <= config.segment_index_bytes
            and time_index_bytes + own_time_index <= config.segment_index_bytes
            and (segment.size == 0 or next_base - 1 - groups[-1][0].base_offset <= _MAX_RELATIVE_OFFSET)
        ):
            groups[-1].append(segment)
        else:
            groups.append([segment])
            log_bytes = index_bytes = time_index_bytes = 0
        log_bytes += segment.size
        index_bytes += own_index
        time_index_bytes += own_time_index
    return groups

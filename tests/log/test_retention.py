from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.config.topic import LogConfig
from barnabas.log.retention import count_below_start, count_deletable, count_too_large, count_too_old


class Facts(NamedTuple):
    """What retention looks at."""

    base_offset: int
    size: int
    largest_timestamp_ms: int


SEGMENTS = [Facts(0, 100, 1000), Facts(10, 100, 2000), Facts(20, 100, 3000), Facts(30, 50, 4000)]


def deletable(*, segments=SEGMENTS, start=0, end=40, high_watermark=40, now_ms=0, **settings):
    config = LogConfig(**{"retention_ms": -1, **settings})
    return count_deletable(
        segments,
        config,
        log_start_offset=start,
        log_end_offset=end,
        high_watermark=high_watermark,
        now_ms=now_ms,
    )


@pytest.mark.parametrize(("start", "count"), [(0, 0), (9, 0), (10, 1), (29, 2), (30, 3), (40, 3)])
def test_below_the_log_start_offset(start, count):
    """Segments of which nothing can be read any more go; the active one stays."""
    assert count_below_start(SEGMENTS, start) == count


@pytest.mark.parametrize(
    ("limit", "count"), [(-1, 0), (350, 0), (349, 0), (251, 0), (250, 1), (150, 2), (51, 2), (50, 3), (0, 4)]
)
def test_by_size(limit, count):
    """The oldest go as long as the others still have retention.bytes."""
    assert count_too_large(SEGMENTS, limit) == count


@pytest.mark.parametrize(
    ("now_ms", "count"), [(1500, 0), (1501, 1), (2500, 1), (2501, 2), (3501, 3), (4500, 3), (4501, 4)]
)
def test_by_time(now_ms, count):
    """The oldest go as long as their newest record is older than retention.ms."""
    assert count_too_old(SEGMENTS, 500, now_ms) == count
    assert count_too_old(SEGMENTS, -1, now_ms) == 0


def test_a_young_segment_protects_those_after_it():
    """Segments go in order: one that must stay keeps the later ones, however old."""
    segments = [Facts(0, 1, 1000), Facts(10, 1, 9000), Facts(20, 1, 1000)]
    assert count_too_old(segments, 500, 5000) == 1


@pytest.mark.parametrize(("high_watermark", "count"), [(40, 4), (39, 3), (30, 3), (29, 2), (20, 2), (9, 0)])
def test_not_above_the_high_watermark(high_watermark, count):
    """What is not yet replicated is not deleted."""
    assert deletable(retention_ms=0, now_ms=10_000, high_watermark=high_watermark) == count


def test_an_empty_active_segment_stays():
    """An empty active segment is not replaced by another empty one."""
    assert deletable(segments=[*SEGMENTS, Facts(40, 0, 0)], retention_ms=0, now_ms=10_000) == 4
    assert deletable(segments=[Facts(0, 0, 0)], end=0, high_watermark=0, retention_ms=0, now_ms=10_000) == 0


@pytest.mark.parametrize("policy", [{"compact"}, set()])
def test_without_the_delete_policy(policy):
    """Compacted topics, and those without a policy, only lose what lies below the log start offset."""
    settings = {"cleanup_policy": frozenset(policy), "retention_ms": 0, "retention_bytes": 0}
    assert deletable(now_ms=10_000, start=15, **settings) == 1


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    limit=st.integers(-1, 300),
)
def test_size_is_kept(sizes, limit):
    """After retention by size, what is left is at least the limit, unless nothing was above it."""
    segments = [Facts(number, size, 0) for number, size in enumerate(sizes)]
    count = count_too_large(segments, limit)
    left = sum(sizes[count:])
    assert count == 0 or left >= limit
    assert count == len(sizes) or limit < 0 or left - sizes[count] < limit

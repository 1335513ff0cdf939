from __future__ import annotations

from types import SimpleNamespace

import pytest

from barnabas.config.topic import LogConfig
from barnabas.log.cleaning.assessment import GROUP_SEGMENTS_MAX, assess, group_segments

NOW_MS = 1_000_000


def segments(*pairs, index=10):
    """Segments of (base offset, size), each with records of the time 1000 * its place, the last one active."""
    return [
        SimpleNamespace(
            base_offset=base_offset,
            size=size,
            largest_timestamp_ms=1000 * place,
            first_timestamp_ms=1000 * place - 500,
            offset_index=SimpleNamespace(entries=SimpleNamespace(size_bytes=index)),
            time_index=SimpleNamespace(entries=SimpleNamespace(size_bytes=index)),
        )
        for place, (base_offset, size) in enumerate(pairs, 1)
    ]


def assess_log(found, *, cleaned_offset=None, start=0, end=None, stable=None, now_ms=NOW_MS, **config):
    end = found[-1].base_offset + 10 if end is None else end
    return assess(
        found,
        LogConfig(cleanup_policy=frozenset({"compact"}), **config),
        cleaned_offset=cleaned_offset,
        log_start_offset=start,
        log_end_offset=end,
        stable_offset=end if stable is None else stable,
        now_ms=now_ms,
    )


LOG = segments((0, 100), (10, 200), (20, 300), (30, 400))


def test_all_but_the_active_segment_is_dirty_at_first():
    """A log that was never cleaned is dirty from its start."""
    found = assess_log(LOG)
    assert found[:4] == (0, 30, 0, 600)
    assert found.ratio == 1
    assert assess_log(LOG, start=5)[:4] == (5, 30, 100, 600)


@pytest.mark.parametrize(
    ("cleaned", "ratio", "is_due"),
    [(10, 5 / 6, True), (20, 0.5, False), (30, 0, False), (15, 5 / 8, True)],
)
def test_the_dirty_share_decides(cleaned, ratio, is_due):
    """The ratio is that of the bytes of segments; exactly min.cleanable.dirty.ratio is not enough."""
    found = assess_log(LOG, cleaned_offset=cleaned)
    assert found.ratio == ratio
    assert found.is_due(LogConfig()) is is_due
    assert found.is_due(LogConfig(min_cleanable_dirty_ratio=0.0)) is (ratio > 0)


@pytest.mark.parametrize(("stable", "limit"), [(30, 30), (29, 20), (20, 20), (5, 0)])
def test_nothing_unstable_is_cleaned(stable, limit):
    """Cleaning ends with the last segment that is stable as a whole."""
    assert assess_log(LOG, stable=stable).first_uncleanable_offset == limit


def test_young_records_are_left():
    """The first segment with a record younger than min.compaction.lag.ms, and all after it, are not cleaned."""
    assert assess_log(LOG, min_compaction_lag_ms=100, now_ms=2099).first_uncleanable_offset == 10
    assert assess_log(LOG, min_compaction_lag_ms=100, now_ms=2100).first_uncleanable_offset == 20
    assert assess_log(LOG, min_compaction_lag_ms=100, now_ms=9000).first_uncleanable_offset == 30


def test_old_records_are_due():
    """With a first record older than max.compaction.lag.ms a log is due however few of its bytes are dirty."""
    config = {"max_compaction_lag_ms": 100, "min_cleanable_dirty_ratio": 1.0}
    found = assess_log(LOG, cleaned_offset=20, now_ms=2700, **config)
    assert found.delay_ms == 100
    assert found.is_due(LogConfig(**config))
    young = assess_log(LOG, cleaned_offset=20, now_ms=2600, **config)
    assert young.delay_ms == 0
    assert not young.is_due(LogConfig(**config))
    nothing = assess_log(LOG, cleaned_offset=30, now_ms=9000, **config)
    assert not nothing.is_due(LogConfig(**config))


@pytest.mark.parametrize("cleaned", [3, 41])
def test_a_checkpoint_that_cannot_be_is_dropped(cleaned):
    """A first dirty offset outside of the log stands for none."""
    found = assess_log(LOG, cleaned_offset=cleaned, start=5)
    assert found.is_reset
    assert found.first_dirty_offset == 5


def test_small_segments_become_one():
    """Segments are merged as long as they fit into one segment and its indexes."""
    small = segments(*((base, 100) for base in range(0, 100, 10)))
    bases = lambda groups: [[segment.base_offset for segment in group] for group in groups]  # noqa: E731
    assert bases(group_segments(small, LogConfig(segment_bytes=400), 100)) == [
        [0, 10, 20, 30],
        [40, 50, 60, 70],
        [80, 90],
    ]
    assert bases(group_segments(small, LogConfig(segment_bytes=90), 100)) == [
        [base] for base in range(0, 100, 10)
    ]
    assert bases(group_segments(small, LogConfig(segment_index_bytes=50), 100)) == [
        [0, 10, 20, 30, 40],
        [50, 60, 70, 80, 90],
    ]
    many = segments(*((base, 1) for base in range(100)))
    assert len(group_segments(many, LogConfig(), 100)[0]) == GROUP_SEGMENTS_MAX


def test_offsets_stay_within_reach_of_the_index():
    """A segment's offsets are at most 2^31 - 1 after its base offset; one without records does not count."""
    far = segments((0, 10), (2**31 - 10, 10), (2**31 + 5, 10))
    assert [len(group) for group in group_segments(far, LogConfig(), 2**31 + 10)] == [1, 2]
    empty = segments((0, 10), (2**31 - 10, 0), (2**31 + 5, 10))
    assert [len(group) for group in group_segments(empty, LogConfig(), 2**31 + 10)] == [2, 1]

"""Whether figures that were taken again and again stay flat."""

from __future__ import annotations

from typing import NamedTuple

from barnabas.coordinators.group.records import KEYS_REMEMBERED_MAX

__all__ = ["Sample", "counts_that_grow", "flaws", "slope"]

WARM_UP_SHARE = 0.25
"""Caches and pools fill at first."""

LEAST_SAMPLES = 30
RSS_GROWTH_MAX_SHARE = 0.06
"""From the end of the warm-up to the end of the run."""

COUNT_GROWTH_MAX_SHARE = 0.25
COUNT_GROWTH_MAX = 100

FULL_AT = {
    "barnabas.coordinators.group.records.RecordType": KEYS_REMEMBERED_MAX,
    "barnabas.wire.messages.group.group_metadata_key.GroupMetadataKey": KEYS_REMEMBERED_MAX,
    "barnabas.wire.messages.group.offset_commit_key.OffsetCommitKey": KEYS_REMEMBERED_MAX,
}
"""What fills up slowly, and may, up to so many."""


class Sample(NamedTuple):
    """What a process uses at one moment."""

    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int
    counts: dict[str, int]


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line that fits best (least squares)."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def flaws(samples: list[Sample]) -> list[str]:
    """What grew after the warm-up, a sentence each; nothing for fewer than `LEAST_SAMPLES`."""
    late = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(samples) < LEAST_SAMPLES:
        return []
    found = []
    length_s = late[-1].at_s - late[0].at_s
    grown = slope([(sample.at_s, sample.rss_bytes) for sample in late]) * length_s
    if grown > RSS_GROWTH_MAX_SHARE * late[0].rss_bytes:
        found.append(f"memory grows by {grown / 2**20:.1f} MiB in {length_s:.0f} s")
    return found + counts_that_grow(samples)


def counts_that_grow(samples: list[Sample]) -> list[str]:
    """The same without memory: descriptors, threads, objects of each class, elements of each container."""
    late = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(samples) < LEAST_SAMPLES:
        return []
    found = []
    figures = {name for sample in late for name in sample.counts}
    series = {name: [sample.counts.get(name, 0) for sample in late] for name in figures}
    series["open descriptors"] = [sample.descriptors for sample in late]
    series["threads"] = [sample.threads for sample in late]
    for name, values in sorted(series.items()):
        third = max(1, len(values) // 3)
        first, last = values[:third], values[-third:]
        # The least of the end above the most of the beginning, and by more than waves do.
        grown_by = min(last) - max(first)
        line = slope(list(enumerate(values))) * len(values)
        if values[-1] <= FULL_AT.get(name, 0):
            continue
        if grown_by > 0 and line > max(COUNT_GROWTH_MAX, COUNT_GROWTH_MAX_SHARE * max(first)):
            found.append(f"{name} grows: {values[:: max(1, len(values) // 10)]}")
    return found

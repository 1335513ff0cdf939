"""A few seconds of mixed load; `make soak SECONDS=3600` runs it for as long as one likes, and judges growth."""

from __future__ import annotations

import sys

import pytest

from tests.soak.judge import LEAST_SAMPLES, Sample, flaws
from tests.soak.soak import soak

SECONDS = 8


@pytest.mark.clients
@pytest.mark.timeout(300)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the samples come from /proc")
def test_mixed_load_loses_nothing(tmp_path):
    """Beside slow, deaf and passing clients, a group reads all that was written, in order."""
    figures = soak(tmp_path, seconds=SECONDS, seed=1, interval_s=4)
    assert figures["records"] > 50


def samples(**series):
    """One sample a minute; each argument is a function of the minute."""
    return [
        Sample(
            at_s=60.0 * minute,
            rss_bytes=series.get("rss_mib", lambda _: 50)(minute) << 20,
            descriptors=30 + minute % 7,
            threads=5,
            counts={"entries": series.get("entries", lambda _: 500)(minute)},
        )
        for minute in range(2 * LEAST_SAMPLES)
    ]


def test_waves_are_not_growth():
    """What comes and goes, and what fills up at first, is no flaw."""
    assert flaws(samples(entries=lambda minute: 500 + 300 * (minute % 5))) == []
    assert flaws(samples(rss_mib=lambda minute: min(50, 40 + minute), entries=lambda _: 500)) == []


def test_growth_is_told():
    """Memory that grows by a megabyte in two minutes, and a map that grows by ten entries a minute."""
    assert "memory grows by" in flaws(samples(rss_mib=lambda minute: 50 + minute // 2))[0]
    (told,) = flaws(samples(entries=lambda minute: 500 + 10 * minute))
    assert told.startswith("entries grows: [")

"""The map of keys and the throttle."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.log.cleaning.batch_reader import Throttle
from barnabas.log.cleaning.offset_map import BYTES_PER_KEY, OffsetMap


@given(st.lists(st.binary(max_size=40) | st.binary(min_size=63, max_size=66)))
def test_the_newest_offset_of_a_key_counts(keys):
    """Whatever their length, keys do not get into each other's way."""
    found = OffsetMap(BYTES_PER_KEY * 1000, 0.9)
    newest = {key: offset for offset, key in enumerate(keys)}
    half = len(keys) // 2
    assert found.put_all(keys[:half], range(half))
    assert found.put_all([*keys[half:], None], range(half, len(keys) + 1))
    assert len(found) == len(newest)
    assert list(found.newest_offsets(keys)) == [newest[key] for key in keys]
    assert list(found.newest_offsets([b"not there" * 9])) == [-1]
    assert list(found.has([*keys, b"not there" * 9], 81)) == [*[True] * len(keys), False]
    assert list(found.all_offsets()) == sorted(newest.values())


def test_a_full_map_says_so():
    """Of 10 slots 9 are used."""
    found = OffsetMap(BYTES_PER_KEY * 10, 0.9)
    assert not found.put_all([b"%d" % number for number in range(11)], range(11))
    assert not found.put_all([b"8"], [9])
    assert found.latest_offset == 8
    assert found.utilization == 0.9
    assert list(found.newest_offsets([b"8", b"9"])) == [8, -1]
    assert OffsetMap(0, 0.9).put_all([b"1"], [0])


@pytest.mark.parametrize("key_bytes", [1, 24, 25, 64, 65])
@pytest.mark.parametrize("count", [45_000, 90_000])
def test_the_map_keeps_to_its_memory(count, key_bytes):
    """Keys take no more than they are counted for, also at the moment when the table grows, and when their offsets are sorted."""
    keys = [(b"%07d" % number).rjust(key_bytes, b"-") for number in range(count)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = OffsetMap(1 << 30, 1.0)
        for first in range(0, count, 500):
            # The map's own: a key that is read from a log is in no one else's hands.
            some = [bytes(bytearray(key)) for key in keys[first : first + 500]]
            assert found.put_all(some, range(10**12 + first, 10**12 + first + len(some)))
        assert len(found.all_offsets()) == count
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak <= found.utilization * (1 << 30)


def test_the_throttle_keeps_to_its_rate():
    """So many bytes per second on average; time in which nothing was read is not saved up."""
    now = [100.0]
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    throttle = Throttle(1000, now=lambda: now[0], sleep=sleep)
    throttle.spend(500)
    throttle.spend(500)
    assert sum(slept) == pytest.approx(1.0)
    now[0] += 50
    throttle.spend(1000)
    assert sum(slept) == pytest.approx(2.0)
    endless = Throttle(1e300, now=lambda: now[0], sleep=sleep)
    endless.spend(1 << 40)
    assert sum(slept) == pytest.approx(2.0)

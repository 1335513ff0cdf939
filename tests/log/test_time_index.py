from __future__ import annotations

import struct

import pytest

from barnabas.log.files import Files
from barnabas.log.time_index import NO_TIMESTAMP, TimeIndex


@pytest.fixture
def path(tmp_path):
    return tmp_path / "00000000000000001000.timeindex"


@pytest.fixture
def index(path):
    index = TimeIndex(Files(), path, 1000)
    for timestamp_ms, offset in [(50, 1010), (70, 1020), (90, 1040)]:
        index.maybe_append(timestamp_ms, offset)
    return index


class TestTimeIndex:
    def test_layout(self, index, path):
        """Entries are a 64-bit timestamp and a 32-bit relative offset."""
        index.entries.write()
        assert path.read_bytes() == struct.pack(">qiqiqi", 50, 10, 70, 20, 90, 40)

    @pytest.mark.parametrize("timestamp_ms", [-1, 89, 90])
    def test_only_higher_timestamps_are_noted(self, index, timestamp_ms):
        """A timestamp that is not above the last one adds nothing."""
        index.maybe_append(timestamp_ms, 1050)
        assert index.count == 3
        assert index.last() == (90, 1040)

    @pytest.mark.parametrize(
        ("timestamp_ms", "expected"),
        [
            (49, (NO_TIMESTAMP, 1000)),
            (50, (50, 1010)),
            (69, (50, 1010)),
            (70, (70, 1020)),
            (1000, (90, 1040)),
        ],
    )
    def test_lookup(self, index, timestamp_ms, expected):
        """The last entry at or before the timestamp says which offsets need not be looked at."""
        assert index.lookup(timestamp_ms) == expected
        index.entries.retire()
        assert index.lookup(timestamp_ms) == expected

    def test_truncate(self, index):
        """Entries at the offset and later go, and the last one is that before."""
        index.truncate_to(1020)
        assert index.count == 1
        assert index.last() == (50, 1010)
        index.truncate_to(1000)
        assert index.last() == (NO_TIMESTAMP, 1000)

    def test_reopened(self, index, path):
        """After a reopening the last entry is known, and the next one follows it."""
        index.entries.write()
        reopened = TimeIndex(Files(), path, 1000, size=36)
        assert reopened.last() == (90, 1040)
        reopened.maybe_append(95, 1060)
        assert reopened.entry(3) == (95, 1060)

    def test_entries_that_do_not_rise(self, path):
        """What comes after zeros, as a power failure may leave them, is not believed."""
        path.write_bytes(struct.pack(">qiqiqi", 50, 10, 0, 0, 90, 40))
        assert TimeIndex(Files(), path, 1000, size=36).rising_entries() == [(50, 1010)]

from __future__ import annotations

import struct
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.log import index_file
from barnabas.log.files import Files
from barnabas.log.offset_index import OffsetIndex


@pytest.fixture
def path(tmp_path):
    return tmp_path / "00000000000000001000.index"


def filled(path, entries, *, base_offset=1000):
    index = OffsetIndex(Files(), path, base_offset)
    for offset, position in entries:
        index.append(offset, position)
    return index


ENTRIES = [(1010, 100), (1020, 250), (1040, 300)]


class TestOffsetIndex:
    def test_layout(self, path):
        """Entries are relative offset and position, 32 bits each, and no more than the entries is in the file."""
        filled(path, ENTRIES).entries.write()
        assert path.read_bytes() == struct.pack(">6i", 10, 100, 20, 250, 40, 300)

    @pytest.mark.parametrize(
        ("offset", "position"),
        [(1000, 0), (1009, 0), (1010, 100), (1019, 100), (1020, 250), (1040, 300), (9999, 300)],
    )
    @pytest.mark.parametrize("in_file", [False, True])
    def test_lookup(self, path, offset, position, in_file):
        """The last entry at or before the offset says where to begin, whether it is in memory or in the file."""
        index = filled(path, ENTRIES)
        if in_file:
            index.entries.retire()
        assert index.lookup(offset) == position

    @pytest.mark.parametrize(
        ("position", "offset"), [(0, 1010), (100, 1010), (101, 1020), (300, 1040), (301, None)]
    )
    def test_offset_at(self, path, position, offset):
        """The first batch in the index at a position or after it."""
        assert filled(path, ENTRIES).offset_at(position) == offset

    @pytest.mark.parametrize(("offset", "count"), [(1000, 0), (1010, 0), (1011, 1), (1040, 2), (1041, 3)])
    @pytest.mark.parametrize("in_file", [False, True])
    def test_truncate(self, path, offset, count, in_file):
        """Batches that reach the offset are no longer in the index, nor in its file."""
        index = filled(path, ENTRIES)
        if in_file:
            index.entries.retire()
        index.truncate_to(offset)
        index.entries.write()
        assert [index.entry(number) for number in range(index.count)] == ENTRIES[:count]
        assert path.stat().st_size == 8 * count

    def test_empty(self, path):
        """An index without entries points to the beginning."""
        index = filled(path, [])
        assert index.lookup(1000) == 0
        assert index.last() is None
        assert index.offset_at(0) is None

    def test_an_unfinished_entry_is_not_one(self, path):
        """The file of a torn write is used as far as it is whole, and the rest is overwritten."""
        filled(path, ENTRIES).entries.write()
        path.write_bytes(path.read_bytes()[:-3])
        index = OffsetIndex(Files(), path, 1000, size=path.stat().st_size)
        assert index.count == 2
        index.truncate_to(5000)
        index.append(1050, 400)
        index.entries.write()
        assert path.read_bytes() == struct.pack(">6i", 10, 100, 20, 250, 50, 400)

    def test_entries_that_do_not_rise(self, path):
        """What comes after zeros, as a power failure may leave them, is not believed."""
        path.write_bytes(struct.pack(">8i", 10, 100, 20, 250, 0, 0, 40, 300))
        index = OffsetIndex(Files(), path, 1000, size=32)
        assert index.rising_entries() == [(1010, 100), (1020, 250)]

    @given(
        steps=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 900)), max_size=40),
        writes=st.sets(st.integers(0, 40)),
        cut=st.integers(0, 2100) | st.none(),
        window=st.integers(2, 10),
        together=st.integers(1, 10),
    )
    def test_any_mixture_of_memory_and_file(self, tmp_path_factory, steps, writes, cut, window, together):
        """Entries are found wherever they are, before and after a truncation and a reopening."""
        path = tmp_path_factory.mktemp("index") / "00000000000000001000.index"
        with mock.patch.multiple(index_file, WINDOW_ENTRIES=window, TOGETHER_ENTRIES=together):
            index = OffsetIndex(Files(), path, 1000)
            expected = []
            offset, position = 1000, 0
            for number, (records, size) in enumerate(steps):
                offset += records
                position += size
                index.append(offset, position)
                expected.append((offset, position))
                if number in writes:
                    index.entries.write()
            if cut is not None:
                index.truncate_to(1000 + cut)
                expected = [entry for entry in expected if entry[0] < 1000 + cut]
            for _ in range(2):
                assert [index.entry(number) for number in range(index.count)] == expected
                for probe in range(995, offset + 5, 7):
                    before = [found for at, found in expected if at <= probe]
                    assert index.lookup(probe) == (before[-1] if before else 0)
                for probe in range(0, position + 5, 97):
                    behind = [found for found, at in expected if at >= probe]
                    assert index.offset_at(probe) == (behind[0] if behind else None)
                index.entries.write()
                index = OffsetIndex(Files(), path, 1000, size=path.stat().st_size)

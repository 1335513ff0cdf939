from __future__ import annotations

import pytest

from barnabas.log.files import Files
from barnabas.log.segment import Segment
from barnabas.log.segments import Segments, rename_to_deleted


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def segments(files, tmp_path):
    return Segments([Segment.create(files, tmp_path, base, now_ms=0) for base in (0, 10, 20)])


def bases(found):
    return [segment.base_offset for segment in found]


class TestSegments:
    @pytest.mark.parametrize(
        ("offset", "base"), [(-1, 0), (0, 0), (9, 0), (10, 10), (19, 10), (20, 20), (99, 20)]
    )
    def test_floor(self, segments, offset, base):
        """An offset belongs to the last segment that begins at it or before."""
        assert segments.floor(offset).base_offset == base
        assert bases(segments.starting_at(offset)) == [found for found in (0, 10, 20) if found >= base]

    def test_after(self, segments):
        """Each segment but the last has one after it."""
        assert segments.after(segments.first).base_offset == 10
        assert segments.after(segments.active) is None

    def test_add(self, segments, files, tmp_path):
        """The newest segment is the active one."""
        added = Segment.create(files, tmp_path, 30, now_ms=0)
        segments.add(added)
        assert segments.active is added
        assert len(segments) == 4

    def test_remove_oldest(self, segments):
        """The oldest go first."""
        assert bases(segments.remove_oldest(2)) == [0, 10]
        assert segments.base_offsets == [20]

    @pytest.mark.parametrize(
        ("offset", "removed"), [(20, []), (19, [20]), (10, [20]), (9, [10, 20]), (-5, [10, 20])]
    )
    def test_remove_after(self, segments, offset, removed):
        """Those that begin above the offset go; one always stays."""
        assert bases(segments.remove_after(offset)) == removed
        assert segments.active.base_offset == [base for base in (0, 10, 20) if base not in removed][-1]


def test_rename_to_deleted(segments, tmp_path):
    """All files of a segment get a name under which they wait for their deletion."""
    segments.first.become_inactive()
    renamed = rename_to_deleted(Files(), segments.first)
    names = [f"{0:020d}{suffix}.deleted" for suffix in (".log", ".index", ".timeindex")]
    assert [path.name for path in renamed] == names
    assert {path.name for path in tmp_path.iterdir()} == {*names, f"{10:020d}.log", f"{20:020d}.log"}

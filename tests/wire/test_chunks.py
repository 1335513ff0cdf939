from __future__ import annotations

from barnabas.wire.chunks import FileRegion, add_records, join_chunks, read_regions, records_size


class Region:
    size = 3

    def read(self):
        return b"reg"

    def send_to(self, socket_fd, offset, count):
        return count

    def release(self):
        pass


def test_neighbours_join_and_regions_stay():
    """Small pieces become one chunk; a region and a big piece of bytes are chunks as they are."""
    region, big = Region(), bytes(16_384)
    pieces = [b"a", b"b", region, b"c", big, memoryview(b"d"), bytearray(b"e"), region]
    assert join_chunks(pieces, [2, 4, 5, 6, 7]) == [b"ab", region, b"c", big, b"de", region]


def test_nothing_makes_no_chunk():
    """No pieces are no chunks, and no empty chunk stands beside a region."""
    region = Region()
    assert join_chunks([], []) == []
    assert join_chunks([region], [0]) == [region]


def test_sizes_add_up():
    """The size of records is counted in bytes, through lists, whatever the items of a view are."""
    assert records_size(None) == 0
    assert records_size(memoryview(b"abcdefgh").cast("i")) == 8
    assert records_size([b"ab", [bytearray(b"c"), None], Region()]) == 6


def test_lists_are_flattened_and_regions_can_be_read():
    """Each part is a piece of its own at a noted place; reading replaces the regions alone."""
    region = Region()
    assert isinstance(region, FileRegion)
    pieces, places = [b"head"], []
    add_records(pieces, places, [b"a", [region, None], []])
    assert (pieces, places) == ([b"head", b"a", region], [1, 2])
    read_regions(pieces, places)
    assert pieces == [b"head", b"a", b"reg"]

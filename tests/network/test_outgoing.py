"""The queue of what is to be sent."""

from __future__ import annotations

import os
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from barnabas.network.outgoing import BIG_BYTES, JOINED_BYTES_MAX, Outgoing


class MemoryRegion:
    """A region without a file."""

    made: ClassVar[list] = []

    def __init__(self, content):
        self.content = content
        self.size = len(content)
        self.released = 0

    def read(self):
        return self.content

    def release(self):
        self.released += 1


CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([bytes, bytearray, memoryview, MemoryRegion]),
        st.one_of(st.integers(0, 50), st.sampled_from([BIG_BYTES - 1, BIG_BYTES, BIG_BYTES + 1])),
    ),
    max_size=12,
)


@given(chunks=CHUNKS, portions=st.lists(st.integers(0, 40_000), max_size=50), inline=st.booleans())
def test_everything_leaves_in_order(chunks, portions, inline):
    """Whatever is queued and however little is taken at a time, the bytes are the same and regions released once."""
    outgoing = Outgoing()
    queued, contents = [], []
    for make, size in chunks:
        contents.append(os.urandom(size))
        queued.append(make(contents[-1]))
    outgoing.extend(queued)
    expected = b"".join(contents)
    sent = bytearray()
    portions = [*portions]
    while outgoing:
        assert outgoing.pending_bytes == len(expected) - len(sent) > 0
        region = outgoing.region()
        if region is not None and inline and outgoing.region_offset == 0:
            outgoing.inline_region()
            assert region.released == 1
            continue
        if region is not None:
            data = region.read()[outgoing.region_offset :]
        else:
            data, more = outgoing.gather()
            assert len(data) <= max(JOINED_BYTES_MAX, BIG_BYTES + 1)
            assert more == (len(data) < outgoing.pending_bytes)
        count = min(len(data), portions.pop() if portions else len(data))
        sent += data[:count]
        outgoing.advance(count)
    assert sent == expected
    assert outgoing.pending_bytes == 0
    assert all(chunk.released == 1 for chunk in queued if isinstance(chunk, MemoryRegion))


def test_small_chunks_are_joined_up_to_a_limit():
    """Small chunks leave together, but no more than a socket takes."""
    outgoing = Outgoing()
    for _ in range(100):
        outgoing.append(b"x" * 10_000, b"1234")
    data, more = outgoing.gather()
    assert JOINED_BYTES_MAX - 20_000 < len(data) <= JOINED_BYTES_MAX
    assert more


def test_clearing_releases_regions_but_the_one_in_use():
    """A region that a thread reads is left to whoever holds it."""
    outgoing = Outgoing()
    held, other = MemoryRegion(b"held"), MemoryRegion(b"other")
    outgoing.extend([b"x", held, other])
    outgoing.held = held
    outgoing.clear()
    assert (held.released, other.released) == (0, 1)
    assert not outgoing
    assert outgoing.pending_bytes == 0

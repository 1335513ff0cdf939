"""Buffers for unfinished requests."""

from __future__ import annotations

from barnabas.network.request_memory import KEPT_BYTES_MAX, MAPPED_FROM_BYTES, RequestMemory


def test_buffers_have_their_size():
    """A buffer has exactly the size that was asked for and can be written."""
    memory = RequestMemory()
    for size in (0, 1, MAPPED_FROM_BYTES - 1, MAPPED_FROM_BYTES, MAPPED_FROM_BYTES + 1, 3_000_000):
        buffer = memory.take(size)
        assert len(buffer) == size
        buffer[:] = b"x" * size
        memory.give(buffer)


def test_long_buffers_are_used_again():
    """A long buffer that was given back serves the next request of about its size, but not a much shorter one."""
    memory = RequestMemory()
    first = memory.take(1_000_000)
    first[:5] = b"first"
    memory.give(first)
    short = memory.take(100_000)
    assert bytes(short[:5]) != b"first"
    again = memory.take(900_000)
    assert bytes(again[:5]) == b"first"
    other = memory.take(900_000)
    assert bytes(other[:5]) != b"first"


def test_few_buffers_are_kept():
    """However many long buffers come back, no more than a fixed sum is kept."""
    memory = RequestMemory()
    buffers = [memory.take(3_000_000) for _ in range(5)]
    for buffer in buffers:
        memory.give(buffer)
    memory.give(memory.take(100_000_000))
    assert memory._kept_bytes <= KEPT_BYTES_MAX
    assert sum(map(len, memory._kept)) == memory._kept_bytes


def test_who_waits_is_called_once_when_there_is_room():
    """Callbacks wait until the sum falls below the limit, and those forgotten are not called."""
    memory = RequestMemory(100)
    calls = []
    first, second = (lambda: calls.append(1)), (lambda: calls.append(2))
    memory.charge(60)
    assert not memory.is_exhausted
    memory.charge(60)
    assert memory.is_exhausted
    memory.call_when_free(first)
    memory.call_when_free(first)
    memory.call_when_free(second)
    memory.forget(second)
    memory.discharge(10)
    assert calls == []
    memory.discharge(60)
    assert calls == [1]
    memory.discharge(50)
    assert calls == [1]


def test_without_a_limit_nothing_is_exhausted():
    """A limit below one is none."""
    memory = RequestMemory(-1)
    memory.charge(10**12)
    assert not memory.is_exhausted


def test_kept_buffers_go_when_nobody_needs_them():
    """Between two trims without a long request, what was kept for the next one is given back to the system."""
    memory = RequestMemory()
    memory.give(memory.take(1_000_000))
    memory.trim()
    assert memory._kept_bytes > 0
    memory.trim()
    assert memory._kept == []
    assert memory._kept_bytes == 0

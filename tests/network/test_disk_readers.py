"""Threads that wait for disks, and the line before them."""

import asyncio
import contextlib
import threading

import pytest

from barnabas.network.disk_readers import THREADS_MAX, DiskReaders


class _Disk:
    """Reads that wait for a gate."""

    def __init__(self):
        self.gate = threading.Event()
        self.begun = []
        self.released = []

    def read(self, name):
        self.begun.append(name)
        assert self.gate.wait(20)
        return name

    def of(self, readers, name):
        return readers.read(lambda: self.read(name), lambda: self.released.append(name))


@contextlib.asynccontextmanager
async def _busy(others):
    """Readers whose threads are all at work, for as many as that, and so many others in the line."""
    disk = _Disk()
    readers = DiskReaders(asyncio.get_running_loop())
    reading = [disk.of(readers, number) for number in range(THREADS_MAX)]
    waiting = [disk.of(readers, THREADS_MAX + number) for number in range(others)]
    try:
        async with asyncio.timeout(20):
            while len(disk.begun) < THREADS_MAX:
                await asyncio.sleep(0)
            yield disk, readers, reading, waiting
    finally:
        disk.gate.set()
        readers.close()


def test_a_few_at_a_time_first_come_first_served():
    """No more are read than there are threads, the others in their order; each gets what was read for it."""

    async def run():
        async with _busy(10) as (disk, readers, reading, waiting):
            assert len(readers) == 10
            assert sorted(disk.begun) == list(range(THREADS_MAX))
            disk.gate.set()
            everything = list(range(THREADS_MAX + 10))
            assert await asyncio.gather(*reading, *waiting) == everything
            assert disk.begun[THREADS_MAX:] == everything[THREADS_MAX:]
            assert sorted(disk.released) == everything
            assert len(readers) == 0

    asyncio.run(run())


def test_who_gives_up_leaves_the_line():
    """What nobody waits for any more is let go at once, though the disk hangs, and is never read."""

    async def run():
        async with _busy(1000) as (disk, readers, reading, waiting):
            for future in waiting[:-1]:
                future.cancel()
            await asyncio.sleep(0)
            assert len(readers) == 1
            assert disk.released == list(range(THREADS_MAX, THREADS_MAX + 999))
            disk.gate.set()
            assert await asyncio.gather(*reading, waiting[-1]) == [*range(THREADS_MAX), THREADS_MAX + 999]
            assert len(disk.begun) == THREADS_MAX + 1

    asyncio.run(run())


def test_what_is_begun_is_finished():
    """What a thread is at is not let go before it is through, whoever gives up."""

    async def run():
        async with _busy(1) as (disk, readers, reading, waiting):
            readers.forgo(reading[0])
            assert not reading[0].cancelled()
            reading[0].cancel()
            await asyncio.sleep(0)
            assert disk.released == []
            disk.gate.set()
            await asyncio.gather(*waiting, *reading[1:])
            while len(disk.released) <= THREADS_MAX:
                await asyncio.sleep(0.001)
            assert sorted(disk.released) == list(range(THREADS_MAX + 1))

    asyncio.run(run())


def test_errors_are_handed_on():
    """Who asked for a read that fails is told why; the others go on."""

    async def run():
        readers = DiskReaders(asyncio.get_running_loop())

        def fail():
            raise OSError("no such sector")

        failing = [readers.read(fail) for _ in range(10)]
        assert await readers.read(lambda: "read") == "read"
        for future in failing:
            with pytest.raises(OSError, match="no such sector"):
                await future
        readers.close()

    asyncio.run(run())


def test_the_end_cancels_the_line():
    """Who is still in the line when the broker stops is told, and let go."""

    async def run():
        async with _busy(3) as (disk, readers, _reading, waiting):
            readers.close()
            assert all(future.cancelled() for future in waiting)
            assert disk.released == list(range(THREADS_MAX, THREADS_MAX + 3))

    asyncio.run(run())

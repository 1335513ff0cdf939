"""Parked requests."""

import asyncio
import contextlib
import threading

import pytest

from barnabas.clock import SystemClock
from barnabas.errors import StorageError
from barnabas.log.files import ColdRead
from barnabas.network.disk_readers import THREADS_MAX, DiskReaders
from barnabas.replication.waiting import Deadlines, Patience, Waiting


class _SteppedClock:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.ms = 0.0

    def now_ms(self) -> int:
        return int(self.ms)

    def monotonic_ms(self) -> float:
        return self.ms


class _Partition:
    """Only what a parked fetch uses of a partition."""

    def __init__(self) -> None:
        self.parked_fetches = {}


class _Cold(ColdRead):
    """A read that waits for a gate."""

    def __init__(self, error: Exception | None = None, *, is_open: bool = True) -> None:
        Exception.__init__(self)
        self.gate = threading.Event()
        self.error = error
        self.is_released = False
        if is_open:
            self.gate.set()

    def warm(self) -> None:
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error

    def release(self) -> None:
        self.is_released = True


class _Attempt:
    """Gives these answers one after the other, the last one again and again; "forced" where None is not allowed."""

    def __init__(self, *answers: object) -> None:
        self.partition = _Partition()
        self.partitions = [self.partition]
        self.looks: list[tuple[bool, bool]] = []
        self._answers = list(answers)

    def __call__(self, force: bool, *, may_block: bool) -> object:
        self.looks.append((force, may_block))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ColdRead) and not may_block:
            raise answer
        if answer is None and force:
            return "forced"
        return answer


@contextlib.asynccontextmanager
async def _rooms():
    loop = asyncio.get_running_loop()
    readers = DiskReaders(loop)
    waiting = Waiting(loop, SystemClock(), readers)
    async with asyncio.timeout(20):
        yield waiting, readers
    waiting.close()
    readers.close()


def test_deadlines_call_back_in_order_of_time():
    """Deadlines expire by time, not by order of arrival."""

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, SystemClock())
        expired: list[str] = []
        last = loop.create_future()
        deadlines.add(30, last, lambda: (expired.append("late"), last.set_result(None)))
        deadlines.add(5, loop.create_future(), lambda: expired.append("early"))
        await asyncio.wait_for(last, 10)
        return expired

    assert asyncio.run(run()) == ["early", "late"]


def test_a_deadline_of_a_done_future_is_dropped():
    """What is answered in time does not expire."""

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, SystemClock())
        expired: list[str] = []
        answered, last = loop.create_future(), loop.create_future()
        deadlines.add(1, answered, lambda: expired.append("answered"))
        deadlines.add(10, last, lambda: last.set_result(None))
        answered.set_result(None)
        await asyncio.wait_for(last, 10)
        assert len(deadlines) == 0
        return expired

    assert asyncio.run(run()) == []


def test_answered_requests_do_not_pile_up():
    """The heap keeps about as many entries as there are unanswered requests, however long the time-outs."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, _SteppedClock())
        for _ in range(20_000):
            future = loop.create_future()
            deadlines.add(1e9, future, lambda: None)
            future.set_result(None)
        size = len(deadlines)
        deadlines.close()
        return size

    assert asyncio.run(run()) <= 32


@pytest.mark.parametrize("live", [1, 31, 32, 100, 1000])
def test_answered_requests_do_not_outnumber_the_others(live):
    """Beside so many that wait for long, those that come and go are no more than they are; looking for them is rare."""

    async def run() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop, _SteppedClock())
        waiting = [_CountingFuture(loop=loop) for _ in range(live)]
        for future in waiting:
            deadlines.add(1e9, future, lambda: None)
        most = 0
        for _ in range(20_000):
            future = loop.create_future()
            deadlines.add(1e9, future, lambda: None)
            future.set_result(None)
            most = max(most, len(deadlines))
        deadlines.close()
        return most, sum(future.looks for future in waiting)

    most, looks = asyncio.run(run())
    assert most <= max(32, 2 * live)
    assert looks <= 2 * 20_000


class _CountingFuture(asyncio.Future):
    looks = 0

    def done(self):
        self.looks += 1
        return super().done()


class _Waiter:
    def __init__(self, deadline_ms: float) -> None:
        self.deadline_ms = deadline_ms
        self.is_done = False
        self.expired_at_ms: list[float] = []

    def done(self) -> bool:
        return self.is_done

    def expire(self) -> None:
        self.is_done = True
        self.expired_at_ms.append(SystemClock().monotonic_ms())


def test_patience_ends_soon_after_a_deadline():
    """Who still waits at his deadline is told, once and not before it; who is done is not, and nobody is kept."""

    async def run() -> None:
        clock = SystemClock()
        patience = Patience(asyncio.get_running_loop(), clock)
        now_ms = clock.monotonic_ms()
        answered, early, late = _Waiter(now_ms), _Waiter(now_ms + 20), _Waiter(now_ms + 250)
        answered.is_done = True
        for waiter in (answered, late, early):
            patience.add(waiter)
        async with asyncio.timeout(10):
            while len(patience):
                await asyncio.sleep(0.01)
        assert answered.expired_at_ms == []
        for waiter in (early, late):
            (at_ms,) = waiter.expired_at_ms
            assert at_ms >= waiter.deadline_ms
        patience.close()

    asyncio.run(run())


def test_patience_forgets_who_is_done():
    """Those who were answered are dropped at the next look, however long they would have waited."""

    async def run() -> None:
        patience = Patience(asyncio.get_running_loop(), SystemClock())
        for _ in range(1000):
            waiter = _Waiter(1e15)
            patience.add(waiter)
            waiter.is_done = True
        async with asyncio.timeout(10):
            while len(patience):
                await asyncio.sleep(0.01)

    asyncio.run(run())


@pytest.mark.parametrize("appends", [1, 5])
def test_appends_of_one_turn_make_a_parked_fetch_look_once(appends):
    """However many appends a loop turn brings, a parked fetch reads again once."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            attempt = _Attempt("answer")
            future = waiting.park_fetch(attempt, 10_000)
            for _ in range(appends):
                for parked in attempt.partition.parked_fetches:
                    parked.wake()
            assert await future == "answer"
            assert attempt.looks == [(False, False)]
            assert attempt.partition.parked_fetches == {}

    asyncio.run(run())


def test_a_parked_fetch_is_answered_when_its_time_is_up():
    """After max_wait_ms a fetch is answered with what there is."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            assert await waiting.park_fetch(_Attempt(None), 5) == "forced"

    asyncio.run(run())


def test_a_parked_fetch_leaves_its_partitions_when_its_client_goes():
    """A fetch whose connection is gone is no longer woken."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            attempt = _Attempt(None)
            future = waiting.park_fetch(attempt, 60_000)
            assert attempt.partition.parked_fetches
            future.cancel()
            await asyncio.sleep(0)
            assert attempt.partition.parked_fetches == {}
            assert waiting.fetch_count == 0

    asyncio.run(run())


def test_a_fetch_reads_from_the_disk_first():
    """It looks again after each thing that it lacked was read, and waits for appends if there is too little still."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            colds = _Cold(), _Cold()
            attempt = _Attempt(colds[1], None, "answer")
            future = waiting.park_fetch(attempt, 60_000, colds[0])
            assert attempt.partition.parked_fetches == {}
            while not attempt.partition.parked_fetches:
                await asyncio.sleep(0.001)
            assert all(cold.is_released for cold in colds)
            for parked in attempt.partition.parked_fetches:
                parked.wake()
            assert await future == "answer"
            assert attempt.looks == [(False, False)] * 3

    asyncio.run(run())


@pytest.mark.parametrize("when", ["while it reads", "after it has read"])
def test_a_fetch_that_reads_can_be_cut_short(when):
    """Whose client ends its side is answered with what there is, as soon as that is known, also if it had to be read first."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            cold = _Cold(is_open=False)
            attempt = _Attempt(None)
            future = waiting.park_fetch(attempt, 2**31 - 1, cold)
            if when == "while it reads":
                waiting.cut_short(future)
                assert attempt.looks == []
                cold.gate.set()
            else:
                cold.gate.set()
                while not attempt.partition.parked_fetches:
                    await asyncio.sleep(0.001)
                waiting.cut_short(future)
            assert await future == "forced"
            assert attempt.looks[-1] == (True, False)

    asyncio.run(run())


def test_a_parked_fetch_that_finds_something_cold_has_it_read():
    """What has left the page cache while a fetch waited is not read on the loop."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            attempt = _Attempt(_Cold(), "answer")
            future = waiting.park_fetch(attempt, 5)
            assert await future == "answer"
            assert attempt.looks == [(True, False)] * 2

    asyncio.run(run())


def test_what_the_page_cache_drops_again_at_once_is_read_on_the_loop():
    """A fetch does not read for ever what it does not find afterwards."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            again = _Cold()
            attempt = _Attempt(again)
            assert await waiting.park_fetch(attempt, 0, again, force=True) is again
            assert attempt.looks == [(True, False)] * 15 + [(True, True)]

    asyncio.run(run())


def test_a_read_that_fails_is_answered_by_the_search():
    """The disk fails in a thread: the search is sent to meet the error itself, which takes the log offline and has a code."""

    async def run() -> None:
        async with _rooms() as (waiting, _):
            attempt = _Attempt("KAFKA_STORAGE_ERROR")
            future = waiting.park_fetch(attempt, 60_000, _Cold(StorageError("no such sector")))
            assert await future == "KAFKA_STORAGE_ERROR"
            assert attempt.looks == [(False, True)]

    asyncio.run(run())


def test_fetches_of_clients_that_are_gone_wait_for_no_disk():
    """While the disk hangs, a fetch whose connection is gone leaves nothing behind but what a thread is reading."""

    async def run() -> None:
        async with _rooms() as (waiting, readers):
            colds = [_Cold(is_open=False) for _ in range(100)]
            futures = [waiting.park_fetch(_Attempt(None), 60_000, cold) for cold in colds]
            for future in futures:
                future.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert waiting.fetch_count == 0
            assert len(readers) == 0
            assert sum(cold.is_released for cold in colds) == 100 - THREADS_MAX
            for cold in colds:
                cold.gate.set()
            while not all(cold.is_released for cold in colds):
                await asyncio.sleep(0.001)

    asyncio.run(run())

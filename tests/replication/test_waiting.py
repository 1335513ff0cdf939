"""Parked requests."""

import asyncio

import pytest

from barnabas.clock import SystemClock
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
        loop = asyncio.get_running_loop()
        waiting = Waiting(loop, SystemClock())
        partition = _Partition()
        looks = []
        future = waiting.park_fetch([partition], 10_000, lambda force: looks.append(force) or "answer")
        for _ in range(appends):
            for parked in partition.parked_fetches:
                parked.wake()
        assert await asyncio.wait_for(future, 10) == "answer"
        assert looks == [False]
        assert partition.parked_fetches == {}
        waiting.close()

    asyncio.run(run())


def test_a_parked_fetch_is_answered_when_its_time_is_up():
    """After max_wait_ms a fetch is answered with what there is."""

    async def run() -> str:
        waiting = Waiting(asyncio.get_running_loop(), SystemClock())
        return await asyncio.wait_for(
            waiting.park_fetch([_Partition()], 5, lambda force: "forced" if force else None), 10
        )

    assert asyncio.run(run()) == "forced"


def test_a_parked_fetch_leaves_its_partitions_when_its_client_goes():
    """A fetch whose connection is gone is no longer woken."""

    async def run() -> dict:
        waiting = Waiting(asyncio.get_running_loop(), SystemClock())
        partition = _Partition()
        future = waiting.park_fetch([partition], 60_000, lambda force: None)
        future.cancel()
        await asyncio.sleep(0)
        waiting.close()
        return partition.parked_fetches

    assert asyncio.run(run()) == {}

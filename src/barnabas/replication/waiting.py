"""Requests that are parked until something happens or their time is up.

Kafka calls this a purgatory (`DelayedFetch`, `DelayedProduce`). Here a parked request is an object with a future; what it
waits for (an append to a partition, a high watermark) wakes it, and one timer for all of them answers those whose time is up.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.clock import Clock
    from barnabas.metrics import Registry
    from barnabas.replication.partition import Partition

__all__ = ["Deadlines", "ParkedFetch", "Waiting"]

Response = TypeVar("Response")

_LOOK_EVERY_S = 0.1
_COMPACT_FROM_SIZE = 32


class Deadlines:
    """Calls back at deadlines, with one loop timer however many there are.

    An entry whose future is done by then is dropped without a call. The heap is looked through whenever it has doubled, so
    that done entries, which hold whole answers, never outnumber the others for long, however late their deadlines.
    """

    __slots__ = ("_clock", "_compact_at", "_heap", "_loop", "_sequence", "_timer", "_timer_at_ms")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, asyncio.Future[Any], Callable[[], None]]] = []
        self._compact_at = _COMPACT_FROM_SIZE
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delay_ms: float, future: asyncio.Future[Any], expire: Callable[[], None]) -> None:
        """Calls `expire` after `delay_ms`, unless `future` is done by then."""
        at_ms = self._clock.monotonic_ms() + delay_ms
        heap = self._heap
        if len(heap) >= self._compact_at:
            heap[:] = [entry for entry in heap if not entry[2].done()]
            heapq.heapify(heap)
            self._compact_at = max(_COMPACT_FROM_SIZE, 2 * len(heap))
        self._sequence += 1
        heapq.heappush(heap, (at_ms, self._sequence, future, expire))
        if self._timer is None or at_ms < self._timer_at_ms:
            self._arm(at_ms)

    def close(self) -> None:
        """Forgets every deadline."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_ms = at_ms
        delay_s = max(0.0, (at_ms - self._clock.monotonic_ms()) / 1000)
        self._timer = self._loop.call_later(delay_s, self._run)

    def _run(self) -> None:
        self._timer = None
        heap = self._heap
        now_ms = self._clock.monotonic_ms()
        while heap and (heap[0][0] <= now_ms or heap[0][2].done()):
            _, _, future, expire = heapq.heappop(heap)
            if not future.done():
                expire()
        if heap:
            self._arm(heap[0][0])


class Waiter(Protocol):
    """Somebody who waits, but not for ever."""

    deadline_ms: float

    def done(self) -> bool:
        """Whether the waiting is over."""
        ...

    def expire(self) -> None:
        """The time is up."""
        ...


class Patience:
    """Ends the waiting of many who nearly never wait in vain, at a tenth of a second after their deadline at the latest.

    Unlike `Deadlines` it costs next to nothing to come and go: who waits is looked at only now and then.
    """

    __slots__ = ("_clock", "_loop", "_timer", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._waiters: list[Waiter] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """Calls `expire` of the waiter some time after `deadline_ms` (monotonic), unless it is done."""
        self._waiters.append(waiter)
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def close(self) -> None:
        """Forgets all."""
        self._waiters.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        waiting = [waiter for waiter in self._waiters if not waiter.done()]
        self._waiters = [waiter for waiter in waiting if waiter.deadline_ms > now_ms]
        if self._waiters:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)
        for waiter in waiting:
            if waiter.deadline_ms <= now_ms:
                waiter.expire()


class ParkedFetch(Generic[Response]):
    """A fetch that found less than `min_bytes`; appends to its partitions make it look again.

    Args:
        loop: Where the looking happens: once per loop turn, however many appends there were.
        partitions: The partitions whose appends matter.
        attempt: `attempt(force)` reads again and gives the answer, or None while there is too little and
            `force` is false. It must not raise.
    """

    __slots__ = ("_attempt", "_loop", "_partitions", "_scheduled", "future")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        partitions: list[Partition],
        attempt: Callable[[bool], Response | None],
    ) -> None:
        self._loop = loop
        self._partitions = partitions
        self._attempt = attempt
        self._scheduled = False
        self.future: asyncio.Future[Response] = loop.create_future()
        for partition in partitions:
            partition.parked_fetches[self] = None
        self.future.add_done_callback(self._leave)

    def wake(self) -> None:
        """Something was appended: look again, later in this loop turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._look_again)

    def expire(self) -> None:
        """The time is up: answer with what there is."""
        self._finish(force=True)

    def _look_again(self) -> None:
        self._scheduled = False
        self._finish(force=False)

    def _finish(self, *, force: bool) -> None:
        if self.future.done():
            return
        response = self._attempt(force)
        if response is not None:
            # Left here, not in the done callback, so that no append of the same turn wakes it again.
            self._leave(self.future)
            self.future.set_result(response)

    def _leave(self, _: asyncio.Future[Response]) -> None:
        for partition in self._partitions:
            partition.parked_fetches.pop(self, None)
        self._partitions = []


class Waiting:
    """The parked requests of one broker.

    Attributes:
        deadlines: When they are answered at the latest.
        patience: The same for produce requests that wait for the disk one by one.
        produce_count: Produce requests whose answer waits for the disk; counted by their handler.
    """

    __slots__ = ("_fetches", "_loop", "deadlines", "patience", "produce_count")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._fetches: dict[asyncio.Future[Any], ParkedFetch[Any]] = {}
        self.deadlines = Deadlines(loop, clock)
        self.patience = Patience(loop, clock)
        self.produce_count = 0

    def register_metrics(self, registry: Registry) -> None:
        """Shows how many requests are parked."""
        name = "kafka_server_delayedoperationpurgatory_purgatorysize"
        registry.gauge_function(name, lambda: self.produce_count, delayedOperation="Produce")
        registry.gauge_function(name, lambda: self.fetch_count, delayedOperation="Fetch")

    def park_fetch(
        self, partitions: list[Partition], max_wait_ms: int, attempt: Callable[[bool], Response | None]
    ) -> asyncio.Future[Response]:
        """Parks a fetch until `attempt` gives an answer, at the latest after `max_wait_ms`."""
        parked = ParkedFetch(self._loop, partitions, attempt)
        self._fetches[parked.future] = parked
        parked.future.add_done_callback(self._forget)
        self.deadlines.add(max_wait_ms, parked.future, parked.expire)
        return parked.future

    def wake(self, future: asyncio.Future[Any]) -> None:
        """Makes a parked fetch look again, later in this turn; nothing if it is none or is answered."""
        parked = self._fetches.get(future)
        if parked is not None:
            parked.wake()

    def cut_short(self, future: asyncio.Future[Any]) -> None:
        """Answers a parked fetch now with what there is; nothing if it is none or is answered."""
        parked = self._fetches.get(future)
        if parked is not None:
            parked.expire()

    def expire_all(self) -> None:
        """Answers all parked fetches now; the broker stops."""
        for parked in list(self._fetches.values()):
            parked.expire()

    @property
    def fetch_count(self) -> int:
        """Fetches that are parked."""
        return len(self._fetches)

    def _forget(self, future: asyncio.Future[Any]) -> None:
        self._fetches.pop(future, None)

    def close(self) -> None:
        """Forgets every deadline; the futures are left to those who hold them."""
        self.deadlines.close()
        self.patience.close()

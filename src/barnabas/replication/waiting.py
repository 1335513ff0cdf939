"""Requests that are parked until something happens or their time is up.

Kafka calls this a purgatory (`DelayedFetch`, `DelayedProduce`). Here a parked request is an object with a future; what it
waits for (an append to a partition, a high watermark) wakes it, and one timer for all of them answers those whose time is up.
A fetch that finds that it has to read from the disk first is parked until that is read.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from barnabas.log.files import ColdRead

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.clock import Clock
    from barnabas.metrics import Registry
    from barnabas.network.disk_readers import DiskReaders
    from barnabas.replication.partition import Partition

__all__ = ["Attempt", "Deadlines", "ParkedFetch", "Waiting"]

Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)

_LOOK_EVERY_S = 0.1
_COMPACT_FROM_SIZE = 32
_DISK_READS_MAX = 16
"""So many times in a row a fetch reads from the disk what it lacks. Whatever the page cache drops again at once is read on the loop."""


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


class Attempt(Protocol[Response_co]):
    """Reads the partitions of one fetch; called again whenever one of them may have more. Raises nothing but ColdRead.

    Attributes:
        partitions: Those whose appends matter, once a call has given None.
    """

    partitions: list[Partition]

    def __call__(self, force: bool, *, may_block: bool) -> Response_co | None:
        """The answer, or None while there is too little and `force` is false.

        Raises:
            ColdRead: `may_block` is False, and the search needs something that is not in the page cache.
        """
        ...


class ParkedFetch(Generic[Response]):
    """A fetch that found less than `min_bytes`, or has to read from the disk first; appends to its partitions make it look again.

    Who cancels `future` does not want it any more: it leaves its partitions, and the line of those who read from the disk.

    Args:
        loop: Where the looking happens: once per loop turn, however many appends there were.
        readers: Read from the disk what the search needs, so that the loop never waits for it.
        attempt: Looks.
    """

    __slots__ = (
        "_attempt",
        "_disk_read",
        "_disk_read_count",
        "_is_forced",
        "_loop",
        "_partitions",
        "_readers",
        "_scheduled",
        "future",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, readers: DiskReaders, attempt: Attempt[Response]
    ) -> None:
        self._loop = loop
        self._readers = readers
        self._attempt = attempt
        self._partitions: list[Partition] = []
        self._scheduled = False
        self._disk_read: asyncio.Future[None] | None = None
        self._disk_read_count = 0
        self._is_forced = False
        self.future: asyncio.Future[Response] = loop.create_future()
        self.future.add_done_callback(self._leave)

    def wait(self) -> None:
        """The attempt found too little: its partitions wake it."""
        if not self._partitions:
            self._partitions = self._attempt.partitions
            for partition in self._partitions:
                partition.parked_fetches[self] = None

    def read(self, cold: ColdRead, *, force: bool) -> None:
        """The attempt needs something from the disk: it looks again when that is read."""
        self._is_forced |= force
        self._disk_read_count += 1
        cold.__traceback__ = None  # it would keep all that the search had found
        self._disk_read = self._readers.read(cold.warm, cold.release)
        self._disk_read.add_done_callback(self._on_disk_read)

    def wake(self) -> None:
        """Something was appended: look again, later in this loop turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._look_again)

    def expire(self) -> None:
        """The time is up: answer with what there is, once what is being read is there."""
        self._finish(force=True)

    def _look_again(self) -> None:
        self._scheduled = False
        self._finish(force=False)

    def _on_disk_read(self, reading: asyncio.Future[None]) -> None:
        if self.future.done():
            return
        self._disk_read = None
        if reading.cancelled():
            self.future.cancel()  # the broker stops
            return
        if reading.exception() is not None:
            # The search meets the same error, takes the log offline for it, and says so in the answer.
            self._disk_read_count = _DISK_READS_MAX
        self._finish(force=self._is_forced)

    def _finish(self, *, force: bool) -> None:
        if self.future.done():
            return
        if self._disk_read is not None:
            self._is_forced |= force
            return
        try:
            response = self._attempt(force, may_block=self._disk_read_count >= _DISK_READS_MAX)
        except ColdRead as cold:
            self.read(cold, force=force)
            return
        self._disk_read_count = 0
        if response is None:
            self.wait()
            return
        # Left here, not in the done callback, so that no append of the same turn wakes it again.
        self._leave(self.future)
        self.future.set_result(response)

    def _leave(self, _: asyncio.Future[Response]) -> None:
        for partition in self._partitions:
            partition.parked_fetches.pop(self, None)
        self._partitions = []
        if self._disk_read is not None:
            self._disk_read.cancel()


class Waiting:
    """The parked requests of one broker.

    Attributes:
        deadlines: When they are answered at the latest.
        patience: The same for produce requests that wait for the disk one by one.
        produce_count: Produce requests whose answer waits for the disk; counted by their handler.
    """

    __slots__ = ("_fetches", "_loop", "_readers", "deadlines", "patience", "produce_count")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, readers: DiskReaders) -> None:
        self._loop = loop
        self._readers = readers
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
        self,
        attempt: Attempt[Response],
        max_wait_ms: int,
        cold: ColdRead | None = None,
        *,
        force: bool = False,
    ) -> asyncio.Future[Response]:
        """Parks a fetch until `attempt` gives an answer, at the latest after `max_wait_ms`.

        Args:
            attempt: It has just given None, or raised `cold`.
            max_wait_ms: How long there may be too little.
            cold: What it needs from the disk.
            force: Whether it is to be answered with what there is, as soon as that is read.
        """
        parked = ParkedFetch(self._loop, self._readers, attempt)
        self._fetches[parked.future] = parked
        parked.future.add_done_callback(self._forget)
        if cold is None:
            parked.wait()
        else:
            parked.read(cold, force=force)
        if not force:
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

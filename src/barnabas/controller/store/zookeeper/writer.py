"""What the controller appends, on its way into ZooKeeper: one fenced transaction after the other.

What is appended while a transaction is under way shares the next one, as far as it fits. A transaction creates the next chunk of the log
and moves the head, and is void unless the epoch is still ours and the head is where we left it. So one whose answer was lost can be tried
again without doing it twice; whether it was done is seen by reading the log, which is left to the store: the writer stops at the first
trouble, keeps what it has, and is told how to go on (`begin`, `take`, `fail`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.store.batches import encode_batch
from barnabas.controller.store.zookeeper.layout import HEAD, Head, chunk_path, encode_head
from barnabas.controller.store.zookeeper.log import CHUNK_BYTES, Batch, pieces
from barnabas.controller.store.zookeeper.znodes import Create, SetData, ZooKeeperError
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.clock import Clock
    from barnabas.controller.store.zookeeper.election import Reign
    from barnabas.controller.store.zookeeper.znodes import ZNodes

__all__ = ["Writer", "not_controller", "unknown_outcome"]


class _Entry(NamedTuple):
    records: Sequence[Any]
    content: bytes
    base_offset: int
    last_offset: int
    epoch: int
    deadline: float
    future: asyncio.Future[int]


class Writer:
    """The queue of appends; see the module.

    Args:
        nodes: ZooKeeper.
        clock: For the time of the records.
        loop: Where futures are resolved.
        timeout_ms: Time after which an append fails that ZooKeeper has not taken.
        on_batch: Called with each batch that is in the log, before its future is resolved.
        on_trouble: Called when the writer stopped; with the reason, which is None when an append took too long.
    """

    __slots__ = (
        "_clock",
        "_entries",
        "_head_version",
        "_loop",
        "_nodes",
        "_on_batch",
        "_on_trouble",
        "_reign",
        "_run",
        "_timeout_ms",
        "_timer",
        "next_offset",
    )

    def __init__(
        self,
        nodes: ZNodes,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        timeout_ms: int,
        on_batch: Callable[[Batch], None],
        on_trouble: Callable[[ZooKeeperError | None], None],
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._loop = loop
        self._timeout_ms = timeout_ms
        self._on_batch = on_batch
        self._on_trouble = on_trouble
        self._entries: deque[_Entry] = deque()
        self._reign: Reign | None = None
        self._head_version = 0
        self._run: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.next_offset = 0

    # ----- what the store says

    @property
    def reign(self) -> Reign | None:
        """The reign in which it writes; None while it must not."""
        return self._reign

    def begin(self, reign: Reign, *, head_version: int, next_offset: int) -> None:
        """Writes from now on, from `next_offset`; first what was left over, if that was of the same reign."""
        assert self._run is None, "the fate of the last transaction is not known yet"
        if self._entries:
            assert self._entries[0].base_offset == next_offset, "what is left over does not follow the log"
            assert self._entries[0].epoch == reign.epoch, "what is left over is of another reign"
        else:
            self.next_offset = next_offset
        self._reign = reign
        self._head_version = head_version
        self._start()

    def pause(self) -> None:
        """Begins no further transaction."""
        self._reign = None

    async def idle(self) -> None:
        """Waits until no transaction is under way."""
        while self._run is not None:
            await asyncio.wait([self._run])

    async def drained(self) -> None:
        """Waits until everything that was appended is in the log, or failed."""
        while self._entries:
            await asyncio.wait([self._entries[-1].future])

    def left_over(self, epoch: int) -> bool:
        """Whether something is still to be written, of this epoch."""
        return bool(self._entries) and self._entries[0].epoch == epoch

    def take(self, batch: Batch) -> bool:
        """Whether this batch, found in the log, is the one that is waited for; then it is."""
        if not self._entries:
            return False
        entry = self._entries[0]
        if (entry.last_offset, entry.epoch) != (batch.last_offset, batch.epoch):
            return False
        self._done(entry)
        return True

    async def fail(self, error: Exception) -> None:
        """Fails all that is left; returns when those who appended know."""
        if not self._entries:
            return
        self._fail(error)
        await asyncio.sleep(0)

    # ----- appending

    def append(self, records: Sequence[Any]) -> asyncio.Future[int]:
        """Appends records as one batch; see `MetadataStore`."""
        assert records, "an append without records has no offset"
        future: asyncio.Future[int] = self._loop.create_future()
        if self._reign is None:
            future.set_exception(not_controller())
            return future
        base_offset = self.next_offset
        content = bytes(
            encode_batch(
                records,
                base_offset=base_offset,
                epoch=self._reign.epoch,
                timestamp_ms=self._clock.now_ms(),
            )
        )
        self.next_offset += len(records)
        deadline = self._loop.time() + self._timeout_ms / 1000
        entry = _Entry(
            records, content, base_offset, self.next_offset - 1, self._reign.epoch, deadline, future
        )
        self._entries.append(entry)
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check_deadline)
        self._start()
        return future

    def _start(self) -> None:
        if self._run is None and self._entries:
            # It begins in the next turn: whoever appends within this one shares the transaction.
            self._run = self._loop.create_task(self._write(), name="metadata-writer")
            self._run.add_done_callback(self._end_run)

    def _end_run(self, run: asyncio.Task[None]) -> None:
        self._run = None
        if not run.cancelled() and (error := run.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "the metadata writer failed", "exception": error, "task": run}
            )
        if self._reign is not None:
            self._start()

    async def _write(self) -> None:
        while (reign := self._reign) is not None and self._entries:
            group = self._next_group()
            content = b"".join(entry.content for entry in group)
            try:
                await self._commit(reign, content, group[0].base_offset, group[-1].last_offset)
            except ZooKeeperError as error:
                self.pause()
                self._on_trouble(error)
                return
            for entry in group:
                if self._entries and self._entries[0] is entry:
                    self._done(entry)
                else:  # it was given up, too early
                    self._tell(entry)

    def _next_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        size_bytes = 0
        for entry in self._entries:
            size_bytes += len(entry.content)
            if group and size_bytes > CHUNK_BYTES:
                break
            group.append(entry)
        return group

    async def _commit(self, reign: Reign, content: bytes, base_offset: int, last_offset: int) -> None:
        parts = pieces(content)
        last = len(parts) - 1
        for number, part in enumerate(parts[:last]):
            await self._nodes.commit([reign.fence, Create(chunk_path(base_offset, number), part)])
        results = await self._nodes.commit(
            [
                reign.fence,
                Create(chunk_path(base_offset, last), parts[last]),
                SetData(HEAD, encode_head(Head(last_offset, reign.epoch)), self._head_version),
            ]
        )
        self._head_version = results[-1]

    def _done(self, entry: _Entry) -> None:
        self._entries.popleft()
        self._tell(entry)
        if not entry.future.done():
            entry.future.set_result(entry.last_offset)

    def _tell(self, entry: _Entry) -> None:
        self._on_batch(Batch(list(entry.records), entry.last_offset, entry.epoch, len(entry.content)))

    # ----- what does not get there

    def _check_deadline(self) -> None:
        self._timer = None
        if not self._entries:
            return
        first = self._entries[0]
        if self._loop.time() < first.deadline:
            self._timer = self._loop.call_at(first.deadline, self._check_deadline)
            return
        self.pause()
        self._fail(unknown_outcome(f"ZooKeeper did not take the change within {self._timeout_ms} ms"))
        self._on_trouble(None)

    def _fail(self, error: Exception) -> None:
        entries, self._entries = self._entries, deque()
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(error)

    def close(self) -> None:
        """Gives up what is left."""
        self.pause()
        if self._timer is not None:
            self._timer.cancel()
        if self._run is not None:
            self._run.cancel()
        self._fail(
            unknown_outcome("The metadata log was closed before it was known whether it has the change")
        )


def not_controller() -> KafkaError:
    """The refusal of whoever does not lead."""
    return KafkaError(ErrorCode.NOT_CONTROLLER, "This node does not lead the metadata log.")


def unknown_outcome(why: str) -> KafkaError:
    """What is said of a change that may be in the log, or may come there."""
    return KafkaError(ErrorCode.REQUEST_TIMED_OUT, f"{why}; it may still come into effect.")

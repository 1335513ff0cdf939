"""One shard on this broker: its partition of the internal topic, what is being written, who waits for that, and its timer.

A write appends first and replays afterwards, in one go without an `await`: if the append fails, nothing happened. What was
appended is acknowledged when it is committed. Writes that do not depend on each other (offset commits) share a batch: all
that come in one turn of the loop are appended together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from barnabas.coordinators.coordinator_errors import coordinator_error
from barnabas.coordinators.shard import CoordinatorResult, Now, Shard
from barnabas.coordinators.shard_batches import NO_TRANSACTION, build_batches
from barnabas.errors import BarnabasError, ErrorCode, KafkaError
from barnabas.log.origin import Origin
from barnabas.replication.partition import ACKS_ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.clock import Clock
    from barnabas.coordinators.shard import Answer, Background, Completion, CoordinatorRecord
    from barnabas.coordinators.shard_batches import TransactionalWriter
    from barnabas.replication.partition import Partition

__all__ = ["HostedShard"]

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Shard)
R = TypeVar("R")


class _Write:
    """Records that were appended and are not committed yet, and who waits for them."""

    __slots__ = ("commit", "completions", "deadline_ms", "is_committed", "is_done", "last_offset", "waiting")

    def __init__(self, last_offset: int, deadline_ms: float) -> None:
        self.last_offset = last_offset
        self.commit: asyncio.Future[None] | None = None
        self.is_committed = False
        self.deadline_ms = deadline_ms
        self.completions: Sequence[Completion] = ()
        self.waiting: Sequence[tuple[asyncio.Future[Any], Any]] = ()
        self.is_done = False


class HostedShard(Generic[S]):
    """Runs a shard that is loaded. Made by the runtime once that is so, and closed by it when this broker resigns.

    Attributes:
        shard: The state machine.
        partition: The partition that it lives in.
    """

    __slots__ = (
        "_batched_records",
        "_batched_waiting",
        "_clock",
        "_commit_timeout_ms",
        "_commit_timer",
        "_compression",
        "_is_closed",
        "_loop",
        "_on_divergence",
        "_timer",
        "_timer_at_ms",
        "_writes",
        "partition",
        "shard",
    )

    def __init__(
        self,
        shard: S,
        partition: Partition,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        commit_timeout_ms: float,
        compression: int,
        on_divergence: Callable[[HostedShard[S]], None],
    ) -> None:
        self.shard = shard
        self.partition = partition
        self._clock = clock
        self._loop = loop
        self._commit_timeout_ms = commit_timeout_ms
        self._compression = compression
        self._on_divergence = on_divergence
        self._batched_records: list[CoordinatorRecord] = []
        self._batched_waiting: list[tuple[asyncio.Future[Any], Any]] = []
        self._writes: deque[_Write] = deque()
        self._commit_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0.0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<HostedShard {self.partition.topic}-{self.partition.index}>"

    def now(self) -> Now:
        """The time, for an operation."""
        return Now(self._clock.now_ms(), self._clock.monotonic_ms())

    def monotonic_ms(self) -> float:
        """The time, for an operation that sets a deadline and does nothing else."""
        return self._clock.monotonic_ms()

    # ----- life

    def start(self) -> None:
        """The shard is loaded: sets its timers going."""
        self._run(self.shard.on_loaded(self.now()))
        self._arm()

    def close(self) -> None:
        """This broker is no longer the coordinator: everyone who waits is told so."""
        if self._is_closed:
            return
        self._is_closed = True
        for timer in (self._timer, self._commit_timer):
            if timer is not None:
                timer.cancel()
        error = KafkaError(ErrorCode.NOT_COORDINATOR)
        _fail(self._batched_waiting, error)
        self._batched_records = []
        for write in self._writes:
            _fail(write.waiting, error)
        self._writes.clear()
        _deliver(self.shard.on_unloaded())

    # ----- operations

    def write(self, operation: Callable[[S, Now], CoordinatorResult[R]]) -> R | asyncio.Future[R]:
        """Runs an operation; gives its response, or a future of it if that has to wait for a commit.

        Raises:
            KafkaError: the operation refuses, or its records were not appended, as `coordinator_error` puts it.
        """
        self.flush()
        return self._apply(operation(self.shard, self.now()))

    def write_in_transaction(
        self, writer: TransactionalWriter, operation: Callable[[S, Now], CoordinatorResult[R]]
    ) -> R | asyncio.Future[R]:
        """As `write`, within a producer's transaction: the records count once its end marker says so."""
        self.flush()
        return self._apply(operation(self.shard, self.now()), writer)

    def end_transaction(
        self,
        producer_id: int,
        producer_epoch: int,
        *,
        committed: bool,
        coordinator_epoch: int,
        transaction_version: int,
    ) -> asyncio.Future[None] | None:
        """Writes the end marker of a producer's transaction and applies it; None if it is committed at once.

        Raises:
            KafkaError: the partition refuses the marker.
            StorageError: its log can not be written.
        """
        self.flush()
        if not self.partition.is_leader:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        appended = self.partition.append_end_marker(
            producer_id,
            producer_epoch,
            committed=committed,
            coordinator_epoch=coordinator_epoch,
            transaction_version=transaction_version,
            now_ms=self._clock.now_ms(),
        )
        self.shard.replay_end_transaction_marker(producer_id, producer_epoch, committed=committed)
        future: asyncio.Future[None] = self._loop.create_future()
        self._wait(appended.last_offset, ((future, None),), ())
        return None if future.done() and future.exception() is None else future

    def run(self, operation: Callable[[S, Now], CoordinatorResult[None]]) -> None:
        """Runs an operation that answers by itself, through waiters; raises as `write`."""
        outcome = self.write(operation)
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(_heard)

    def run_unasked(self, operation: Callable[[S, Now], CoordinatorResult[None]]) -> None:
        """Runs an operation that nobody asked for; a failure to write is logged."""
        self.flush()
        self._follow(operation(self.shard, self.now()))

    def write_batched(self, operation: Callable[[S, Now], CoordinatorResult[R]]) -> R | asyncio.Future[R]:
        """As `write`, for operations whose records may be appended later in this turn of the loop, with those of others.

        Such an operation must not depend on what others of its kind have written in the same turn.
        """
        result = operation(self.shard, self.now())
        if not result.records:
            return result.response
        assert result.replay
        assert result.completion is None
        if not self._batched_records:
            self._loop.call_soon(self.flush)
        future: asyncio.Future[R] = self._loop.create_future()
        self._batched_records += result.records
        self._batched_waiting.append((future, result.response))
        return future

    def read(self) -> S:
        """The shard, with everything in it that was written so far."""
        self.flush()
        return self.shard

    def when_committed(self, response: R) -> R | asyncio.Future[R]:
        """The response, once everything written so far is committed: what a reader saw can not be lost afterwards.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE if that has been waited for long enough.
        """
        if not self._writes:
            return response
        last = self._writes[-1]
        if last.is_done:
            raise coordinator_error(KafkaError(ErrorCode.REQUEST_TIMED_OUT))
        future: asyncio.Future[R] = self._loop.create_future()
        last.waiting = [*last.waiting, (future, response)]
        return future

    def flush(self) -> None:
        """Appends what was batched."""
        records = self._batched_records
        if not records:
            return
        waiting = self._batched_waiting
        self._batched_records = []
        self._batched_waiting = []
        try:
            last_offset = self._append(records, replay=True)
        except BarnabasError as error:
            _fail(waiting, coordinator_error(error))
            return
        self._wait(last_offset, waiting, ())

    def _apply(
        self, result: CoordinatorResult[R], writer: TransactionalWriter = NO_TRANSACTION
    ) -> R | asyncio.Future[R]:
        if result.answers:
            _deliver(result.answers)
        if not result.records:
            self._after_append(result)
            self._arm()
            return result.response
        completion = result.completion
        try:
            last_offset = self._append(
                result.records, replay=result.replay, atomic=result.atomic, writer=writer
            )
        except BarnabasError as cause:
            error = coordinator_error(cause)
            if completion is not None and not self._is_closed:
                self._follow(completion.failed(error, self.now()))
            self._arm()
            raise error from cause
        self._after_append(result)
        if not result.is_awaited:
            self._arm()
            return result.response
        future: asyncio.Future[R] = self._loop.create_future()
        self._wait(last_offset, ((future, result.response),), () if completion is None else (completion,))
        self._arm()
        return future.result() if future.done() and future.exception() is None else future

    def _run(self, results: Iterable[CoordinatorResult[None]]) -> None:
        """Applies results that nobody waits for."""
        for result in results:
            if self._is_closed:
                return
            self._follow(result)

    def _follow(self, result: CoordinatorResult[None] | None) -> None:
        if result is None:
            return
        try:
            answer = self._apply(result)
        except KafkaError as error:
            logger.warning(
                "records are not written topic=%s partition=%d records=%d reason=%s",
                self.partition.topic,
                self.partition.index,
                len(result.records),
                error,
            )
        else:
            if isinstance(answer, asyncio.Future):
                answer.add_done_callback(_heard)

    def _after_append(self, result: CoordinatorResult[R]) -> None:
        if result.appended is not None:
            result.appended(self.now())
        for work in result.background:
            computed = self._loop.run_in_executor(None, work.compute)
            computed.add_done_callback(partial(self._on_computed, work))

    def _on_computed(self, work: Background, computed: asyncio.Future[Any]) -> None:
        if computed.cancelled() or self._is_closed:
            if not computed.cancelled():
                computed.exception()
            return
        outcome = computed.exception() or computed.result()
        self.run_unasked(lambda _, now: work.finish(outcome, now))

    # ----- writing

    def _append(
        self,
        records: Sequence[CoordinatorRecord],
        *,
        replay: bool,
        atomic: bool = False,
        writer: TransactionalWriter = NO_TRANSACTION,
    ) -> int:
        """Appends and replays; gives the offset of the last record.

        Raises:
            BarnabasError: of batches that must not be torn, none was appended; of others, the first ones may have been.
        """
        now_ms = self._clock.now_ms()
        partition = self.partition
        last_offset = -1
        limit_bytes = partition.log.config.max_message_bytes
        batches = build_batches(
            records,
            now_ms=now_ms,
            limit_bytes=limit_bytes,
            compression=self._compression,
            atomic=atomic,
            writer=writer,
        )
        for batch, part in batches:
            if not partition.is_leader:
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            if len(batch) > limit_bytes:
                raise KafkaError(
                    ErrorCode.MESSAGE_TOO_LARGE, f"{len(part)} records make a batch of {len(batch)} bytes"
                )
            appended = partition.append(
                batch, ACKS_ALL, now_ms=now_ms, origin=Origin.COORDINATOR, guard=writer.guard
            )
            last_offset = appended.last_offset
            if replay:
                self._replay(part, appended.first_offset, writer)
        return last_offset

    def _replay(
        self, records: Sequence[CoordinatorRecord], first_offset: int, writer: TransactionalWriter
    ) -> None:
        shard = self.shard
        try:
            for offset, (key, value) in enumerate(records, start=first_offset):
                shard.replay(offset, writer.producer_id, writer.producer_epoch, key, value)
        except Exception as error:
            # The log has it and the state has not: only the log can tell what is true now.
            logger.exception("state and log have parted, loading anew shard=%r", self)
            self._on_divergence(self)
            raise KafkaError(ErrorCode.NOT_COORDINATOR) from error

    def _wait(
        self,
        last_offset: int,
        waiting: Sequence[tuple[asyncio.Future[Any], Any]],
        completions: Sequence[Completion],
    ) -> None:
        write = _Write(last_offset, self._clock.monotonic_ms() + self._commit_timeout_ms)
        write.waiting = waiting
        write.completions = completions
        commit = self.partition.wait_committed(last_offset, ACKS_ALL)
        if commit is None and not self._writes:
            self._finish(write, None)
            return
        self._writes.append(write)
        if commit is None:
            # What was written before is not known to be committed yet, and answers keep their order.
            write.is_committed = True
            return
        write.commit = commit
        commit.add_done_callback(lambda done: self._on_commit(last_offset, done))
        if self._commit_timer is None:
            self._commit_timer = self._loop.call_later(
                self._commit_timeout_ms / 1000, self._on_commit_timeout
            )

    def _on_commit(self, last_offset: int, done: asyncio.Future[None]) -> None:
        if self._is_closed:
            if not done.cancelled():
                done.exception()
            return
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        error = None if failure is None else coordinator_error(failure)
        writes = self._writes
        while writes and writes[0].last_offset <= last_offset:
            self._finish(writes.popleft(), error)
        while writes and writes[0].is_committed:
            self._finish(writes.popleft(), None)

    def _finish(self, write: _Write, error: KafkaError | None) -> None:
        if write.is_done:
            return
        write.is_done = True
        for completion in write.completions:
            now = self.now()
            self._follow(completion.committed(now) if error is None else completion.failed(error, now))
        if error is not None:
            _fail(write.waiting, error)
        else:
            for future, response in write.waiting:
                if not future.done():
                    future.set_result(response)
        if write.completions and not self._is_closed:
            self._arm()

    def _on_commit_timeout(self) -> None:
        """Nobody waits longer than `offsets.commit.timeout.ms` for a commit. It may still come, and then nobody is told."""
        self._commit_timer = None
        now_ms = self._clock.monotonic_ms()
        writes = self._writes
        error = coordinator_error(KafkaError(ErrorCode.REQUEST_TIMED_OUT))
        for write in list(writes):
            if write.deadline_ms > now_ms:
                break
            if not write.is_done:
                logger.warning(
                    "records are not committed in time shard=%r offset=%d", self, write.last_offset
                )
                self._finish(write, error)
        # The commit of the last one stands for those before it.
        while len(writes) > 1 and writes[0].is_done and writes[1].is_done:
            commit = writes.popleft().commit
            if commit is not None:
                commit.cancel()
        if self._is_closed:
            return
        pending = next((write for write in writes if not write.is_done), None)
        if pending is not None:
            delay_ms = max(pending.deadline_ms - now_ms, 1.0)
            self._commit_timer = self._loop.call_later(delay_ms / 1000, self._on_commit_timeout)

    # ----- time

    def _arm(self) -> None:
        """Sets the timer to the shard's next deadline; one that rings too early does no harm."""
        if self._is_closed:
            return
        deadline_ms = self.shard.next_deadline_ms()
        if deadline_ms is None:
            return
        if self._timer is not None:
            if self._timer_at_ms <= deadline_ms:
                return
            self._timer.cancel()
        self._timer_at_ms = deadline_ms
        delay_ms = max(deadline_ms - self._clock.monotonic_ms(), 0.0)
        self._timer = self._loop.call_later(delay_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        try:
            self._run(self.shard.on_timer(self.now()))
        except Exception:
            logger.exception("a timer failed shard=%r", self)
        self._arm()


def _deliver(answers: Iterable[Answer]) -> None:
    for waiter, response in answers:
        if not waiter.done():
            waiter.set_result(response)


def _fail(waiting: Iterable[tuple[asyncio.Future[Any], Any]], error: KafkaError) -> None:
    for future, _ in waiting:
        if not future.done():
            future.set_exception(error)


def _heard(done: asyncio.Future[Any]) -> None:
    """Whoever the result was for has been told otherwise."""
    if not done.cancelled():
        done.exception()

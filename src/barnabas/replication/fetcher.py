"""Follows one leader: sends what its plan says, takes the answers in, and tries again for as long as the leader cannot be reached."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from barnabas.errors import BarnabasError, ErrorCode, KafkaError
from barnabas.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from barnabas.clock import Clock
    from barnabas.replication.fetch_plan import FetchPlan, Followed
    from barnabas.replication.partition import Partition
    from barnabas.wire.message import Message

__all__ = ["Fetcher", "LeaderLink"]

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.02
_THROTTLED_LOOK_MS = 500.0
_UNDER_WAY_MAX = 2
_LATEST, _EARLIEST = -1, -4


class LeaderLink(Protocol):
    """A connection to a leader (`client.broker_connection`)."""

    def send(self, request: Message, *, timeout_ms: int | None = None) -> asyncio.Future[Any]:
        """The answer to a request; fails with KafkaError when the link does."""
        ...

    def close(self) -> None:
        """Ends it; what is under way fails."""
        ...


class Fetcher:
    """See the module.

    Args:
        leader_id: The leader.
        plan: What is fetched.
        connect: Connects to the leader, wherever it is now; KafkaError when it cannot be reached.
        node_id: This broker.
        timeout_ms: `replica.socket.timeout.ms`.
        backoff_ms: `replica.fetch.backoff.ms`, the longest wait between two tries.
        clock: The time.
        loop: The event loop.
    """

    __slots__ = (
        "_backoff_ms",
        "_clock",
        "_connect",
        "_is_closed",
        "_link",
        "_loop",
        "_node_id",
        "_task",
        "_timeout_ms",
        "_wake",
        "leader_id",
        "plan",
    )

    def __init__(
        self,
        leader_id: int,
        plan: FetchPlan,
        *,
        connect: Callable[[int], Awaitable[LeaderLink]],
        node_id: int,
        timeout_ms: int,
        backoff_ms: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.leader_id = leader_id
        self.plan = plan
        self._connect = connect
        self._node_id = node_id
        self._timeout_ms = timeout_ms
        self._backoff_ms = backoff_ms
        self._clock = clock
        self._loop = loop
        self._link: LeaderLink | None = None
        self._wake = asyncio.Event()
        plan.wake = self._wake.set
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Fetcher of {self.leader_id} partitions={len(self.plan)}>"

    def add(self, partition: Partition) -> None:
        """Follows a partition."""
        self.plan.add(partition)
        self._wake.set()
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(
                self._run(), name=f"fetcher {self._node_id} of {self.leader_id}"
            )

    def remove(self, partition: Partition) -> None:
        """Follows it no more."""
        self.plan.remove(partition)

    async def close(self) -> None:
        """Ends."""
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # ----- the task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self._link = await self._connect(self.leader_id)
                logger.debug("leader is reached leader=%d", self.leader_id)
                failures = 0
                await self._follow(self._link)
            except BarnabasError as error:
                failures += 1
                level = logging.INFO if failures == 1 else logging.DEBUG
                logger.log(level, "leader is not reached leader=%d reason=%s", self.leader_id, error)
            except Exception:
                failures += 1
                logger.exception("fetcher failed, and goes on leader=%d", self.leader_id)
            finally:
                link, self._link = self._link, None
                if link is not None:
                    link.close()
                self.plan.reset_session()
            await asyncio.sleep(min(_FIRST_BACKOFF_S * 2 ** min(failures, 10), self._backoff_ms / 1000))

    async def _follow(self, link: LeaderLink) -> None:
        """One request after the other; a second one while the leader still waits, if there is something new to say.

        The leader answers the first at once when the second comes, so that a new partition need not wait.
        """
        plan = self.plan
        clock = self._clock
        under_way: deque[tuple[int, int, asyncio.Future[Any]]] = deque()
        while True:
            self._wake.clear()
            may_send = not under_way or (len(under_way) < _UNDER_WAY_MAX and plan.has_session)
            if may_send and (not under_way or plan.has_more_to_say(clock.monotonic_ms())):
                request = plan.request(clock.monotonic_ms())
                if request is not None:
                    answer = link.send(request, timeout_ms=self._timeout_ms)
                    under_way.append((plan.generation, plan.sent, answer))
                    answer.add_done_callback(self._on_answer)
                elif not under_way:
                    await self._sleep(_THROTTLED_LOOK_MS)
                    continue
            if not under_way[0][2].done():
                if len(under_way) < _UNDER_WAY_MAX and plan.has_session:
                    await self._sleep(None)
                else:
                    await self._wake.wait()
                continue
            generation, number, answer = under_way.popleft()
            response = answer.result()
            if generation == plan.generation:
                plan.handle(response, number, clock.monotonic_ms())
            if plan.lost:
                await self._find(link, list(plan.lost))

    def _on_answer(self, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled():
            answer.exception()  # looked at by whoever waits for it, if it still does
        self._wake.set()

    async def _sleep(self, otherwise_ms: float | None) -> None:
        """Until something is added or answered, or what was left out is due; or so long, if nothing was left out."""
        due_ms = self.plan.next_attention_ms()
        if due_ms is not None:
            otherwise_ms = max(due_ms - self._clock.monotonic_ms(), 1.0)
        if otherwise_ms is None:
            await self._wake.wait()
            return
        timer = self._loop.call_later(otherwise_ms / 1000, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _find(self, link: LeaderLink, lost: list[Followed]) -> None:
        """Asks where the leader's logs lie of which our offsets are out of range."""
        latest = await self._offsets(link, lost, _LATEST)
        earliest = await self._offsets(link, lost, _EARLIEST)
        for followed in lost:
            name = (followed.partition.topic, followed.partition.index)
            end, start = latest.get(name), earliest.get(name)
            if end is None or start is None:
                code = ErrorCode.UNKNOWN_SERVER_ERROR
            else:
                code = ErrorCode(end.error_code or start.error_code)
                if code is ErrorCode.NONE:
                    self.plan.found(followed, start.offset, end.offset)
                    continue
            self.plan.not_found(followed, code, self._clock.monotonic_ms())

    async def _offsets(
        self, link: LeaderLink, lost: list[Followed], timestamp: int
    ) -> dict[tuple[str, int], ListOffsetsResponse.ListOffsetsPartitionResponse]:
        topics: dict[str, list[ListOffsetsRequest.ListOffsetsPartition]] = {}
        for followed in lost:
            topics.setdefault(followed.partition.topic, []).append(
                ListOffsetsRequest.ListOffsetsPartition(
                    partition_index=followed.partition.index,
                    current_leader_epoch=followed.leader_epoch,
                    timestamp=timestamp,
                )
            )
        response = await link.send(
            ListOffsetsRequest(
                replica_id=self._node_id,
                isolation_level=0,
                topics=[
                    ListOffsetsRequest.ListOffsetsTopic(name=name, partitions=partitions)
                    for name, partitions in topics.items()
                ],
            ),
            timeout_ms=self._timeout_ms,
        )
        if not isinstance(response, ListOffsetsResponse):
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "no offsets were answered")
        return {
            (topic.name, partition.partition_index): partition
            for topic in response.topics
            for partition in topic.partitions
        }

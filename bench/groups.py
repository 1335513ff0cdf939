"""Members of a large consumer group, in both protocols, and how long the group takes to settle and to take in one more.

Members are connections of this process that behave as consumers do: a heartbeat as often as they are told (classic: every three
seconds), partitions given up at once when asked, and the next heartbeat sent right away when something was given up. To settle takes
from the first join until all partitions have a reader and nobody waits.
"""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
from typing import TYPE_CHECKING, Any

from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_response_header, encode_request_header
from barnabas.wire.messages.client.consumer_protocol_assignment import ConsumerProtocolAssignment
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription
from barnabas.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOPIC", "ClassicMember", "NewMember", "measure"]

TOPIC = "groups"
CLASSIC_HEARTBEAT_S = 3.0
REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 27, 79
NOT_YET = (14, 15, 16)  # the coordinator is being loaded, or has just been found
DEADLINE_S = 120


class Wire:
    """One connection: a request, its answer, the next request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    @classmethod
    async def connect(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def call(self, request: Any, version: int) -> Any:
        key = type(request).API_KEY
        self._number += 1
        body = encode_request_header(RequestHeader(key, version, self._number, "bench")) + request.encode(
            version
        )
        self._writer.write(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", await self._reader.readexactly(4))
        frame = await self._reader.readexactly(size)
        _, position = decode_response_header(frame, key, version)
        return APIS[key].response_class.decode(frame, version, position)

    def close(self) -> None:
        self._writer.close()


class Member:
    """What both kinds of members have: partitions, and how often they stopped one that they kept."""

    def __init__(self, group: Group, number: int) -> None:
        self.group = group
        self.number = number
        self.owned: frozenset[int] = frozenset()
        self.given_up: list[frozenset[int]] = []
        self.is_waiting = True
        self.wire: Wire | None = None

    def has(self, partitions: frozenset[int]) -> None:
        if partitions != self.owned:
            self.given_up.append(self.owned - partitions)
        self.owned = partitions
        self.group.changed.set()

    async def run(self) -> None:
        self.wire = await Wire.connect(self.group.port)
        await self.live(self.wire)

    async def live(self, wire: Wire) -> None:
        raise NotImplementedError


class NewMember(Member):
    """The consumer protocol (KIP-848)."""

    async def live(self, wire: Wire) -> None:
        epoch, tell = 0, True
        while True:
            answer = await wire.call(
                ConsumerGroupHeartbeatRequest(
                    group_id=self.group.name,
                    member_id=f"member-{self.number}",
                    member_epoch=epoch,
                    rebalance_timeout_ms=60_000 if epoch == 0 else -1,
                    subscribed_topic_names=[TOPIC] if epoch == 0 else None,
                    topic_partitions=self._owned() if tell else None,
                ),
                1,
            )
            if answer.error_code in NOT_YET:
                await asyncio.sleep(0.1)
                continue
            if answer.error_code:
                raise RuntimeError(f"heartbeat: {answer.error_code} {answer.error_message}")
            epoch, tell = answer.member_epoch, False
            if answer.assignment is not None:
                given = frozenset(
                    index for topic in answer.assignment.topic_partitions for index in topic.partitions
                )
                self.group.topic_ids.update(topic.topic_id for topic in answer.assignment.topic_partitions)
                tell = given != self.owned
                self.has(given)
            self.is_waiting = tell
            if not tell:
                await asyncio.sleep(answer.heartbeat_interval_ms / 1_000)

    def _owned(self) -> list[Any]:
        return [
            ConsumerGroupHeartbeatRequest.TopicPartitions(topic_id=topic_id, partitions=sorted(self.owned))
            for topic_id in self.group.topic_ids
            if self.owned
        ]


class ClassicMember(Member):
    """The classic protocol, eagerly: everything is given up to rejoin."""

    async def live(self, wire: Wire) -> None:
        member_id = ""
        while True:
            self.is_waiting = True
            answer = await wire.call(self._join(member_id), 9)
            member_id = answer.member_id
            if answer.error_code == MEMBER_ID_REQUIRED:
                continue
            if answer.error_code in NOT_YET:
                await asyncio.sleep(0.1)
                continue
            if answer.error_code:
                raise RuntimeError(f"join: {answer.error_code}")
            generation = answer.generation_id
            synced = await wire.call(
                SyncGroupRequest(
                    group_id=self.group.name,
                    generation_id=generation,
                    member_id=member_id,
                    protocol_type="consumer",
                    protocol_name="range",
                    assignments=self._assignments(answer.members),
                ),
                5,
            )
            if synced.error_code == REBALANCE_IN_PROGRESS:
                continue
            decoded = ConsumerProtocolAssignment.decode(bytes(synced.assignment), 1, 2)
            self.has(frozenset(index for topic in decoded.assigned_partitions for index in topic.partitions))
            self.is_waiting = False
            self.group.changed.set()
            while True:
                await asyncio.sleep(CLASSIC_HEARTBEAT_S)
                beat = await wire.call(
                    HeartbeatRequest(group_id=self.group.name, generation_id=generation, member_id=member_id),
                    4,
                )
                if beat.error_code == REBALANCE_IN_PROGRESS:
                    self.has(frozenset())
                    break
                if beat.error_code:
                    raise RuntimeError(f"heartbeat: {beat.error_code}")

    def _join(self, member_id: str) -> JoinGroupRequest:
        subscription = ConsumerProtocolSubscription(topics=[TOPIC], user_data=None, owned_partitions=[])
        return JoinGroupRequest(
            group_id=self.group.name,
            session_timeout_ms=45_000,
            rebalance_timeout_ms=60_000,
            member_id=member_id,
            protocol_type="consumer",
            protocols=[
                JoinGroupRequest.JoinGroupRequestProtocol(
                    name="range", metadata=struct.pack(">h", 1) + subscription.encode(1)
                )
            ],
        )

    def _assignments(self, members: list[Any]) -> list[Any]:
        """The leader's: ranges in the order of the members' ids."""
        ids = sorted(member.member_id for member in members)
        count = self.group.partitions
        found = []
        for index, member_id in enumerate(ids):
            share = range(index * count // len(ids), (index + 1) * count // len(ids))
            assignment = ConsumerProtocolAssignment(
                assigned_partitions=[
                    ConsumerProtocolAssignment.TopicPartition(topic=TOPIC, partitions=list(share))
                ],
                user_data=None,
            )
            found.append(
                SyncGroupRequest.SyncGroupRequestAssignment(
                    member_id=member_id, assignment=struct.pack(">h", 1) + assignment.encode(1)
                )
            )
        return found


class Group:
    """All members, and whether they have settled."""

    def __init__(self, port: int, name: str, partitions: int, kind: type[Member]) -> None:
        self.port = port
        self.name = name
        self.partitions = partitions
        self.topic_ids: set[bytes] = set()
        self.changed = asyncio.Event()
        self._kind = kind
        self.members: list[Member] = []
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, count: int) -> None:
        for _ in range(count):
            member = self._kind(self, len(self.members))
            self.members.append(member)
            self._tasks.append(asyncio.create_task(member.run(), name=f"member {member.number}"))

    def has_settled(self) -> bool:
        least = self.partitions // len(self.members)
        return (
            sum(len(member.owned) for member in self.members) == self.partitions
            and len(frozenset().union(*(member.owned for member in self.members))) == self.partitions
            and all(len(member.owned) >= least and not member.is_waiting for member in self.members)
        )

    async def settle(self) -> float:
        """Seconds until it is so."""
        started = time.perf_counter()
        while not self.has_settled():
            self.changed.clear()
            if time.perf_counter() - started > DEADLINE_S:
                raise TimeoutError(f"{self.name} does not settle")
            waiting = asyncio.create_task(self.changed.wait())
            done, _ = await asyncio.wait(
                [waiting, *self._tasks], timeout=0.05, return_when=asyncio.FIRST_COMPLETED
            )
            waiting.cancel()
            for task in done:
                if task is not waiting:
                    task.result()
        return time.perf_counter() - started

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in self.members:
            if member.wire is not None:
                member.wire.close()


async def measure(
    port: int, name: str, kind: type[Member], members: int, partitions: int, pauses_s: Sequence[float]
) -> tuple[float, float, float]:
    """Seconds to settle, seconds to take in one more, and how many kept partitions were stopped for that.

    One more joins after each of the pauses, which is in another phase of the heartbeats of those who are there: means are given.
    """
    warm = await Wire.connect(port)
    for _ in range(200):
        found = await warm.call(FindCoordinatorRequest(coordinator_keys=[name]), 4)
        if not found.coordinators[0].error_code:
            break
        await asyncio.sleep(0.1)
    warm.close()
    group = Group(port, name, partitions, kind)
    joins_s, stopped = [], []
    try:
        group.join(members)
        settle_s = await group.settle()
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            had = [member.owned for member in group.members]
            known = [len(member.given_up) for member in group.members]
            group.join(1)
            joins_s.append(await group.settle())
            stopped.append(
                sum(
                    len(before & member.owned & frozenset().union(*member.given_up[count:]))
                    for member, before, count in zip(group.members, had, known, strict=False)
                )
            )
    finally:
        await group.close()
    return settle_s, statistics.fmean(joins_s or [0.0]), statistics.fmean(stopped or [0.0])

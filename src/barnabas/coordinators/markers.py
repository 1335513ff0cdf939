"""End markers of transactions on their way into partitions, as WriteTxnMarkers has them.

`MarkerWriter` is one broker to whom markers can be given. `LocalMarkers` is this one; another broker's is a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.metadata.identifiers import CONSUMER_OFFSETS_TOPIC
from barnabas.replication.partition import ACKS_ALL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from barnabas.clock import Clock
    from barnabas.coordinators.group_coordinator import GroupCoordinator
    from barnabas.replication.replicas import Replicas

__all__ = ["LocalMarkers", "MarkerOutcome", "MarkerWriter", "TransactionMarker"]

_COORDINATOR_NOT_READY = frozenset(
    (
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_COORDINATOR,
    )
)


class TransactionMarker(NamedTuple):
    """The end of one producer's transaction, for partitions (topic, index) of one broker."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    committed: bool
    version: int
    partitions: Sequence[tuple[str, int]]


MarkerOutcome = dict[tuple[str, int], ErrorCode]
"""What became of a marker in each partition."""


class MarkerWriter(Protocol):
    """A broker that leads partitions."""

    def write(self, markers: Sequence[TransactionMarker]) -> asyncio.Future[list[MarkerOutcome]]:
        """Appends markers; done when each is committed or refused, with an outcome for each in order."""
        ...


class LocalMarkers:
    """Markers for partitions that this broker leads (`MarkerWriter`)."""

    __slots__ = ("_clock", "_groups", "_loop", "_replicas")

    def __init__(
        self,
        replicas: Replicas,
        group_coordinator: GroupCoordinator,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._replicas = replicas
        self._groups = group_coordinator
        self._clock = clock
        self._loop = loop

    def write(
        self, markers: Sequence[TransactionMarker], timeout_ms: int | None = None
    ) -> asyncio.Future[list[MarkerOutcome]]:
        """Appends at once, and waits for what is not committed yet; after a time-out its outcome is REQUEST_TIMED_OUT."""
        outcomes: list[MarkerOutcome] = [{} for _ in markers]
        done: asyncio.Future[list[MarkerOutcome]] = self._loop.create_future()
        waits: list[tuple[MarkerOutcome, tuple[str, int], asyncio.Future[None]]] = []
        missing = 1

        def settle(outcome: MarkerOutcome, partition: tuple[str, int], code: ErrorCode) -> None:
            nonlocal missing
            if partition in outcome:
                return
            outcome[partition] = code
            missing -= 1
            if missing == 0 and not done.done():
                done.set_result(outcomes)

        def watch(outcome: MarkerOutcome, partition: tuple[str, int], commit: asyncio.Future[None]) -> None:
            waits.append((outcome, partition, commit))
            commit.add_done_callback(lambda future: settle(outcome, partition, _code(future)))

        def expire() -> None:
            for outcome, partition, commit in waits:
                settle(outcome, partition, ErrorCode.REQUEST_TIMED_OUT)
                commit.cancel()

        for marker, outcome in zip(markers, outcomes, strict=True):
            for partition in dict.fromkeys(marker.partitions):
                missing += 1
                try:
                    commit = self._append(marker, *partition)
                except KafkaError as error:
                    settle(outcome, partition, error.code)
                except StorageError:
                    settle(outcome, partition, ErrorCode.KAFKA_STORAGE_ERROR)
                else:
                    if commit is None:
                        settle(outcome, partition, ErrorCode.NONE)
                    else:
                        watch(outcome, partition, commit)
        missing -= 1
        if missing == 0:
            done.set_result(outcomes)
        elif timeout_ms is not None:
            timer = self._loop.call_later(timeout_ms / 1000, expire)
            done.add_done_callback(lambda _: timer.cancel())
        return done

    def _append(self, marker: TransactionMarker, topic: str, index: int) -> asyncio.Future[None] | None:
        if topic == CONSUMER_OFFSETS_TOPIC:
            try:
                return self._groups.end_transaction(
                    index,
                    marker.producer_id,
                    marker.producer_epoch,
                    committed=marker.committed,
                    coordinator_epoch=marker.coordinator_epoch,
                    transaction_version=marker.version,
                )
            except KafkaError as error:
                if error.code in _COORDINATOR_NOT_READY:
                    raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, error.message) from error
                raise
        partition = self._replicas.leader(topic, index)
        appended = partition.append_end_marker(
            marker.producer_id,
            marker.producer_epoch,
            committed=marker.committed,
            coordinator_epoch=marker.coordinator_epoch,
            transaction_version=marker.version,
            now_ms=self._clock.now_ms(),
        )
        return partition.wait_committed(appended.last_offset, ACKS_ALL)


def _code(future: asyncio.Future[None]) -> ErrorCode:
    if future.cancelled():
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    error = future.exception()
    if error is None:
        return ErrorCode.NONE
    if isinstance(error, KafkaError):
        if error.code in _COORDINATOR_NOT_READY:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return error.code
    return ErrorCode.KAFKA_STORAGE_ERROR

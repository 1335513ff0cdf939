"""Hosts the shards of an internal topic: loads one when this broker becomes its leader, and lets it go when it resigns.

    elected ──> loading ──────────────> active ──> resigned
                  │ the log can not be replayed       │
                  └──> failed                         └──> answers NOT_COORDINATOR to all who wait
                         │ the disk was full
                         └──> tried again

Group and transaction coordinators share this; they differ in topic and state machine.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from barnabas.coordinators.hosted_shard import HostedShard
from barnabas.coordinators.loading import LoadSummary, load
from barnabas.coordinators.partitioning import partition_for
from barnabas.coordinators.shard import Shard
from barnabas.errors import BarnabasError, DiskFullError, ErrorCode, KafkaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barnabas.clock import Clock
    from barnabas.replication.partition import Partition

__all__ = ["CoordinatorRuntime", "RuntimeSettings"]

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Shard)

_LOADS_MAX = 4
_ROOM_WAIT_S = 1.0
"""After so long a partition is tried again for whose log there was no room."""


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How the internal topic is read and written.

    Attributes:
        load_chunk_bytes: Read at a time while a shard is loaded.
        commit_timeout_ms: How long an operation waits for its records to be committed.
        compression: The codec of the batches that are written, 0 for none.
    """

    load_chunk_bytes: int = 1_048_576
    commit_timeout_ms: float = 5_000
    compression: int = 0


class _Round:
    """What was loaded since the last time that nothing was: a broker that starts loads many partitions."""

    __slots__ = ("partition_count", "record_count", "size_bytes", "started_ms")

    def __init__(self, started_ms: float) -> None:
        self.started_ms = started_ms
        self.partition_count = 0
        self.record_count = 0
        self.size_bytes = 0

    def add(self, summary: LoadSummary) -> None:
        """One partition more."""
        self.partition_count += 1
        self.record_count += summary.record_count
        self.size_bytes += summary.size_bytes


class CoordinatorRuntime(Generic[S]):
    """The shards of one internal topic that this broker leads.

    Args:
        topic: The internal topic.
        new_shard: Makes an empty state machine.
        partition_count: How many partitions the topic has, or will have.
        settings: See `RuntimeSettings`.
        clock: The time.
        loop: The event loop.
    """

    __slots__ = (
        "_active",
        "_clock",
        "_failed",
        "_is_closed",
        "_loading",
        "_loads",
        "_loop",
        "_new_shard",
        "_partition_count",
        "_round",
        "_settings",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        *,
        new_shard: Callable[[], S],
        partition_count: Callable[[], int],
        settings: RuntimeSettings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.topic = topic
        self._new_shard = new_shard
        self._partition_count = partition_count
        self._settings = settings
        self._clock = clock
        self._loop = loop
        self._active: dict[int, HostedShard[S]] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._failed: set[int] = set()
        self._loads = asyncio.Semaphore(_LOADS_MAX)
        self._round = _Round(0.0)
        self._is_closed = False

    # ----- finding

    def partition_for(self, key: str) -> int:
        """The partition that holds the state of a group or transactional id."""
        return partition_for(key, self._partition_count())

    def shard_for(self, key: str) -> HostedShard[S]:
        """The shard that holds `key`.

        Raises:
            KafkaError: COORDINATOR_LOAD_IN_PROGRESS while it is being loaded, NOT_COORDINATOR if this broker does not have it,
                COORDINATOR_NOT_AVAILABLE if the broker stops.
        """
        return self.shard(partition_for(key, self._partition_count()))

    def shard(self, index: int) -> HostedShard[S]:
        """The shard of one partition; raises as `shard_for`."""
        hosted = self._active.get(index)
        if hosted is not None:
            return hosted
        if self._is_closed:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the broker stops")
        if index in self._loading:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"{self.topic}-{index} is being loaded")
        if index in self._failed:
            raise KafkaError(ErrorCode.NOT_COORDINATOR, f"{self.topic}-{index} could not be loaded")
        raise KafkaError(ErrorCode.NOT_COORDINATOR, f"this broker does not lead {self.topic}-{index}")

    def __iter__(self) -> Iterator[HostedShard[S]]:
        """The shards that are loaded."""
        return iter(list(self._active.values()))

    @property
    def loading(self) -> bool:
        """Whether some shard is being loaded."""
        return bool(self._loading)

    # ----- leadership

    def on_leadership(self, partition: Partition) -> None:
        """Takes over or gives up, as the partition's leader and epoch now are."""
        if partition.topic != self.topic or self._is_closed:
            return
        index = partition.index
        if not partition.is_leader:
            self._resign(index)
        elif index in self._active and self._active[index].partition is partition:
            pass  # led on in a new epoch: the state is that of the log
        elif index not in self._loading:
            self._resign(index)
            self._elect(partition)

    def _elect(self, partition: Partition) -> None:
        index = partition.index
        self._failed.discard(index)
        try:
            is_empty = partition.log_start_offset == partition.log_end_offset
        except StorageError as error:
            self._fail(partition, error)
            return
        if is_empty:
            self._activate(partition, self._new_shard())
            return
        if not self._loading:
            self._round = _Round(self._clock.monotonic_ms())
        task = self._loop.create_task(self._load(partition), name=f"load {self.topic}-{index}")
        self._loading[index] = task

    async def _load(self, partition: Partition) -> None:
        index = partition.index
        shard = self._new_shard()
        try:
            async with self._loads:
                summary = await load(
                    partition, shard, chunk_bytes=self._settings.load_chunk_bytes, clock=self._clock
                )
            await _all_committed(partition)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
            self._loading.pop(index, None)
            self._fail(partition, error)
            return
        self._loading.pop(index, None)
        logger.debug(
            "coordinator is loaded topic=%s partition=%d epoch=%d records=%d bytes=%d",
            self.topic,
            index,
            partition.leader_epoch,
            summary.record_count,
            summary.size_bytes,
        )
        self._round.add(summary)
        if not self._loading:
            logger.info(
                "coordinators are loaded topic=%s partitions=%d records=%d bytes=%d ms=%d",
                self.topic,
                self._round.partition_count,
                self._round.record_count,
                self._round.size_bytes,
                self._clock.monotonic_ms() - self._round.started_ms,
            )
        self._activate(partition, shard)

    def _fail(self, partition: Partition, error: Exception) -> None:
        index = partition.index
        self._failed.add(index)
        if isinstance(error, DiskFullError):
            logger.warning(
                "coordinator waits for room on the disk topic=%s partition=%d reason=%s",
                self.topic,
                index,
                error,
            )
            self._loop.call_later(_ROOM_WAIT_S, self._try_again, partition)
            return
        logger.error(
            "coordinator could not be loaded, what it holds is not served topic=%s partition=%d reason=%s",
            self.topic,
            index,
            error,
            exc_info=None if isinstance(error, BarnabasError) else error,
        )

    def _try_again(self, partition: Partition) -> None:
        if partition.index in self._failed:
            self.on_leadership(partition)

    def _activate(self, partition: Partition, shard: S) -> None:
        hosted = HostedShard(
            shard,
            partition,
            clock=self._clock,
            loop=self._loop,
            commit_timeout_ms=self._settings.commit_timeout_ms,
            compression=self._settings.compression,
            on_divergence=self._reload,
        )
        self._active[partition.index] = hosted
        hosted.start()

    def _reload(self, hosted: HostedShard[S]) -> None:
        """State and log have parted: begins anew from the log."""
        partition = hosted.partition
        if self._active.get(partition.index) is hosted:
            self._resign(partition.index)
            self._elect(partition)

    def _resign(self, index: int) -> None:
        self._failed.discard(index)
        task = self._loading.pop(index, None)
        if task is not None:
            task.cancel()
        hosted = self._active.pop(index, None)
        if hosted is not None:
            logger.debug("coordinator resigns topic=%s partition=%d", self.topic, index)
            hosted.close()

    async def close(self) -> None:
        """Resigns from everything: what was batched is appended, and whoever waits is told to look for a coordinator."""
        self._is_closed = True
        tasks = list(self._loading.values())
        for hosted in self._active.values():
            hosted.flush()
        for index in [*self._active, *self._loading]:
            self._resign(index)
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all_committed(partition: Partition) -> None:
    """What was read is on all in-sync replicas.

    Before that nobody may be told of it: a leader that is elected next may never have had it. Whoever asks for what is there already, as a
    partition that is part of a transaction, is answered at once, without a write that would wait. (Kafka answers.)
    """
    leading = partition.leading
    if leading is not None and partition.high_watermark < partition.log_end_offset:
        waits = leading.wait_committed(partition.log_end_offset - 1)
        if waits is not None:
            await waits

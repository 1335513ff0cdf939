"""What a broker knows and does as the leader of a partition that has followers.

    append ──> followers are woken ──> their next fetch says what they hold ──> high watermark ──> acknowledgements, consumers

The high watermark is the smallest log end offset of all who are in sync, or may be before the next word of the controller: a
replica whose joining is proposed counts, so that nothing is committed which it lacks, whichever way that ends (KIP-497). While fewer
replicas than min.insync.replicas are in sync it stands still (KIP-966). With `barnabas.durability=fsync-always` the leader counts for what is on its
disk, too, as followers do that fetch (`fetch_plan.py`).

Source: `kafka.cluster.Partition` of Kafka 4.3.
"""

from __future__ import annotations

import functools
import heapq
import logging
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.log.group_commit import settle_future
from barnabas.replication.follower_progress import UNKNOWN_EPOCH, FollowerProgress
from barnabas.replication.leader_duties import IsrProposal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from barnabas.log.partition_log import PartitionLog
    from barnabas.metadata.image import Partition as PartitionImage
    from barnabas.replication.isr_changes import Verdict
    from barnabas.replication.leader_duties import LeaderDuties
    from barnabas.replication.partition import Partition

    OnCommitted = Callable[[KafkaError | StorageError | None], None]
    IsOver = Callable[[], bool]

__all__ = ["ABANDONED_MAX", "Leading"]

logger = logging.getLogger(__name__)

NEVER = float("-inf")
ABANDONED_MAX = 64
"""Acknowledgements of a partition that nobody waits for any more are looked for when there are so many with the others (or twice as many as at the last look)."""

_REFUSED_FOR_MS = 500.0
_AGAIN_S = 0.1

# The controller did not do it and never will: the leader goes on from what is known to be so.
_NOT_DONE = frozenset((ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.INELIGIBLE_REPLICA))
# Something has overtaken the proposal; the metadata will say what.
_OVERTAKEN = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
    )
)


class Leading:
    """The leader's part of one partition in one leader epoch; made and dropped by its `Partition`.

    Attributes:
        followers: By node id.
        maximal_isr: The in-sync replicas, and the one that is proposed.
        epoch_start_offset: Where the log ended when this broker was elected; None before the log is open.
    """

    __slots__ = (
        "_duties",
        "_is_syncing",
        "_look_at",
        "_partition",
        "_partition_epoch",
        "_proposal",
        "_refused_until_ms",
        "_released",
        "_replica_count",
        "_sequence",
        "_start_waiters",
        "_waiters",
        "epoch_start_offset",
        "followers",
        "maximal_isr",
    )

    def __init__(self, partition: Partition, duties: LeaderDuties, state: PartitionImage) -> None:
        self._partition = partition
        self._duties = duties
        self._partition_epoch = state.partition_epoch
        self._replica_count = len(state.replicas)
        self._is_syncing = False
        self._proposal: IsrProposal | None = None
        self._refused_until_ms = NEVER
        # A heap, by offset.
        self._waiters: list[tuple[int, int, OnCommitted, IsOver]] = []
        # With so many of them, those who do not wait any more are looked for.
        self._look_at = ABANDONED_MAX
        self._start_waiters: list[tuple[int, OnCommitted, IsOver]] = []
        self._released: list[tuple[int, OnCommitted, IsOver, KafkaError | None]] = []
        self._sequence = 0
        self.epoch_start_offset: int | None = None
        self.maximal_isr = frozenset(state.isr)
        now_ms = duties.clock.monotonic_ms()
        self.followers = {
            node_id: FollowerProgress(node_id, now_ms if node_id in state.isr else NEVER)
            for node_id in state.replicas
            if node_id != duties.node_id
        }
        duties.add(self)
        duties.note_completeness(self, is_complete=len(state.isr) == len(state.replicas))

    # ----- the state of the metadata

    def update(self, state: PartitionImage) -> bool:
        """The controller decided something else within the same leader epoch; False if we know better already."""
        if state.partition_epoch < self._partition_epoch:
            return False
        if state.partition_epoch > self._partition_epoch:
            self._proposal = None
            self._partition_epoch = state.partition_epoch
            self.maximal_isr = frozenset(state.isr)
        self._replica_count = len(state.replicas)
        me = self._duties.node_id
        for node_id in set(self.followers).difference(state.replicas):
            self._dismiss(self.followers.pop(node_id))
        for node_id in state.replicas:
            if node_id != me and node_id not in self.followers:
                self.followers[node_id] = FollowerProgress(node_id, NEVER)
        self._duties.note_completeness(self, is_complete=len(state.isr) == len(state.replicas))
        return True

    def begin(self, log: PartitionLog) -> None:
        """The log is open, or this broker was elected while it was."""
        self.epoch_start_offset = log.log_end_offset
        if self._partition.syncs_always:
            self._sync()
        self.advance(log)

    def take_over(self, before: Leading) -> None:
        """This broker leads on in a new epoch: its log stays as it is, and who waited waits on."""
        self._waiters, before._waiters = before._waiters, []
        self._sequence = before._sequence
        self._look_at = before._look_at
        self._start_waiters, before._start_waiters = before._start_waiters, []

    def resign(self) -> None:
        """This broker leads no more, or in another epoch: who waits is told so."""
        self._duties.remove(self)
        error = KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        for offset, _, on_committed, is_over in self._waiters:
            self._release(offset, on_committed, is_over, error)
        for offset, on_committed, is_over in self._start_waiters:
            self._release(offset, on_committed, is_over, error)
        self._waiters = []
        self._start_waiters = []
        for progress in self.followers.values():
            self._dismiss(progress)

    @staticmethod
    def _dismiss(progress: FollowerProgress) -> None:
        if progress.reader is not None:
            progress.reader.wake()
            progress.reader = None

    # ----- appends and fetches

    def on_append(self, log: PartitionLog, first_offset: int) -> None:
        """Batches from `first_offset` on were appended."""
        for progress in self.followers.values():
            if progress.log_end_offset == first_offset:
                progress.left_behind()
            if progress.reader is not None:
                progress.reader.wake()
        if self._partition.syncs_always:
            self._sync()
        elif len(self.maximal_isr) == 1:
            self.advance(log)

    def _sync(self) -> None:
        """Brings what is in the log to the disk, one time after the other, and moves the high watermark on with it."""
        if self._is_syncing:
            return
        try:
            self._is_syncing = self._partition.call_when_all_is_synced(self._on_synced)
        except StorageError as error:
            # Whoever fails a log sees to its leadership.
            logger.debug("log of a leader is not synced partition=%r reason=%s", self._partition, error)

    def _on_synced(self, error: KafkaError | StorageError | None) -> None:
        self._is_syncing = False
        partition = self._partition
        if partition.leading is not self or partition.log.is_offline:
            return
        if error is not None:
            # The disk is full, say; somebody else leads soon, or there is room again.
            self._is_syncing = True
            self._duties.loop.call_later(_AGAIN_S, self._on_synced, None)
            return
        self._sync()
        self.advance(partition.log)

    def follower(self, node_id: int) -> FollowerProgress:
        """The follower of that id.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER, as Kafka answers a replica that the leader does not know.
        """
        progress = self.followers.get(node_id)
        if progress is None:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, f"broker {node_id} holds no replica of {self._partition!r}"
            )
        return progress

    def on_fetch(
        self,
        progress: FollowerProgress,
        log: PartitionLog,
        *,
        fetch_offset: int,
        log_start_offset: int,
        broker_epoch: int,
        now_ms: float,
    ) -> None:
        """A follower, whose log is a prefix of ours, holds everything below `fetch_offset`.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER for a process that another one of the same broker has replaced.
        """
        if broker_epoch != UNKNOWN_EPOCH and progress.broker_epoch > broker_epoch:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {progress.node_id} fetches in epoch {broker_epoch}, and has fetched in {progress.broker_epoch}",
            )
        start_moved = log_start_offset != progress.log_start_offset
        progress.fetched(
            fetch_offset,
            log_start_offset,
            broker_epoch,
            leader_end_offset=log.log_end_offset,
            now_ms=now_ms,
        )
        if progress.node_id not in self.maximal_isr:
            self._consider(progress, log)
        self.advance(log, now_ms)
        if start_moved and self._start_waiters:
            self._check_start_waiters()

    # ----- the high watermark

    @property
    def is_behind_its_epoch(self) -> bool:
        """Whether the high watermark has not reached yet what the log held when this broker was elected."""
        return (
            self.epoch_start_offset is not None and self._partition.high_watermark < self.epoch_start_offset
        )

    def advance(self, log: PartitionLog, now_ms: float | None = None) -> None:
        """Moves the high watermark up to what all who count hold."""
        partition = self._partition
        isr = partition.isr
        minimum = log.config.min_insync_replicas
        if len(isr) < minimum and len(isr) < min(minimum, self._replica_count):
            return
        end = log.recovery_point if partition.syncs_always else log.log_end_offset
        for progress in self.followers.values():
            offset = progress.log_end_offset
            if offset < end and (
                progress.node_id in self.maximal_isr or self._is_about_to_join(progress, log, now_ms)
            ):
                end = offset
        if end <= partition.high_watermark:
            return
        partition.high_watermark = end
        log.on_high_watermark(end)
        waiters = self._waiters
        while waiters and waiters[0][0] < end:
            offset, _, on_committed, is_over = heapq.heappop(waiters)
            self._release(offset, on_committed, is_over, None)
        tells = self._duties.tells_high_watermark
        for progress in self.followers.values():
            if progress.reader is not None:
                if tells:
                    progress.reader.wake()
                else:
                    progress.reader.mark()
        if partition.parked_fetches:
            partition.wake_parked()

    def _is_about_to_join(self, progress: FollowerProgress, log: PartitionLog, now_ms: float | None) -> bool:
        """Whether a replica that is not in sync officially is so in fact: it is waited for, or it could never join under load."""
        if not progress.has_fetched:
            return False
        now_ms = self._duties.clock.monotonic_ms() if now_ms is None else now_ms
        return progress.is_caught_up(
            log.log_end_offset, now_ms, self._duties.lag_time_max_ms
        ) and progress.is_eligible(self._duties.epoch_of)

    def call_when_committed(self, last_offset: int, on_committed: OnCommitted, is_over: IsOver) -> bool:
        """Calls back once everything up to `last_offset` is on all in-sync replicas; False if it is already.

        Nobody needs to be called for whom `is_over()` is true.

        Raises:
            StorageError: the log directory failed.
        """
        partition = self._partition
        if last_offset < partition.high_watermark:
            return partition.call_when_safe_here(last_offset, on_committed, is_over)
        if len(self._waiters) >= self._look_at:
            self._forget_who_gave_up()
        self._sequence += 1
        heapq.heappush(self._waiters, (last_offset, self._sequence, on_committed, is_over))
        partition.sync_ahead()
        return True

    def _forget_who_gave_up(self) -> None:
        """The high watermark may stand still for hours, while no controller can take a dead follower out of sync; clients come again."""
        self._waiters = [waiter for waiter in self._waiters if not waiter[3]()]
        heapq.heapify(self._waiters)
        self._look_at = max(ABANDONED_MAX, 2 * len(self._waiters))

    def wait_committed(self, last_offset: int) -> asyncio.Future[None] | None:
        """The same as a future, which fails with StorageError as well; None where nothing is left to wait for."""
        future: asyncio.Future[None] = self._duties.loop.create_future()
        settle = functools.partial(settle_future, future)
        try:
            return future if self.call_when_committed(last_offset, settle, future.done) else None
        except StorageError as error:
            settle(error)
            return future

    def _release(
        self, last_offset: int, on_committed: OnCommitted, is_over: IsOver, error: KafkaError | None
    ) -> None:
        # Later, in a turn of its own: whoever is called may do anything, also append to this partition.
        if not self._released:
            self._duties.loop.call_soon(self._deliver)
        self._released.append((last_offset, on_committed, is_over, error))

    def _deliver(self) -> None:
        released, self._released = self._released, []
        partition = self._partition
        for last_offset, on_committed, is_over, error in released:
            if error is None:
                try:
                    if partition.call_when_safe_here(last_offset, on_committed, is_over):
                        continue
                except StorageError as failure:
                    on_committed(failure)
                    continue
            on_committed(error)

    # ----- the low watermark

    @property
    def low_watermark(self) -> int:
        """The smallest log start offset of all replicas that are alive."""
        log = self._partition.log
        return min(
            [
                log.log_start_offset,
                *(
                    progress.log_start_offset
                    for progress in self.followers.values()
                    if self._duties.epoch_of(progress.node_id) is not None
                ),
            ]
        )

    def call_when_deleted(self, offset: int, on_deleted: OnCommitted, is_over: IsOver) -> bool:
        """Calls back once no replica that is alive holds records below `offset`; False if that is so already.

        Nobody needs to be called for whom `is_over()` is true.
        """
        if self.low_watermark >= offset:
            return False
        self._start_waiters.append((offset, on_deleted, is_over))
        for progress in self.followers.values():
            if progress.reader is not None:
                progress.reader.wake()
        return True

    def _check_start_waiters(self) -> None:
        low = self.low_watermark
        waiting, self._start_waiters = self._start_waiters, []
        for offset, on_deleted, is_over in waiting:
            if offset <= low:
                self._duties.loop.call_soon(on_deleted, None)
            elif not is_over():
                self._start_waiters.append((offset, on_deleted, is_over))

    # ----- in-sync replicas

    def look_for_laggards(self, now_ms: float) -> None:
        """Proposes to drop the followers that have not held everything for too long."""
        if self._start_waiters:
            self._check_start_waiters()
        if self._proposal is not None or not self._partition.is_open:
            return
        partition = self._partition
        end = partition.log.log_end_offset
        laggards = [
            progress.node_id
            for progress in self.followers.values()
            if progress.node_id in partition.isr
            and not progress.is_caught_up(end, now_ms, self._duties.lag_time_max_ms)
        ]
        if laggards:
            logger.info(
                "in-sync replicas shrink partition=%s-%d dropped=%s high_watermark=%d log_end_offset=%d",
                partition.topic,
                partition.index,
                laggards,
                partition.high_watermark,
                end,
            )
            self._duties.shrinks.value += 1
            self._propose(partition.isr.difference(laggards))

    def look_for_joiners(self) -> None:
        """Proposes a follower that is in sync but not counted so."""
        if not self._partition.is_open or self._partition.log.is_offline:
            return
        for progress in self.followers.values():
            if progress.node_id not in self.maximal_isr:
                self._consider(progress, self._partition.log)

    def _consider(self, progress: FollowerProgress, log: PartitionLog) -> None:
        partition = self._partition
        if (
            self._proposal is not None
            or self.epoch_start_offset is None
            or progress.log_end_offset < partition.high_watermark
            or progress.log_end_offset < self.epoch_start_offset
            or not progress.has_fetched
            or not progress.is_eligible(self._duties.epoch_of)
            or self._duties.clock.monotonic_ms() < self._refused_until_ms
        ):
            return
        logger.info(
            "in-sync replicas expand partition=%s-%d added=%d log_end_offset=%d",
            partition.topic,
            partition.index,
            progress.node_id,
            log.log_end_offset,
        )
        # Counted from now on, whatever the controller says and when.
        self.maximal_isr = partition.isr | {progress.node_id}
        self._duties.expands.value += 1
        self._propose(self.maximal_isr)

    def _propose(self, isr: Iterable[int]) -> None:
        duties = self._duties
        partition = self._partition
        epochs = []
        for node_id in sorted(isr):
            follower = self.followers.get(node_id)
            if follower is None:
                own = duties.epoch_of(node_id)
                epochs.append((node_id, UNKNOWN_EPOCH if own is None else own))
            else:
                epochs.append((node_id, follower.broker_epoch))
        proposal = IsrProposal(
            partition.topic_id, partition.index, partition.leader_epoch, self._partition_epoch, tuple(epochs)
        )
        self._proposal = proposal
        duties.propose(proposal, lambda verdict: self._decided(proposal, verdict))

    def _decided(self, proposal: IsrProposal, verdict: Verdict) -> None:
        if self._proposal is not proposal or self._partition.leading is not self:
            return  # overtaken by the metadata
        partition = self._partition
        code = verdict.error_code
        if code != ErrorCode.NONE:
            self._duties.failed.value += 1
        if code == ErrorCode.NONE:
            self._accepted(verdict)
        elif code in _NOT_DONE:
            logger.info(
                "in-sync replicas stay partition=%s-%d reason=%s",
                partition.topic,
                partition.index,
                ErrorCode(code).name,
            )
            self._proposal = None
            self._refused_until_ms = self._duties.clock.monotonic_ms() + _REFUSED_FOR_MS
            self.maximal_isr = partition.isr
            if not partition.log.is_offline:
                self.advance(partition.log)
        elif code in _OVERTAKEN:
            logger.info(
                "in-sync replicas are changed by another partition=%s-%d reason=%s",
                partition.topic,
                partition.index,
                ErrorCode(code).name,
            )
        else:
            self._duties.loop.call_later(_AGAIN_S, self._propose_again, proposal)

    def _propose_again(self, proposal: IsrProposal) -> None:
        if self._proposal is proposal and self._partition.leading is self:
            self._duties.propose(proposal, lambda verdict: self._decided(proposal, verdict))

    def _accepted(self, verdict: Verdict) -> None:
        partition = self._partition
        if verdict.leader_epoch != partition.leader_epoch or verdict.partition_epoch < self._partition_epoch:
            return  # the metadata has more to say, and will
        self._proposal = None
        self._partition_epoch = verdict.partition_epoch
        self.maximal_isr = frozenset(verdict.isr)
        partition.set_isr(tuple(verdict.isr))
        self._duties.note_completeness(self, is_complete=len(verdict.isr) == self._replica_count)
        if not partition.log.is_offline:
            self.advance(partition.log)

"""One partition as this broker hosts it: leader or follower, high watermark, in-sync replicas.

Invariants:
    log start offset <= last stable offset <= high watermark <= log end offset; while this broker leads, none of the last
    three moves back. A record that `wait_committed` has let pass for acks=all is on every in-sync replica, and where there is
    no other one, on this broker's disk (`barnabas.durability`). With fsync-always and followers, what is below the high watermark
    is on the disks of all in-sync replicas.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, NoReturn

from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.log.origin import Origin
from barnabas.records.batch import TRANSACTIONAL_FLAG, iterate_headers, parse_header, set_create_time
from barnabas.records.control import build_end_marker
from barnabas.records.validation import MalformedRecordsError, accept_produced, validate_produced
from barnabas.replication.leading import Leading
from barnabas.replication.recompression import NeedsTimeError, Recompressions, pack
from barnabas.replication.topic_metrics import TopicMetrics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.config.topic import LogConfig
    from barnabas.log.group_commit import GroupCommit
    from barnabas.log.partition_log import AppendResult, PartitionLog
    from barnabas.log.producer_entry import VerificationGuard
    from barnabas.metadata.image import Partition as PartitionImage
    from barnabas.records.batch import BatchHeader
    from barnabas.replication.follower_progress import FollowerProgress
    from barnabas.replication.leader_duties import LeaderDuties
    from barnabas.replication.waiting import ParkedFetch
    from barnabas.wire.chunks import FileRegion

__all__ = ["ACKS_ALL", "Durability", "OffsetAndTimestamp", "Partition", "PartitionRead"]

logger = logging.getLogger(__name__)

ACKS_ALL = -1
UNKNOWN_OFFSET = -1
UNKNOWN_TIMESTAMP = -1
UNKNOWN_EPOCH = -1

# ListOffsets asks for these in place of a timestamp (ListOffsetsRequest of Kafka 4.3).
LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL_TIMESTAMP = -4
LATEST_TIERED_TIMESTAMP = -5
EARLIEST_PENDING_UPLOAD_TIMESTAMP = -6

READ_COMMITTED = 1

_REFUSED_BEFORE_THE_LOG = frozenset(
    (
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.INVALID_TXN_STATE,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    )
)


class Durability:
    """`barnabas.durability`: which acknowledgements wait for fsync.

    PAGE_CACHE: none, as Apache Kafka. FSYNC_WHEN_ALONE: acks=all while no other replica is in sync. FSYNC_ALWAYS: all.
    """

    PAGE_CACHE = "page-cache"
    FSYNC_WHEN_ALONE = "fsync-when-alone"
    FSYNC_ALWAYS = "fsync-always"


@functools.lru_cache(maxsize=1024)
def _isr_set(isr: tuple[int, ...]) -> frozenset[int]:
    """One set for all partitions with the same in-sync replicas."""
    return frozenset(isr)


def _validate(
    records: memoryview | bytearray, config: LogConfig, api_version: int, now_ms: int
) -> BatchHeader:
    header = validate_produced(
        records,
        api_version=api_version,
        now_ms=now_ms,
        max_message_bytes=config.max_message_bytes,
        segment_bytes=config.segment_bytes,
        log_append_time=config.produce_limits.log_append_time,
        timestamp_before_max_ms=config.message_timestamp_before_max_ms,
        timestamp_after_max_ms=config.message_timestamp_after_max_ms,
        keys_required=config.is_compacted,
    )
    if header.is_log_append_time:
        # Only the log may claim that; a producer's claim is let pass, as by Kafka, and not kept.
        set_create_time(records, 0, header.max_timestamp)
        header = parse_header(records)
    return header


def _refuse_transaction() -> NoReturn:
    raise KafkaError(
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "the batch belongs to a transaction, and the request names no transactional id",
    )


class OffsetAndTimestamp:
    """An answer of ListOffsets: the offset, the timestamp of its record (ms) or -1, and the leader epoch or -1."""

    __slots__ = ("leader_epoch", "offset", "timestamp_ms")

    def __init__(
        self,
        offset: int = UNKNOWN_OFFSET,
        timestamp_ms: int = UNKNOWN_TIMESTAMP,
        leader_epoch: int = UNKNOWN_EPOCH,
    ) -> None:
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.leader_epoch = leader_epoch


class PartitionRead:
    """What a fetch found in one partition.

    Attributes:
        region: The bytes, whole batches but for the last, or None where there are none. Whoever gets it releases it.
        diverging: (epoch, end offset) where the reader's log parted from this one (KIP-595), else None.
        aborted_transactions: (producer id, first offset) pairs that a read_committed reader skips, else None.
        is_in_older_segment: Whether what the reader may read ends in a later segment than the one that the bytes are in.
    """

    __slots__ = (
        "aborted_transactions",
        "diverging",
        "high_watermark",
        "is_in_older_segment",
        "last_stable_offset",
        "log_start_offset",
        "region",
        "size_bytes",
    )

    def __init__(self, high_watermark: int, last_stable_offset: int, log_start_offset: int) -> None:
        self.high_watermark = high_watermark
        self.last_stable_offset = last_stable_offset
        self.log_start_offset = log_start_offset
        self.region: FileRegion | None = None
        self.size_bytes = 0
        self.diverging: tuple[int, int] | None = None
        self.aborted_transactions: list[tuple[int, int]] | None = None
        self.is_in_older_segment = False


class Partition:
    """A replica of a partition on this broker."""

    __slots__ = (
        "_acks_all_waits",
        "_duties",
        "_group_commit",
        "_log",
        "_node_id",
        "_open_log",
        "_recompressions",
        "_state",
        "_syncs_alone",
        "high_watermark",
        "index",
        "isr",
        "leader_epoch",
        "leader_id",
        "leading",
        "metrics",
        "parked_fetches",
        "syncs_always",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        topic: str,
        index: int,
        topic_id: bytes,
        *,
        node_id: int,
        open_log: Callable[[str, int, bytes], PartitionLog],
        group_commit: GroupCommit,
        durability: str,
        metrics: TopicMetrics | None = None,
        duties: LeaderDuties | None = None,
    ) -> None:
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.leader_id = -1
        self.leader_epoch = -1
        self.isr: frozenset[int] = frozenset()
        self.high_watermark = 0
        self.parked_fetches: dict[ParkedFetch[Any], None] = {}
        self.metrics = metrics or TopicMetrics()
        self._node_id = node_id
        self._open_log = open_log
        self._log: PartitionLog | None = None
        self._recompressions: Recompressions | None = None
        self._group_commit = group_commit
        self.syncs_always = durability == Durability.FSYNC_ALWAYS
        self._syncs_alone = durability == Durability.FSYNC_WHEN_ALONE
        self._acks_all_waits = self._syncs_alone
        self._duties = duties
        self.leading: Leading | None = None
        self._state: PartitionImage | None = None

    def __repr__(self) -> str:
        return f"<Partition {self.topic}-{self.index} epoch={self.leader_epoch} high_watermark={self.high_watermark}>"

    # ----- the log

    @property
    def log(self) -> PartitionLog:
        """The replica's log, opened when it is first needed: most partitions of a broker that starts are not, for now.

        Raises:
            StorageError: its log directory is offline.
        """
        log = self._log
        return self._first_log() if log is None else log

    @property
    def is_open(self) -> bool:
        """Whether the log was needed yet."""
        return self._log is not None

    def replace_log(self, log: PartitionLog) -> None:
        """The log has moved to another directory: `log` holds the same from now on."""
        if self._log is not None:
            self._log = log

    def _first_log(self) -> PartitionLog:
        log = self._open_log(self.topic, self.index, self.topic_id)
        self._log = log
        self.high_watermark = log.log_start_offset if log.high_watermark is None else log.high_watermark
        log.on_other_end = self._end_is_another
        if not log.is_offline:
            if self.leading is not None or not self.is_leader:
                log.on_high_watermark(self.high_watermark)
            if self.is_leader:
                self._lead(log, is_new_epoch=True)
        return log

    def _end_is_another(self) -> None:
        """The log does not end where it was closed, as it turns out on first use."""
        log = self._log
        assert log is not None
        end = log.log_end_offset
        if end < self.high_watermark or (self.is_leader and self.leading is None):
            self.high_watermark = end
            log.on_high_watermark(end)

    # ----- leadership

    @property
    def is_leader(self) -> bool:
        """Whether this broker leads the partition."""
        return self.leader_id == self._node_id

    @property
    def is_under_replicated(self) -> bool:
        """Whether a replica is missing from the in-sync ones."""
        return self._state is not None and len(self.isr) < len(self._state.replicas)

    @property
    def directory_id(self) -> bytes | None:
        """The log directory in which the metadata places the replica; None where it does not say."""
        return None if self._state is None else self._state.directory_of(self._node_id)

    def missing_in_sync(self, config: Callable[[str], LogConfig]) -> int:
        """How many in-sync replicas acks=all needs more than there are; negative if there are more than it needs.

        Args:
            config: Gives the topic's settings by its name. It is not asked where they make no difference.
        """
        replica_count = 1 if self._state is None else len(self._state.replicas)
        needed = 1 if replica_count == 1 else min(config(self.topic).min_insync_replicas, replica_count)
        return needed - len(self.isr)

    def apply(self, state: PartitionImage) -> None:
        """Takes over leader, epoch and in-sync replicas as the controller decided them."""
        if state is self._state:
            return
        is_same_leader = state.leader == self.leader_id and state.leader_epoch == self.leader_epoch
        leading = self.leading
        if leading is not None and is_same_leader and not leading.update(state):
            return
        self._state = state
        self.leader_id = state.leader
        self.leader_epoch = state.leader_epoch
        self.set_isr(state.isr)
        before = leading
        if leading is not None and not is_same_leader:
            self.leading = leading = None
        if leading is None and self.is_leader and len(state.replicas) > 1 and self._duties is not None:
            self.leading = Leading(self, self._duties, state)
            if before is not None:
                self.leading.take_over(before)
        if before is not None and before is not self.leading:
            before.resign()
        self._acks_all_waits = self._syncs_alone or self.leading is not None
        log = self._log
        if log is not None and not log.is_offline:
            if self.is_leader:
                self._lead(log, is_new_epoch=not is_same_leader or self.leading is not leading)
            else:
                log.on_high_watermark(self.high_watermark)
        if not is_same_leader and self.parked_fetches:
            self.wake_parked()

    def retire(self) -> None:
        """This broker leads the partition no more, or hosts it no more; who does is told later, or never."""
        self.leader_id = -1
        leading, self.leading = self.leading, None
        if leading is not None:
            leading.resign()
        self.wake_parked()

    def set_isr(self, isr: tuple[int, ...]) -> None:
        """The in-sync replicas are these now."""
        was_alone = len(self.isr) == 1
        self.isr = _isr_set(isr)
        if len(isr) == 1 and not was_alone and self.leading is not None:
            self.sync_ahead()

    def _lead(self, log: PartitionLog, *, is_new_epoch: bool) -> None:
        if is_new_epoch:
            if log.has_unsynced_cut:
                self._sync_cut(log)
            log.assign_leader_epoch(self.leader_epoch, log.log_end_offset)
        leading = self.leading
        if leading is None:
            self._commit_all(log)
        elif is_new_epoch:
            leading.begin(log)
        else:
            leading.advance(log)

    def _sync_cut(self, log: PartitionLog) -> None:
        # The loop waits: seldom is a replica elected within the moment of its truncation. The alternative would be a leader that
        # may not append yet, which all who append, coordinators too, would have to know of.
        try:
            self._group_commit.sync_now(log)
        except StorageError as error:
            # The log is offline, and takes nothing, or its disk is full: then others are about to lead.
            logger.warning(
                "truncation of an elected leader is not synced partition=%s-%d reason=%s",
                self.topic,
                self.index,
                error,
            )

    def check_epoch(self, current_leader_epoch: int) -> None:
        """Refuses a client that knows another leader epoch (KIP-320).

        Raises:
            KafkaError: FENCED_LEADER_EPOCH for an older one, UNKNOWN_LEADER_EPOCH for a newer one.
        """
        if current_leader_epoch in (UNKNOWN_EPOCH, self.leader_epoch):
            return
        if current_leader_epoch < self.leader_epoch:
            raise KafkaError(
                ErrorCode.FENCED_LEADER_EPOCH,
                f"the leader epoch of {self.topic}-{self.index} is {self.leader_epoch}, newer than {current_leader_epoch}",
            )
        raise KafkaError(
            ErrorCode.UNKNOWN_LEADER_EPOCH,
            f"the leader epoch of {self.topic}-{self.index} is {self.leader_epoch}, older than {current_leader_epoch}",
        )

    def follower(self, replica_id: int) -> FollowerProgress:
        """A follower as its leader sees it.

        Raises:
            KafkaError: NOT_LEADER_OR_FOLLOWER, as Kafka answers a replica that the leader does not know.
        """
        if self.leading is None:
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                f"broker {replica_id} holds no replica of {self.topic}-{self.index}",
            )
        return self.leading.follower(replica_id)

    # ----- offsets

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read."""
        return self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        """The offset that the next record gets."""
        return self.log.log_end_offset

    @property
    def last_stable_offset(self) -> int:
        """What read_committed readers may read up to: the first undecided transaction or the high watermark."""
        return self.log.last_stable_offset(self.high_watermark)

    def _commit_all(self, log: PartitionLog) -> None:
        """Alone: what is appended is committed."""
        end = log.log_end_offset
        if end > self.high_watermark:
            self.high_watermark = end
            log.on_high_watermark(end)

    # ----- appending

    def append(
        self,
        records: memoryview | bytearray,
        acks: int,
        now_ms: int,
        produce_version: int = 13,
        origin: Origin = Origin.CLIENT,
        transactional: bool = False,
        guard: VerificationGuard | None = None,
        transaction_version: int = 0,
    ) -> AppendResult:
        """Appends the batches of one produce request as the leader, at once and whole, or raises.

        Args:
            records: Whole record batches in a writable buffer; base offset and leader epoch are patched in place.
            acks: 0, 1 or -1 (all).
            now_ms: Wall-clock milliseconds.
            produce_version: The version of the request, for what old ones may not hold (zstd before 7).
            origin: A client, or a coordinator of this broker.
            transactional: Whether the request names a transactional id.
            guard: Of a transaction that its coordinator has vouched for (`begin_verification`).
            transaction_version: The version of transactions under which an end marker was sent.

        Raises:
            NeedsTimeError: call `append_later` instead; nothing was appended.
            KafkaError: what a Kafka leader answers; nothing was appended then.
        """
        log = self._log
        if log is None:
            log = self._first_log()
        try:
            limits = log.produce_limits
            if acks == ACKS_ALL and len(self.isr) < limits.min_insync_replicas:
                self._refuse_if_too_few_in_sync(limits.min_insync_replicas)
            if origin is Origin.CLIENT:
                header = accept_produced(records, limits, produce_version, now_ms)
                if header is None:
                    header = _validate(records, log.config, produce_version, now_ms)
                    if header.size_bytes != len(records):
                        # The unfinished batch after the whole one is the client's slip; Kafka drops it as well.
                        records = records[: header.size_bytes]
                if header.attributes & TRANSACTIONAL_FLAG and not transactional:
                    _refuse_transaction()
                if limits.recompresses or self._recompressions is not None:
                    records, header = self._packed(records, header, log.config)
                result = log.append_one(
                    records, len(records), header, self.leader_epoch, now_ms, origin, guard
                )
            else:
                result = log.append(
                    records,
                    [header for _, header in iterate_headers(records)],
                    leader_epoch=self.leader_epoch,
                    now_ms=now_ms,
                    origin=origin,
                    guard=guard,
                    transaction_version=transaction_version,
                )
        except KafkaError as error:
            # Kafka tells the log start offset where the log itself refused, and not for these.
            if error.code not in _REFUSED_BEFORE_THE_LOG and not isinstance(error, MalformedRecordsError):
                error.log_start_offset = log.log_start_offset
            raise
        leading = self.leading
        if leading is None:
            # Without followers: what is appended is committed. The common case on one node, kept short.
            end = log.log_end_offset
            if end > self.high_watermark:
                self.high_watermark = end
                log.on_high_watermark(end)
            if self.parked_fetches:
                for parked in self.parked_fetches:
                    parked.wake()
        elif not result.duplicate:
            leading.on_append(log, result.first_offset)
        if limits.flushes and log.flush_due:
            self._group_commit.flush(log)
        return result

    def _packed(
        self, records: memoryview | bytearray, header: BatchHeader, config: LogConfig
    ) -> tuple[memoryview | bytearray, BatchHeader]:
        """The batch in the topic's codec, and its header."""
        waiting = self._recompressions
        if waiting is not None and waiting.is_busy and not waiting.is_appending:
            raise NeedsTimeError(ErrorCode.UNKNOWN_SERVER_ERROR)
        packed = pack(records, header, config, may_take_long=False)
        return packed, header if packed is records else parse_header(packed)

    def append_later(
        self,
        records: memoryview | bytearray,
        acks: int,
        *,
        now_ms: int,
        produce_version: int,
        transactional: bool,
        guard: VerificationGuard | None,
        is_gone: Callable[[], bool],
    ) -> asyncio.Future[AppendResult]:
        """As `append`, for what it said NeedsTimeError to; the records are copied.

        The future fails with KafkaError or StorageError, with NETWORK_EXCEPTION if the client `is_gone` when its turn comes.
        """
        if self._recompressions is None:
            self._recompressions = Recompressions()

        def append(packed: memoryview | bytearray) -> AppendResult:
            if not self.is_leader:
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return self.append(
                packed,
                acks,
                now_ms=now_ms,
                produce_version=produce_version,
                transactional=transactional,
                guard=guard,
            )

        return self._recompressions.add(bytearray(records), self.log.config, append, is_gone)

    def begin_verification(
        self, producer_id: int, sequence: int, epoch: int, *, supports_epoch_bump: bool, now_ms: int
    ) -> VerificationGuard | None:
        """Begins to ask whether a transaction may write here; None if it does already.

        The guard goes with the append, once the transaction's coordinator has vouched for it (KIP-890).

        Raises:
            KafkaError: INVALID_PRODUCER_EPOCH.
        """
        return self.log.producer_state.begin_verification(
            producer_id, sequence, epoch, supports_epoch_bump=supports_epoch_bump, now_ms=now_ms
        )

    def append_end_marker(
        self,
        producer_id: int,
        producer_epoch: int,
        *,
        committed: bool,
        coordinator_epoch: int,
        transaction_version: int,
        now_ms: int,
    ) -> AppendResult:
        """Ends a producer's transaction here: readers get to see its records, or are told to skip them.

        Raises:
            KafkaError: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, NOT_ENOUGH_REPLICAS.
            StorageError: the disk failed.
        """
        marker = build_end_marker(
            is_commit=committed,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            coordinator_epoch=coordinator_epoch,
            timestamp_ms=now_ms,
        )
        return self.append(
            marker,
            ACKS_ALL,
            now_ms=now_ms,
            origin=Origin.COORDINATOR,
            transaction_version=transaction_version,
        )

    def _refuse_if_too_few_in_sync(self, min_insync_replicas: int) -> None:
        # A partition with fewer replicas than min.insync.replicas needs all of them, not more (KIP-966).
        needed = min(min_insync_replicas, len(self._state.replicas) if self._state is not None else 1)
        if len(self.isr) < needed:
            raise KafkaError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.topic}-{self.index} has {len(self.isr)} in-sync replicas, and needs {needed}",
            )

    def has_to_wait(self, acks: int) -> bool:
        """Whether an acknowledgement of what was just appended may have to wait for something."""
        if self.syncs_always or (acks == ACKS_ALL and self._acks_all_waits):
            return True
        # flush.messages: Kafka flushes before it answers.
        log = self._log
        return log is not None and log.produce_limits.flushes and log.flush_due

    def wait_committed(self, last_offset: int, acks: int) -> asyncio.Future[None] | None:
        """What an acknowledgement of everything up to `last_offset` has to wait for; None where nothing is left.

        The future fails with StorageError when the log directory does, and with KafkaError NOT_LEADER_OR_FOLLOWER when this broker
        does not lead any more.
        """
        if not self.has_to_wait(acks):
            return None
        if self.leading is None or acks != ACKS_ALL:
            return self._group_commit.request(self.log, last_offset + 1)
        return self.leading.wait_committed(last_offset)

    def call_when_committed(
        self,
        last_offset: int,
        acks: int,
        on_committed: Callable[[KafkaError | StorageError | None], None],
        is_over: Callable[[], bool],
    ) -> bool:
        """The same without a future, where `has_to_wait`: `on_committed` is called later, with None or what failed.

        While the commit does not come, whoever has given up, as `is_over` tells, is forgotten.

        Returns:
            False where nothing is left to wait for; then `on_committed` is not called.

        Raises:
            StorageError: the log directory failed.
        """
        if self.leading is None or acks != ACKS_ALL:
            return self._group_commit.call_when_synced(self.log, last_offset + 1, on_committed, is_over)
        return self.leading.call_when_committed(last_offset, on_committed, is_over)

    def call_when_safe_here(
        self,
        last_offset: int,
        on_committed: Callable[[KafkaError | StorageError | None], None],
        is_over: Callable[[], bool],
    ) -> bool:
        """Calls back once this broker's disk has what it is to have by itself; False if nothing is left to wait for.

        What other replicas hold too need not be on the disk, unless `barnabas.durability` says so.

        Raises:
            StorageError: the log directory failed.
        """
        log = self.log
        if self.syncs_always or (self._syncs_alone and len(self.isr) == 1) or log.flush_due:
            return self._group_commit.call_when_synced(log, last_offset + 1, on_committed, is_over)
        return False

    def sync_ahead(self) -> None:
        """Begins to sync what has no other in-sync copy, or none any more."""
        log = self._log
        if log is not None and not log.is_offline and self._syncs_alone and len(self.isr) == 1:
            self._group_commit.flush(log)

    def call_when_all_is_synced(self, on_synced: Callable[[KafkaError | StorageError | None], None]) -> bool:
        """Calls back, with None or what failed, when the disk has all that the log holds now, and nothing that was truncated away.

        Returns:
            False if it is there already; then `on_synced` is not called.

        Raises:
            StorageError: the log directory failed; then `on_synced` is not called.
        """
        log = self.log
        if log.has_unsynced_cut:
            self._group_commit.call_when_cut_is_synced(log, on_synced)
            return True
        return self._group_commit.call_when_synced(log, log.log_end_offset, on_synced)

    # ----- reading

    def read(
        self,
        fetch_offset: int,
        max_bytes: int,
        *,
        isolation_level: int,
        min_one_batch: bool,
        last_fetched_epoch: int = UNKNOWN_EPOCH,
        may_block: bool = True,
    ) -> PartitionRead:
        """Finds what a consumer may read from `fetch_offset` on, without reading it.

        Args:
            fetch_offset: The first offset wanted.
            max_bytes: At most so many bytes, except for a first batch that is bigger while `min_one_batch`.
            isolation_level: 1 (read_committed) ends at the last stable offset, 0 at the high watermark.
            min_one_batch: Whether a batch bigger than `max_bytes` is given whole, so that its reader makes progress.
            last_fetched_epoch: The leader epoch of the record before `fetch_offset`, or -1 (KIP-595).
            may_block: Whether finding the place may wait for the disk.

        Raises:
            ColdRead: `may_block` is False, and part of an index or a header is not in the page cache.
            KafkaError: OFFSET_OUT_OF_RANGE below the log start offset or above the log end offset.
        """
        log = self.log
        high_watermark = self.high_watermark
        last_stable_offset = log.last_stable_offset(high_watermark)
        read = PartitionRead(high_watermark, last_stable_offset, log.log_start_offset)
        if last_fetched_epoch != UNKNOWN_EPOCH:
            read.diverging = self.divergence(log, fetch_offset, last_fetched_epoch)
            if read.diverging is not None:
                return read
        up_to = last_stable_offset if isolation_level == READ_COMMITTED else high_watermark
        self.check_offset(log, fetch_offset)
        if fetch_offset >= up_to:
            return read
        if max_bytes <= 0 and not min_one_batch:
            return read
        found = log.read(
            fetch_offset, max_bytes, up_to_offset=up_to, min_one_batch=min_one_batch, may_block=may_block
        )
        read.is_in_older_segment = found.is_in_older_segment
        region = found.region
        if region is not None:
            read.region = region
            read.size_bytes = region.size
            if isolation_level == READ_COMMITTED and log.has_aborted_transactions:
                read.aborted_transactions = log.aborted_transactions(fetch_offset, found.end_offset, up_to)
        return read

    def divergence(
        self, log: PartitionLog, fetch_offset: int, last_fetched_epoch: int
    ) -> tuple[int, int] | None:
        """(epoch, end offset) up to where a log may agree whose record before `fetch_offset` is of `last_fetched_epoch`.

        None if it agrees with ours up to `fetch_offset`. Source: KIP-595.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE.
        """
        epoch, end_offset = log.epoch_end_offset(last_fetched_epoch, self.leader_epoch)
        if epoch == UNKNOWN_EPOCH or end_offset == UNKNOWN_OFFSET:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"no epoch of {self.topic}-{self.index} is known up to {last_fetched_epoch}",
            )
        if fetch_offset < log.log_start_offset:
            self._refuse_offset(log, fetch_offset)
        if epoch < last_fetched_epoch or end_offset < fetch_offset:
            return epoch, end_offset
        return None

    def check_offset(self, log: PartitionLog, offset: int) -> None:
        """Raises KafkaError OFFSET_OUT_OF_RANGE for an offset below the log start or above the log end."""
        if offset < log.log_start_offset or offset > log.log_end_offset:
            self._refuse_offset(log, offset)

    def _refuse_offset(self, log: PartitionLog, offset: int) -> NoReturn:
        raise KafkaError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"offset {offset} is not in {log.log_start_offset}..{log.log_end_offset} of {self.topic}-{self.index}",
        )

    def list_offset(
        self, timestamp_ms: int, isolation_level: int | None, *, may_block: bool = True
    ) -> OffsetAndTimestamp:
        """The offset for a timestamp, or for one of the negative numbers that stand for a place in the log.

        Args:
            timestamp_ms: -1 latest, -2 earliest, -3 the record with the greatest timestamp, -4 earliest on this disk,
                -5 last tiered, -6 earliest not yet tiered; from 0 on, the first record with this timestamp or a later one.
            isolation_level: As in `read`; None for a replica, which sees up to the log end.
            may_block: Whether the search may wait for the disk.

        Raises:
            ColdRead: `may_block` is False, and something is not in the page cache.
            KafkaError: OFFSET_NOT_AVAILABLE just after an election.
        """
        log = self.log
        if log.is_offline:
            raise StorageError(f"{log.directory} is offline")
        if isolation_level is None:
            up_to = log.log_end_offset
        elif isolation_level == READ_COMMITTED:
            up_to = self.last_stable_offset
        else:
            up_to = self.high_watermark
        is_behind = (
            isolation_level is not None and self.leading is not None and self.leading.is_behind_its_epoch
        )
        if timestamp_ms == LATEST_TIMESTAMP:
            if is_behind:
                self._refuse_for_now()
            return OffsetAndTimestamp(up_to, UNKNOWN_TIMESTAMP, self._epoch_of(up_to))
        if timestamp_ms in (EARLIEST_TIMESTAMP, EARLIEST_LOCAL_TIMESTAMP):
            start = log.log_start_offset
            return OffsetAndTimestamp(start, UNKNOWN_TIMESTAMP, self._epoch_of(start))
        if timestamp_ms in (LATEST_TIERED_TIMESTAMP, EARLIEST_PENDING_UPLOAD_TIMESTAMP):
            return OffsetAndTimestamp()  # nothing is tiered
        if timestamp_ms == MAX_TIMESTAMP:
            found = log.offset_of_max_timestamp(may_block=may_block)
        else:
            found = log.offset_for_timestamp(timestamp_ms, may_block=may_block)
        if found is None or found[0] >= up_to:
            if is_behind:
                self._refuse_for_now()
            return OffsetAndTimestamp()
        return OffsetAndTimestamp(*found)

    def _refuse_for_now(self) -> NoReturn:
        # What an earlier leader had told would seem to go back (KIP-207).
        raise KafkaError(
            ErrorCode.OFFSET_NOT_AVAILABLE,
            f"the new leader of {self.topic}-{self.index} does not know yet what is committed",
        )

    def _epoch_of(self, offset: int) -> int:
        # The latest offset belongs to no record yet: the leader's epoch is the one that its record will have.
        epoch = self.log.epoch_for_offset(offset)
        return self.leader_epoch if epoch is None else epoch

    def offsets_before(self, timestamp_ms: int, max_offsets: int) -> list[int]:
        """ListOffsets version 0: offsets at which segments begin, and the high watermark, newest first.

        For a timestamp, the segments that begin no later than the first record with that timestamp or a later one;
        -1 (latest) and -2 (earliest) as usual.
        """
        log = self.log
        if timestamp_ms == EARLIEST_TIMESTAMP:
            return [log.log_start_offset][: max(max_offsets, 0)]
        limit = self.high_watermark
        if timestamp_ms >= 0:
            found = log.offset_for_timestamp(timestamp_ms)
            if found is not None:
                limit = min(limit, found[0])
        offsets = {max(base_offset, log.log_start_offset) for base_offset in log.segment_base_offsets()}
        if timestamp_ms == LATEST_TIMESTAMP:
            offsets.add(limit)
        return sorted((offset for offset in offsets if offset <= limit), reverse=True)[: max(max_offsets, 0)]

    def end_offset_of_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """The largest epoch up to `leader_epoch` and the offset at which it ends (KIP-101, KIP-279); (-1, -1) if unknown."""
        return self.log.epoch_end_offset(leader_epoch, self.leader_epoch)

    # ----- deleting

    def delete_records(self, offset: int) -> int:
        """Makes everything below `offset` unreadable; -1 stands for the high watermark. Gives the low watermark.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, or POLICY_VIOLATION for a topic that is only compacted.
        """
        policy = self.log.config.cleanup_policy
        if "compact" in policy and "delete" not in policy:
            raise KafkaError(
                ErrorCode.POLICY_VIOLATION,
                f"records of {self.topic}-{self.index} can not be deleted because its cleanup.policy lacks delete",
            )
        target = self.high_watermark if offset == UNKNOWN_OFFSET else offset
        if target < 0 or target > self.high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} is not in 0..{self.high_watermark} of {self.topic}-{self.index}",
            )
        self.log.delete_records(target)
        return self.log.log_start_offset

    def wake_parked(self) -> None:
        """Makes parked fetches look again, for example because this broker no longer leads."""
        for parked in self.parked_fetches:
            parked.wake()

"""What a follower fetches next from one leader, and what it does with the answer. No I/O but that of the logs.

All partitions that one fetcher follows share an incremental fetch session (KIP-227): a request names only those whose
offset or epoch has changed, an answer only those with news.

    following ──answer──> following
        │  error                     the leader is not ready, or we are not: left out for a while, longer each time
        ├──────────> delayed ──────> following
        │  out of range              where the leader's log lies is asked by ListOffsets
        ├──────────> lost ─────────> following
        │  truncated                 nothing is appended at the same place before the disk has the cut
        │  appended, fsync-always    what we are said to hold is on the disk
        ├──────────> syncing ──────> following
        │  the disk failed
        └──────────> stopped

Source: `AbstractFetcherThread`, `FetchSessionHandler` of Kafka 4.3.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from barnabas.errors import DiskFullError, ErrorCode, KafkaError, StorageError
from barnabas.replication import following
from barnabas.wire.messages.fetch import FetchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from barnabas.replication.partition import Partition
    from barnabas.wire.messages.fetch import FetchResponse

__all__ = ["FetchPlan", "FetchPlanSettings", "Followed", "FollowerQuota", "NoFollowerQuota"]

logger = logging.getLogger(__name__)

_NO_SESSION = 0
_INITIAL_EPOCH = 0
_EPOCH_MAX = 2**31 - 1
_FIRST_DELAY_MS = 20.0
_NO_DIRECTORY = bytes(16)
_OPENED_MAX = 100
"""Logs that are opened for one request: a broker that follows thousands comes to the others in the requests that follow."""

_SESSION_ERRORS = frozenset(
    (
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
    )
)
# As a rule one of the two brokers has not heard of the last election yet, and will in a moment.
_SOON = frozenset(
    (
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    )
)

_Key = tuple[bytes, int]
_Asked = tuple[int, int, int, int]


class FollowerQuota(Protocol):
    """How fast replicas may be fetched that are throttled."""

    def is_exceeded(self, partition: Partition) -> bool:
        """Whether this partition is throttled, and the rate is reached."""
        ...

    def record(self, partition: Partition, size_bytes: int) -> None:
        """So much was fetched of it."""
        ...


class NoFollowerQuota:
    """No limit (`FollowerQuota`)."""

    @staticmethod
    def is_exceeded(partition: Partition) -> bool:
        """Never."""
        del partition
        return False

    @staticmethod
    def record(partition: Partition, size_bytes: int) -> None:
        """Nobody counts."""
        del partition, size_bytes


@dataclass(slots=True)
class FetchPlanSettings:
    """The keys `replica.fetch.*`."""

    partition_max_bytes: int = 1_048_576
    response_max_bytes: int = 10_485_760
    min_bytes: int = 1
    wait_max_ms: int = 500
    backoff_ms: int = 1000


class Followed:
    """A partition that is followed.

    Attributes:
        partition: It.
        leader_epoch: In which it is followed.
        asked: Epoch, offset, last epoch and log start as the session has them; None if it does not have the partition.
        asked_in: The number of the request that said so.
        retry_at_ms: Until when it is left out.
        failures: In a row.
        is_lost: Its offset is out of the leader's range.
        failure: Why it could not be synced, until that is seen to.
        lag: Records that were committed by the leader and are not here yet, as it said last; -1 if it said nothing.
    """

    __slots__ = (
        "asked",
        "asked_in",
        "failure",
        "failures",
        "is_lost",
        "key",
        "lag",
        "leader_epoch",
        "partition",
        "retry_at_ms",
    )

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.key: _Key = (partition.topic_id, partition.index)
        self.leader_epoch = partition.leader_epoch
        self.asked: _Asked | None = None
        self.asked_in = 0
        self.retry_at_ms = 0.0
        self.failures = 0
        self.is_lost = False
        self.failure: StorageError | None = None
        self.lag = -1

    def __repr__(self) -> str:
        return f"<Followed {self.partition.topic}-{self.partition.index} epoch={self.leader_epoch}>"


class FetchPlan:
    """See the module.

    Args:
        node_id: This broker.
        broker_epoch: Gives its epoch as the controller knows it.
        settings: How much is fetched, and how long is waited.
        quota: Of throttled replicas.
        full_directories: Gives the ids of the log directories that have no room. What lies there is left out: a fetch would say
            that it follows.
        on_failed: Called with a partition that is not followed any more, because its disk failed.

    Attributes:
        lost: What is to be found by ListOffsets.
        generation: Goes up with every new session: answers to earlier requests are not to be handled.
        sent: The number of requests so far.
        wake: Is called when something is to be fetched again that was left out.
    """

    __slots__ = (
        "_broker_epoch",
        "_changed",
        "_delayed",
        "_followed",
        "_forgotten",
        "_full_directories",
        "_node_id",
        "_on_failed",
        "_quota",
        "_session_epoch",
        "_session_id",
        "_settings",
        "_syncing",
        "_throttled",
        "generation",
        "lost",
        "sent",
        "wake",
    )

    def __init__(
        self,
        node_id: int,
        *,
        broker_epoch: Callable[[], int],
        settings: FetchPlanSettings,
        quota: FollowerQuota | None = None,
        full_directories: Callable[[], Collection[bytes]] = tuple,
        on_failed: Callable[[Partition], None] = lambda _: None,
    ) -> None:
        self._node_id = node_id
        self._on_failed = on_failed
        self._full_directories = full_directories
        self._broker_epoch = broker_epoch
        self._settings = settings
        self._quota = quota or NoFollowerQuota()
        self._followed: dict[_Key, Followed] = {}
        self._changed: dict[_Key, Followed] = {}
        self._delayed: dict[_Key, Followed] = {}
        self._throttled: dict[_Key, Followed] = {}
        self._syncing: dict[_Key, Followed] = {}
        self._forgotten: dict[_Key, None] = {}
        self._session_id = _NO_SESSION
        self._session_epoch = _INITIAL_EPOCH
        self.lost: list[Followed] = []
        self.generation = 0
        self.sent = 0
        self.wake: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._followed)

    def max_lag(self) -> int:
        """The lag of the partition that is furthest behind."""
        return max((max(followed.lag, 0) for followed in self._followed.values()), default=0)

    # ----- which partitions

    def add(self, partition: Partition) -> None:
        """Follows a partition, from now on in its present leader epoch."""
        followed = Followed(partition)
        before = self._followed.get(followed.key)
        if before is not None:
            if before.partition is partition and before.leader_epoch == followed.leader_epoch:
                return
            followed.asked, followed.asked_in = before.asked, before.asked_in
            self._drop(followed.key)
        self._followed[followed.key] = followed
        self._changed[followed.key] = followed
        self._forgotten.pop(followed.key, None)

    def remove(self, partition: Partition) -> None:
        """Follows a partition no more."""
        key = (partition.topic_id, partition.index)
        followed = self._followed.pop(key, None)
        self._drop(key)
        if followed is not None and followed.asked is not None:
            self._forgotten[key] = None

    def _drop(self, key: _Key) -> None:
        self._changed.pop(key, None)
        self._delayed.pop(key, None)
        self._throttled.pop(key, None)
        self._syncing.pop(key, None)
        self.lost = [each for each in self.lost if each.key != key]

    # ----- requests

    def reset_session(self) -> None:
        """The session is lost: the next request names all partitions again."""
        self._session_id = _NO_SESSION
        self._session_epoch = _INITIAL_EPOCH
        self.generation += 1
        self._forgotten.clear()
        for key, followed in self._followed.items():
            followed.asked = None
            if key not in self._delayed and key not in self._syncing and not followed.is_lost:
                self._changed[key] = followed

    def next_attention_ms(self) -> float | None:
        """When a partition is due that is left out for now; None if there is none."""
        return min((followed.retry_at_ms for followed in self._delayed.values()), default=None)

    @property
    def has_session(self) -> bool:
        """Whether the leader has given a session, so that a second request may be sent while one waits for its answer."""
        return self._session_id != _NO_SESSION

    def has_more_to_say(self, now_ms: float) -> bool:
        """Whether a request would have something to say: of a partition that has changed, or that was left out until now."""
        return bool(self._changed) or any(
            followed.retry_at_ms <= now_ms for followed in self._delayed.values()
        )

    def request(self, now_ms: float) -> FetchRequest | None:
        """The next request; None if there is nothing to fetch. Logs are opened for it, a hundred at a time.

        A partition whose log cannot be opened is left out; the others go on.
        """
        for key, followed in list(self._delayed.items()):
            if followed.retry_at_ms <= now_ms:
                del self._delayed[key]
                self._changed[key] = followed
        for key, followed in list(self._throttled.items()):
            if not self._quota.is_exceeded(followed.partition):
                del self._throttled[key]
                self._changed[key] = followed
        changed, self._changed = self._changed, {}
        self.sent += 1
        topics: dict[bytes, list[FetchRequest.FetchPartition]] = {}
        opened = 0
        full = self._full_directories()
        for followed in changed.values():
            if full and followed.partition.directory_id in full:
                self._delay(followed, ErrorCode.KAFKA_STORAGE_ERROR, now_ms)
                continue
            if not followed.partition.is_open:
                opened += 1
                if opened > _OPENED_MAX:
                    self._changed[followed.key] = followed
                    continue
            if followed.lag != 0 and self._quota.is_exceeded(followed.partition):
                self._throttled[followed.key] = followed
                self._leave_out(followed)
                continue
            entry = self._entry(followed, now_ms)
            if entry is not None:
                topics.setdefault(followed.key[0], []).append(entry)
        has_session = self._session_id != _NO_SESSION
        if not has_session and not topics:
            return None
        if has_session and not any(followed.asked is not None for followed in self._followed.values()):
            # All are left out: the session would be of nothing.
            if not self._syncing:
                self.reset_session()
                self._changed = {}
            return None
        request = FetchRequest(
            replica_state=FetchRequest.ReplicaState(
                replica_id=self._node_id, replica_epoch=self._broker_epoch()
            ),
            max_wait_ms=0 if self._changed else self._settings.wait_max_ms,
            min_bytes=self._settings.min_bytes,
            max_bytes=self._settings.response_max_bytes,
            isolation_level=0,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=[
                FetchRequest.FetchTopic(topic_id=topic_id, partitions=partitions)
                for topic_id, partitions in topics.items()
            ],
            forgotten_topics_data=_forgotten(self._forgotten) if has_session else [],
            rack_id="",
        )
        self._forgotten.clear()
        if has_session:
            epoch = self._session_epoch
            self._session_epoch = 1 if epoch == _EPOCH_MAX else epoch + 1
        return request

    def _entry(self, followed: Followed, now_ms: float) -> FetchRequest.FetchPartition | None:
        partition = followed.partition
        try:
            failure, followed.failure = followed.failure, None
            if failure is not None:
                raise failure
            if followed.asked is None:
                following.prepare(partition)
            log = partition.log
            log.check_online()  # a fetch would say that it follows
            if (log.has_unsynced_cut or partition.syncs_always) and self._waits_for_disk(followed):
                return None
            asked = (followed.leader_epoch, log.log_end_offset, log.latest_epoch, log.log_start_offset)
        except StorageError as error:
            self._fail(followed, error, now_ms)
            return None
        if asked == followed.asked:
            return None
        followed.asked = asked
        followed.asked_in = self.sent
        self._forgotten.pop(followed.key, None)
        return FetchRequest.FetchPartition(
            partition=partition.index,
            current_leader_epoch=asked[0],
            fetch_offset=asked[1],
            last_fetched_epoch=asked[2],
            log_start_offset=asked[3],
            partition_max_bytes=self._settings.partition_max_bytes,
            replica_directory_id=partition.directory_id or _NO_DIRECTORY,
        )

    def _waits_for_disk(self, followed: Followed) -> bool:
        def on_synced(error: KafkaError | StorageError | None) -> None:
            if self._syncing.get(followed.key) is followed:
                del self._syncing[followed.key]
                followed.failure = error if isinstance(error, StorageError) else None
                self._changed[followed.key] = followed
                self.wake()

        if not followed.partition.call_when_all_is_synced(on_synced):
            return False
        self._syncing[followed.key] = followed
        # A leader sends again what it hears no word of.
        self._leave_out(followed)
        return True

    def _leave_out(self, followed: Followed) -> None:
        if followed.asked is not None:
            followed.asked = None
            self._forgotten[followed.key] = None

    # ----- answers

    def handle(self, response: FetchResponse, number: int, now_ms: float) -> None:
        """Takes an answer in, to the request of that number. What is out of range afterwards is in `lost`."""
        code = ErrorCode(response.error_code)
        if code is not ErrorCode.NONE:
            if code not in _SESSION_ERRORS:
                logger.warning("fetch is refused as a whole reason=%s", code.name)
            self.reset_session()
            return
        is_lost = False
        if self._session_id == _NO_SESSION:
            # Without a session, when the leader has no room for one, all is asked again each time.
            is_lost = response.session_id == _NO_SESSION
            self._session_id = response.session_id
            self._session_epoch = 1
        else:
            is_lost = response.session_id != self._session_id
        for topic in response.responses:
            for data in topic.partitions:
                followed = self._followed.get((topic.topic_id, data.partition_index))
                if followed is not None:
                    self._take(followed, data, number, now_ms)
        if is_lost:
            self.reset_session()

    def _take(
        self, followed: Followed, data: FetchResponse.PartitionData, number: int, now_ms: float
    ) -> None:
        asked = followed.asked
        partition = followed.partition
        if (
            asked is None
            or followed.asked_in > number
            or asked[0] != followed.leader_epoch
            or partition.leader_epoch != followed.leader_epoch
            or partition.is_leader
            or followed.key in self._delayed
        ):
            return  # of a time that is over
        try:
            if asked[1] != partition.log.log_end_offset:
                return
            code = ErrorCode(data.error_code)
            if code is ErrorCode.NONE:
                self._take_records(followed, data)
            elif code is ErrorCode.OFFSET_OUT_OF_RANGE:
                followed.is_lost = True
                self._leave_out(followed)
                self.lost.append(followed)
            else:
                self._delay(followed, code, now_ms)
        except KafkaError as error:
            logger.warning(
                "records of the leader are not taken partition=%s-%d reason=%s",
                partition.topic,
                partition.index,
                error,
            )
            self._delay(followed, error.code, now_ms)
        except StorageError as error:
            self._fail(followed, error, now_ms)

    def _take_records(self, followed: Followed, data: FetchResponse.PartitionData) -> None:
        partition = followed.partition
        diverging = data.diverging_epoch
        if diverging is not None and (diverging.epoch >= 0 or diverging.end_offset >= 0):
            following.truncate_to_agreement(partition, diverging.epoch, diverging.end_offset)
        else:
            records = data.records
            if records:
                assert isinstance(records, memoryview)
                partition.log.append_as_follower(records)
                self._quota.record(partition, len(records))
            following.follow_offsets(partition, data.high_watermark, data.log_start_offset)
            followed.lag = max(data.high_watermark - partition.log.log_end_offset, 0)
        followed.failures = 0
        self._changed[followed.key] = followed

    def _delay(self, followed: Followed, code: ErrorCode, now_ms: float) -> None:
        followed.failures += 1
        delay_ms = float(self._settings.backoff_ms)
        if code in _SOON:
            delay_ms = min(delay_ms, _FIRST_DELAY_MS * 2 ** min(followed.failures - 1, 20))
        logger.debug(
            "partition is not fetched for a while partition=%s-%d epoch=%d reason=%s ms=%d",
            followed.partition.topic,
            followed.partition.index,
            followed.leader_epoch,
            code.name,
            delay_ms,
        )
        followed.retry_at_ms = now_ms + delay_ms
        self._delayed[followed.key] = followed
        self._leave_out(followed)

    def _fail(self, followed: Followed, error: StorageError, now_ms: float) -> None:
        partition = followed.partition
        if isinstance(error, DiskFullError):
            self._delay(followed, ErrorCode.KAFKA_STORAGE_ERROR, now_ms)
            return
        logger.error(
            "partition is not followed any more partition=%s-%d reason=%s",
            partition.topic,
            partition.index,
            error,
        )
        self._leave_out(followed)
        self._followed.pop(followed.key, None)
        self._on_failed(partition)

    # ----- offsets out of range

    def found(self, followed: Followed, log_start_offset: int, log_end_offset: int) -> None:
        """A partition of `lost` goes on within the leader's log, which lies between these offsets."""
        if self._followed.get(followed.key) is not followed or not followed.is_lost:
            return
        partition = followed.partition
        self.lost = [each for each in self.lost if each is not followed]
        followed.is_lost = False
        if partition.leader_epoch != followed.leader_epoch or partition.is_leader:
            return
        try:
            if log_end_offset < partition.log.log_end_offset:
                following.truncate(partition, log_end_offset)
            elif log_start_offset > partition.log.log_end_offset:
                following.restart_at(partition, log_start_offset)
            elif log_start_offset > partition.log.log_start_offset:
                following.follow_offsets(partition, partition.high_watermark, log_start_offset)
        except StorageError as error:
            self._fail(followed, error, 0.0)
            return
        followed.asked = None
        self._changed[followed.key] = followed

    def not_found(self, followed: Followed, code: ErrorCode, now_ms: float) -> None:
        """The leader does not say where a partition of `lost` lies."""
        if self._followed.get(followed.key) is not followed or not followed.is_lost:
            return
        self.lost = [each for each in self.lost if each is not followed]
        followed.is_lost = False
        self._delay(followed, code, now_ms)


def _forgotten(keys: Iterable[_Key]) -> list[FetchRequest.ForgottenTopic]:
    topics: dict[bytes, list[int]] = {}
    for topic_id, index in keys:
        topics.setdefault(topic_id, []).append(index)
    return [
        FetchRequest.ForgottenTopic(topic_id=topic_id, partitions=indexes)
        for topic_id, indexes in topics.items()
    ]

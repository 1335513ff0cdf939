"""Incremental fetch sessions (KIP-227): a consumer of many partitions sends and receives only what changed.

A session remembers the partitions that its client fetches, and what the client was last told of each. `FetchSessions.open`
decides what kind of fetch a request is, and gives a `FetchContext` that knows which partitions to read and what to leave out
of the answer. Sources: KIP-227, KIP-516 (topic ids), `kafka.server.FetchSession`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metrics import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barnabas.clock import Clock
    from barnabas.metrics import Registry
    from barnabas.replication.replica_session import ReplicaSession
    from barnabas.wire.messages.fetch import FetchRequest, FetchResponse

__all__ = [
    "FINAL_EPOCH",
    "INITIAL_EPOCH",
    "NO_SESSION",
    "FetchContext",
    "FetchSessions",
    "FetchedPartition",
    "is_from_replica",
]

NO_SESSION = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 2**31 - 1

_Key = tuple[str | bytes, int]


class FetchedPartition:
    """One partition of a fetch: what the client asks for, and what it was last told.

    `topic` is the name as the request gave it, or "" when the request speaks by topic id (version 13 and later).
    """

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "key",
        "last_fetched_epoch",
        "log_start_offset",
        "max_bytes",
        "partition",
        "told_high_watermark",
        "told_log_start_offset",
        "topic",
        "topic_id",
    )

    def __init__(self, topic: str, topic_id: bytes, asked: FetchRequest.FetchPartition) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = asked.partition
        self.key: _Key = (topic or topic_id, asked.partition)
        self.told_high_watermark = -1
        self.told_log_start_offset = -1
        self.ask(asked)

    def ask(self, asked: FetchRequest.FetchPartition) -> None:
        """Takes over what a later request of the session asks for."""
        self.fetch_offset = asked.fetch_offset
        self.max_bytes = asked.partition_max_bytes
        self.current_leader_epoch = asked.current_leader_epoch
        self.last_fetched_epoch = asked.last_fetched_epoch
        self.log_start_offset = asked.log_start_offset

    def has_news(self, answer: FetchResponse.PartitionData) -> bool:
        """Whether `must_tell` would say so of an answer without records."""
        return (
            self.told_high_watermark != answer.high_watermark
            or self.told_log_start_offset != answer.log_start_offset
            or answer.error_code != 0
            or answer.diverging_epoch is not None
        )

    def must_tell(self, answer: FetchResponse.PartitionData) -> bool:
        """Whether an incremental answer has to mention this partition; remembers what it then tells."""
        tell = _has_records(answer)
        if self.told_high_watermark != answer.high_watermark:
            self.told_high_watermark = answer.high_watermark
            tell = True
        if self.told_log_start_offset != answer.log_start_offset:
            self.told_log_start_offset = answer.log_start_offset
            tell = True
        if answer.error_code != 0:
            # Told again as soon as it is well, whatever the watermark is then.
            self.told_high_watermark = -1
            return True
        if answer.diverging_epoch is not None or answer.preferred_read_replica >= 0:
            return True
        return tell


class _Session:
    __slots__ = (
        "created_ms",
        "epoch",
        "id",
        "last_used_ms",
        "partitions",
        "privileged",
        "replica",
        "uses_topic_ids",
    )

    def __init__(
        self,
        session_id: int,
        partitions: dict[_Key, FetchedPartition],
        *,
        now_ms: float,
        privileged: bool,
        uses_topic_ids: bool,
    ) -> None:
        self.id = session_id
        self.epoch = 1
        self.partitions = partitions
        self.created_ms = now_ms
        self.last_used_ms = now_ms
        self.privileged = privileged
        self.uses_topic_ids = uses_topic_ids
        self.replica: ReplicaSession | None = None


class FetchContext:
    """What one fetch reads, and what its answer leaves out."""

    __slots__ = ("_partitions", "_session", "incremental", "session_id")

    def __init__(
        self,
        partitions: dict[_Key, FetchedPartition],
        session_id: int,
        session: _Session | None = None,
        *,
        incremental: bool = False,
    ) -> None:
        self._partitions = partitions
        self._session = session
        self.session_id = session_id
        self.incremental = incremental

    def __len__(self) -> int:
        return len(self._partitions)

    def replica_session(
        self, new: Callable[[dict[_Key, FetchedPartition]], ReplicaSession]
    ) -> ReplicaSession | None:
        """What a leader keeps of a follower's session; made by `new` when it is first asked for. None without a session."""
        session = self._session
        if session is None:
            return None
        if session.replica is None:
            session.replica = new(session.partitions)
        return session.replica

    def partitions(self) -> Iterator[FetchedPartition]:
        """The partitions in the order in which they are to be read."""
        return iter(self._partitions.values())

    def select(
        self, read: list[tuple[FetchedPartition, FetchResponse.PartitionData]]
    ) -> list[tuple[FetchedPartition, FetchResponse.PartitionData]]:
        """The part of what was read that the answer has to mention; called once, when the answer is certain.

        Partitions that gave records move to the end of the session's order, so that a small `max_bytes` starves none
        (`FetchSession.PartitionIterator`).
        """
        session = self._session
        if session is None:
            return read
        selected = []
        partitions = self._partitions
        for fetched, answer in read:
            tell = fetched.must_tell(answer)
            if tell or not self.incremental:
                selected.append((fetched, answer))
            if self.incremental and _has_records(answer):
                key = (fetched.topic_id if session.uses_topic_ids else fetched.topic, fetched.partition)
                if partitions.pop(key, None) is not None:
                    partitions[key] = fetched
        return selected


class FetchSessions:
    """The sessions of one broker, at most `max_sessions` of them (`max.incremental.fetch.session.cache.slots`).

    When the cache is full, a session that was not used for `eviction_ms` makes room, or else a smaller one for a bigger one
    (`FetchSessionCache.tryEvict`); otherwise the client simply gets no session.
    """

    __slots__ = ("_clock", "_eviction_ms", "_evictions", "_max_sessions", "_sessions")

    def __init__(self, clock: Clock, *, max_sessions: int, eviction_ms: int) -> None:
        self._clock = clock
        self._max_sessions = max_sessions
        self._eviction_ms = eviction_ms
        # Ordered by last use: the first is the least recently used.
        self._sessions: dict[int, _Session] = {}
        self._evictions = Counter()

    def register_metrics(self, registry: Registry) -> None:
        """Shows what Kafka's `FetchSessionCache` shows."""
        prefix = "kafka_server_fetchsessioncache_"
        registry.gauge_function(prefix + "numincrementalfetchsessions", lambda: len(self))
        registry.gauge_function(prefix + "numincrementalfetchpartitionscached", self.partition_count)
        self._evictions = registry.counter(prefix + "incrementalfetchsessionevictions_total")

    def __len__(self) -> int:
        return len(self._sessions)

    def partition_count(self) -> int:
        """The partitions that all sessions remember."""
        return sum(len(session.partitions) for session in self._sessions.values())

    def open(self, request: FetchRequest, version: int) -> FetchContext:
        """Decides what kind of fetch this is.

        Raises:
            KafkaError: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH or FETCH_SESSION_TOPIC_ID_ERROR.
        """
        uses_topic_ids = version >= 13
        epoch = request.session_epoch
        if version < 7 or epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if version >= 7 and request.session_id != NO_SESSION:
                self._sessions.pop(request.session_id, None)
            partitions = _asked(request, uses_topic_ids=uses_topic_ids)
            if version < 7 or epoch == FINAL_EPOCH:
                return FetchContext(partitions, NO_SESSION)
            session = self._create(
                partitions, privileged=is_from_replica(request), uses_topic_ids=uses_topic_ids
            )
            return FetchContext(partitions, session.id if session else NO_SESSION, session)
        return self._continue(request, uses_topic_ids=uses_topic_ids)

    def _continue(self, request: FetchRequest, *, uses_topic_ids: bool) -> FetchContext:
        session = self._sessions.get(request.session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.uses_topic_ids != uses_topic_ids:
            raise KafkaError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        partitions = session.partitions
        for topic in request.topics:
            name = topic.topic_id if uses_topic_ids else topic.topic
            for asked in topic.partitions:
                key = (name, asked.partition)
                known = partitions.get(key)
                if known is None:
                    partitions[key] = FetchedPartition(topic.topic, topic.topic_id, asked)
                else:
                    known.ask(asked)
        for forgotten in request.forgotten_topics_data:
            name = forgotten.topic_id if uses_topic_ids else forgotten.topic
            for index in forgotten.partitions:
                partitions.pop((name, index), None)
        del self._sessions[session.id]
        if not partitions:
            return FetchContext(partitions, NO_SESSION)
        session.epoch = 1 if session.epoch == _MAX_EPOCH else session.epoch + 1
        session.last_used_ms = self._clock.monotonic_ms()
        self._sessions[session.id] = session
        return FetchContext(partitions, session.id, session, incremental=True)

    def _create(
        self, partitions: dict[_Key, FetchedPartition], *, privileged: bool, uses_topic_ids: bool
    ) -> _Session | None:
        now_ms = self._clock.monotonic_ms()
        sessions = self._sessions
        if len(sessions) >= self._max_sessions and not self._evict(
            len(partitions), now_ms, privileged=privileged
        ):
            return None
        session_id = 0
        while session_id == 0 or session_id in sessions:
            session_id = random.randint(1, 2**31 - 1)  # noqa: S311 - not a secret: a session is bound to no right
        session = _Session(
            session_id, partitions, now_ms=now_ms, privileged=privileged, uses_topic_ids=uses_topic_ids
        )
        sessions[session_id] = session
        return session

    def _evict(self, size: int, now_ms: float, *, privileged: bool) -> bool:
        sessions = self._sessions
        if not sessions:
            return False
        oldest = next(iter(sessions.values()))
        if now_ms - oldest.last_used_ms > self._eviction_ms:
            del sessions[oldest.id]
            self._evictions.value += 1
            return True
        candidates = [
            session
            for session in sessions.values()
            if (privileged and not session.privileged)
            or (
                session.privileged <= privileged
                and now_ms - session.created_ms > self._eviction_ms
                and len(session.partitions) < size
            )
        ]
        if not candidates:
            return False
        smallest = min(candidates, key=lambda session: (session.privileged, len(session.partitions)))
        del sessions[smallest.id]
        self._evictions.value += 1
        return True


def is_from_replica(request: FetchRequest) -> bool:
    """Whether a broker fetches, not a consumer; the field depends on the version."""
    state = request.replica_state
    return request.replica_id >= 0 or (state is not None and state.replica_id >= 0)


def _has_records(answer: FetchResponse.PartitionData) -> bool:
    # No records are b"" (or None); records are a region of a file.
    return bool(answer.records)


def _asked(request: FetchRequest, *, uses_topic_ids: bool) -> dict[_Key, FetchedPartition]:
    partitions: dict[_Key, FetchedPartition] = {}
    for topic in request.topics:
        name = topic.topic_id if uses_topic_ids else topic.topic
        for asked in topic.partitions:
            partitions[(name, asked.partition)] = FetchedPartition(topic.topic, topic.topic_id, asked)
    return partitions

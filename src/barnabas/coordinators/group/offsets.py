"""Committed offsets of the groups of one shard, by group, topic and partition.

Offsets that belong to a transaction wait apart, by producer id, until its end marker is replayed; of two commits for the same
partition the one that lies later in the log wins, whichever became visible last.

Source: Kafka's `OffsetMetadataManager`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.wire.primitives import ZERO_UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey
    from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue

__all__ = ["CommittedOffset", "OffsetTable", "Offsets"]

_NO_PRODUCER_ID = -1
_NO_TIMESTAMP = -1


class CommittedOffset(NamedTuple):
    """An offset that a group committed.

    Attributes:
        offset: The offset of the record that comes next.
        leader_epoch: The epoch of the last consumed record, -1 if the client did not say.
        metadata: The client's note.
        commit_timestamp_ms: When it was committed.
        expire_timestamp_ms: When it expires, where a client of old set that itself.
        topic_id: The topic's id, all zeros if the client or an older broker did not know it.
        record_offset: Where the record lies in the log, -1 before it is written.
    """

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int | None = None
    topic_id: bytes = ZERO_UUID
    record_offset: int = -1

    @classmethod
    def of(cls, value: OffsetCommitValue, record_offset: int) -> CommittedOffset:
        """What a record says."""
        expire_ms = value.expire_timestamp
        return cls(
            value.offset,
            value.leader_epoch,
            value.metadata,
            value.commit_timestamp,
            None if expire_ms == _NO_TIMESTAMP else expire_ms,
            value.topic_id,
            record_offset,
        )

    def is_for(self, topic_id: bytes) -> bool:
        """False if it was committed for an earlier topic of the same name."""
        return topic_id in (self.topic_id, ZERO_UUID) or self.topic_id == ZERO_UUID


class OffsetTable:
    """group -> topic -> partition -> offset; empty levels are removed."""

    __slots__ = ("_groups", "count")

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, dict[int, CommittedOffset]]] = {}
        self.count = 0

    def get(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """One offset, if there is one."""
        topics = self._groups.get(group_id)
        partitions = None if topics is None else topics.get(topic)
        return None if partitions is None else partitions.get(partition)

    def of_group(self, group_id: str) -> Mapping[str, Mapping[int, CommittedOffset]]:
        """All offsets of a group, not to be changed."""
        return self._groups.get(group_id, {})

    def groups(self) -> list[str]:
        """The groups that have offsets."""
        return list(self._groups)

    def put(self, group_id: str, topic: str, partition: int, offset: CommittedOffset) -> None:
        """Stores an offset in place of the one before."""
        partitions = self._groups.setdefault(group_id, {}).setdefault(topic, {})
        if partition not in partitions:
            self.count += 1
        partitions[partition] = offset

    def remove(self, group_id: str, topic: str, partition: int) -> None:
        """Forgets an offset, if there is one."""
        topics = self._groups.get(group_id)
        partitions = None if topics is None else topics.get(topic)
        if topics is None or partitions is None or partitions.pop(partition, None) is None:
            return
        self.count -= 1
        if not partitions:
            del topics[topic]
            if not topics:
                del self._groups[group_id]


class Offsets:
    """The offsets of one shard.

    Attributes:
        committed: What groups have committed.
        pending: What they have committed within transactions that are still open, by producer id.
    """

    __slots__ = ("_open_transactions", "committed", "pending")

    def __init__(self) -> None:
        self.committed = OffsetTable()
        self.pending: dict[int, OffsetTable] = {}
        self._open_transactions: dict[str, set[int]] = {}

    def replay(
        self, record_offset: int, producer_id: int, key: OffsetCommitKey, value: OffsetCommitValue | None
    ) -> None:
        """Applies an offset commit or, with a value of None, its tombstone."""
        group_id, topic, partition = key.group, key.topic, key.partition
        if value is None:
            self.committed.remove(group_id, topic, partition)
            for open_producer_id in self._open_transactions.get(group_id, ()):
                self.pending[open_producer_id].remove(group_id, topic, partition)
        elif producer_id == _NO_PRODUCER_ID:
            self.committed.put(group_id, topic, partition, CommittedOffset.of(value, record_offset))
        else:
            table = self.pending.setdefault(producer_id, OffsetTable())
            table.put(group_id, topic, partition, CommittedOffset.of(value, record_offset))
            self._open_transactions.setdefault(group_id, set()).add(producer_id)

    def replay_end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Makes a producer's pending offsets visible, or drops them."""
        table = self.pending.pop(producer_id, None)
        if table is None:
            return
        for group_id in list(self._open_transactions):
            producers = self._open_transactions[group_id]
            producers.discard(producer_id)
            if not producers:
                del self._open_transactions[group_id]
        if not committed:
            return
        for group_id in table.groups():
            for topic, partitions in table.of_group(group_id).items():
                for partition, offset in partitions.items():
                    existing = self.committed.get(group_id, topic, partition)
                    if existing is None or offset.record_offset > existing.record_offset:
                        self.committed.put(group_id, topic, partition, offset)

    def has_open_transactions(self, group_id: str) -> bool:
        """Whether a transaction with offsets of this group is open."""
        return group_id in self._open_transactions

    def is_pending(self, group_id: str, topic: str, partition: int) -> bool:
        """Whether an open transaction will move this offset if it commits."""
        return any(
            self.pending[producer_id].get(group_id, topic, partition) is not None
            for producer_id in self._open_transactions.get(group_id, ())
        )

    def pending_partitions(self, group_id: str) -> list[tuple[str, int]]:
        """All partitions of a group that open transactions will move."""
        return [
            (topic, partition)
            for producer_id in self._open_transactions.get(group_id, ())
            for topic, partitions in self.pending[producer_id].of_group(group_id).items()
            for partition in partitions
        ]

"""One partition's next state: who is in sync, who leads, what a reassignment has come to. Pure.

Everything that changes a partition goes through `change_partition`, so that an election, the end of a reassignment and the
eligible leader replicas (ELR, KIP-966) follow from each change in the same way, whoever asked for it:

    target ISR, replicas ──> reassignment complete? ──> ELR ──> election ──> leader epoch ──> record, or None

Source: `PartitionChangeBuilder` and `PartitionReassignmentReplicas` of Apache Kafka.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from barnabas.metadata.identifiers import UNASSIGNED_DIRECTORY
from barnabas.metadata.image import NO_LEADER
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.metadata.image import Partition

__all__ = ["Change", "Election", "change_partition"]

_NO_LEADER_CHANGE = -2
_NO_RECOVERY_CHANGE = -1
_RECOVERING = 1


class Election(Enum):
    """What kind of leader is looked for."""

    PREFERRED = 0
    """The first replica, if it is in sync, even if another one leads well."""
    ONLINE = 1
    """The leader that there is, as long as it is in sync; else any replica that is."""
    UNCLEAN = 2
    """As ONLINE, but any replica that lives before none at all: records may be lost."""


class Change(NamedTuple):
    """What is to become of a partition; None leaves things as they are.

    Attributes:
        isr: The in-sync replicas.
        replicas: All replicas, the preferred leader first.
        adding: Replicas that a reassignment is bringing in.
        removing: Replicas that a reassignment is taking away.
        is_recovered: The leader has repaired what an unclean election left behind.
        without: Brokers whose last run ended in disorder: they may lack what they had, and are not eligible.
        election: How a leader is looked for.
    """

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding: Sequence[int] | None = None
    removing: Sequence[int] | None = None
    is_recovered: bool = False
    without: frozenset[int] = frozenset()
    election: Election = Election.ONLINE


def change_partition(
    topic_id: bytes,
    partition: Partition,
    change: Change,
    *,
    may_lead: Callable[[int], bool],
    min_insync_replicas: int,
    has_elr: bool,
    default_directory: Callable[[int], bytes] = lambda _broker_id: UNASSIGNED_DIRECTORY,
) -> PartitionChangeRecord | None:
    """The record that makes the change, with all that follows from it; None where nothing changes.

    Args:
        topic_id: The topic.
        partition: Its state.
        change: What is to become of it.
        may_lead: Whether a broker can lead it: alive, and with the replica's log directory.
        min_insync_replicas: The topic's `min.insync.replicas`, at most its replication factor.
        has_elr: Whether the cluster keeps eligible leader replicas; without, the last in-sync replica stays on the list.
        default_directory: The log directory of a new replica, where there is no choice.
    """
    draft = _Draft(topic_id, partition, change, may_lead, min_insync_replicas, has_elr)
    return draft.finish(default_directory)


class _Draft:
    """A change on its way."""

    __slots__ = (
        "adding",
        "change",
        "elr",
        "has_elr",
        "isr",
        "may_lead",
        "min_insync_replicas",
        "partition",
        "record",
        "removing",
        "replicas",
    )

    def __init__(
        self,
        topic_id: bytes,
        partition: Partition,
        change: Change,
        may_lead: Callable[[int], bool],
        min_insync_replicas: int,
        has_elr: bool,
    ) -> None:
        self.partition = partition
        self.change = change
        self.may_lead = may_lead
        self.min_insync_replicas = min_insync_replicas
        self.has_elr = has_elr
        self.isr = list(partition.isr if change.isr is None else change.isr)
        self.replicas = list(partition.replicas if change.replicas is None else change.replicas)
        self.adding = list(partition.adding_replicas if change.adding is None else change.adding)
        self.removing = list(partition.removing_replicas if change.removing is None else change.removing)
        self.elr = list(partition.elr)
        self.record = PartitionChangeRecord(partition_id=partition.index, topic_id=topic_id)

    def finish(self, default_directory: Callable[[int], bytes]) -> PartitionChangeRecord | None:
        partition, record = self.partition, self.record
        self._complete_reassignment()
        self._populate_elr()
        self._elect()
        self._complete_reassignment()  # whoever was taken in may have been the only one that it waited for
        if record.leader == _NO_LEADER_CHANGE and not set(partition.replicas) <= set(self.replicas):
            record.leader = partition.leader  # replicas that are gone must not fetch in the old epoch
        if record.isr is not None or not self.has_elr:
            self.elr = []
        if self.elr != list(partition.elr):
            record.eligible_leader_replicas = self.elr
        if record.isr is None and (self.isr or self.has_elr) and self.isr != list(partition.isr):
            record.isr = self.isr
        self._note_last_leader()
        self._assign(default_directory)
        if self.change.is_recovered and partition.recovering:
            record.leader_recovery_state = 0
        return None if _is_empty(record) else record

    # ----- reassignment

    def _complete_reassignment(self) -> None:
        """Once all new replicas are in sync, the old ones go."""
        if not (self.adding or self.removing):
            return
        isr = [replica for replica in self.isr if replica not in self.removing]
        replicas = [replica for replica in self.replicas if replica not in self.removing]
        if not isr or not replicas or not set(replicas) <= set(isr):
            return
        self.isr, self.replicas, self.adding, self.removing = isr, replicas, [], []
        self.elr = [replica for replica in self.elr if replica in replicas]

    def _assign(self, default_directory: Callable[[int], bytes]) -> None:
        partition, record = self.partition, self.record
        if self.replicas and self.replicas != list(partition.replicas):
            record.replicas = self.replicas
            record.directories = [
                partition.directory_of(replica) or default_directory(replica) for replica in self.replicas
            ]
        if self.adding != list(partition.adding_replicas):
            record.adding_replicas = self.adding
        if self.removing != list(partition.removing_replicas):
            record.removing_replicas = self.removing

    # ----- eligible leader replicas

    def _populate_elr(self) -> None:
        if not self.has_elr:
            return
        if len(self.isr) >= self.min_insync_replicas:
            self.elr = []
            return
        self.elr = sorted(
            replica
            for replica in {*self.elr, *self.partition.isr}
            if replica not in self.isr and replica not in self.change.without and replica in self.replicas
        )

    def _note_last_leader(self) -> None:
        """When nobody is in sync or eligible any more, the last leader is the one to wait for."""
        if not self.has_elr:
            if self.partition.last_known_elr and self.record.leader >= 0:
                self.record.last_known_elr = []
            return
        partition, record = self.partition, self.record
        if (
            record.isr is not None
            and not record.isr
            and partition.leader != NO_LEADER
            and partition.last_known_elr != (partition.leader,)
        ):
            record.last_known_elr = [partition.leader]
        elif partition.last_known_elr and (
            record.leader >= 0 or (record.leader == _NO_LEADER_CHANGE and partition.leader != NO_LEADER)
        ):
            record.last_known_elr = []

    # ----- election

    def _elect(self) -> None:
        leader, is_unclean = self._choose()
        record = self.record
        if leader == self.partition.leader:
            if leader != NO_LEADER and leader not in self.isr:
                self._take_in(leader)
            return
        record.leader = leader
        if is_unclean:
            record.isr = self.isr = [leader]
            if not self.partition.recovering:
                record.leader_recovery_state = _RECOVERING
        elif leader in self.elr:
            self._take_in(leader)

    def _take_in(self, leader: int) -> None:
        """An eligible replica leads: it is in sync with itself."""
        self.isr = [leader]
        # Where one is enough to commit, the others will lack something soon.
        others = [replica for replica in self.elr if replica != leader]
        self.elr = others if self.min_insync_replicas > 1 else []

    def _choose(self) -> tuple[int, bool]:
        """The leader, and whether it may lack records."""
        leader = self.partition.leader
        if self.change.election is Election.PREFERRED and self._is_valid(self.replicas[0]):
            return self.replicas[0], False
        if self._is_valid(leader):
            return leader, False
        for replica in self.replicas:
            if self._is_valid(replica):
                return replica, False
        if self.has_elr and not self.isr and not self.elr and len(self.partition.last_known_elr) == 1:
            (last,) = self.partition.last_known_elr
            if self.may_lead(last) and last in self.replicas:
                return last, True
        if self.change.election is Election.UNCLEAN:
            for replica in self.replicas:
                if self.may_lead(replica):
                    return replica, True
        return NO_LEADER, False

    def _is_valid(self, replica: int) -> bool:
        return (replica in self.isr or (not self.isr and replica in self.elr)) and self.may_lead(replica)


def _is_empty(record: PartitionChangeRecord) -> bool:
    return (
        record.leader == _NO_LEADER_CHANGE
        and record.leader_recovery_state == _NO_RECOVERY_CHANGE
        and record.isr is None
        and record.replicas is None
        and record.adding_replicas is None
        and record.removing_replicas is None
        and record.directories is None
        and record.eligible_leader_replicas is None
        and record.last_known_elr is None
    )

"""A member of a consumer group as records describe it: never changed, only replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.state import MemberState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "JOINING_EPOCH",
    "LEAVING_EPOCH",
    "NO_PARTITIONS",
    "STATIC_LEAVING_EPOCH",
    "ClassicMetadata",
    "ConsumerMember",
    "with_epoch",
    "without_epochs",
]

JOINING_EPOCH = 0
LEAVING_EPOCH = -1
STATIC_LEAVING_EPOCH = -2

NO_PARTITIONS: Mapping[bytes, Mapping[int, int]] = {}


class ClassicMetadata(NamedTuple):
    """What a member of the classic protocol said in its JoinGroup.

    Attributes:
        session_timeout_ms: Its session timeout.
        protocols: What it supports, the best first: name and metadata.
    """

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class ConsumerMember(NamedTuple):
    """One member.

    Attributes:
        member_id: Its id.
        member_epoch: The epoch of the assignment that it has reached; -2 while a static member is away.
        previous_member_epoch: The one before, which a lost answer may have left it with.
        state: See `state.py`.
        instance_id: Its name over restarts, if it is a static member.
        rack_id: Where it runs.
        rebalance_timeout_ms: How long it may take to give up partitions, -1 if it never said.
        client_id: The client's name for itself.
        client_host: Where it comes from, as Kafka writes it.
        topic_names: The topics that it subscribes to by name.
        topic_regex: The pattern that it subscribes to, "" for none.
        server_assignor: The assignor that it asks for.
        assigned: What it may read: topic id -> partition -> the member epoch in which it was assigned.
        revoking: What it must give up, and still owns.
        classic: What it said as a member of the classic protocol; None if it is none.
    """

    member_id: str
    member_epoch: int = JOINING_EPOCH
    previous_member_epoch: int = -1
    state: MemberState = MemberState.STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    topic_names: frozenset[str] = frozenset()
    topic_regex: str = ""
    server_assignor: str | None = None
    assigned: Mapping[bytes, Mapping[int, int]] = NO_PARTITIONS
    revoking: Mapping[bytes, Mapping[int, int]] = NO_PARTITIONS
    classic: ClassicMetadata | None = None

    @property
    def uses_classic_protocol(self) -> bool:
        """Whether it came by JoinGroup."""
        return self.classic is not None

    def is_reconciled_to(self, epoch: int) -> bool:
        """Whether it has all of the target assignment of this epoch."""
        return self.state is MemberState.STABLE and self.member_epoch == epoch

    def at_epoch(self, epoch: int) -> ConsumerMember:
        """The same in another epoch."""
        return self._replace(member_epoch=epoch, previous_member_epoch=self.member_epoch)


def with_epoch(assignment: Mapping[bytes, frozenset[int]], epoch: int) -> dict[bytes, dict[int, int]]:
    """All partitions, as assigned in `epoch`."""
    return {topic_id: dict.fromkeys(sorted(partitions), epoch) for topic_id, partitions in assignment.items()}


def without_epochs(owned: Mapping[bytes, Mapping[int, int]]) -> dict[bytes, frozenset[int]]:
    """The partitions alone."""
    return {topic_id: frozenset(partitions) for topic_id, partitions in owned.items()}

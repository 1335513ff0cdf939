"""One member's next step towards its target assignment.

A member first gives up what it may not keep, in its old epoch; only when it has said that it did does it go on to the new
one. It gets what is free at once, and what others still own as soon as they have given it up: no partition ever has two
readers, and nobody stops reading what they keep.

    STABLE ── the target is newer ──> must give up something?  yes: UNREVOKED_PARTITIONS, in the old epoch
                                                               no: in the new epoch, with what is free
    UNREVOKED_PARTITIONS ── it has given up all of that ──> as above
    UNRELEASED_PARTITIONS ── something is free now ──> as above; when nothing is missing: STABLE

Source: KIP-848; Kafka's `CurrentAssignmentBuilder`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.member import NO_PARTITIONS, ConsumerMember
from barnabas.coordinators.group.consumer.state import MemberState
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Target", "owns_any", "reconcile"]


class Target(NamedTuple):
    """Where a member is to go.

    Attributes:
        epoch: Of the target assignment.
        assignment: What the member shall have: topic id -> partitions.
        subscribed: The ids of the topics that it subscribes to; of others it gets nothing.
        owner_of: The member that owns a partition now.
    """

    epoch: int
    assignment: Mapping[bytes, frozenset[int]]
    subscribed: frozenset[bytes]
    owner_of: Callable[[bytes, int], str | None]


def reconcile(
    member: ConsumerMember,
    target: Target,
    owned: Mapping[bytes, frozenset[int]] | None,
    *,
    subscription_changed: bool,
) -> ConsumerMember:
    """The member after its next step; the same if it can not go one.

    `owned`: what it says that it owns, None if it says nothing.

    Raises:
        KafkaError: FENCED_MEMBER_EPOCH for a member in a state that only a later version knows.
    """
    state = member.state
    if state is MemberState.STABLE:
        if member.member_epoch != target.epoch:
            return _advance(member, target, owned, member.member_epoch)
        return _unsubscribe(member, target, owned) if subscription_changed else member
    if state is MemberState.UNREVOKED_PARTITIONS:
        if owns_any(owned, member.revoking):
            return _unsubscribe(member, target, owned) if subscription_changed else member
        return _advance(member, target, owned, member.member_epoch)
    if state is MemberState.UNRELEASED_PARTITIONS:
        return _advance(member, target, owned, member.member_epoch)
    if owned is None or owned:
        raise KafkaError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
        )
    return _advance(member, target, owned, target.epoch)


def owns_any(
    owned: Mapping[bytes, frozenset[int]] | None, partitions: Mapping[bytes, Mapping[int, int]]
) -> bool:
    """Whether it says that it owns one of these, or says nothing at all."""
    if owned is None:
        return True
    return any(
        not owned.get(topic_id, frozenset()).isdisjoint(given) for topic_id, given in partitions.items()
    )


def _unsubscribe(
    member: ConsumerMember, target: Target, owned: Mapping[bytes, frozenset[int]] | None
) -> ConsumerMember:
    """Takes topics away that it no longer subscribes to, before a new target says so."""
    gone = {
        topic_id: partitions
        for topic_id, partitions in member.assigned.items()
        if topic_id not in target.subscribed
    }
    if not gone:
        return member
    assigned = {
        topic_id: partitions for topic_id, partitions in member.assigned.items() if topic_id not in gone
    }
    revoking = {topic_id: dict(partitions) for topic_id, partitions in member.revoking.items()}
    for topic_id, partitions in gone.items():
        revoking.setdefault(topic_id, {}).update(partitions)
    after = member.at_epoch(member.member_epoch)._replace(assigned=assigned)
    if owns_any(owned, revoking):
        return after._replace(state=MemberState.UNREVOKED_PARTITIONS, revoking=revoking)
    return after


def _advance(
    member: ConsumerMember, target: Target, owned: Mapping[bytes, frozenset[int]] | None, member_epoch: int
) -> ConsumerMember:
    kept: dict[bytes, dict[int, int]] = {}
    revoking: dict[bytes, dict[int, int]] = {}
    added: dict[bytes, list[int]] = {}
    is_waiting = False
    for topic_id in dict.fromkeys((*target.assignment, *member.assigned)):
        wanted = (
            target.assignment.get(topic_id, frozenset()) if topic_id in target.subscribed else frozenset()
        )
        current = member.assigned.get(topic_id, {})
        keeps = {partition: epoch for partition, epoch in current.items() if partition in wanted}
        drops = {partition: epoch for partition, epoch in current.items() if partition not in wanted}
        free = []
        for partition in sorted(wanted.difference(current)):
            # What it is giving up itself need not be waited for: nobody else can own that.
            if target.owner_of(topic_id, partition) is None or partition in member.revoking.get(topic_id, {}):
                free.append(partition)
            else:
                is_waiting = True
        if keeps:
            kept[topic_id] = keeps
        if drops:
            revoking[topic_id] = drops
        if free:
            added[topic_id] = free
    if revoking and owns_any(owned, revoking):
        return member._replace(
            state=MemberState.UNREVOKED_PARTITIONS,
            member_epoch=member_epoch,
            previous_member_epoch=member.member_epoch,
            assigned=kept,
            revoking=revoking,
        )
    for topic_id, partitions in added.items():
        kept.setdefault(topic_id, {}).update(dict.fromkeys(partitions, target.epoch))
    return member._replace(
        state=MemberState.UNRELEASED_PARTITIONS if is_waiting else MemberState.STABLE,
        member_epoch=target.epoch,
        previous_member_epoch=member.member_epoch,
        assigned=kept,
        revoking=NO_PARTITIONS,
    )

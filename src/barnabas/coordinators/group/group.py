"""A classic consumer group: its members, votes, generation and deadlines.

Only what must hold together is here; what requests do to it stands in the file of their name.

Invariants:
    - A group with members has exactly one leader, and it is one of them.
    - The generation only grows while a coordinator lives.
    - `awaiting_join_count` is the number of members whose JoinGroup is parked.
    - `protocol_votes[name]` is the number of members that support `name`.
    - A static member is in `members` under the id that `static_members` says.
    - A pending member is never a member.

Source: KIP-62, KIP-345 (static members), KIP-394 (member ids before joining), KIP-814; Kafka's `ClassicGroup`.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.state import GroupState, can_follow
from barnabas.coordinators.group.subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.coordinators.group.member import Member, Protocols
    from barnabas.wire.messages.sync_group import SyncGroupRequest

__all__ = ["NEVER", "ClassicGroup", "PendingMember"]

logger = logging.getLogger(__name__)

NEVER = math.inf

_ON_THE_WAY_MS = 500
"""Who was given an id and does not come back with it within this time is not expected any more."""


class PendingMember(NamedTuple):
    """Who was given an id: when, and until when it may join with it (monotonic ms)."""

    given_ms: float
    deadline_ms: float


class ClassicGroup:
    """A group whose members decide the assignment among themselves.

    Attributes:
        group_id: Its name.
        state: See `state.py`.
        previous_state: The one before.
        state_timestamp_ms: Wall-clock time of the last change of state, None if the record that it was loaded from had none.
        protocol_type: "consumer", "connect", ...; None for a group that only holds offsets.
        protocol_name: The protocol that was voted for in this generation.
        generation_id: The generation; 0 before the first.
        leader_id: The member that assigns.
        members: By member id, in the order of joining.
        static_members: Member id by group instance id.
        pending_members: Members that were given an id and have not joined with it, in the order of the ids.
        pending_sync: Members of this generation that have not sent SyncGroup.
        protocol_votes: How many members support a protocol.
        awaiting_join_count: How many members' JoinGroups are parked.
        subscribed_topics: The topics that the members of this generation subscribe to, None if that can not be known.
        new_member_added: A member joined while an empty group waits for more.
        join_deadline_ms: When a rebalance goes on without those who have not rejoined, `NEVER` if none is under way.
        initial_delay_ms: The present round of waiting for more members of an empty group, None outside of one.
        initial_remaining_ms: How much longer such rounds may go on.
        gathers_until_ms: Until when, at most, an empty group waits for those who are on their way; None if it does not.
        sync_deadline_ms: When members that have not sent SyncGroup are removed.
        held_sync: The leader's SyncGroup, while somebody is on the way who will rebalance the group again; until `held_until_ms`.
        wanted_ms: No deadline of this group comes earlier than this. The shard asks for a precise one when it is reached.
        armed_ms: The time for which the shard has a timer.
        is_persisted: Whether the log has a record of this group.
    """

    __slots__ = (
        "armed_ms",
        "awaiting_join_count",
        "gathers_until_ms",
        "generation_id",
        "group_id",
        "held_sync",
        "held_until_ms",
        "initial_delay_ms",
        "initial_remaining_ms",
        "is_persisted",
        "join_deadline_ms",
        "leader_id",
        "members",
        "new_member_added",
        "pending_members",
        "pending_sync",
        "previous_state",
        "protocol_name",
        "protocol_type",
        "protocol_votes",
        "state",
        "state_timestamp_ms",
        "static_members",
        "subscribed_topics",
        "sync_deadline_ms",
        "wanted_ms",
    )

    def __init__(
        self,
        group_id: str,
        *,
        state: GroupState = GroupState.EMPTY,
        state_timestamp_ms: int | None,
        generation_id: int = 0,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
        leader_id: str | None = None,
    ) -> None:
        self.group_id = group_id
        self.state = state
        self.previous_state = GroupState.DEAD
        self.state_timestamp_ms = state_timestamp_ms
        self.protocol_type = protocol_type
        self.protocol_name = protocol_name
        self.generation_id = generation_id
        self.leader_id = leader_id
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self.pending_members: dict[str, PendingMember] = {}
        self.pending_sync: set[str] = set()
        self.protocol_votes: dict[str, int] = {}
        self.awaiting_join_count = 0
        self.new_member_added = False
        self.join_deadline_ms = NEVER
        self.initial_delay_ms: float | None = None
        self.initial_remaining_ms = 0.0
        self.gathers_until_ms: float | None = None
        self.sync_deadline_ms = NEVER
        self.held_sync: SyncGroupRequest | None = None
        self.held_until_ms = NEVER
        self.wanted_ms = NEVER
        self.armed_ms = NEVER
        self.is_persisted = False
        self.subscribed_topics: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"<ClassicGroup {self.group_id} {self.state.value} generation={self.generation_id} members={len(self.members)}>"

    # ----- state

    def transition_to(self, state: GroupState, now_ms: int) -> None:
        """Goes to another state; AssertionError if the present one may not be left for it."""
        assert can_follow(state, self.state), f"{self.group_id}: {self.state} -> {state}"
        self.previous_state = self.state
        self.state = state
        self.state_timestamp_ms = now_ms

    @property
    def can_rebalance(self) -> bool:
        """Whether a rebalance may begin: not while one waits for members already."""
        return can_follow(GroupState.PREPARING_REBALANCE, self.state)

    @property
    def uses_consumer_protocol(self) -> bool:
        """Whether its members are ordinary consumers, whose subscriptions can be read."""
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    # ----- deadlines

    def wake_at(self, deadline_ms: float) -> None:
        """Makes sure that the group is looked at when `deadline_ms` is reached, at the latest."""
        self.wanted_ms = min(self.wanted_ms, deadline_ms)

    def touch(self, member: Member, now_ms: float) -> None:
        """A sign of life: the member's session starts anew. The deadline only moves back, so no timer needs to know."""
        member.deadline_ms = now_ms + member.session_timeout_ms

    def start_session(self, member: Member, now_ms: float, timeout_ms: float) -> None:
        """Sets the deadline of a member whose session may end earlier than any other deadline of the group."""
        member.deadline_ms = deadline_ms = now_ms + timeout_ms
        self.wanted_ms = min(self.wanted_ms, deadline_ms)

    def next_deadline_ms(self) -> float:
        """The earliest deadline, `NEVER` if there is none. Looks at every member."""
        deadline_ms = min(self.join_deadline_ms, self.sync_deadline_ms, self.held_until_ms)
        for pending in self.pending_members.values():
            deadline_ms = min(deadline_ms, pending.deadline_ms)
        for member in self.members.values():
            if member.deadline_ms < deadline_ms and member.may_expire:
                deadline_ms = member.deadline_ms
        return deadline_ms

    # ----- members

    def add(self, member: Member) -> None:
        """Takes in a member that supports a protocol of the group."""
        if not self.members:
            self.protocol_type = member.protocol_type
        assert member.protocol_type == self.protocol_type
        assert member.member_id not in self.members
        if member.group_instance_id is not None:
            assert member.group_instance_id not in self.static_members
            self.static_members[member.group_instance_id] = member.member_id
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        self._count_votes(member.protocols, 1)
        if member.join_waiter is not None:
            self.awaiting_join_count += 1
        self.pending_members.pop(member.member_id, None)

    def remove(self, member_id: str) -> None:
        """Forgets a member or pending member, whose parked requests must be answered before; elects a leader if it was it."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count_votes(member.protocols, -1)
            if member.join_waiter is not None:
                self.awaiting_join_count -= 1
            if member.group_instance_id is not None:
                self.static_members.pop(member.group_instance_id, None)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_members.pop(member_id, None)
        self.pending_sync.discard(member_id)

    def rename_static(self, member: Member, new_member_id: str) -> None:
        """Gives a static member that came back its new id; it keeps its place, its leadership and its assignment."""
        assert member.group_instance_id is not None
        old_member_id = member.member_id
        member.member_id = new_member_id
        # The order of members must not change: it decides who is the next leader, and what exporters see.
        self.members = {
            (new_member_id if member_id == old_member_id else member_id): each
            for member_id, each in self.members.items()
        }
        self.static_members[member.group_instance_id] = new_member_id
        if old_member_id in self.pending_sync:
            self.pending_sync.remove(old_member_id)
            self.pending_sync.add(new_member_id)
        if self.leader_id == old_member_id:
            self.leader_id = new_member_id

    def update(
        self, member: Member, *, protocols: Protocols, rebalance_timeout_ms: int, session_timeout_ms: int
    ) -> None:
        """Takes over what a member says in a new JoinGroup."""
        self._count_votes(member.protocols, -1)
        member.protocols = protocols
        self._count_votes(protocols, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def park_join(self, member: Member, waiter: object) -> object | None:
        """Parks the member's JoinGroup; gives the waiter of an earlier one that it replaces."""
        earlier: object | None = member.join_waiter
        if earlier is None:
            self.awaiting_join_count += 1
        member.join_waiter = waiter
        return earlier

    def release_join(self, member: Member) -> None:
        """The member's JoinGroup is answered."""
        if member.join_waiter is not None:
            member.join_waiter = None
            self.awaiting_join_count -= 1

    def check_member(self, member_id: str, group_instance_id: str | None, operation: str) -> Member:
        """The member that sent a request.

        Raises:
            KafkaError: UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID if another process took the static member's place.
        """
        if group_instance_id is not None:
            current_id = self.static_members.get(group_instance_id)
            if current_id is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if current_id != member_id:
                logger.info(
                    "static member is fenced group=%s instance=%s member=%s by=%s operation=%s",
                    self.group_id,
                    group_instance_id,
                    member_id,
                    current_id,
                    operation,
                )
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    @property
    def expected_until_ms(self) -> float:
        """Until when somebody who was given an id is expected to join at any moment; a time gone by if nobody is."""
        newest = next(reversed(self.pending_members.values()), None)
        return -NEVER if newest is None else newest.given_ms + _ON_THE_WAY_MS

    def drop_held_sync(self) -> None:
        """The leader's assignment is written, or of no use any more."""
        self.held_sync = None
        self.held_until_ms = NEVER

    @property
    def all_joined(self) -> bool:
        """Whether a rebalance need not wait for anyone."""
        return len(self.members) == self.awaiting_join_count and not self.pending_members

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that any member allows."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def elect_joined_leader(self) -> bool:
        """Makes sure that the leader is a member that has rejoined; False if there is none."""
        if self.leader_id is None:
            return False
        leader = self.members[self.leader_id]
        if leader.join_waiter is not None:
            return True
        for member in self.members.values():
            if member.join_waiter is not None:
                logger.info(
                    "leader did not rejoin in time, another is elected group=%s leader=%s elected=%s client=%s",
                    self.group_id,
                    leader.member_id,
                    member.member_id,
                    member.client_id,
                )
                self.leader_id = member.member_id
                return True
        return False

    # ----- protocols

    def _count_votes(self, protocols: Protocols, change: int) -> None:
        votes = self.protocol_votes
        for name in {name for name, _ in protocols}:
            count = votes.get(name, 0) + change
            if count:
                votes[name] = count
            else:
                del votes[name]

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member with these protocols may join: one of them must be supported by all members."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        count = len(self.members)
        votes = self.protocol_votes
        return any(votes.get(name, 0) == count for name, _ in protocols)

    def select_protocol(self) -> str:
        """The protocol that most members like best among those that all support."""
        count = len(self.members)
        assert count, "an empty group has no protocol"
        candidates = {name for name, votes in self.protocol_votes.items() if votes == count}
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = member.vote(candidates)
            assert choice is not None, f"{self.group_id}: no protocol that all members support"
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    # ----- generations

    def next_generation(self, now_ms: int) -> None:
        """Begins the next generation with the members that are left."""
        self.generation_id += 1
        if self.members:
            self.protocol_name = self.select_protocol()
            self.transition_to(GroupState.COMPLETING_REBALANCE, now_ms)
        else:
            self.protocol_name = None
            self.transition_to(GroupState.EMPTY, now_ms)
        self.pending_sync.clear()
        self.note_subscriptions()

    # ----- subscriptions

    def note_subscriptions(self) -> None:
        """What the members subscribe to now holds until the next generation, whoever joins meanwhile."""
        self.subscribed_topics = self._find_subscribed_topics()

    def _find_subscribed_topics(self) -> frozenset[str] | None:
        if not self.uses_consumer_protocol:
            return None
        if not self.members:
            return frozenset()
        if self.protocol_name is None:
            return None
        return subscribed_topics(self._metadata())

    def _metadata(self) -> Iterable[bytes]:
        for member in self.members.values():
            metadata = member.metadata(self.protocol_name)
            if metadata is not None:
                yield metadata

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether offsets of `topic` are in use. Consumers whose subscriptions can not be read may use any topic."""
        topics = self.subscribed_topics
        return self.uses_consumer_protocol if topics is None else topic in topics

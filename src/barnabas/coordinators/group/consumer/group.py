"""A consumer group: members, epochs, the target assignment, and who owns which partition.

Invariants:
    - Epochs only grow: a member's is never ahead of the target assignment's, and that never ahead of the group's.
    - A partition belongs to one member at most, from the moment that it is assigned until it is known to be given up.
    - Everything but the deadlines follows from the records of the log, in their order.

Source: KIP-848; Kafka's `ModernGroup` and `ConsumerGroup`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.group.consumer.member import LEAVING_EPOCH, NO_PARTITIONS, ConsumerMember
from barnabas.coordinators.group.consumer.state import ConsumerGroupState, MemberState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ConsumerGroup", "ResolvedExpression"]

NEVER = math.inf
_FIRST_EPOCH = 1


class ResolvedExpression(NamedTuple):
    """The topics that a pattern matched.

    Attributes:
        topics: Their names.
        version: The version of the image that was searched.
        timestamp_ms: When, in wall-clock time.
    """

    topics: frozenset[str]
    version: int
    timestamp_ms: int


class ConsumerGroup:
    """A group whose assignment the broker computes.

    Attributes:
        group_id: Its name.
        group_epoch: Goes up whenever the assignment may have to change.
        metadata_hash: What the subscribed topics looked like in that epoch.
        assignment_epoch: The group epoch that the target assignment was computed for.
        assignment_timestamp_ms: When that was, 0 if it is not known.
        members: By member id, in the order of joining.
        targets: The target assignment: member id -> topic id -> partitions.
        static_members: Member id by group instance id.
        expressions: What the patterns of its members matched.
        has_partition_metadata: The log has a record of a kind that Kafka 4.1 gave up, to be removed.
        classic_count: How many members use the classic protocol.

        is_resolving: Patterns are being matched just now.
        sessions: Member id -> when its session ends (monotonic ms).
        expected: Member id -> when its next heartbeat is due, as far as it was told.
        revocations: Member id -> until when it must have given up partitions, and the epoch that it must leave.
        joins: Members of the classic protocol that were told to rejoin: until when.
        syncs: Members of the classic protocol that have joined: until when they must fetch their assignment.
        wanted_ms: No deadline of this group comes earlier than this.
        armed_ms: The time for which the shard has a timer.
    """

    __slots__ = (
        "_assignor_counts",
        "_classic_protocol_counts",
        "_expression_counts",
        "_name_counts",
        "_owners",
        "_refresh_epoch",
        "_refresh_ms",
        "_regex_name_counts",
        "_state",
        "armed_ms",
        "assignment_epoch",
        "assignment_timestamp_ms",
        "classic_count",
        "expected",
        "expressions",
        "group_epoch",
        "group_id",
        "has_partition_metadata",
        "is_resolving",
        "joins",
        "members",
        "metadata_hash",
        "revocations",
        "sessions",
        "static_members",
        "syncs",
        "targets",
        "wanted_ms",
    )

    protocol_type = "consumer"

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.group_epoch = _FIRST_EPOCH
        self.metadata_hash = 0
        self.assignment_epoch = _FIRST_EPOCH
        self.assignment_timestamp_ms = 0
        self.members: dict[str, ConsumerMember] = {}
        self.targets: dict[str, Mapping[bytes, frozenset[int]]] = {}
        self.static_members: dict[str, str] = {}
        self.expressions: dict[str, ResolvedExpression] = {}
        self.has_partition_metadata = False
        self.classic_count = 0
        self._owners: dict[bytes, dict[int, str]] = {}
        self._name_counts: Counter[str] = Counter()
        self._regex_name_counts: Counter[str] = Counter()
        self._expression_counts: Counter[str] = Counter()
        self._assignor_counts: Counter[str] = Counter()
        self._classic_protocol_counts: Counter[str] = Counter()
        self._state: ConsumerGroupState | None = None

        self._refresh_ms = -NEVER
        self._refresh_epoch = 0
        self.is_resolving = False
        self.sessions: dict[str, float] = {}
        self.expected: dict[str, float] = {}
        self.revocations: dict[str, tuple[float, int]] = {}
        self.joins: dict[str, float] = {}
        self.syncs: dict[str, float] = {}
        self.wanted_ms = NEVER
        self.armed_ms = NEVER

    def __repr__(self) -> str:
        return f"<ConsumerGroup {self.group_id} {self.state.value} epoch={self.group_epoch} members={len(self.members)}>"

    # ----- state

    @property
    def state(self) -> ConsumerGroupState:
        """See `state.py`."""
        if self._state is None:
            self._state = self._find_state()
        return self._state

    def _find_state(self) -> ConsumerGroupState:
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.group_epoch > self.assignment_epoch:
            return ConsumerGroupState.ASSIGNING
        epoch = self.assignment_epoch
        if all(member.is_reconciled_to(epoch) for member in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def set_epoch(self, epoch: int, metadata_hash: int) -> None:
        """The group epoch was bumped."""
        self.group_epoch = epoch
        self.metadata_hash = metadata_hash
        self._state = None

    def set_assignment_epoch(self, epoch: int, timestamp_ms: int) -> None:
        """A target assignment was computed."""
        self.assignment_epoch = epoch
        self.assignment_timestamp_ms = timestamp_ms
        self._state = None

    # ----- members

    def put(self, member: ConsumerMember) -> None:
        """Adds a member, or puts it in the place of the one with its id."""
        earlier = self.members.get(member.member_id)
        if earlier is not None:
            self._count(earlier, -1)
            self._disown(earlier)
        self.members[member.member_id] = member
        self._count(member, 1)
        for owned in (member.assigned, member.revoking):
            for topic_id, partitions in owned.items():
                owners = self._owners.setdefault(topic_id, {})
                for partition in partitions:
                    owners[partition] = member.member_id
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        self._state = None

    def remove(self, member_id: str) -> None:
        """Forgets a member and its deadlines."""
        member = self.members.pop(member_id, None)
        for deadlines in (self.sessions, self.expected, self.revocations, self.joins, self.syncs):
            deadlines.pop(member_id, None)
        if member is None:
            return
        self._count(member, -1)
        self._disown(member)
        if member.instance_id is not None and self.static_members.get(member.instance_id) == member_id:
            del self.static_members[member.instance_id]
        self._state = None

    def dispossess(self, member_id: str) -> None:
        """The member's current assignment was removed: it is about to go."""
        member = self.members.get(member_id)
        if member is not None:
            self.put(
                member._replace(
                    member_epoch=LEAVING_EPOCH,
                    previous_member_epoch=LEAVING_EPOCH,
                    assigned=NO_PARTITIONS,
                    revoking=NO_PARTITIONS,
                )
            )

    def _disown(self, member: ConsumerMember) -> None:
        for owned in (member.assigned, member.revoking):
            for topic_id, partitions in owned.items():
                owners = self._owners.get(topic_id)
                if owners is None:
                    continue
                for partition in partitions:
                    if owners.get(partition) == member.member_id:
                        del owners[partition]
                if not owners:
                    del self._owners[topic_id]

    def _count(self, member: ConsumerMember, change: int) -> None:
        for name in member.topic_names:
            _add(self._name_counts, name, change)
        if member.topic_regex:
            _add(self._expression_counts, member.topic_regex, change)
        if member.server_assignor is not None:
            _add(self._assignor_counts, member.server_assignor, change)
        if member.classic is not None:
            self.classic_count += change
            for name, _ in member.classic.protocols:
                _add(self._classic_protocol_counts, name, change)

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        """The member that has this instance id."""
        if instance_id is None:
            return None
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def owner_of(self, topic_id: bytes, partition: int) -> str | None:
        """The member that reads a partition, or has not said yet that it stopped."""
        owners = self._owners.get(topic_id)
        return None if owners is None else owners.get(partition)

    # ----- the target assignment

    def target_of(self, member_id: str) -> Mapping[bytes, frozenset[int]]:
        """What a member shall have."""
        return self.targets.get(member_id, {})

    def is_waiting_for_others(self, member: ConsumerMember) -> bool:
        """Whether partitions that it shall have are still with other members."""
        if member.state is not MemberState.UNRELEASED_PARTITIONS:
            return False
        return any(
            partition not in member.assigned.get(topic_id, {})
            and self.owner_of(topic_id, partition) is not None
            for topic_id, partitions in self.target_of(member.member_id).items()
            for partition in partitions
        )

    # ----- subscriptions

    def put_expression(self, regex: str, resolved: ResolvedExpression) -> None:
        """What a pattern matches now."""
        self.remove_expression(regex)
        self.expressions[regex] = resolved
        for name in resolved.topics:
            _add(self._regex_name_counts, name, 1)

    def remove_expression(self, regex: str) -> None:
        """Nobody subscribes to the pattern any more."""
        earlier = self.expressions.pop(regex, None)
        if earlier is not None:
            for name in earlier.topics:
                _add(self._regex_name_counts, name, -1)

    @property
    def expression_counts(self) -> Mapping[str, int]:
        """How many members subscribe to a pattern."""
        return self._expression_counts

    def subscribed_topics(self) -> set[str]:
        """The topics that some member subscribes to, by name or by pattern."""
        return {*self._name_counts, *self._regex_name_counts}

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether some member reads the topic."""
        return topic in self._name_counts or topic in self._regex_name_counts

    def subscribed_topics_after(
        self,
        *,
        removed: Iterable[ConsumerMember] = (),
        added: Iterable[ConsumerMember] = (),
        expressions: Mapping[str, ResolvedExpression | None] | None = None,
    ) -> set[str]:
        """As `subscribed_topics`, once members have gone and come and patterns are resolved anew, or dropped (None)."""
        names = Counter(self._name_counts)
        regex_names = Counter(self._regex_name_counts)
        for member in removed:
            names.subtract(member.topic_names)
        for member in added:
            names.update(member.topic_names)
        for regex, resolved in (expressions or {}).items():
            earlier = self.expressions.get(regex)
            if earlier is not None:
                regex_names.subtract(earlier.topics)
            if resolved is not None:
                regex_names.update(resolved.topics)
        return {*(+names), *(+regex_names)}

    def preferred_assignor(
        self, before: ConsumerMember | None = None, after: ConsumerMember | None = None
    ) -> str | None:
        """The assignor that most members ask for, once `after` has taken the place of `before`."""
        counts = Counter(self._assignor_counts)
        if before is not None and before.server_assignor is not None:
            counts[before.server_assignor] -= 1
        if after is not None and after.server_assignor is not None:
            counts[after.server_assignor] += 1
        wanted = +counts
        return max(wanted, key=wanted.__getitem__) if wanted else None

    # ----- members of the classic protocol

    def supports_classic(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a member with these protocols may join: one of them must be supported by all of its kind."""
        if protocol_type != self.protocol_type:
            return False
        if not self.members:
            return any(True for _ in protocols)
        counts = self._classic_protocol_counts
        return any(counts.get(name, 0) == self.classic_count for name in protocols)

    # ----- metadata

    def set_refresh(self, deadline_ms: float) -> None:
        """The subscribed topics were looked at in the present epoch; they need not be until `deadline_ms`."""
        self._refresh_ms = deadline_ms
        self._refresh_epoch = self.group_epoch

    def request_refresh(self) -> None:
        """Some subscribed topic changed: the next heartbeat looks at them."""
        self._refresh_ms = -NEVER
        self._refresh_epoch = 0

    def needs_refresh(self, now_ms: float) -> bool:
        """Whether the subscribed topics have to be looked at."""
        return now_ms >= self._refresh_ms or self.group_epoch < self._refresh_epoch

    # ----- deadlines

    def wake_at(self, deadline_ms: float) -> None:
        """Makes sure that the group is looked at when `deadline_ms` is reached, at the latest."""
        self.wanted_ms = min(self.wanted_ms, deadline_ms)

    def start_session(self, member_id: str, deadline_ms: float) -> None:
        """Sets the end of a member's session."""
        self.sessions[member_id] = deadline_ms
        self.wanted_ms = min(self.wanted_ms, deadline_ms)

    def next_deadline_ms(self) -> float:
        """The earliest deadline, infinity if there is none. Looks at every member."""
        return min(
            min(self.sessions.values(), default=NEVER),
            min((deadline_ms for deadline_ms, _ in self.revocations.values()), default=NEVER),
            min(self.joins.values(), default=NEVER),
            min(self.syncs.values(), default=NEVER),
        )


def _add(counts: Counter[str], name: str, change: int) -> None:
    counts[name] += change
    if counts[name] <= 0:
        del counts[name]

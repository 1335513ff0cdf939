"""Groups of KIP-848 beside Apache Kafka 4.3: the same random heartbeats, and every field of every answer is the same.

Members of both protocols come, go, lie about epochs and partitions, and commit; topics come and go below them. The assignor is
`range`, whose outcome does not depend on the order of a hash map; targets are computed at once
(`consumer.assignment.interval.ms=0`).
"""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
)

from barnabas.errors import ErrorCode
from barnabas.wire.messages.client.consumer_protocol_assignment import ConsumerProtocolAssignment
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription
from barnabas.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from barnabas.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.join_group import JoinGroupRequest
from barnabas.wire.messages.leave_group import LeaveGroupRequest
from barnabas.wire.messages.list_groups import ListGroupsRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.sync_group import SyncGroupRequest
from tests.oracle.building import build
from tests.oracle.machine_runs import DEADLINE_S, run_machine
from tests.oracle.resolved_patterns import ResolvedPatterns
from tests.oracle.test_random_steps import STEPS, two_brokers
from tests.oracle.two_brokers import Member

__all__ = ["two_brokers"]

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(DEADLINE_S)]

GROUP = 32
REFRESH_MS = 10_000
"""No sooner than this after the last time are patterns matched."""
_MARGIN_MS = 300
_MATCHED_WITHIN_S = 30
NUMBERS = st.integers(0, 4)
TOPICS = st.integers(0, 2)
SUBSCRIPTIONS = st.lists(TOPICS, max_size=3, unique=True)
PATTERNS = [
    "",
    "{prefix}.*",
    "{prefix}t[01]",
    "{prefix}t2|{prefix}t0",
    "none",
    "{prefix}(",
    "(?=x)",
    "{prefix}t{{2,1}}",
]
EPOCHS = st.sampled_from([0, 0, 0, 0, 1, -1, 5, -2, -3])


class Side:
    """One of five clients: what it believes of itself, which is the same with both brokers."""

    def __init__(self, prefix, number):
        self.id = f"{prefix}m{number}"
        self.instance = f"i{number}" if number in (3, 4) else None
        self.epoch = 0
        self.owned = {}
        self.is_in = False


class ConsumerGroups(RuleBasedStateMachine):
    """Five clients of the new protocol and three of the classic one, in one group."""

    def __init__(self):
        super().__init__()
        self.both = type(self).brokers.conversation()
        self.prefix = self.both.prefix
        self.group = f"{self.prefix}g"
        self.names = [f"{self.prefix}t{number}" for number in range(3)]
        self.alive = set()
        self.created_ms = 0
        self.has_patterns = False
        self.resolved = []
        self.sides = [Side(self.prefix, number) for number in range(5)]
        self.classic = [Member(self.both, number) for number in range(3)]
        for member in self.classic:
            member.asked_as = None
        self.both.members += self.classic

    def teardown(self):
        type(self).brokers.answers += self.both.count
        self.both.close()

    @initialize(counts=st.tuples(st.integers(1, 6), st.integers(1, 4), st.booleans()))
    def start(self, counts):
        """Two topics, and settings of the group's own."""
        wanted = [(0, counts[0]), (1, counts[1])] + ([(2, 3)] if counts[2] else [])
        for number, count in wanted:
            self._create(number, count)
        setting = {"name": "consumer.assignment.interval.ms", "config_operation": 0, "value": "0"}
        resource = {"resource_type": GROUP, "resource_name": self.group, "configs": [setting]}
        self.both.agree(lambda _: build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
        for side in self.both.sides:
            side.client.call(FindCoordinatorRequest(key=self.group), 2)
        self.both.barrier()
        self.resolved = [ResolvedPatterns(side.client, self.group) for side in self.both.sides]

    # ----- topics

    def _create(self, number, count):
        topic = {"name": self.names[number], "num_partitions": count, "replication_factor": 1}
        self.both.agree(lambda _: build(CreateTopicsRequest, topics=[topic], timeout_ms=10_000), 5)
        self.both.barrier()
        self.alive.add(number)
        self.created_ms = time.time() * 1000
        for side in self.both.sides:
            side.learn_topic_ids([self.names[number]])

    @rule(number=TOPICS, count=st.integers(1, 4))
    def create_topic(self, number, count):
        if number not in self.alive:
            self._create(number, count)

    @rule(number=TOPICS, count=st.integers(5, 8))
    def more_partitions(self, number, count):
        topic = {"name": self.names[number], "count": count, "assignments": None}
        self.both.agree(lambda _: build(CreatePartitionsRequest, topics=[topic], timeout_ms=10_000), 3)
        self.both.barrier()

    @rule(number=TOPICS)
    def delete_topic(self, number):
        if number in self.alive:
            names = [self.names[number]]
            self.both.agree(lambda _: build(DeleteTopicsRequest, topic_names=names, timeout_ms=10_000), 5)
            self.both.barrier()
            self.alive.discard(number)

    # ----- members of the consumer protocol

    def beat(self, member, version=1, owned=None, **fields):
        """One heartbeat to both; what it brings is believed."""
        if fields.get("subscribed_topic_regex"):
            self.has_patterns = True
        if self.has_patterns and fields["member_epoch"] >= 0:
            return self.with_patterns(lambda: self._beat(member, version, owned, **fields))
        return self._beat(member, version, owned, **fields)

    def _beat(self, member, version, owned, **fields):
        answers = self.both.agree(
            lambda side: build(
                ConsumerGroupHeartbeatRequest,
                group_id=self.group,
                member_id=member.id,
                instance_id=member.instance,
                topic_partitions=None
                if owned is None
                else [
                    {"topic_id": side.topic_id(name), "partitions": partitions}
                    for name, partitions in owned.items()
                ],
                **fields,
            ),
            version,
        )
        if answers is None:
            return None
        ours = answers[1]
        if ours.error_code == ErrorCode.NONE:
            member.epoch = ours.member_epoch
            member.is_in = ours.member_epoch > 0
            if ours.assignment is not None:
                by_id = {topic_id: name for name, topic_id in self.both.sides[1].topic_ids.items()}
                member.owned = {
                    by_id[bytes(topic.topic_id)]: list(topic.partitions)
                    for topic in ours.assignment.topic_partitions
                }
        return ours

    @rule(
        number=NUMBERS,
        topics=SUBSCRIPTIONS,
        version=st.sampled_from([1, 1, 0]),
        assignor=st.sampled_from(["range", "range", "range", "range", "sticky"]),
        timeout_ms=st.sampled_from([60_000, 60_000, -1]),
        rack=st.sampled_from([None, None, "r1", ""]),
    )
    def join(self, number, topics, version, assignor, timeout_ms, rack):
        """Not by an instance that has joined already and waits: Kafka refuses that, and sends the waiting away all the same."""
        if self.sides[number].instance in [member.asked_as for member in self.classic if member.is_parked]:
            return
        if not topics and not self._catch_up():
            return
        self.beat(
            self.sides[number],
            version,
            owned={},
            member_epoch=0,
            rebalance_timeout_ms=timeout_ms,
            subscribed_topic_names=[self.names[index] for index in topics],
            server_assignor=assignor,
            rack_id=rack,
        )

    @rule(number=NUMBERS, pattern=st.sampled_from(PATTERNS))
    def join_with_a_pattern(self, number, pattern):
        """Not while the target is behind: Kafka then takes all for subscribed to the same, until the pattern is matched."""
        if any(member.is_parked for member in self.classic) or not self._catch_up():
            return
        self.beat(
            self.sides[number],
            owned={},
            member_epoch=0,
            rebalance_timeout_ms=60_000,
            subscribed_topic_regex=pattern.format(prefix=self.prefix),
            server_assignor="range",
        )

    def _catch_up(self):
        """Has somebody beat, so that the target is computed; says whether there is one for the group's epoch."""
        asked = ConsumerGroupDescribeRequest(group_ids=[self.group])
        for member in [None, *self.sides]:
            if member is not None:
                if not member.is_in:
                    continue
                self.beat(member, member_epoch=member.epoch)
            group = self.both.sides[1].client.call(asked, 1).groups[0]
            if group.error_code or group.group_epoch == group.assignment_epoch:
                return True
        return False

    def patterns(self):
        """What members subscribe to."""
        asked = ConsumerGroupDescribeRequest(group_ids=[self.group])
        group = self.both.sides[1].client.call(asked, 1).groups[0]
        return {member.subscribed_topic_regex for member in group.members} - {"", None}

    def with_patterns(self, ask):
        """Asks for what may have patterns matched, and waits for that.

        They are matched a moment later, and nobody is told. With both brokers that is due at the same times: as long as nothing
        is matched, or when ten seconds have passed and there are new topics or patterns.
        """
        before = self.patterns()
        for side in self.resolved:
            side.read()
        matched = [max(side.matched_ms.values(), default=0) for side in self.resolved]
        rounds = [side.rounds for side in self.resolved]
        now_ms = time.time() * 1000
        if any(matched) and now_ms > min(matched) + REFRESH_MS - _MARGIN_MS:
            # When exactly is each broker's own.
            time.sleep(max(0, max(matched) + REFRESH_MS + _MARGIN_MS - now_ms) / 1000)
        is_free = not any(matched) or time.time() * 1000 > max(matched) + REFRESH_MS
        answer = ask()
        is_good = answer is not None and answer.error_code == ErrorCode.NONE
        wanted = self.patterns()
        is_new = wanted - before or len(wanted) != len(self.resolved[1].matched_ms)
        if is_good and wanted and is_free and (is_new or self.created_ms > min(matched)):
            end = time.monotonic() + _MATCHED_WITHIN_S
            while any(side.rounds == count for side, count in zip(self.resolved, rounds, strict=True)):
                counts = [side.rounds - count for side, count in zip(self.resolved, rounds, strict=True)]
                assert time.monotonic() < end, f"{wanted} should be matched by both: {counts}"
                time.sleep(0.01)
                for side in self.resolved:
                    side.read()
        return answer

    @rule(number=NUMBERS, tells=st.sampled_from(["nothing", "all", "all", "all", "none", "more"]))
    def heartbeat(self, number, tells):
        member = self.sides[number]
        owned = {
            "nothing": None,
            "all": member.owned,
            "none": {},
            "more": member.owned | {self.names[0]: [0, 1, 99]},
        }[tells]
        self.beat(member, owned=owned, member_epoch=member.epoch)

    @rule()
    def everyone_beats(self):
        """The ordinary course of things, so that groups settle now and then."""
        for member in self.sides:
            if member.is_in:
                for _ in range(2):
                    self.beat(member, owned=member.owned, member_epoch=member.epoch)

    @rule(number=NUMBERS, topics=SUBSCRIPTIONS, tells=st.booleans())
    def subscribe(self, number, topics, tells):
        member = self.sides[number]
        self.beat(
            member,
            owned=member.owned if tells else None,
            member_epoch=member.epoch,
            subscribed_topic_names=[self.names[index] for index in topics],
        )

    @rule(number=NUMBERS, difference=st.sampled_from([-2, -1, 1, 7]), tells=st.booleans())
    def beat_in_a_foreign_epoch(self, number, difference, tells):
        member = self.sides[number]
        if member.epoch + difference > 0:
            self.beat(member, owned=member.owned if tells else None, member_epoch=member.epoch + difference)

    @rule(
        version=st.integers(0, 1),
        fields=st.sampled_from(
            [
                {"member_epoch": -3},
                {"member_epoch": -2, "instance_id": None},
                {"member_epoch": 0},
                {"member_epoch": 0, "rebalance_timeout_ms": 1},
                {"member_epoch": 3, "member_id": " "},
                {"member_epoch": -1, "member_id": ""},
                {"group_id": ""},
                {"instance_id": ""},
                {"rack_id": "  "},
                {"member_epoch": 1, "group_id": "no such group"},
                {"member_epoch": -1, "group_id": "no such group"},
                {"member_epoch": -2, "instance_id": "nobody"},
                {"member_epoch": 5, "instance_id": "nobody"},
                {"member_epoch": 5, "instance_id": "i3"},
                {"member_epoch": 2, "server_assignor": "unknown"},
            ]
        ),
    )
    def beat_nonsense(self, version, fields):
        self.both.agree(
            lambda _: build(
                ConsumerGroupHeartbeatRequest, **({"group_id": self.group, "member_id": "x"} | fields)
            ),
            version,
        )

    @rule(number=NUMBERS, epoch=st.sampled_from([-1, -1, -2]))
    def leave(self, number, epoch):
        member = self.sides[number]
        answer = self.beat(member, member_epoch=epoch)
        if answer is not None and answer.error_code == ErrorCode.NONE:
            member.epoch, member.owned, member.is_in = 0, {}, False

    @rule(number=st.integers(3, 4))
    def another_process_of_a_static_member(self, number):
        self.sides[number].id += "'"

    # ----- members of the classic protocol

    def subscription(self, topics, owned=(), version=1):
        message = ConsumerProtocolSubscription(
            topics=[self.names[index] for index in topics],
            user_data=None,
            owned_partitions=[
                ConsumerProtocolSubscription.TopicPartition(topic=name, partitions=partitions)
                for name, partitions in owned
            ],
        )
        return struct.pack(">h", version) + message.encode(version)

    @rule(
        number=st.integers(0, 2),
        topics=SUBSCRIPTIONS,
        version=st.sampled_from([5, 7, 9]),
        tells=st.booleans(),
        takes_over=st.booleans(),
        strategy=st.sampled_from(["range", "range", "range", "other"]),
    )
    def join_classic(self, number, topics, version, tells, takes_over, strategy):
        """All are static: `range` orders members without a name by their ids, which are random. Some take another's place."""
        member = self.classic[number]
        if member.is_parked or (not topics and not self._catch_up()):
            return
        instance = f"i{number + 3}" if takes_over and number < 2 else f"c{number}"
        member.asked_as = instance
        owned = getattr(member, "owned", {}) if tells else {}

        answers = []

        def joined(theirs, ours):
            answers.append(ours)
            if ours.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
                member.ids = [theirs.member_id, ours.member_id]
            if ours.error_code == ErrorCode.NONE:
                member.generation = ours.generation_id
                member.instance = instance
                member.leads = ours.leader == ours.member_id

        def make(member_id):
            return build(
                JoinGroupRequest,
                group_id=self.group,
                session_timeout_ms=30_000,
                rebalance_timeout_ms=60_000,
                member_id=member_id,
                group_instance_id=instance,
                protocol_type="consumer",
                protocols=[{"name": strategy, "metadata": self.subscription(topics, owned.items())}],
            )

        def ask():
            for _ in range(2):
                member.ask(make, version, joined)
                if member.is_parked or member.generation >= 0 or not member.ids[0]:
                    break
            return answers[-1] if answers else None

        if self.has_patterns:
            self.with_patterns(ask)
        else:
            ask()

    @rule(number=st.integers(0, 2), version=st.sampled_from([2, 5]), nonsense=st.booleans())
    def sync_classic(self, number, version, nonsense):
        member = self.classic[number]
        if member.is_parked or not member.ids[0]:
            return
        given = struct.pack(">h", 1) + ConsumerProtocolAssignment(
            assigned_partitions=[
                ConsumerProtocolAssignment.TopicPartition(topic=self.names[0], partitions=[0])
            ],
            user_data=None,
        ).encode(1)
        leads = getattr(member, "leads", False)

        def synced(_, ours):
            if ours.error_code == ErrorCode.NONE and len(ours.assignment) > 2:
                decoded = ConsumerProtocolAssignment.decode(bytes(ours.assignment), 1, 2)
                member.owned = {each.topic: each.partitions for each in decoded.assigned_partitions}

        member.ask(
            lambda member_id: build(
                SyncGroupRequest,
                group_id=self.group,
                generation_id=member.generation + nonsense,
                member_id=member_id,
                group_instance_id=getattr(member, "instance", None) if version >= 3 else None,
                protocol_type="consumer" if version >= 5 else None,
                protocol_name="range" if version >= 5 else None,
                assignments=[{"member_id": member_id, "assignment": given}] if leads else [],
            ),
            version,
            synced,
        )

    @rule(number=st.integers(0, 2), difference=st.sampled_from([0, 0, 0, 1]))
    def heartbeat_classic(self, number, difference):
        member = self.classic[number]
        if not member.is_parked and member.ids[0]:
            member.ask(
                lambda member_id: build(
                    HeartbeatRequest,
                    group_id=self.group,
                    generation_id=member.generation + difference,
                    member_id=member_id,
                    group_instance_id=getattr(member, "instance", None),
                ),
                4,
                lambda *_: None,
            )

    @rule(number=st.integers(0, 2), by_instance=st.booleans())
    def leave_classic(self, number, by_instance):
        member = self.classic[number]
        if member.is_parked:
            return
        instance = getattr(member, "instance", None)
        member.ask(
            lambda member_id: build(
                LeaveGroupRequest,
                group_id=self.group,
                members=[
                    {
                        "member_id": "" if by_instance and instance else member_id,
                        "group_instance_id": instance,
                    },
                    {"member_id": "stranger", "group_instance_id": None},
                ],
            ),
            4,
            lambda *_: None,
        )
        member.ids, member.generation = ["", ""], -1

    @rule()
    def collect(self):
        for member in self.classic:
            if member.is_parked:
                member.collect(0.1)

    # ----- offsets

    @rule(
        number=NUMBERS,
        difference=EPOCHS,
        version=st.integers(2, 10),
        topic=TOPICS,
        partition=st.integers(0, 5),
    )
    def commit(self, number, difference, version, topic, partition):
        member = self.sides[number]
        self.both.agree(
            lambda side: build(
                OffsetCommitRequest,
                group_id=self.group,
                generation_id_or_member_epoch=member.epoch + difference,
                member_id=member.id,
                group_instance_id=member.instance if version >= 7 else None,
                topics=[
                    {
                        "name": self.names[topic],
                        "topic_id": side.topic_id(self.names[topic]),
                        "partitions": [{"partition_index": partition, "committed_offset": number}],
                    }
                ],
            ),
            version,
        )

    @rule(version=st.integers(2, 10), topic=TOPICS)
    def commit_as_a_stranger(self, version, topic):
        self.both.agree(
            lambda side: build(
                OffsetCommitRequest,
                group_id=self.group,
                generation_id_or_member_epoch=-1,
                topics=[
                    {
                        "name": self.names[topic],
                        "topic_id": side.topic_id(self.names[topic]),
                        "partitions": [{"partition_index": 0, "committed_offset": 7}],
                    }
                ],
            ),
            version,
        )

    @rule(
        number=st.one_of(st.none(), NUMBERS),
        difference=EPOCHS,
        version=st.integers(8, 10),
        topic=st.one_of(st.none(), TOPICS),
    )
    def fetch(self, number, difference, version, topic):
        member = None if number is None else self.sides[number]
        self.both.agree(
            lambda side: build(
                OffsetFetchRequest,
                groups=[
                    {
                        "group_id": self.group,
                        "member_id": None if member is None else member.id,
                        "member_epoch": -1 if member is None else member.epoch + difference,
                        "topics": None
                        if topic is None
                        else [
                            {
                                "name": self.names[topic],
                                "topic_id": side.topic_id(self.names[topic]),
                                "partition_indexes": [0, 1, 5],
                            }
                        ],
                    }
                ],
            ),
            version,
            is_repeatable=True,
        )

    @rule(topic=TOPICS)
    def delete_offsets(self, topic):
        asked = [{"name": self.names[topic], "partitions": [{"partition_index": 0}]}]
        self.both.agree(lambda _: build(OffsetDeleteRequest, group_id=self.group, topics=asked), 0)

    # ----- administration

    @rule(version=st.integers(0, 1), operations=st.booleans())
    def describe(self, version, operations):
        self.both.agree(
            lambda _: build(
                ConsumerGroupDescribeRequest,
                group_ids=[self.group, f"{self.prefix}nothing"],
                include_authorized_operations=operations,
            ),
            version,
            is_repeatable=True,
        )

    @rule(version=st.integers(0, 6))
    def describe_as_classic(self, version):
        if not any(member.is_parked for member in self.classic):
            self.both.agree(
                lambda _: build(DescribeGroupsRequest, groups=[self.group]), version, is_repeatable=True
            )

    @rule(
        types=st.sampled_from([[], ["consumer"], ["classic"], ["Consumer", "share"]]),
        states=st.sampled_from([[], ["Stable"], ["reconciling", "ASSIGNING"], ["Empty"]]),
    )
    def list_groups(self, types, states):
        self.both.agree(
            lambda _: build(ListGroupsRequest, states_filter=states, types_filter=types),
            5,
            is_repeatable=True,
        )

    @rule()
    def delete_group(self):
        self.both.agree(lambda _: build(DeleteGroupsRequest, groups_names=[self.group]), 2)

    @rule()
    def settle(self):
        """Until nothing moves: both have the same group then, wholly."""
        for _ in range(3):
            self.everyone_beats()
        self.describe(1, operations=False)


def test_consumer_groups(two_brokers, monkeypatch):
    ConsumerGroups.brokers = two_brokers
    before = two_brokers.examples, two_brokers.answers
    run_machine(ConsumerGroups, monkeypatch, examples=15, step_count=STEPS)
    examples, answers = two_brokers.examples - before[0], two_brokers.answers - before[1]
    print(f"\nConsumerGroups: {examples} examples, {answers} answers compared")

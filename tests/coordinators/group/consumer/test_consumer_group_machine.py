"""Members do whatever they please, in any order, and coordinators come and go: what must hold all the time."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from barnabas.coordinators.group.consumer.state import ConsumerGroupState
from barnabas.errors import ErrorCode
from tests.coordinators.group.consumer.conversation import (
    Cluster,
    Member,
    ownership,
    settings,
    snapshot,
)
from tests.coordinators.group.conversation import Coordinator

MEMBERS = st.integers(0, 3)
TOPICS = ["t0", "t1", "t2"]
SUBSCRIPTIONS = st.sampled_from([["t0"], ["t0"], ["t0"], ["t0", "t1"], ["t1", "t2"], [], ["t0", "never"]])


class SlowMember(Member):
    """Goes on reading what it must give up until it is told to act."""

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.reading = set()
        self.wants_in = False

    def act(self):
        """Stops reading what it may not, then begins to read what it may."""
        self.reading = self.partitions()

    @property
    def acts(self):
        return self.reading == self.partitions()

    def join(self):
        self.reading = set()
        self.wants_in = True
        return super().join()

    def beat(self, **fields):
        if self.epoch == 0:
            return self.join()
        dirty, self.is_dirty = self.is_dirty, self.is_dirty and self.acts
        answer = super().beat(**fields)
        if isinstance(answer, ErrorCode):
            # Fenced: it lets go of everything, and joins anew.
            self.epoch, self.owned, self.reading = 0, {}, set()
        else:
            self.is_dirty |= dirty and not self.acts
        return answer

    def leave(self, epoch=-1):
        self.reading = set()
        self.wants_in = False
        return super().leave(epoch)


class ConsumerGroups(RuleBasedStateMachine):
    """Four members of one group, one of them static."""

    def __init__(self):
        super().__init__()
        self.cluster = None
        self.members = []
        self.epochs = {}
        self.group_epoch = 0

    @initialize(
        interval_ms=st.sampled_from([0, 0, 1_000]),
        assignor=st.sampled_from(["uniform", "range"]),
        counts=st.tuples(st.integers(1, 8), st.integers(1, 5)),
    )
    def start(self, interval_ms, assignor, counts):
        others = [name for name in ("uniform", "range") if name != assignor]
        self.cluster = Cluster(consumer=settings(interval_ms=interval_ms, assignors=(assignor, *others)))
        for name, count in zip(TOPICS, counts, strict=False):
            self.cluster.topic(name, count)
        self.members = [
            SlowMember(
                self.cluster,
                f"m{number}",
                ["t0"],
                instance="i" if number == 3 else None,
                rack=(None, "rack-0", "rack-1")[number % 3],
            )
            for number in range(4)
        ]
        for member in self.members[:2]:
            member.join()
        for _ in range(3):
            self.cluster.coordinator.advance(1_000)
            self.everyone_beats_and_acts()

    # ----- what members do

    @rule(
        number=MEMBERS, topics=SUBSCRIPTIONS, pattern=st.sampled_from([None, None, None, "t.*", "t[01]", ""])
    )
    def join(self, number, topics, pattern):
        member = self.members[number]
        member.topics, member.regex = topics, pattern
        member.join()

    @rule(number=MEMBERS)
    def beat(self, number):
        member = self.members[number]
        if member.wants_in:
            member.beat()

    @rule(newcomer=MEMBERS, order=st.permutations(range(4)), acts=st.sets(MEMBERS))
    def come_and_go(self, newcomer, order, acts):
        """One joins or leaves, and the others notice, one after the other, at their own pace."""
        member = self.members[newcomer]
        if member.wants_in:
            member.leave()
        else:
            member.topics, member.regex = ["t0"], None
            member.join()
        self.cluster.coordinator.advance(1_000)
        self.several_beat([*order, *order], acts)

    @rule(number=MEMBERS)
    def act(self, number):
        self.members[number].act()

    @rule(numbers=st.lists(MEMBERS, min_size=2, max_size=6), acts=st.sets(MEMBERS))
    def several_beat(self, numbers, acts):
        """And some of them do what they are told."""
        for number in numbers:
            self.beat(number)
            if number in acts:
                self.act(number)

    @rule()
    def everyone_beats_and_acts(self):
        for member in self.members:
            if member.wants_in:
                member.beat()
                member.act()

    @rule(number=MEMBERS, topics=SUBSCRIPTIONS)
    def subscribe(self, number, topics):
        member = self.members[number]
        if member.epoch > 0:
            member.subscribe(*topics)

    @rule(number=MEMBERS, temporarily=st.booleans())
    def leave(self, number, temporarily):
        member = self.members[number]
        if member.epoch > 0:
            member.leave(-2 if temporarily and member.instance else -1)
            member.epoch = 0

    @rule()
    def another_process(self):
        """A static member's new process has a new id."""
        member = self.members[3]
        member.id += "'"
        member.epoch, member.owned, member.reading, member.wants_in = 0, {}, set(), False

    # ----- what happens around them

    @rule(name=st.sampled_from(TOPICS), count=st.integers(1, 10))
    def topic(self, name, count):
        before = self.cluster.image.topics.get(name)
        if before is None or len(before.partitions) < count:
            self.cluster.topic(name, count)

    @rule(name=st.sampled_from(TOPICS))
    def delete_topic(self, name):
        if name in self.cluster.image.topics:
            self.cluster.delete(name)

    @rule(ms=st.sampled_from([1, 1_000, 1_000, 11_000, 46_000]))
    def time_passes(self, ms):
        self.cluster.coordinator.advance(ms)

    @rule()
    def fail_over(self):
        before = snapshot(self.cluster.group())
        self.cluster.fail_over()
        assert snapshot(self.cluster.group()) == before

    @rule(number=MEMBERS)
    def cannot_write(self, number):
        """A heartbeat whose records are not written changes nothing."""
        member = self.members[number]
        before = snapshot(self.cluster.group())
        kept = (member.epoch, member.owned, member.is_dirty, member.reading)
        self.cluster.coordinator.fail_appends_with = ErrorCode.COORDINATOR_NOT_AVAILABLE
        wanted_in = member.wants_in
        member.beat()
        self.cluster.coordinator.fail_appends_with = None
        member.wants_in = wanted_in
        if member.epoch == 0 and kept[0] > 0 and snapshot(self.cluster.group()) == before:
            member.epoch, member.owned, member.is_dirty, member.reading = kept
        assert snapshot(self.cluster.group()) == before

    @precondition(lambda self: self.cluster is not None)
    @rule(data=st.data())
    def replay_of_a_part(self, data):
        """What a crash leaves behind can be loaded, wherever it ends, and goes on."""
        log = self.cluster.coordinator.log
        end = data.draw(st.integers(0, len(log)))
        other = Coordinator(self.cluster.topics)
        for offset, (key, value) in enumerate(log[:end]):
            other.shard.replay(offset, -1, -1, key, value)
        for result in other.shard.on_loaded(other.now):
            other.run(result)
        group = other.group()
        if group is not None:
            assert all(len(owners) == 1 for owners in ownership(group).values())

    # ----- what must hold

    @invariant()
    def nobody_shares_a_partition(self):
        """As the coordinator sees it, and as the members do that are still in the group."""
        group = None if self.cluster is None else self.cluster.group()
        if group is None:
            return
        assert all(len(owners) == 1 for owners in ownership(group).values())
        readers = {}
        for member in self.members:
            if member.id in group.members and group.members[member.id].member_epoch >= 0:
                for partition in member.reading:
                    assert partition not in readers, f"{partition}: {readers[partition]} and {member.id}"
                    readers[partition] = member.id

    @invariant()
    def owners_are_right(self):
        group = None if self.cluster is None else self.cluster.group()
        if group is not None:
            for (topic_id, partition), (member_id,) in ownership(group).items():
                assert group.owner_of(topic_id, partition) == member_id
            held = sum(len(partitions) for partitions in group._owners.values())
            assert held == len(ownership(group))

    @invariant()
    def epochs_grow(self):
        group = None if self.cluster is None else self.cluster.group()
        if group is None:
            self.group_epoch, self.epochs = 0, {}
            return
        assert group.group_epoch >= self.group_epoch
        assert group.assignment_epoch <= group.group_epoch
        self.group_epoch = group.group_epoch
        for member in group.members.values():
            assert member.member_epoch <= group.assignment_epoch
            if member.member_epoch > 0:
                assert member.member_epoch >= self.epochs.get(member.member_id, 0)
                self.epochs[member.member_id] = member.member_epoch
        self.epochs = {
            member_id: epoch for member_id, epoch in self.epochs.items() if member_id in group.members
        }

    @invariant()
    def targets_are_shared_out(self):
        """No partition is in two targets, and members are given nothing that they did not ask for."""
        group = None if self.cluster is None else self.cluster.group()
        if group is not None:
            assert group.targets.keys() <= group.members.keys()
            wanted = [
                (topic_id, partition)
                for target in group.targets.values()
                for topic_id, partitions in target.items()
                for partition in partitions
            ]
            assert len(wanted) == len(set(wanted))

    @invariant()
    def no_deadline_is_missed(self):
        group = None if self.cluster is None else self.cluster.group()
        if group is not None:
            assert group.armed_ms <= group.next_deadline_ms()

    def teardown(self):
        """In the end it converges: everyone who is left has their share, and all partitions are read."""
        if self.cluster is None:
            return
        for _ in range(60):
            self.cluster.coordinator.advance(2_000)
            self.everyone_beats_and_acts()
        group = self.cluster.group()
        alive = [member for member in self.members if member.wants_in]
        if group is None:
            assert not alive
            return
        assert group.members.keys() == {member.id for member in alive}
        assert group.state in (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY)
        expected = {
            (topic.id, index)
            for name in group.subscribed_topics()
            if (topic := self.cluster.image.topics.get(name)) is not None
            for index in range(len(topic.partitions))
        }
        read = [partition for member in alive for partition in member.reading]
        assert len(read) == len(set(read))
        assert set(read) == (expected if group.members else set())


TestConsumerGroups = ConsumerGroups.TestCase
TestConsumerGroups.settings = hypothesis_settings(max_examples=60, stateful_step_count=50, deadline=None)

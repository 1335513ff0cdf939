"""A live group goes from one protocol to the other and back, member by member, and nobody loses what they keep."""

import struct

import pytest

from barnabas.coordinators.group.consumer.group import ConsumerGroup
from barnabas.coordinators.group.group import ClassicGroup
from barnabas.errors import ErrorCode
from barnabas.wire.messages.client.consumer_protocol_assignment import ConsumerProtocolAssignment
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription
from tests.coordinators.group.consumer.conversation import Cluster, Member, settings, settle
from tests.coordinators.group.conversation import Client, Coordinator, leave


def subscription(*topics, owned=(), version=1):
    message = ConsumerProtocolSubscription(
        topics=list(topics),
        user_data=None,
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=sorted(partitions))
            for topic, partitions in owned
        ],
    )
    return struct.pack(">h", version) + message.encode(version)


def assignment(partitions, *, topic="t", user_data=None):
    message = ConsumerProtocolAssignment(
        assigned_partitions=[
            ConsumerProtocolAssignment.TopicPartition(topic=topic, partitions=list(partitions))
        ],
        user_data=user_data,
    )
    return struct.pack(">h", 1) + message.encode(1)


def read(data):
    decoded = ConsumerProtocolAssignment.decode(bytes(data), 1, 2)
    return {(each.topic, index) for each in decoded.assigned_partitions for index in each.partitions}


class ClassicConsumer(Client):
    """An ordinary consumer of the classic protocol."""

    def __init__(self, cluster, name, **fields):
        super().__init__(cluster.coordinator, name, protocols=(("range", subscription("t")),), **fields)
        self.cluster = cluster
        self.assigned = set()

    def rejoin(self):
        """JoinGroup, telling what it owns, and SyncGroup."""
        owned = {}
        for topic, index in self.assigned:
            owned.setdefault(topic, []).append(index)
        self.protocols = (("range", subscription("t", owned=owned.items())),)
        waiter = self.join()
        assert waiter.error is ErrorCode.NONE, waiter.error
        return self.fetch()

    def fetch(self):
        answer = self.sync(protocol_type="consumer", protocol_name="range").response
        if answer.error_code == ErrorCode.NONE:
            self.assigned = read(answer.assignment)
        return ErrorCode(answer.error_code)

    def live(self):
        """A heartbeat, and what it asks for; says whether it had to rejoin."""
        error = self.heartbeat()
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            # An eager consumer of old gives up everything; a cooperative one keeps what it may.
            self.rejoin()
            return True
        assert error is ErrorCode.NONE, error
        return False


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.topic("t", 4)
    return cluster


def classic_group(cluster, *names, **fields):
    clients = [ClassicConsumer(cluster, name, **fields) for name in names]
    for client in clients:
        client.join()
    for client in clients[:-1]:
        client.join()
    share = 4 // len(clients)
    parts = [range(number * share, (number + 1) * share) for number in range(len(clients))]
    leader = next(client for client in clients if client.joined.leader == client.member_id)
    leader.sync([(client, assignment(part)) for client, part in zip(clients, parts, strict=True)])
    for client, part in zip(clients, parts, strict=True):
        if client is not leader:
            client.sync()
        client.assigned = {("t", index) for index in part}
    assert cluster.coordinator.state() == "Stable"
    return clients


def settle_all(cluster, members, clients):
    for _ in range(12):
        for member in members:
            assert not isinstance(member.beat(), ErrorCode)
        for client in clients:
            client.live()


def shares(members, clients):
    return sorted(
        [len(member.partitions()) for member in members] + [len(client.assigned) for client in clients]
    )


def test_a_new_consumer_turns_a_classic_group_around(cluster):
    """The classic members stay, with what they have, and give some of it to the newcomer."""
    clients = classic_group(cluster, "x", "y")
    generation = clients[0].generation
    member = Member(cluster, "a")
    answer = member.join()
    group = cluster.group()
    assert isinstance(group, ConsumerGroup)
    assert group.classic_count == 2
    assert answer.member_epoch == generation + 1
    settle_all(cluster, [member], clients)
    assert shares([member], clients) == [1, 1, 2]
    assert not any(client.live() for client in clients), "stable"
    cluster.fail_over()
    for client in clients:
        client.coordinator = cluster.coordinator
        assert client.heartbeat() is ErrorCode.NONE


def test_all_the_way_and_back(cluster):
    """Classic, mixed, consumer, mixed, classic: all partitions are read all the time."""
    (first, second) = classic_group(cluster, "x", "y")
    member, other = Member(cluster, "a"), Member(cluster, "b")
    member.join()
    settle_all(cluster, [member], [first, second])
    first.leave()
    other.join()
    settle_all(cluster, [member, other], [second])
    second.leave()
    settle(member, other)
    assert cluster.group().classic_count == 0
    assert shares([member, other], []) == [2, 2]
    again = ClassicConsumer(cluster, "z")
    again.rejoin()
    settle_all(cluster, [member, other], [again])
    assert shares([member, other], [again]) == [1, 1, 2]
    member.leave()
    settle_all(cluster, [other], [again])
    assert shares([other], [again]) == [2, 2]
    other.leave()
    group = cluster.coordinator.group()
    assert isinstance(group, ClassicGroup)
    assert group.state.value == "PreparingRebalance"
    assert again.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    again.protocols = (("range", subscription("t")),)
    assert again.join().error is ErrorCode.NONE
    again.sync([(again, assignment(range(4)))])
    assert cluster.coordinator.state() == "Stable"
    latest = dict(cluster.coordinator.log)
    assert sum(value is not None for value in latest.values()) == 1, "one record of the classic group"


def test_a_rebalance_under_way_is_broken_off(cluster):
    """Whoever waits for it is asked to join the consumer group."""
    first = ClassicConsumer(cluster, "x")
    first.join()
    second = ClassicConsumer(cluster, "y")
    second.join()
    waiting = first.send_join()
    assert first.coordinator.group().state.value != "Stable"
    member = Member(cluster, "a")
    assert not isinstance(member.join(), ErrorCode)
    answers = [second.waiter, waiting, first.waiter]
    assert all(waiter.response is not None for waiter in answers)
    first.rejoin()
    second.rejoin()
    settle_all(cluster, [member], [first, second])
    assert shares([member], [first, second]) == [1, 1, 2]


def test_a_newcomer_that_is_refused_breaks_nothing_off(cluster):
    """Whoever waits for the rebalance goes on waiting for it, and the group stays classic."""
    first = ClassicConsumer(cluster, "x")
    first.join()
    second = ClassicConsumer(cluster, "y")
    waiting = second.join()
    assert cluster.coordinator.state() == "PreparingRebalance"
    assert Member(cluster, "a", regex="(").join() is ErrorCode.INVALID_REGULAR_EXPRESSION
    assert waiting.response is None
    assert isinstance(cluster.coordinator.group(), ClassicGroup)
    first.join()
    assert waiting.error is ErrorCode.NONE


def test_members_that_do_not_rejoin_are_removed(cluster):
    """They were told, and had their rebalance timeout."""
    (client, _) = classic_group(cluster, "x", "y", rebalance_timeout_ms=20_000, session_timeout_ms=60_000)
    member = Member(cluster, "a")
    member.join()
    settle_all(cluster, [member], [])
    assert client.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    cluster.coordinator.advance(19_000)
    member.beat()
    assert client.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    cluster.coordinator.advance(1_500)
    assert client.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_joins_and_does_not_sync_is_removed(cluster):
    Member(cluster, "a").join()
    client = ClassicConsumer(cluster, "x", rebalance_timeout_ms=20_000, session_timeout_ms=60_000)
    client.join()
    cluster.coordinator.advance(20_001)
    assert client.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize(
    ("consumer", "prepare", "reason"),
    [
        ({"allows_upgrade": False}, {}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({"max_size": 0}, {}, ErrorCode.GROUP_MAX_SIZE_REACHED),
        ({}, {"user_data": b"mine"}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({}, {"garbage": True}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({}, {"protocol_type": "connect"}, ErrorCode.GROUP_ID_NOT_FOUND),
    ],
)
def test_groups_that_can_not_be_turned_around_stay_classic(consumer, prepare, reason):
    """Forbidden, too large, with an assignor that keeps data of its own, or no consumers at all."""
    cluster = Cluster(consumer=settings(**consumer))
    cluster.topic("t", 4)
    client = Client(
        cluster.coordinator,
        "x",
        protocol_type=prepare.get("protocol_type", "consumer"),
        protocols=(("own", b"garbage" if "garbage" in prepare else subscription("t")),),
    )
    client.join()
    client.sync([(client, assignment(range(4), user_data=prepare.get("user_data")))])
    answer = Member(cluster, "a").join()
    assert answer in (reason, ErrorCode.GROUP_ID_NOT_FOUND)
    assert isinstance(cluster.coordinator.group(), ClassicGroup)
    assert client.heartbeat() is ErrorCode.NONE


def test_data_of_a_known_assignor_is_no_hindrance(cluster):
    """librdkafka puts some into assignments, and nobody reads it."""
    client = ClassicConsumer(cluster, "x")
    client.join()
    client.sync([(client, assignment(range(4), user_data=b"copied"))])
    assert not isinstance(Member(cluster, "a").join(), ErrorCode)


def test_a_group_stays_when_it_may_not_go_back():
    """migration.policy upgrade: what is left are classic members of a consumer group."""
    cluster = Cluster(consumer=settings(allows_downgrade=False))
    cluster.topic("t", 4)
    member = Member(cluster, "a")
    member.join()
    client = ClassicConsumer(cluster, "x")
    client.rejoin()
    settle_all(cluster, [member], [client])
    member.leave()
    assert isinstance(cluster.coordinator.group(), ConsumerGroup)
    settle_all(cluster, [], [client])
    assert len(client.assigned) == 4


def test_a_static_member_comes_back_by_the_other_protocol(cluster):
    """And takes the group with it, if it was the last of its kind; its partitions wait for it."""
    member, client = Member(cluster, "a", instance="i1"), ClassicConsumer(cluster, "x")
    member.join()
    client.rejoin()
    settle_all(cluster, [member], [client])
    had = {("t", index) for _, index in member.partitions()}
    again = ClassicConsumer(cluster, "a", instance="i1")
    again.send_join()
    group = cluster.coordinator.group()
    assert isinstance(group, ClassicGroup)
    assert group.state.value == "Stable"
    again.generation = group.generation_id
    again.member_id = group.static_members["i1"]
    again.waiter = again.waiter or again.send_join(member_id=again.member_id)
    assert read(group.members[again.member_id].assignment) == had
    assert client.heartbeat(generation=group.generation_id) is ErrorCode.NONE
    replayed = cluster.coordinator.replayed().group()
    assert replayed.members.keys() == group.members.keys()


def test_an_empty_group_takes_either_protocol(cluster):
    """What it has committed stays."""
    member = Member(cluster, "a")
    member.join()
    member.leave()
    client = ClassicConsumer(cluster, "x")
    client.join()
    assert isinstance(cluster.coordinator.group(), ClassicGroup)
    client.sync([(client, assignment(range(4)))])
    client.leave()
    assert not isinstance(member.join(), ErrorCode)
    assert isinstance(cluster.coordinator.group(), ConsumerGroup)
    assert isinstance(cluster.coordinator.replayed().group(), ConsumerGroup)


def test_a_crash_in_the_middle_of_a_turn_can_be_loaded(cluster):
    """Whatever part of the records is there, some group is loaded, and goes on."""
    (first, second) = classic_group(cluster, "x", "y")
    member = Member(cluster, "a")
    member.join()
    settle_all(cluster, [member], [first, second])
    member.leave()
    for end in range(len(cluster.coordinator.log) + 1):
        other = Coordinator(cluster.topics)
        for offset, (key, value) in enumerate(cluster.coordinator.log[:end]):
            other.shard.replay(offset, -1, -1, key, value)
        for result in other.shard.on_loaded(other.now):
            other.run(result)
        other.advance(200_000)
    assert leave(cluster.coordinator, (first.member_id, None, None)) == [ErrorCode.NONE]

"""Consumer groups of real clients: joining, leaving, dying, coming back; nothing is lost on the way."""

from __future__ import annotations

import time

import pytest

from tests.broker_process import wait_until
from tests.clients.peer import JobFailedError, encoded
from tests.clients.programs import CLIENTS
from tests.our_broker import replicas_at

pytestmark = pytest.mark.clients

STATIC_MEMBERS = ("confluent-kafka", "aiokafka", "kafka-python", "java-4.3", "java-3.9", "franz-go")
COOPERATIVE = ("confluent-kafka", "kafka-python", "java-4.3", "java-3.9", "franz-go")


class Group:
    """A group and its topic: members come and go, records are added."""

    def __init__(self, bootstrap, peers, unique, *, partitions, strategy="range") -> None:
        self.bootstrap = bootstrap
        self.writer = peers("franz-go")
        self.topic = unique("group-topic")
        self.name = unique("group")
        self.partitions = partitions
        self.strategy = strategy
        self.written: set[bytes] = set()
        self.members: list = []
        self.writer.call(
            "admin",
            call="create_topic",
            bootstrap=bootstrap,
            topic=self.topic,
            partitions=partitions,
            replication_factor=replicas_at(self.bootstrap),
        )

    @property
    def all_partitions(self):
        return [(self.topic, partition) for partition in range(self.partitions)]

    def write(self, count):
        """Adds records, evenly over the partitions, and gives their keys."""
        keys = [f"key-{len(self.written) + number}".encode() for number in range(count)]
        records = [
            {
                "partition": number % self.partitions,
                "key": encoded(key),
                "value": encoded(key),
                "headers": [],
                "timestamp": time.time_ns() // 1_000_000,
            }
            for number, key in enumerate(keys)
        ]
        self.writer.call(
            "produce",
            bootstrap=self.bootstrap,
            topic=self.topic,
            codec="none",
            idempotent=True,
            records=records,
        )
        self.written.update(keys)
        return set(keys)

    def join(self, peer, instance=None, strategy=None):
        member = peer.start(
            "member",
            bootstrap=self.bootstrap,
            topics=[self.topic],
            group=self.name,
            strategy=strategy or self.strategy,
            instance=instance,
        )
        self.members.append(member)
        return member

    def wait_until_shared(self, *members):
        """Waits until these members have all partitions between them, as evenly as they can be."""
        least = self.partitions // len(members)

        def shared():
            parts = [member.assigned for member in members]
            together = sorted(place for part in parts for place in part)
            return together == self.all_partitions and all(len(part) >= least for part in parts)

        wait_for_any(members, shared, f"{self.name} shared by {len(members)}")

    def wait_until_seen(self, keys, *members):
        """Waits until these members have seen all the keys between them."""
        wait_for_any(members, lambda: keys <= keys_seen(*members), f"{len(keys)} keys seen")

    def committed(self, peer):
        """The sum of the group's offsets, as a client tells them."""
        offsets = peer.call("admin", call="group_offsets", bootstrap=self.bootstrap, group=self.name)
        return sum(offset for _, _, offset in offsets if offset > 0)


def wait_for_any(jobs, condition, what, deadline_s=60.0):
    """Waits until a condition on several jobs is true."""

    def holds():
        for job in jobs:
            job.raise_failure()
        return condition()

    try:
        wait_until(holds, deadline_s, what)
    except AssertionError as error:
        state = [
            (job.peer.name, job.assigned, len(job.records), job.events[-6:], job.peer.log_tail(800))
            for job in jobs
        ]
        raise AssertionError(f"{error}: {state}") from None


def keys_seen(*members):
    return {record.key for member in members for record in member.records}


def test_two_members_share_hand_over_and_go_on(bootstrap, peers, unique, client):
    """The second member gets half, its leaving gives all back, and a later member goes on at the committed offsets."""
    strategy = "roundrobin" if client.name == "kafkajs" else "range"  # what each has by itself
    group = Group(bootstrap, peers, unique, partitions=4, strategy=strategy)
    early = group.write(40)
    first = group.join(client)
    group.wait_until_seen(early, first)
    assert first.assigned == group.all_partitions

    second = group.join(client)
    group.wait_until_shared(first, second)
    more = group.write(40)
    group.wait_until_seen(more, first, second)
    assert more & keys_seen(first)
    assert more & keys_seen(second)

    second.stop()
    group.wait_until_shared(first)
    last = group.write(40)
    group.wait_until_seen(last, first)
    wait_for_any([first], lambda: group.committed(client) == 120, "120 records committed")
    first.stop()

    late = group.write(20)
    third = group.join(client)
    group.wait_until_seen(late, third)
    assert keys_seen(third) == late, "a committed record came again"
    third.stop()


def test_seven_clients_in_one_group(bootstrap, peers, unique):
    """Clients of every make share one group by the range assignor and lose nothing while they come and go."""
    group = Group(bootstrap, peers, unique, partitions=14)
    producer = peers("confluent-kafka").start(
        "steady", bootstrap=bootstrap, topic=group.topic, partitions=group.partitions, prefix="steady"
    )
    members = [group.join(peers(client)) for client in CLIENTS]
    group.wait_until_shared(*members)
    assert all(len(member.assigned) == 2 for member in members)
    group.wait_until_seen(group.write(140), *members)
    for number in range(len(members) - 1):
        members[number].stop()
        group.wait_until_shared(*members[number + 1 :])
    producer.stop()
    acknowledged = {key.encode() for key, _, _ in producer.all_of("acked")}
    assert acknowledged
    wait_for_any(members[-1:], lambda: acknowledged <= keys_seen(*members), "all acknowledged records seen")
    members[-1].stop()


@pytest.mark.parametrize("name", COOPERATIVE)
def test_cooperative_members_keep_what_they_can(bootstrap, peers, unique, name):
    """With the cooperative-sticky assignor a member gives up only what another gets."""
    client = peers(name)
    group = Group(bootstrap, peers, unique, partitions=4, strategy="cooperative-sticky")
    first = group.join(client)
    group.wait_until_shared(first)
    before = len(first.all_of("assigned"))
    second = group.join(client)
    group.wait_until_shared(first, second)
    group.wait_until_seen(group.write(40), first, second)
    assert all(len(assigned) >= 2 for assigned in first.all_of("assigned")[before:])
    second.stop()
    group.wait_until_shared(first)
    first.stop()


def test_cooperative_members_of_several_makes(bootstrap, peers, unique):
    """Java (both versions), librdkafka and franz-go understand each other's cooperative-sticky metadata."""
    group = Group(bootstrap, peers, unique, partitions=8, strategy="cooperative-sticky")
    members = [
        group.join(peers(client)) for client in ("java-4.3", "confluent-kafka", "franz-go", "java-3.9")
    ]
    group.wait_until_shared(*members)
    group.wait_until_seen(group.write(80), *members)
    for number in range(len(members) - 1):
        members[number].stop()
        group.wait_until_shared(*members[number + 1 :])
    members[-1].stop()


@pytest.mark.parametrize("name", STATIC_MEMBERS)
def test_a_static_member_comes_back_without_a_rebalance(bootstrap, peers, unique, name):
    """A member with a group.instance.id gets its partitions back, and the others do not notice."""
    client = peers(name)
    group = Group(bootstrap, peers, unique, partitions=4)
    one = group.join(client, instance="one")
    group.wait_until_shared(one)
    two = group.join(client, instance="two")
    group.wait_until_shared(one, two)
    held = two.assigned
    quiet = len(one.all_of("assigned"))
    two.stop()
    again = group.join(client, instance="two")
    wait_for_any([again], lambda: again.assigned == held, "the same partitions again")
    group.wait_until_seen(group.write(40), one, again)
    assert len(one.all_of("assigned")) == quiet
    again.stop()
    one.stop()


@pytest.mark.parametrize("name", ["java-4.3", "java-3.9"])
def test_a_second_owner_of_a_static_name_fences_the_first(bootstrap, peers, unique, name):
    """Two members with one group.instance.id: the later one wins, the earlier one ends with FENCED_INSTANCE_ID."""
    client = peers(name)
    group = Group(bootstrap, peers, unique, partitions=2)
    first = group.join(client, instance="only")
    group.wait_until_shared(first)
    second = group.join(client, instance="only")
    wait_for_any([second], lambda: second.assigned == group.all_partitions, "the partitions taken over")
    with pytest.raises(JobFailedError) as failure:
        first.result()
    assert failure.value.code == 82
    second.stop()


@pytest.mark.parametrize("dying", ["confluent-kafka", "kafkajs"])
def test_a_dead_member_is_replaced_after_its_session(bootstrap, peers, unique, dying):
    """A member killed with -9 loses its partitions when its session ends, and what it had not committed comes again."""
    group = Group(bootstrap, peers, unique, partitions=4)
    survivor = group.join(peers("franz-go"))
    victim = peers.another(dying)
    dead = group.join(victim)
    group.wait_until_shared(survivor, dead)
    victim.kill()
    keys = group.write(40)
    group.wait_until_shared(survivor)
    group.wait_until_seen(keys, survivor)
    survivor.stop()

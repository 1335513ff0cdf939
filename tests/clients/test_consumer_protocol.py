"""Groups of the new consumer protocol (KIP-848) with real clients: nobody who keeps a partition stops, and groups change their protocol live."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests.broker_process import wait_until
from tests.clients.test_groups import Group, wait_for_any
from tests.oracle.building import build
from tests.oracle.kafka_jars import run_java
from tests.our_broker import our_broker, wire_client

pytestmark = pytest.mark.clients

NEW_PROTOCOL = ("confluent-kafka", "java-4.3")
HEARTBEAT_MS = 1_000
UNHURRIED_MS = 2_000
"""Heartbeats of those whose pauses are counted: a rebalance that stops somebody takes about as long. A librdkafka that gives up a
partition sometimes sleeps for a second by itself, with Apache Kafka too, and that does not count."""
SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": str(HEARTBEAT_MS),
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.assignment.interval.ms": "0",
}


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory):
    """Heartbeats every second: with Kafka's five, rebalances take their time."""
    with our_broker(tmp_path_factory.mktemp("consumer-protocol"), SETTINGS) as broker:
        yield broker


@pytest.fixture(scope="module")
def bootstrap(shared_broker):
    return shared_broker.bootstrap_server


# ----- nobody who keeps a partition stops


class JavaReader:
    """A Java consumer, of which is known when it read what; all are in one process."""

    def __init__(self, peer, bootstrap, group, topic):
        self._job = peer.start(
            "member", bootstrap=bootstrap, topics=[topic], group=group, strategy="consumer", instance=None
        )

    @property
    def partitions(self):
        return {partition for _, partition in self._job.assigned}

    @property
    def given_up(self):
        had = [{partition for _, partition in assigned} for assigned in self._job.all_of("assigned")]
        return [partition for before, after in itertools.pairwise(had) for partition in before - after]

    @property
    def reads(self):
        found = {}
        for at, record in zip(list(self._job.arrivals), list(self._job.records), strict=False):
            found.setdefault(record.partition, []).append((at, at - float(record.value)))
        return found

    def stop(self):
        if not self._job.ended:
            self._job.stop()


class Reader:
    """A librdkafka consumer in a thread of its own, which notes when it read what."""

    def __init__(self, bootstrap, group, topic, number, protocol="consumer"):
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": f"reader-{number}",
            "group.protocol": protocol,
            "auto.offset.reset": "latest",
            "enable.auto.commit": True,
            "fetch.wait.max.ms": 20,
        }
        if protocol == "classic":
            settings |= {"session.timeout.ms": 6_000, "heartbeat.interval.ms": UNHURRIED_MS}
        self.reads = {}
        self.given_up = []
        self.partitions = set()
        self._consumer = Consumer(settings)
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader-{number}")
        self._thread.start()

    def _on_assign(self, _, partitions):
        self.partitions = self.partitions | {each.partition for each in partitions}

    def _on_revoke(self, _, partitions):
        gone = {each.partition for each in partitions}
        self.given_up += gone
        self.partitions = self.partitions - gone

    def _run(self):
        while not self._stop.is_set():
            message = self._consumer.poll(0.02)
            if message is not None and message.error() is None:
                now = time.time()
                self.reads.setdefault(message.partition(), []).append((now, now - float(message.value())))
        self._consumer.close()

    def stop(self):
        self._stop.set()
        self._thread.join()


class Load:
    """Writes to every partition a hundred times a second."""

    def __init__(self, bootstrap, topic, partitions):
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(topic, partitions), name="load")
        self._thread.start()

    def _run(self, topic, partitions):
        while not self._stop.wait(0.02):
            for partition in range(partitions):
                self._producer.produce(topic, repr(time.time()).encode(), partition=partition)
            self._producer.poll(0)
        self._producer.flush(10)

    def stop(self):
        self._stop.set()
        self._thread.join()


PARTITIONS = 12


def shared_out(readers):
    parts = [reader.partitions for reader in readers]
    least = PARTITIONS // len(readers)
    return sorted(place for part in parts for place in part) == list(range(PARTITIONS)) and all(
        len(part) >= least for part in parts
    )


def wait_until_up_to_date(readers):
    """Whoever took over a partition is late at first; waits until all read what was just written."""
    now = time.time()

    def up_to_date():
        for reader in readers:
            reads = reader.reads
            for partition in reader.partitions:
                at, late_s = (reads.get(partition) or [(0, 0)])[-1]
                if at < now or late_s > 0.1 * UNHURRIED_MS / 1_000:
                    return False
        return True

    wait_until(up_to_date, 60, "all partitions are read as they are written")


def pauses_while(readers, alone, change):
    """Makes a change of the group; gives where readers paused at partitions that they kept, and who they are now."""
    before = [(reader, set(reader.partitions)) for reader in readers]
    revoked = [len(reader.given_up) for reader in readers]
    started = time.time()
    now = change()
    wait_until(lambda: shared_out(now), 60, f"{len(now)} readers share the partitions")
    wait_until_up_to_date([*now, alone])
    # Machines stand still, too; who reads alone and has nobody to share with is then as late as everybody.
    still_s = max(
        (late_s for reads in alone.reads.values() for at, late_s in list(reads) if at >= started), default=0
    )
    pauses = []
    for (reader, had), known in zip(before, revoked, strict=True):
        if reader not in now:
            continue
        kept = had & reader.partitions
        pauses += [f"{each} was given up" for each in kept.intersection(reader.given_up[known:])]
        all_reads = reader.reads
        for partition in kept:
            # What waited for a rebalance to end is as late as that took.
            reads = [late_s for at, late_s in list(all_reads.get(partition, ())) if at >= started]
            if max(reads) > 0.9 * UNHURRIED_MS / 1_000 + still_s:
                pauses.append(f"{partition} was late by {max(reads):.2f} s, all else by {still_s:.2f} s")
    return pauses, now


def run_through(bootstrap, unique, new_reader):
    """Members come and go under load; the pauses at partitions that were kept."""
    topic, group = unique("steady"), unique("steady-group")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    with wire_client(bootstrap) as client:
        interval = {
            "name": "consumer.heartbeat.interval.ms",
            "config_operation": 0,
            "value": str(UNHURRIED_MS),
        }
        resource = {"resource_type": 32, "resource_name": group, "configs": [interval]}
        answer = client.call(build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
        assert answer.responses[0].error_code == 0
    readers = [new_reader(group, topic, number) for number in range(2)]
    alone = new_reader(f"{group}-alone", topic, 0)
    started = [*readers, alone]
    load = Load(bootstrap, topic, PARTITIONS)
    pauses = []
    try:
        wait_until(lambda: shared_out(readers), 60, "two readers share the partitions")
        wait_until_up_to_date(started)

        def join():
            started.append(new_reader(group, topic, len(started)))
            return [*readers, started[-1]]

        def leave():
            readers[-1].stop()
            return readers[:-1]

        for change in (join, join, leave, join, leave, leave):
            found, readers = pauses_while(readers, alone, change)
            pauses += found
    finally:
        load.stop()
        for reader in started:
            reader.stop()
    return pauses


@pytest.mark.parametrize("name", NEW_PROTOCOL)
def test_nobody_who_keeps_a_partition_stops(bootstrap, unique, peers, name):
    """Three join and three leave under load: not one pause at a partition that stays where it is."""

    def new_reader(group, topic, number):
        if name == "java-4.3":
            return JavaReader(peers("java-4.3"), bootstrap, group, topic)
        return Reader(bootstrap, group, topic, number)

    assert run_through(bootstrap, unique, new_reader) == []


def test_the_classic_protocol_does_stop_them(bootstrap, unique):
    """What the count above would show: an eager rebalance takes everything from everyone."""

    def new_reader(group, topic, number):
        return Reader(bootstrap, group, topic, number, "classic")

    assert run_through(bootstrap, unique, new_reader) != []


@pytest.mark.parametrize("name", NEW_PROTOCOL)
def test_members_keep_what_they_can(bootstrap, peers, unique, name):
    """What a member keeps is in its hands from before to after; records go on, and offsets with them."""
    client = peers(name)
    group = Group(bootstrap, peers, unique, partitions=6, strategy="consumer")
    first = group.join(client)
    group.wait_until_shared(first)
    keys = group.write(60)
    group.wait_until_seen(keys, first)
    before = len(first.all_of("assigned"))
    second = group.join(client)
    group.wait_until_shared(first, second)
    kept = set(map(tuple, first.assigned))
    assert all(kept <= set(map(tuple, assigned)) for assigned in first.all_of("assigned")[before:])
    group.wait_until_seen(group.write(60), first, second)
    second.stop()
    group.wait_until_shared(first)
    group.wait_until_seen(group.write(60), first)
    wait_for_any([first], lambda: group.committed(client) == 180, "180 records committed")
    first.stop()


@pytest.mark.parametrize("name", NEW_PROTOCOL)
def test_a_static_member_comes_back(bootstrap, peers, unique, name):
    """To the partitions that it had, and the other one does not notice."""
    client = peers(name)
    group = Group(bootstrap, peers, unique, partitions=4, strategy="consumer")
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


def test_a_dead_member_is_replaced_after_its_session(bootstrap, peers, unique):
    """Killed with -9: what it had not committed comes again."""
    group = Group(bootstrap, peers, unique, partitions=4, strategy="consumer")
    survivor = group.join(peers("java-4.3"))
    victim = peers.another("confluent-kafka")
    dead = group.join(victim)
    group.wait_until_shared(survivor, dead)
    victim.kill()
    keys = group.write(40)
    group.wait_until_shared(survivor)
    group.wait_until_seen(keys, survivor)
    survivor.stop()


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_group_changes_its_protocol_live_and_back(bootstrap, peers, unique, strategy):
    """Member by member, of two makes, while records are written; nothing is lost."""
    group = Group(bootstrap, peers, unique, partitions=6, strategy=strategy)
    producer = peers("confluent-kafka").start(
        "steady", bootstrap=bootstrap, topic=group.topic, partitions=group.partitions, prefix="steady"
    )
    old = [group.join(peers(name)) for name in ("java-3.9", "confluent-kafka")]
    group.wait_until_shared(*old)
    new = [group.join(peers("java-4.3"), strategy="consumer")]
    group.wait_until_shared(*old, *new)
    old[0].stop()
    new.append(group.join(peers("confluent-kafka"), strategy="consumer"))
    group.wait_until_shared(old[1], *new)
    old[1].stop()
    group.wait_until_shared(*new)
    back = [group.join(peers(name)) for name in ("java-4.3", "confluent-kafka")]
    group.wait_until_shared(*new, *back)
    for member in new:
        member.stop()
    group.wait_until_shared(*back)
    producer.stop()
    acknowledged = {key.encode() for key, _, _ in producer.all_of("acked")}
    everyone = [*old, *new, *back]
    wait_for_any(
        back,
        lambda: acknowledged <= {record.key for member in everyone for record in member.records},
        "all acknowledged records seen",
    )
    for member in back:
        member.stop()


def test_a_group_survives_the_end_of_its_broker(tmp_path, peers, unique):
    """Killed and started again: the members go on where they were, without having to join."""
    with our_broker(tmp_path, SETTINGS) as broker:
        group = Group(broker.bootstrap_server, peers, unique, partitions=4, strategy="consumer")
        members = [group.join(peers(name)) for name in NEW_PROTOCOL]
        group.wait_until_shared(*members)
        group.wait_until_seen(group.write(40), *members)
        quiet = [len(member.all_of("assigned")) for member in members]
        broker.kill()
        broker.start()
        group.wait_until_seen(group.write(40), *members)
        assert [len(member.all_of("assigned")) for member in members] == quiet
        for member in members:
            member.stop()


def test_kafkas_tool_describes_us(bootstrap, peers, unique):
    """kafka-consumer-groups.sh: list with types, describe members, state and offsets, reset and delete."""
    group = Group(bootstrap, peers, unique, partitions=4, strategy="consumer")
    member = group.join(peers("confluent-kafka"))
    group.wait_until_shared(member)
    group.wait_until_seen(group.write(8), member)

    def tool(*arguments):
        return run_java(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            ["--bootstrap-server", bootstrap, *arguments],
        ).stdout

    listed = tool("--list", "--type", "consumer", "--state")
    assert any(line.split()[:3] == [group.name, "Consumer", "Stable"] for line in listed.splitlines()), listed
    described = tool("--describe", "--group", group.name, "--state", "--verbose")
    assert "uniform" in described
    assert "Stable" in described
    members = tool("--describe", "--group", group.name, "--members", "--verbose")
    assert f"{group.topic}:0,1,2,3" in members
    assert "UPGRADED" in members or "consumer" in members.lower()
    assert group.topic in tool("--describe", "--group", group.name, "--offsets")
    member.stop()
    assert "Empty" in tool("--describe", "--group", group.name, "--state")
    reset = tool(
        "--reset-offsets", "--group", group.name, "--topic", group.topic, "--to-earliest", "--execute"
    )
    assert group.topic in reset
    assert "successful" in tool("--delete", "--group", group.name)

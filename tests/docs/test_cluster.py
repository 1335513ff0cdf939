"""The README's cluster in three commands, and what it promises: any broker is killed, and clients go on."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.broker_process import wait_until
from tests.clients.conftest import peers, unique
from tests.docs.markdown import ROOT, blocks
from tests.docs.shell import Shell
from tests.ports import free_ports_in_a_row
from tests.zookeeper_process import zookeeper_server

__all__ = ["peers", "unique"]

pytestmark = [pytest.mark.clients, pytest.mark.durability, pytest.mark.timeout(400)]

CLIENTS = ("kafkajs", "confluent-kafka", "java-4.3")
TOPIC = "orders"
PARTITIONS = 3
AWAY_S = 30.0
"""How long anybody may be without an answer when a broker is killed: six seconds are ZooKeeper's, the others a busy machine's."""


@pytest.fixture
def zookeeper(tmp_path):
    """In place of the one that the README runs in a container; sessions may be as long as brokers ask for."""
    with zookeeper_server(tmp_path / "zookeeper", tick_ms=2000) as server:
        yield server


@pytest.fixture
def shell(tmp_path, zookeeper):
    """With the cluster of the README running in it, and the addresses of the brokers."""
    (text,) = [
        block.text
        for block in blocks(ROOT / "README.md")
        if "--zookeeper" in block.text and "for n in" in block.text
    ]
    container, start, create = text.splitlines()
    assert container == "docker run -d -p 2181:2181 zookeeper"
    # Ports of this test's own, which end in 1, 2 and 3.
    ports = free_ports_in_a_row(4, multiple_of=10)[1:]

    def here(command):
        command = command.replace("localhost:2181", zookeeper.address)
        return command.replace("localhost:909", f"localhost:{ports[0] // 10}")

    directory = tmp_path / "checkout"
    directory.mkdir()
    with Shell(directory) as shell:
        shell.run("unset BARNABAS_LISTENERS BARNABAS_BOOTSTRAP_SERVER")
        ready = [f"Barnabas is ready: ...address=localhost:{port}..." for port in ports]
        shell.run(here(start), ready)
        shell.run(here(create))
        shell.start = here(start)
        shell.bootstrap = ",".join(f"localhost:{port}" for port in ports)
        yield shell


class Client:
    """One of the clients, with a producer and a group of its own."""

    def __init__(self, name, peer, bootstrap, group):
        self.name = name
        self.peer = peer
        self.bootstrap = bootstrap
        self.producer = peer.start(
            "steady", bootstrap=bootstrap, topic=TOPIC, partitions=PARTITIONS, prefix=name
        )
        self.member = peer.start(
            "member",
            bootstrap=bootstrap,
            topics=[TOPIC],
            group=group,
            strategy="roundrobin" if name == "kafkajs" else "range",
            instance=None,
        )

    @property
    def acknowledged(self):
        return [key for key, _, _ in self.producer.all_of("acked")]

    @property
    def seen(self):
        return {record.key.decode() for record in self.member.records}

    def check(self):
        self.producer.raise_failure()
        self.member.raise_failure()

    def longest_wait_s(self):
        """The longest time between two acknowledgements, and between two that the group's member heard of records."""
        acked = [
            at
            for event, at in zip(self.producer.events, self.producer.event_arrivals, strict=False)
            if "acked" in event
        ]
        return [
            max(later - earlier for earlier, later in itertools.pairwise(times))
            for times in (acked, self.member.arrivals)
        ]


def leader_of(client, partition):
    described = client.peer.call("admin", call="describe_topic", bootstrap=client.bootstrap, topic=TOPIC)
    (found,) = [each for each in described["partitions"] if each["partition"] == partition]
    return found


def test_a_leader_is_killed_while_clients_go_on(shell, peers, unique):
    """Three makes of clients produce and read in groups throughout: nothing is lost, doubled or in another order, and nobody waits for long."""
    clients = [Client(name, peers(name), shell.bootstrap, unique(f"group-{name}")) for name in CLIENTS]

    def go_on(what):
        """Everybody gets acknowledgements, and each group all that was acknowledged until then."""
        before = {client: len(client.acknowledged) for client in clients}

        def goes_on():
            for client in clients:
                client.check()
            return all(len(client.acknowledged) >= before[client] + 100 for client in clients)

        wait_until(goes_on, 2 * AWAY_S, f"acknowledgements {what}")
        known = {key for client in clients for key in client.acknowledged}
        wait_until(lambda: all(known <= client.seen for client in clients), 2 * AWAY_S, f"reading {what}")

    go_on("before")
    confluent = clients[1]
    leader = leader_of(confluent, 0)["leader"]
    # As somebody would who has typed the README's commands: the brokers are the jobs of the shell.
    pids = [int(pid) for pid in shell.run("jobs -p") if pid.isdecimal()]
    assert len(pids) == 3
    shell.run(f"kill -9 {pids[leader - 1]}")
    go_on(f"without broker {leader}")
    shell.run(shell.start.replace("1 2 3", str(leader)), ["Barnabas is ready: ..."])
    wait_until(lambda: len(leader_of(confluent, 0)["isr"]) == 3, 2 * AWAY_S, "the broker to be in sync again")
    go_on("with the broker back")

    for client in clients:
        client.producer.stop()
    acknowledged = {key for client in clients for key in client.acknowledged}
    wait_until(lambda: all(acknowledged <= client.seen for client in clients), 2 * AWAY_S, "reading the rest")
    for client in clients:
        client.member.stop()
    reader = confluent.peer.start("read", bootstrap=shell.bootstrap, topic=TOPIC, **{"from": "earliest"})
    reader.result()
    keys = [record.key.decode() for record in reader.records]
    assert acknowledged <= set(keys), "lost"
    assert len(keys) == len(set(keys)), "doubled"
    for client, partition in itertools.product(clients, range(PARTITIONS)):
        numbers = [
            int(re.fullmatch(rf"{client.name}-(\d+)", record.key.decode())[1])
            for record in sorted(reader.records, key=lambda each: each.offset)
            if record.partition == partition and record.key.decode().startswith(client.name)
        ]
        assert numbers == sorted(numbers), "reordered"
    # What the groups' members got is what is there; after a rebalance a part of it may come again, in the same order.
    there = {(record.partition, record.offset): record.key for record in reader.records}
    for client in clients:
        for record in client.member.records:
            assert there[record.partition, record.offset] == record.key
    waits = {client.name: [round(wait, 1) for wait in client.longest_wait_s()] for client in clients}
    print(
        f"{len(acknowledged)} records acknowledged; longest waits of producers and members, in seconds: {waits}"
    )
    assert max(wait for each in waits.values() for wait in each) < AWAY_S

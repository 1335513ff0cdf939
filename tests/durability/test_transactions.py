"""A broker killed in each phase of a transaction: what was decided stands, what was not leaves nothing behind."""

from __future__ import annotations

import time

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.end_txn import EndTxnRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.transactional_producer import (
    TransactionalProducer,
    committed_offset,
    create_topic,
    find_coordinator,
    last_stable_offset,
    read,
)
from tests.wire_client import WireClient

PARTITIONS = 2
SETTINGS = {"offsets.topic.num.partitions": "2", "transaction.state.log.num.partitions": "2"}


class Life:
    """A broker that is killed again and again, with a topic and a group for each life."""

    def __init__(self, broker):
        self.broker = broker
        self.number = 0
        self.client = WireClient(broker.bootstrap_server)

    def begin(self, version):
        self.number += 1
        self.topic = create_topic(self.client, f"t{self.number}", PARTITIONS)
        self.group = f"g{self.number}"
        find_coordinator(self.client, self.group, 0)
        return TransactionalProducer(self.client, f"x{self.number}", version).start()

    def kill(self, producer):
        """Kill -9, and a new connection to the broker that comes after."""
        self.broker.kill()
        self.client.socket.close()
        self.broker.start()
        self.client = producer.client = WireClient(self.broker.bootstrap_server)
        producer.find()
        find_coordinator(self.client, self.group, 0)

    def look(self):
        return [read(self.client, self.topic, index) for index in range(PARTITIONS)]

    def expect(self, values, offset):
        """Both partitions and the offset come to be this, with nothing left open."""
        wait_until(lambda: self.look() == [values] * PARTITIONS, what=f"{values}, not {self.look()}")
        wait_until(
            lambda: committed_offset(self.client, self.group, self.topic, require_stable=True) == (0, offset),
            what=f"offset {offset}",
        )
        for index in range(PARTITIONS):
            ends = [
                last_stable_offset(self.client, self.topic, index, committed=committed)
                for committed in (True, False)
            ]
            assert ends[0] == ends[1]


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("killed"), settings=SETTINGS) as broker:
        life = Life(broker)
        yield life
        life.client.socket.close()


def write(life, producer, value):
    for index in range(PARTITIONS):
        producer.write(life.topic, index, value)
    producer.write_offsets(life.group, life.topic, {0: int(value)})


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("phase", ["initialised", "partitions", "records", "offsets"])
def test_killed_before_the_decision(life, version, phase):
    """The producer may go on as if nothing had happened; another one in its place begins anew."""
    producer = life.begin(version)
    write(life, producer, b"1")
    producer.finish(commit=True)
    life.expect([b"1"], 1)
    if phase != "initialised":
        if version < 2:
            assert set(producer.add(life.topic, 0, 1).values()) == {0}
        if phase != "partitions":
            for index in range(PARTITIONS):
                producer.write(life.topic, index, b"2")
        if phase == "offsets":
            producer.write_offsets(life.group, life.topic, {0: 2})
    life.kill(producer)
    assert life.look() == [[b"1"]] * PARTITIONS
    if phase == "offsets":
        assert committed_offset(life.client, life.group, life.topic) == (0, 1)
        producer.finish(commit=True)
        life.expect([b"1", b"2"], 2)
    successor = TransactionalProducer(life.client, producer.transactional_id, version).start()
    write(life, successor, b"3")
    assert producer.end(commit=True).error_code == ErrorCode.PRODUCER_FENCED
    successor.finish(commit=True)
    life.expect([b"1", b"2", b"3"] if phase == "offsets" else [b"1", b"3"], 3)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [True, False])
def test_killed_after_the_decision(life, version, commit):
    """Markers that are missing are written by the broker that comes after, without being asked."""
    producer = life.begin(version)
    write(life, producer, b"1")
    assert producer.end(commit=commit).error_code == 0
    life.kill(producer)
    life.expect([b"1"] if commit else [], 1 if commit else -1)
    write(life, producer, b"2")
    producer.finish(commit=True)
    life.expect([b"1", b"2"] if commit else [b"2"], 2)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("delay_ms", [0, 0.5, 1, 2, 4])
def test_killed_while_it_decides(life, version, delay_ms):
    """Nobody knows what became of it; all of it has become the same, and a retry is told that."""
    producer = life.begin(version)
    write(life, producer, b"1")
    life.client.send(
        EndTxnRequest(
            transactional_id=producer.transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            committed=True,
        ),
        5 if version >= 2 else 3,
        is_answered=False,
    )
    time.sleep(delay_ms / 1000)  # to meet the broker at different points, not to wait for one
    life.kill(producer)
    producer.finish(commit=True)
    life.expect([b"1"], 1)
    write(life, producer, b"2")
    producer.finish(commit=False)
    life.expect([b"1"], 1)

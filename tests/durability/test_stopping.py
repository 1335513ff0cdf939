"""A broker that is stopped, halted or killed while it changes things: whatever it has answered is so afterwards."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.faults.test_clock import PARTITIONS, Reader, Writer
from tests.faults.test_failing_disk import code_of, read
from tests.topic_requests import create_topics, produce
from tests.wire_client import WireClient

ROUNDS = 8
TOPIC = 2  # a resource type


class _Admin(threading.Thread):
    """Creates, configures, fills, empties and deletes topics one after another, and remembers what was answered."""

    def __init__(self, address, number):
        super().__init__(name="admin", daemon=True)
        self.address = address
        self.number = number
        self.topics: dict[str, dict] = {}
        self.unsure: set[str] = set()
        self.step = ""

    def run(self):
        chance = random.Random(self.number)
        try:
            with WireClient(self.address) as client:
                while True:
                    self.do(client, chance)
        except (ConnectionError, OSError):
            self.unsure.add(self.step)

    def do(self, client, chance):
        # Few names, so that they come again.
        name = self.step = f"t{chance.randrange(6)}"
        topic = self.topics.get(name)
        if topic is None:
            answer = client.call(create_topics([name], 2), 5)
            assert answer.topics[0].error_code == 0, answer
            self.topics[name] = {"retention": None, "values": []}
            return
        kind = chance.random()
        if kind < 0.15:
            answer = client.call(DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), 5)
            assert answer.responses[0].error_code == 0, answer
            del self.topics[name]
        elif kind < 0.4:
            value = str(chance.randrange(10**6, 10**9))
            config = IncrementalAlterConfigsRequest.AlterableConfig(
                name="retention.ms", config_operation=0, value=value
            )
            resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=TOPIC, resource_name=name, configs=[config]
            )
            answer = client.call(IncrementalAlterConfigsRequest(resources=[resource]), 1)
            assert answer.responses[0].error_code == 0, answer
            topic["retention"] = value
        else:
            value = b"%d %d" % (self.number, len(topic["values"]))
            assert code_of(client.call(produce(name, 0, value), 8)) == 0
            topic["values"].append(value)


def _check(address, admin):
    with WireClient(address) as client:
        found = {topic.name for topic in client.call(MetadataRequest(topics=None), 4).topics}
        for name in set(admin.topics) - admin.unsure:
            assert name in found, f"{name} is gone"
        assert not found - set(admin.topics) - admin.unsure, "a deleted topic is back"
        for name, topic in admin.topics.items():
            if name in admin.unsure:
                if name in found:
                    # Whatever the last step was: what is there begins with what was acknowledged, or is a new topic.
                    values = read(client, name, 0)
                    assert values[: len(topic["values"])] == topic["values"]
                continue
            assert read(client, name, 0) == topic["values"], name
            resource = DescribeConfigsRequest.DescribeConfigsResource(
                resource_type=TOPIC, resource_name=name, configuration_keys=["retention.ms"]
            )
            (result,) = client.call(DescribeConfigsRequest(resources=[resource]), 1).results
            if topic["retention"] is not None:
                assert result.configs[0].value == topic["retention"]
        for name in found:
            client.call(DeleteTopicsRequest(topic_names=[name], timeout_ms=10_000), 5)


@pytest.mark.durability
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_whatever_was_answered_is_so_after_a_restart(tmp_path, number):
    """Topics created, deleted, created again, configured and filled: each answer holds, however the broker ended."""
    chance = random.Random()
    settings = {"metadata.log.max.record.bytes.between.snapshots": "20000"}
    with BrokerProcess(tmp_path, settings=settings) as broker:
        for seed in range(ROUNDS):
            admin = _Admin(broker.bootstrap_server, seed)
            admin.start()
            time.sleep(0.05)  # not for synchronisation: the moment of the end is to be any
            wait_until(lambda admin=admin: len(admin.topics) > 2, what="some topics")
            admin.join(chance.random() * 0.4)
            if number == signal.SIGKILL:
                broker.kill()
            else:
                assert broker.stop() == 0
            admin.join(20)
            assert not admin.is_alive()
            before = broker.log_path.stat().st_size
            broker.start()
            log = broker.log_path.read_text()[before:]
            # A broker that was stopped in order reads no log again.
            assert ("logs are recovered" in log) == (number == signal.SIGKILL)
            _check(broker.bootstrap_server, admin)
        assert "Traceback" not in broker.log_path.read_text()


@pytest.mark.durability
def test_what_was_accepted_is_answered_before_the_end(tmp_path):
    """Requests that are under way at SIGTERM get their answers, and what they were told is there after the restart."""
    with BrokerProcess(tmp_path) as broker:
        with WireClient(broker.bootstrap_server) as client:
            client.call(create_topics(["t"], 1), 5)
            assert code_of(client.call(produce("t", 0, b"0"), 8)) == 0
            for value in range(1, 101):
                client.send(produce("t", 0, b"%d" % value), 8)
            assert code_of(client.receive()) == 0
            process = broker.process
            process.terminate()
            answered = 1
            try:
                while answered < 100:
                    assert code_of(client.receive()) == 0
                    answered += 1
            except ConnectionError:
                pass
            assert process.wait(30) == 0
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as client:
            values = read(client, "t", 0)
            # Everything that was appended was answered: no client is left to wonder.
            assert values == [b"%d" % value for value in range(answered + 1)]


@pytest.mark.durability
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be halted here")
def test_a_halt_is_survived(tmp_path):
    """A broker that is halted for a while goes on as if nothing had been."""
    with BrokerProcess(tmp_path) as broker, WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["t"], 1), 5)
        for value in range(10):
            client.send(produce("t", 0, b"%d" % value), 8)
            os.kill(broker.process.pid, signal.SIGSTOP)
            time.sleep(0.05)
            os.kill(broker.process.pid, signal.SIGCONT)
            assert code_of(client.receive()) == 0
        assert read(client, "t", 0) == [b"%d" % value for value in range(10)]


@pytest.mark.durability
@pytest.mark.timeout(180)
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be halted here")
def test_halts_and_stops_under_load(tmp_path):
    """Halted for a second, stopped and killed, again and again, under a producer and groups of both protocols: all is read once, by the same members."""
    settings = {"offsets.topic.num.partitions": "1"}
    with BrokerProcess(tmp_path, settings=settings) as broker, WireClient(broker.bootstrap_server) as client:
        client.call(create_topics(["busy"], PARTITIONS), 5)
        writer = Writer(broker.bootstrap_server, "busy")
        readers = [Reader(broker.bootstrap_server, "busy", protocol) for protocol in ("classic", "consumer")]
        threads = [writer, *readers]
        for thread in threads:
            thread.start()

        def all_is_read(more):
            ends = [len(values) + more for values in writer.acknowledged]
            wait_until(
                lambda: all(
                    len(read) >= end for one in readers for read, end in zip(one.read, ends, strict=True)
                ),
                60,
                "records to be read",
            )

        for end in (broker.stop, broker.kill, broker.stop):
            all_is_read(50)
            os.kill(broker.process.pid, signal.SIGSTOP)
            time.sleep(1)  # what the broker misses
            os.kill(broker.process.pid, signal.SIGCONT)
            all_is_read(50)
            end()
            broker.start()
        all_is_read(50)
        writer.stop()
        all_is_read(0)
        for reader in readers:
            reader.stop()
        assert writer.refused == []
        for reader in readers:
            assert reader.read == writer.acknowledged, reader.name
            assert reader.assignments == 1, reader.name

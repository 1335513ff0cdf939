"""Read, process, write, exactly once: brokers and clients are killed at any moment, and each input counts once.

Each client reads what transactional producers write (and, between, what they abort), writes it to another topic and commits both
together. `make exactly-once ROUNDS=50` kills as often; here it is a few times.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from tests.broker_process import wait_until
from tests.our_broker import our_broker, wire_client
from tests.transactional_producer import TransactionalProducer, create_topic, read_on

pytestmark = [pytest.mark.clients, pytest.mark.timeout(0)]

ROUNDS = int(os.environ.get("ROUNDS", "2"))
CLIENTS = ("java-4.3", "java-3.9", "confluent-kafka", "franz-go", "kafkajs", "aiokafka")
PARTITIONS = 3
RECORDS_PER_ROUND = 30
DEADLINE_S = 120.0
SETTINGS = {
    "group.min.session.timeout.ms": "500",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
}


class Pipeline:
    """A client between two topics; its program and its broker can be killed."""

    def __init__(self, directory, peers, client):
        self.broker = our_broker(directory / "broker", SETTINGS)
        self.broker.start()
        self.peers = peers
        self.client = client
        self.written = []
        with wire_client(self.broker.bootstrap_server) as wire:
            create_topic(wire, "in", PARTITIONS)
            create_topic(wire, "out", PARTITIONS)
        self._start()

    def _start(self):
        self.peer = self.peers.another(self.client)
        self.job = self.peer.start(
            "process",
            bootstrap=self.broker.bootstrap_server,
            topics=["in"],
            topic="out",
            group="group",
            instance="instance",
            transactional_id="processor",
            abort_every=4,
        )

    def write(self):
        """More input, and some that is taken back, from a producer that is new every time."""
        with wire_client(self.broker.bootstrap_server) as wire:
            producer = TransactionalProducer(wire, "source", version=1 + len(self.written) % 2).start()
            for number in range(RECORDS_PER_ROUND):
                value = b"%d" % len(self.written)
                producer.write("in", number % PARTITIONS, value)
                self.written.append(value)
                if number % 10 == 9:
                    producer.finish(commit=True)
                    producer.write("in", number % PARTITIONS, b"taken back")
                    producer.finish(commit=False)

    @property
    def progress(self):
        return len(self.job.all_of("committed"))

    def wait_for_progress(self, before):
        """The client has committed again."""
        self.job.wait_for(lambda: self.progress > before, "a transaction", deadline_s=DEADLINE_S)

    def kill_broker(self):
        self.broker.kill()
        self.broker.start()

    def kill_client(self):
        self.peer.kill()
        self._start()

    def results(self):
        with wire_client(self.broker.bootstrap_server) as wire:
            return [value for index in range(PARTITIONS) for value in read_on(wire, "out", index)]

    def close(self):
        self.peer.kill()
        self.broker.kill()


@pytest.mark.parametrize("client", CLIENTS)
def test_each_input_counts_once(tmp_path, peers, client, request):
    """Whoever is killed, and whenever."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    print(f"SEED={seed}")
    chance = random.Random(seed)
    pipeline = Pipeline(tmp_path, peers, client)
    request.addfinalizer(pipeline.close)
    kills = {"broker": pipeline.kill_broker, "client": pipeline.kill_client}
    for number in range(ROUNDS):
        before = pipeline.progress
        pipeline.write()
        pipeline.wait_for_progress(before)
        # Not to wait for anything: to meet the client at any point of what it does.
        time.sleep(chance.uniform(0, 0.1))
        kills[chance.choice(["broker", "client"]) if ROUNDS > 2 else ("broker", "client")[number % 2]]()
    try:
        # On a slow machine much may be left, which is no fault as long as it becomes less.
        while (count := len(pipeline.results())) < len(pipeline.written):
            wait_until(lambda before=count: len(pipeline.results()) > before, DEADLINE_S, "more results")
    finally:
        print("troubles:", Counter(map(str, pipeline.job.all_of("trouble"))).most_common(5))
    counted = Counter(pipeline.results())
    assert counted == Counter(pipeline.written)

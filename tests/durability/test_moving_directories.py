"""Kill -9 while a partition moves between log directories: what was acknowledged is there, once, in order.

A process that dies leaves what it wrote in the page cache, so that also what was acknowledged with acks=1 must be there.
"""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from tests import topic_requests as requests
from tests.broker_process import BrokerProcess, wait_until
from tests.wire_client import WireClient

pytestmark = [pytest.mark.durability, pytest.mark.timeout(240)]

ROUNDS = 12
FILLER = bytes(3000)


class _Writer(threading.Thread):
    """Numbers its records, and remembers the last one that was acknowledged and the last one that was tried."""

    def __init__(self, address, first):
        super().__init__(daemon=True)
        self.address = address
        self.tried = self.acknowledged = first - 1
        self.refused = None

    def run(self):
        try:
            with WireClient(self.address) as client:
                while self.refused is None:
                    self.tried += 1
                    value = self.tried.to_bytes(8, "big") + FILLER
                    request = requests.produce("orders", 0, value, self.tried % 3 - 1 or 1)
                    answer = requests.produced(client.call(request, requests.PRODUCE))
                    if answer.error_code:
                        self.refused = answer
                    else:
                        self.acknowledged = self.tried
        except (ConnectionError, TimeoutError):
            pass


class _Mover(threading.Thread):
    """Sends the partition to and fro."""

    def __init__(self, address, directories):
        super().__init__(daemon=True)
        self.address = address
        self.directories = directories
        self.moved = 0
        self.places = []

    def run(self):
        try:
            with WireClient(self.address) as client:
                while True:
                    answer = client.call(DescribeLogDirsRequest(topics=None), 4)
                    places = [result.log_dir for result in answer.results if result.topics]
                    if len(places) == 1:
                        if self.places and self.places != places:
                            self.moved += 1
                        self.places = places
                        to = next(path for path in self.directories if path != places[0])
                        client.call(requests.move_replica("orders", 0, to), requests.ALTER_REPLICA_LOG_DIRS)
        except (ConnectionError, TimeoutError):
            pass


def _read_all(address):
    found = []
    with WireClient(address) as client:
        offset = 0
        while True:
            request = requests.fetch("orders", 0, offset, 1 << 24)
            offset, values = requests.offset_and_values(client.call(request, requests.FETCH), offset)
            assert isinstance(values, list), values
            if not values:
                return found
            found += [int.from_bytes(value[:8], "big") for value in values]


def test_acknowledged_records_survive_kills_while_they_move(tmp_path):
    """Whatever the move was at: nothing acknowledged is missing, nothing is there twice, and the move goes on."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    directories = [f"{tmp_path}/a", f"{tmp_path}/b"]
    broker = BrokerProcess(tmp_path / "broker", settings={"log.segment.delete.delay.ms": "0"})
    broker.data_directory = ",".join(directories)
    expected = []
    moves = 0
    with broker:
        with WireClient(broker.bootstrap_server) as client:
            request = requests.create_topics(["orders"], segment_bytes=1 << 20)
            created = client.call(request, requests.CREATE)
            assert created.topics[0].error_code == 0
        for _ in range(ROUNDS):
            writer = _Writer(broker.bootstrap_server, expected[-1] + 1 if expected else 0)
            mover = _Mover(broker.bootstrap_server, directories)
            writer.start()
            mover.start()
            wait_until(lambda mover=mover: mover.moved or not mover.is_alive(), what="a first move")
            time.sleep(chance.uniform(0, 0.2))  # the kill falls anywhere into a move
            broker.kill()
            writer.join()
            mover.join()
            moves += mover.moved
            assert writer.refused is None, f"seed {seed}: {writer.refused}\n{broker.log_tail()}"
            broker.start()
            found = _read_all(broker.bootstrap_server)
            assert found == sorted(set(found)), f"seed {seed}: twice, or out of order"
            first = expected[-1] + 1 if expected else 0
            missing = {*expected, *range(first, writer.acknowledged + 1)} - set(found)
            assert not missing, f"seed {seed}: {sorted(missing)[:5]} are missing\n{broker.log_tail()}"
            assert found[-1] <= writer.tried
            expected = found
        assert broker.stop() == 0
    assert moves >= ROUNDS
    assert "is offline" not in broker.log_path.read_text(), f"seed {seed}"

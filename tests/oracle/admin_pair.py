"""Apache Kafka and us with two log directories each, asked the same by administrators.

A connection that is closed is an answer, too. What must differ is listed, with the reasons, in `likeness.py`.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from barnabas.wire.apis import APIS
from tests.oracle.building import build, fitted
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.likeness import Likeness, differences
from tests.oracle.two_brokers import Side
from tests.our_broker import our_broker, wire_client

__all__ = ["BY_NAME", "Both", "two_directories_each"]

SETTINGS = {"auto.create.topics.enable": "false", "num.partitions": "1", "offsets.topic.num.partitions": "1"}
BY_NAME = {api.name: api for api in APIS.values()}
CATCH_UP_S = 15


@contextmanager
def two_directories_each(directory):
    """Addresses of both; BARNABAS_ORACLE_2 names a Kafka with two directories that runs already."""
    ours = our_broker(directory / "barnabas", SETTINGS, log_dirs=2)
    theirs = {**SETTINGS, "log.dirs": f"{directory}/kafka/a,{directory}/kafka/b"}
    with ours:
        running = os.environ.get("BARNABAS_ORACLE_2")
        if running:
            yield running, ours.bootstrap_server
            return
        with kafka_broker(directory / "kafka", config=theirs) as kafka:
            yield kafka.bootstrap, ours.bootstrap_server


class Both:
    """Apache Kafka and us, asked the same."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.plain = [Likeness() for _ in addresses]
        self.sides = [Side(address, plain) for address, plain in zip(self.addresses, self.plain, strict=True)]
        self.prefix = f"{time.time_ns() // 1_000_000 % 10**8:x}"
        self.count = 0
        answer = self.sides[0].client.call(build(BY_NAME["ApiVersions"].request_class), 0)
        self.announced = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}

    def agree(self, api, versions=None, *, is_repeatable=False, but=(), **fields):
        """Both answer alike, in all versions of Kafka's or in those given; gives our last answer.

        `is_repeatable`: Kafka may show a moment late what it has answered already, and is asked again then.
        `but`: fields of the answer that cannot be alike. Fields of the request may be functions of the side.
        """
        ours = None
        if versions is None:
            lowest, highest = self.announced[BY_NAME[api].key]
            versions = range(lowest, highest + 1)
        for version in versions:
            question = f"{api} {version} {fields}"
            asked = [self._ask(side, api, version, fields) for side in self.sides]
            if None in asked:
                continue
            self.count += 1
            end = time.monotonic() + CATCH_UP_S
            while True:
                plain = [without(plain(answer), but) for plain, answer in zip(self.plain, asked, strict=True)]
                found = differences(*plain)
                if not found or not is_repeatable or time.monotonic() > end:
                    break
                time.sleep(0.02)
                asked[0] = self._ask(self.sides[0], api, version, fields)
            assert not found, "\n".join([question, *found])
            ours = asked[1]
        return ours

    def _ask(self, side, api, version, fields):
        values = {name: value(side) if callable(value) else value for name, value in fields.items()}
        request = fitted(build(BY_NAME[api].request_class, **values), version)
        if request is None:
            return None
        try:
            return side.client.call(request, version)
        except ConnectionError:
            side.client.close()
            side.client = wire_client(side.address)
            return "closes the connection"

    def barrier(self):
        """Waits until both act upon all that they have answered."""
        for side in self.sides:
            side.barrier()

    def topic(self, name, partitions=1):
        """A new topic on both; its name."""
        name = f"{self.prefix}{name}"
        topics = [{"name": name, "num_partitions": partitions, "replication_factor": 1}]
        for side in self.sides:
            request = build(BY_NAME["CreateTopics"].request_class, topics=topics, timeout_ms=10_000)
            assert side.client.call(request, 5).topics[0].error_code == 0
            side.barrier()
        return name

    def close(self):
        for side in self.sides:
            side.client.close()


def without(plain, fields):
    """An answer without some of its fields."""
    if isinstance(plain, dict):
        return {name: without(value, fields) for name, value in plain.items() if name not in fields}
    return [without(value, fields) for value in plain] if isinstance(plain, list) else plain

"""Apache Kafka and Barnabas side by side."""

from __future__ import annotations

import os
import time

import pytest

from tests.oracle.kafka_broker import kafka_broker
from tests.our_broker import our_broker, wire_client
from tests.wire_client import WireClient

_SETTINGS = {"auto.create.topics.enable": "false", "num.partitions": "1"}


def differences(theirs, ours, path="") -> list[str]:
    """Where two answers differ, a line each."""
    if hasattr(theirs, "__slots__") and type(theirs) is type(ours):
        return [
            line
            for name in theirs.__slots__
            for line in differences(getattr(theirs, name), getattr(ours, name), f"{path}.{name}")
        ]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [
            line
            for index, (a, b) in enumerate(zip(theirs, ours, strict=True))
            for line in differences(a, b, f"{path}[{index}]")
        ]
    return [] if theirs == ours else [f"{path}: kafka {theirs!r}, ours {ours!r}"]


class Pair:
    """The same request to both brokers, and both answers."""

    def __init__(self, kafka_address: str, our_address: str) -> None:
        self.kafka_address = kafka_address
        self.our_address = our_address
        self.kafka = WireClient(kafka_address)
        self.ours = wire_client(our_address)

    def ask(self, request, version):
        """(Kafka's answer, ours)."""
        return self.kafka.call(request, version), self.ours.call(request, version)

    def agree(self, request, version, *, normalise=lambda answer: answer):
        """Asserts that both answer the same, after `normalise` has taken out what must differ; gives our answer."""
        theirs, ours = self.ask(request, version)
        theirs, ours = normalise(theirs), normalise(ours)
        found = differences(theirs, ours)
        assert not found, f"{type(request).__name__} {version}: {request}\n" + "\n".join(found)
        return ours

    def until(self, ask, good, deadline_s=30):
        """Repeats until both answers are `good`: Kafka applies changes of metadata a moment after it has answered."""
        end = time.monotonic() + deadline_s
        while True:
            answers = ask()
            if all(map(good, answers)):
                return answers
            assert time.monotonic() < end, answers
            time.sleep(0.05)

    def close(self) -> None:
        self.kafka.close()
        self.ours.close()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory):
    """Addresses of both, started once for each test module; BARNABAS_ORACLE names a Kafka that runs already."""
    directory = tmp_path_factory.mktemp("pair")
    with our_broker(directory / "barnabas", _SETTINGS) as ours:
        running = os.environ.get("BARNABAS_ORACLE")
        if running:
            yield running, ours.bootstrap_server
            return
        with kafka_broker(directory / "kafka", config=_SETTINGS) as kafka:
            yield kafka.bootstrap, ours.bootstrap_server


@pytest.fixture
def pair(brokers):
    """A connection of this test's own to each."""
    pair = Pair(*brokers)
    yield pair
    pair.close()

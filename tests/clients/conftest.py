"""What the client tests share: running clients, and the broker they talk to.

The tests are proved against Apache Kafka itself, which they must pass as we do:

    BARNABAS_TEST_BROKER=kafka pytest tests/clients              Apache Kafka in place of every Barnabas
    BARNABAS_TEST_BOOTSTRAP=127.0.0.1:9092 pytest tests/clients  a broker that runs already, for the shared one

and BARNABAS_TEST_CLUSTER=3 puts three brokers in place of every one of ours (`tests.our_broker`).
"""

from __future__ import annotations

import os
import secrets
from types import SimpleNamespace
from typing import Self

import pytest

from tests.clients.peer import Peer
from tests.clients.programs import CLIENTS, MissingToolError, program
from tests.oracle.kafka_broker import KafkaBroker
from tests.our_broker import our_broker

_AGAINST_KAFKA = os.environ.get("BARNABAS_TEST_BROKER") == "kafka"


class KafkaInstead(KafkaBroker):
    """Apache Kafka with the interface of `BrokerProcess`: a restart keeps the port."""

    def __init__(self, directory, **options) -> None:
        self._first_port = 0
        super().__init__(directory, **options)

    @property
    def port(self) -> int:
        return self._first_port

    @port.setter
    def port(self, port: int) -> None:
        self._first_port = self._first_port or port

    @property
    def bootstrap_server(self) -> str:
        return self.bootstrap

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of the broker's log with a test that failed."""
    report = yield
    if report.failed:
        for name in ("broker", "shared_broker"):
            log_tail = getattr(item.funcargs.get(name), "log_tail", None)
            if log_tail is not None:
                report.sections.append((f"log of the {name}", log_tail(6000)))
    return report


def _broker(directory):
    return KafkaInstead(directory) if _AGAINST_KAFKA else our_broker(directory)


def two_directories(directory):
    """A broker with two log directories, not started yet."""
    if _AGAINST_KAFKA:
        return KafkaInstead(directory, config={"log.dirs": f"{directory}/a,{directory}/b"})
    return our_broker(directory, log_dirs=2)


@pytest.fixture
def broker(tmp_path):
    """A broker of this test's own."""
    with _broker(tmp_path / "broker") as process:
        yield process


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory):
    """One broker for all tests of a worker that use topics and groups of their own names."""
    running = os.environ.get("BARNABAS_TEST_BOOTSTRAP")
    if running:
        yield SimpleNamespace(bootstrap_server=running)
        return
    with _broker(tmp_path_factory.mktemp("shared-broker")) as process:
        yield process


@pytest.fixture(scope="session")
def bootstrap(shared_broker) -> str:
    """The address of the shared broker."""
    return shared_broker.bootstrap_server


class Peers:
    """The clients' programs: each is started when first asked for and then serves all tests of a worker."""

    def __init__(self, directory) -> None:
        self._directory = directory
        self._running: dict[str, Peer] = {}
        self._started = 0

    def __call__(self, client: str) -> Peer:
        running = self._running.get(client)
        if running is None or running.process.poll() is not None:
            running = self._running[client] = self.another(client)
        return running

    def another(self, client: str) -> Peer:
        """A program of one's own, to be killed or closed."""
        try:
            command, environment = program(client)
        except MissingToolError as error:
            if os.environ.get("CI"):
                pytest.fail(f"{client}: {error}", pytrace=False)
            pytest.skip(f"{client}: {error}")
        self._started += 1
        log_path = self._directory / f"{client}-{self._started}.log"
        return Peer(client, command, log_path=log_path, environment=environment)

    def close(self) -> None:
        for peer in self._running.values():
            peer.close()


@pytest.fixture(scope="session")
def peers(tmp_path_factory):
    """`peers("kafkajs")` is KafkaJS, running."""
    all_of_them = Peers(tmp_path_factory.mktemp("peers"))
    yield all_of_them
    all_of_them.close()


@pytest.fixture
def unique():
    """`unique("events")` is a name that no other test uses, nor another worker."""
    return lambda name: f"{name}-{secrets.token_hex(4)}"


@pytest.fixture(params=CLIENTS)
def client(request, peers) -> Peer:
    """Each client in turn."""
    return peers(request.param)

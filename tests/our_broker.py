"""Our broker as tests obtain it: one node, or a cluster of three around an Apache ZooKeeper.

    our_broker(directory)                   one node, unless BARNABAS_TEST_CLUSTER=3 (`make test-cluster`) says three
    our_broker(directory, brokers=3)        three

Both have the interface of `BrokerProcess`. The address tells which it is: that of a cluster names all its brokers,
"127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094", which Kafka's clients take as `bootstrap.servers`. Tests ask `replicas_at` how
many replicas their topics shall have, and `wire_client` for a client that finds the right broker for each request.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.broker_process import BrokerProcess
from tests.cluster_client import ClusterClient
from tests.wire_client import WireClient
from tests.zookeeper_process import zookeeper_server

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BROKERS",
    "ClusterProcess",
    "is_cluster",
    "one_address",
    "only_on_one_node",
    "our_broker",
    "replicas_at",
    "shared_zookeeper",
    "wait_until_known",
    "wire_client",
]

BROKERS = int(os.environ.get("BARNABAS_TEST_CLUSTER") or 1)
"""How many brokers stand behind the address of ours."""

_REPLICAS = 3
_SESSION_TIMEOUT_MS = 6000
_TICK_MS = 1000


def our_broker(
    directory: Path,
    settings: Mapping[str, str] | None = None,
    *,
    brokers: int = BROKERS,
    log_dirs: int = 1,
) -> BrokerProcess | ClusterProcess:
    """Barnabas with its data in `directory`, in so many log directories, not started yet."""
    if brokers > 1:
        return ClusterProcess(directory, settings=settings, count=brokers, log_dirs=log_dirs)
    broker = BrokerProcess(directory, settings=settings)
    if log_dirs > 1:
        broker.data_directory = _several(directory, log_dirs)
    return broker


def is_cluster(address: str) -> bool:
    """Whether several brokers are behind an address."""
    return "," in address


def replicas_at(address: str) -> int:
    """How many replicas a topic has there that shall have as many as it can."""
    return min(_REPLICAS, address.count(",") + 1)


def one_address(address: str) -> str:
    """That of one broker, for what is said to any of them."""
    return address.partition(",")[0]


def wire_client(address: str, **options) -> WireClient | ClusterClient:
    """A client that says exactly what a test wants said, to whichever broker has to hear it."""
    return ClusterClient(address, **options) if is_cluster(address) else WireClient(address, **options)


def wait_until_known(address: str) -> None:
    """Waits until all brokers know what has been changed: they learn of it one after the other."""
    if is_cluster(address):
        with ClusterClient(address) as client:
            client.settle()


def only_on_one_node(why: str) -> pytest.MarkDecorator:
    """Marks what cannot be asked of a cluster."""
    return pytest.mark.skipif(BROKERS > 1, reason=f"only on one node: {why}")


def _several(directory: Path, count: int) -> str:
    return ",".join(str(directory / letter) for letter in "abcdefgh"[:count])


@cache
def shared_zookeeper() -> str:
    """The address of a ZooKeeper for all clusters of this process; each has a path of its own."""
    stack = ExitStack()
    atexit.register(stack.close)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="barnabas-zookeeper-"))
    return stack.enter_context(zookeeper_server(Path(directory), tick_ms=_TICK_MS)).address


class ClusterProcess:
    """Brokers 1, 2, … as processes, started, stopped and killed together, or one by one in `brokers`."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        count: int = 3,
        log_dirs: int = 1,
    ) -> None:
        self.directory = directory
        replicas = str(min(_REPLICAS, count))
        shared = {
            "zookeeper.connect": f"{shared_zookeeper()}/{directory.name}-{os.urandom(6).hex()}",
            "zookeeper.session.timeout.ms": str(_SESSION_TIMEOUT_MS),
            "default.replication.factor": replicas,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            **(settings or {}),
        }
        self.brokers: dict[int, BrokerProcess] = {}
        for node_id in range(1, count + 1):
            broker = BrokerProcess(
                directory / f"broker-{node_id}", settings={**shared, "node.id": str(node_id)}
            )
            if log_dirs > 1:
                broker.data_directory = _several(broker.directory, log_dirs)
            self.brokers[node_id] = broker

    @property
    def bootstrap_server(self) -> str:
        """The addresses of all."""
        return ",".join(broker.bootstrap_server for broker in self.brokers.values())

    def start(self) -> Self:
        self._all(BrokerProcess.start)
        return self

    def stop(self) -> int:
        """SIGTERM for all, at once; gives the highest exit status."""
        return max(self._all(BrokerProcess.stop))

    def kill(self) -> None:
        """Kill -9 for all."""
        self._all(BrokerProcess.kill)

    def _all(self, action) -> list:
        with ThreadPoolExecutor(len(self.brokers)) as threads:
            return list(threads.map(action, self.brokers.values()))

    def partition_directory(self, topic: str, partition: int = 0) -> Path:
        """The files of a partition, as its leader has them."""
        with ClusterClient(self.bootstrap_server) as client:
            broker = self.brokers[client.leader(topic, partition)]
        return broker.partition_directory(topic, partition)

    def log_tail(self, size_bytes: int = 5000) -> str:
        return "\n".join(
            f"--- broker {node_id}\n{broker.log_tail(size_bytes // len(self.brokers))}"
            for node_id, broker in self.brokers.items()
        )

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_) -> None:
        self.kill()

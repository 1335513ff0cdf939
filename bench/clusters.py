"""Clusters of either broker on this machine: Barnabas around an ensemble of three ZooKeepers, Apache Kafka in KRaft mode.

Every node is a process with a data directory of its own; ports stay the same for the life of a cluster. A Kafka node is broker
and controller at once, as small clusters run it: the first three are the voters of the metadata quorum, what is added later
is a broker alone. Whatever was started is killed by `kill`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.cli.local_zookeeper import Peer, ZooKeeperServer, find_jars
from bench.brokers import cpu_s, rss_kb
from bench.processes import BarnabasProcess, KafkaProcess
from tests.oracle.kafka_broker import KafkaBroker, broker_count
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.processes import BrokerProcess

__all__ = ["BarnabasCluster", "KafkaCluster"]

HEAP = "512m"
"""Of each Kafka node."""
_VOTERS = 3
_ENSEMBLE = 3
_START_DEADLINE_S = 120
_CACHE = Path(__file__).parents[1] / ".cache"
_INTERNAL = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "offsets.topic.num.partitions": "50",
    "transaction.state.log.num.partitions": "50",
    "share.coordinator.state.topic.num.partitions": "50",
    "share.coordinator.state.topic.replication.factor": "3",
}


class _Cluster:
    """What both kinds have in common. Brokers have the ids 1, 2, 3, …"""

    name: str
    title: str

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.settings = dict(settings or {})
        self.nodes: dict[int, BrokerProcess] = {}

    def start(self, count: int = 3) -> None:
        """Starts so many, and waits until each knows all."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._before(count)
        self._grow(count)

    def add(self) -> BrokerProcess:
        """One more broker, which holds nothing yet."""
        self._grow(1)
        return self.nodes[max(self.nodes)]

    def _grow(self, count: int) -> None:
        first = len(self.nodes) + 1
        added = [self._make(node_id) for node_id in range(first, first + count)]
        for node in added:
            self.nodes[node.id] = node
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda node: node.prepare(), added))
        for node in added:
            node.launch()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until each broker that runs knows all that run."""
        running = [node for node in self.nodes.values() if node.is_running]
        deadline = time.monotonic() + _START_DEADLINE_S
        for node in running:
            while broker_count(node.port) < len(running):
                if not node.is_running or time.monotonic() > deadline:
                    raise RuntimeError(f"broker {node.id} of {self.title} does not start:\n{node.log_tail()}")
                time.sleep(0.01)

    @property
    def running(self) -> list[BrokerProcess]:
        return [node for node in self.nodes.values() if node.is_running]

    @property
    def port(self) -> int:
        """Some broker that runs."""
        return self.running[0].port

    @property
    def pids(self) -> list[int]:
        """The brokers' processes."""
        return [node.pid for node in self.running]

    @property
    def other_pids(self) -> list[int]:
        """What else belongs to it: ZooKeeper's processes."""
        return []

    def brokers_cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))

    def others_cpu_s(self) -> float:
        return sum(map(cpu_s, self.other_pids))

    def rss_mb(self) -> list[float]:
        return [rss_kb(pid) / 1000 for pid in self.pids]

    def kill(self) -> None:
        """Kills all there is."""
        for node in self.nodes.values():
            node.kill()

    def _before(self, _count: int) -> None:
        """What comes before the first brokers, of which there will be so many."""

    def _make(self, node_id: int) -> BrokerProcess:
        raise NotImplementedError


class BarnabasCluster(_Cluster):
    name = "barnabas"
    title = "Barnabas"

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, settings)
        self.zookeepers: list[ZooKeeperServer] = []

    def _before(self, _count: int) -> None:
        ports = free_ports(3 * _ENSEMBLE)
        peers = [
            Peer(number + 1, ports[_ENSEMBLE + 2 * number], ports[_ENSEMBLE + 2 * number + 1])
            for number in range(_ENSEMBLE)
        ]
        jars = find_jars(_CACHE)
        self.zookeepers = [
            ZooKeeperServer(
                self.directory / f"zookeeper-{number + 1}",
                jars=jars,
                port=ports[number],
                server_id=number + 1,
                ensemble=peers,
            )
            for number in range(_ENSEMBLE)
        ]
        for server in self.zookeepers:
            server.launch()
        for server in self.zookeepers:
            server.wait()

    def _make(self, node_id: int) -> BrokerProcess:
        hosts = ",".join(server.address for server in self.zookeepers)
        return BarnabasProcess(
            self.directory / f"broker-{node_id}",
            {**_INTERNAL, **self.settings},
            *("--node-id", str(node_id), "--zookeeper", f"{hosts}/bench"),
            node_id=node_id,
        )

    @property
    def other_pids(self) -> list[int]:
        return [server.process.pid for server in self.zookeepers if server.process is not None]

    def kill(self) -> None:
        super().kill()
        for server in self.zookeepers:
            server.kill()


class KafkaCluster(_Cluster):
    name = "kafka"
    title = "Apache Kafka 4.3"

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, settings)
        self._voters: list[tuple[int, int]] = []
        self._cluster_id: str | None = None

    def _before(self, count: int) -> None:
        voters = min(count, _VOTERS)
        self._voters = list(zip(range(1, voters + 1), free_ports(voters), strict=True))

    def _make(self, node_id: int) -> BrokerProcess:
        port = free_ports(1)[0]
        config = {
            **_INTERNAL,
            **self.settings,
            "controller.quorum.voters": ",".join(f"{voter}@127.0.0.1:{at}" for voter, at in self._voters),
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "process.roles": "broker",
        }
        own = dict(self._voters).get(node_id)
        if own is not None:
            config["process.roles"] = "broker,controller"
            config["listeners"] += f",CONTROLLER://127.0.0.1:{own}"
        broker = KafkaBroker(
            self.directory / f"broker-{node_id}",
            config=config,
            jvm_options=("-server", f"-Xmx{HEAP}", f"-Xms{HEAP}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
            node_id=node_id,
            cluster_id=self._cluster_id,
        )
        self._cluster_id = broker.cluster_id
        return KafkaProcess(broker, port=port)

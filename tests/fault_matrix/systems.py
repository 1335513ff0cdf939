"""The system under test: brokers around ZooKeeper, ours or Apache Kafka's, as processes that can be hurt."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import barnabas
from barnabas.cli.local_zookeeper import VERSION as ZOOKEEPER_VERSION
from barnabas.cli.local_zookeeper import Peer, ZooKeeperServer
from tests.broker_process import BrokerProcess
from tests.oracle.kafka_broker import broker_count
from tests.oracle.kafka_jars import KAFKA_39, find_kafka_jars
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.fault_matrix.network import Net, Site

__all__ = ["SYSTEMS", "ZOOKEEPER_VERSION", "Barnabas", "Kafka", "System", "ensemble"]

_BROKER_PORT, _CLIENT_PORT, _QUORUM_PORT, _ELECTION_PORT = 9092, 2181, 2888, 3888
_START_DEADLINE_S = 120
_STOP_DEADLINE_S = 60

KAFKA_JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=1")


def ensemble(directory: Path, net: Net, count: int, *, jars: str, tick_ms: int) -> dict[str, ZooKeeperServer]:
    """Servers of ZooKeeper by the name of their site, not started."""
    sites = [net.site(f"zookeeper-{number}") for number in range(1, count + 1)]
    if net.why_uncut:
        spare = free_ports(3 * count)
        ports = [tuple(spare[3 * index : 3 * index + 3]) for index in range(count)]
    else:
        ports = [(_CLIENT_PORT, _QUORUM_PORT, _ELECTION_PORT)] * count
    peers = [
        Peer(number, quorum, election, site.host)
        for number, (site, (_, quorum, election)) in enumerate(zip(sites, ports, strict=True), 1)
    ]
    return {
        site.name: ZooKeeperServer(
            directory / site.name,
            jars=jars,
            port=port,
            server_id=number,
            ensemble=peers if count > 1 else (),
            tick_ms=tick_ms,
            host=site.host,
            before=site.before,
        )
        for number, (site, (port, *_)) in enumerate(zip(sites, ports, strict=True), 1)
    }


class System(ABC):
    """Brokers, by their node id. One that was killed or stopped can be started again, on its data and at its address."""

    name: str
    version: str

    def __init__(
        self, directory: Path, net: Net, node_ids: Iterable[int], zookeeper: str, settings: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.zookeeper = zookeeper
        self.settings = dict(settings)
        self.sites = {node_id: net.site(f"broker-{node_id}") for node_id in node_ids}
        ports = free_ports(len(self.sites)) if net.why_uncut else [_BROKER_PORT] * len(self.sites)
        self.ports = dict(zip(self.sites, ports, strict=True))

    def address(self, node_id: int) -> str:
        return f"{self.sites[node_id].host}:{self.ports[node_id]}"

    def data_directory(self, node_id: int) -> Path:
        """Where its records are."""
        return self.disk(node_id) / "data"

    def disk(self, node_id: int) -> Path:
        """A directory that another file system may be mounted at; nothing but the data directory is there."""
        return self.directory / f"broker-{node_id}" / "disk"

    def start_all(self, node_ids: Iterable[int]) -> None:
        """Starts some at once, and waits until they serve."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.start, node_ids))

    @abstractmethod
    def process(self, node_id: int) -> subprocess.Popen | None:
        """Its process, dead or alive; None before the first start and after it was ended."""

    @abstractmethod
    def start(self, node_id: int) -> None:
        """Starts one that does not run, and waits until it serves."""

    @abstractmethod
    def kill(self, node_id: int) -> None:
        """Kill -9."""

    @abstractmethod
    def stop(self, node_id: int) -> None:
        """SIGTERM, and waits for the end."""

    def pause(self, node_id: int) -> None:
        """SIGSTOP: it is there, and says nothing."""
        self._signal(node_id, signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        """SIGCONT."""
        self._signal(node_id, signal.SIGCONT)

    def is_alive(self, node_id: int) -> bool:
        process = self.process(node_id)
        return process is not None and process.poll() is None

    def _signal(self, node_id: int, number: int) -> None:
        process = self.process(node_id)
        assert process is not None
        process.send_signal(number)


class Barnabas(System):
    """`barnabas serve --zookeeper`."""

    name = "Barnabas"
    version = barnabas.__version__

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self._brokers = {
            node_id: BrokerProcess(
                self.directory / f"broker-{node_id}",
                settings={
                    "node.id": str(node_id),
                    "zookeeper.connect": f"{self.zookeeper}/barnabas",
                    **self.settings,
                },
                port=self.ports[node_id],
                listen_host=site.host,
                command=(*site.before, sys.executable, "-m", "barnabas"),
            )
            for node_id, site in self.sites.items()
        }
        for node_id, broker in self._brokers.items():
            broker.data_directory = self.data_directory(node_id)

    def process(self, node_id: int) -> subprocess.Popen | None:
        return self._brokers[node_id].process

    def start(self, node_id: int) -> None:
        self._brokers[node_id].kill()  # what ended by itself leaves its pipe
        self._brokers[node_id].start()

    def kill(self, node_id: int) -> None:
        self._brokers[node_id].kill()

    def stop(self, node_id: int) -> None:
        self._brokers[node_id].stop()


class Kafka(System):
    """Apache Kafka in ZooKeeper mode."""

    name = "Apache Kafka"
    version = KAFKA_39

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def process(self, node_id: int) -> subprocess.Popen | None:
        return self._processes.get(node_id)

    def start(self, node_id: int) -> None:
        self.kill(node_id)
        site = self.sites[node_id]
        directory = self.directory / site.name
        directory.mkdir(parents=True, exist_ok=True)
        properties = directory / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties(node_id, site)))
        log_path = directory / "broker.log"
        with log_path.open("ab") as log:
            process = self._processes[node_id] = subprocess.Popen(
                [
                    *site.before,
                    "java",
                    *KAFKA_JVM,
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
                    "-Dorg.slf4j.simpleLogger.showDateTime=true",
                    *("-cp", find_kafka_jars(KAFKA_39), "kafka.Kafka", str(properties)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + _START_DEADLINE_S
        while broker_count(self.ports[node_id], site.host) == 0:
            tail = log_path.read_bytes()[-3000:].decode(errors="replace")
            assert process.poll() is None, f"{site.name} ended:\n{tail}"
            assert time.monotonic() < end, f"{site.name} is not ready in time:\n{tail}"
            time.sleep(0.1)

    def _properties(self, node_id: int, site: Site) -> Iterable[tuple[str, str]]:
        listener = f"PLAINTEXT://{site.host}:{self.ports[node_id]}"
        return {
            "broker.id": str(node_id),
            "zookeeper.connect": f"{self.zookeeper}/kafka",
            "listeners": listener,
            "log.dirs": str(self.data_directory(node_id)),
            **self.settings,
        }.items()

    def kill(self, node_id: int) -> None:
        process = self._processes.pop(node_id, None)
        if process is not None:
            process.kill()
            process.wait()

    def stop(self, node_id: int) -> None:
        process = self._processes[node_id]
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_S)
        finally:
            self.kill(node_id)


SYSTEMS: dict[str, type[System]] = {"barnabas": Barnabas, "kafka": Kafka}

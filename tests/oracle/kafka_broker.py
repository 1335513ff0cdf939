"""A running Apache Kafka: one KRaft node on free ports of the loopback address, killed at the end.

    with kafka_broker(tmp_path) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})

`KafkaBroker` itself can be stopped and started again on the same data.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from tests.ending_process import EndingProcess
from tests.oracle.kafka_jars import KAFKA_43, kafka_jars, run_java
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["QUICK_JVM", "KafkaBroker", "broker_count", "kafka_broker"]

QUICK_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m")
"""Starts soon and stays small; a bench gives options of its own."""

_START_DEADLINE_S = 90


class KafkaBroker(EndingProcess):
    """One node of Apache Kafka, controller and broker, with its data under `directory`.

    `config` overrides or adds to `server.properties`; its `log.dirs` may name other directories. `dynamic_quorum` formats
    it as `--standalone` (KIP-853): its voters are then in its metadata log, and not in its settings.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: str = KAFKA_43,
        config: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = QUICK_JVM,
        node_id: int = 1,
        cluster_id: str | None = None,
        dynamic_quorum: bool = False,
    ) -> None:
        self.directory = directory
        self.dynamic_quorum = dynamic_quorum
        self.version = version
        self.node_id = node_id
        # Never with a dash in front, which Kafka's tool takes for an option.
        self.cluster_id = cluster_id or base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")
        self.jvm_options = tuple(jvm_options)
        self.data_directory = directory / "data"
        self.log_file = directory / "kafka.log"
        self.port = 0
        self.config = dict(config or {})
        self._classpath = kafka_jars(version)

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def format(self) -> None:
        """Prepare the log directories with Kafka's own tool, unless they are in use already."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if (self.data_directory / "meta.properties").exists():
            return
        self._write_properties(*free_ports(2))
        run_java(
            "kafka.tools.StorageTool",
            [
                *("format", "--ignore-formatted", "-t", self.cluster_id, "-c", str(self._properties)),
                *(["--standalone"] if self.dynamic_quorum else []),
            ],
            version=self.version,
        )

    def adopt(self, data_directory: Path) -> None:
        """Go on with a copy of a data directory instead of an empty one."""
        shutil.copytree(data_directory, self.data_directory)

    def start(self) -> None:
        """Start it and wait until it answers a Metadata request with itself."""
        self.format()
        for _ in range(3):
            self.launch()
            if self._wait_until_ready():
                return
        raise AssertionError(f"Apache Kafka {self.version} does not start:\n{self.log_tail()}")

    def launch(self) -> None:
        """Start it, and do not wait; `format` came before."""
        assert self.process is None
        self.port, controller_port = free_ports(2)
        self._write_properties(self.port, controller_port)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "java",
                    *self.jvm_options,
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
                    "-Dorg.slf4j.simpleLogger.showDateTime=true",
                    "-cp",
                    self._classpath,
                    "kafka.Kafka",
                    str(self._properties),
                ],
                stdout=log,
                stderr=log,
            )

    def log_tail(self, size_bytes: int = 5000) -> str:
        """The end of what it logged."""
        return self.log_file.read_bytes()[-size_bytes:].decode(errors="replace")

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _write_properties(self, port: int, controller_port: int) -> None:
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            **(
                {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}"}
                if self.dynamic_quorum
                else {"controller.quorum.voters": f"{self.node_id}@127.0.0.1:{controller_port}"}
            ),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_directory),
            "num.partitions": "1",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **self.config,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _wait_until_ready(self) -> bool:
        """Whether it got ready; False if it ended, as when another process took its port meanwhile."""
        assert self.process is not None
        deadline = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.process = None
                return False
            if broker_count(self.port) > 0:
                return True
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"Apache Kafka {self.version} is not ready in time:\n{self.log_tail()}")


def broker_count(port: int, host: str = "127.0.0.1") -> int:
    """How many brokers a Metadata request (version 1, no topics) is answered with; 0 if it is not answered."""
    request = struct.pack(">hhihi", 3, 1, 7, -1, 0)
    try:
        with closing(socket.create_connection((host, port), 2)) as client:
            client.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:
                piece = client.recv(12 - len(answer))
                if not piece:
                    return 0
                answer += piece
    except OSError:
        return 0
    return int.from_bytes(answer[8:12], "big")


@contextmanager
def kafka_broker(
    directory: Path,
    *,
    version: str = KAFKA_43,
    config: Mapping[str, str] | None = None,
    jvm_options: Sequence[str] = QUICK_JVM,
    node_id: int = 1,
    cluster_id: str | None = None,
    dynamic_quorum: bool = False,
) -> Iterator[KafkaBroker]:
    """A started broker that is killed at the end; parameters as for `KafkaBroker`."""
    broker = KafkaBroker(
        directory,
        version=version,
        config=config,
        jvm_options=jvm_options,
        node_id=node_id,
        cluster_id=cluster_id,
        dynamic_quorum=dynamic_quorum,
    )
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()

"""Either broker as a process: launched on a port and a data directory that it keeps, frozen, stopped, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.ending_process import EndingProcess
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.oracle.kafka_broker import KafkaBroker

__all__ = ["BarnabasProcess", "BrokerProcess", "KafkaProcess"]


class BrokerProcess(EndingProcess):
    """A broker: its id, its port, and its process while it runs; `launch` starts it again on the same data."""

    def __init__(self, node_id: int, port: int) -> None:
        self.id = node_id
        self.port = port

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def prepare(self) -> None:
        """What comes before the first start, and is no part of one."""

    def launch(self) -> None:
        """Starts it, and does not wait."""
        raise NotImplementedError

    def log_tail(self) -> str:
        """The end of what it logged."""
        raise NotImplementedError

    def freeze(self) -> None:
        """SIGSTOP: it is there, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class BarnabasProcess(BrokerProcess):
    """`barnabas serve` of this checkout; `options` are more of its command line."""

    def __init__(self, directory: Path, settings: Mapping[str, str], *options: str, node_id: int = 1) -> None:
        super().__init__(node_id, free_ports(1)[0])
        self.directory = directory
        self.settings = settings
        self._options = options

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "barnabas", "serve", "--listen", f"127.0.0.1:{self.port}"),
            *("--data-dir", str(self.directory / "data"), *self._options),
            *(word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")),
        ]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        with (self.directory / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def log_tail(self) -> str:
        return (self.directory / "broker.log").read_text()[-3000:]


class KafkaProcess(BrokerProcess):
    """Apache Kafka as the tests start it; without a `port` of its settings, it has another one after every launch."""

    def __init__(self, broker: KafkaBroker, *, port: int | None = None) -> None:
        super().__init__(broker.node_id, port or 0)
        self._keeps_port = port is not None
        self._broker = broker

    def prepare(self) -> None:
        """Formats its directory, which is no part of a start."""
        self._broker.format()

    def launch(self) -> None:
        self._broker.process = None  # the last one, which `kill` has ended here
        self._broker.launch()
        self.process = self._broker.process
        if not self._keeps_port:
            self.port = self._broker.port

    def log_tail(self) -> str:
        return self._broker.log_tail()

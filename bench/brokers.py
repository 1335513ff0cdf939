"""Both brokers as processes in either class of durability, and what the kernel says of their CPU and memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.oracle.kafka_broker import KafkaBroker

_READY = re.compile(rb"address=\S*:(\d+)")


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far, to the nanosecond (Linux: the clock of another process)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


PAGE_CACHE = "page cache"
FSYNC = "fsync"

_OUR_SETTINGS = {PAGE_CACHE: {"barnabas.durability": "page-cache"}, FSYNC: {}}
_KAFKAS_SETTINGS = {PAGE_CACHE: {}, FSYNC: {"log.flush.interval.messages": "1"}}


class Barnabas:
    """This checkout's broker. FSYNC is its default; PAGE_CACHE acknowledges what the kernel has."""

    name = "barnabas"
    title = "Barnabas"

    def __init__(self, directory: Path, durability: str = PAGE_CACHE) -> None:
        self.directory = directory
        self.settings = _OUR_SETTINGS[durability]
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start_s = 0.0

    def start(self) -> None:
        started = time.perf_counter()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = (self.directory / "broker.log").open("ab")
        command = [sys.executable, "-m", "barnabas", "serve", "--listen", "127.0.0.1:0"]
        command += ["--data-dir", str(self.directory / "data")]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=environment)
        line = self.process.stdout.readline()
        found = _READY.search(line)
        if not found:
            raise SystemExit(
                f"barnabas did not start: {line!r}\n{(self.directory / 'broker.log').read_text()}"
            )
        self.port = int(found[1])
        self.start_s = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """Kill -9; `start` starts it again on the same data."""
        self.process.kill()
        self._reap()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self._reap()

    def _reap(self) -> None:
        self.process.wait()
        self.process.stdout.close()
        self.process = None
        self.log.close()


class Kafka:
    """Apache Kafka with the heap and collector that its own start script gives it.

    PAGE_CACHE is its default; FSYNC flushes each batch before it is acknowledged.
    """

    name = "kafka"
    title = "Apache Kafka 4.3"
    _JVM = ("-server", "-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")

    def __init__(self, directory: Path, durability: str = PAGE_CACHE) -> None:
        self._broker = KafkaBroker(directory, config=_KAFKAS_SETTINGS[durability], jvm_options=self._JVM)
        self.start_s = 0.0

    def start(self) -> None:
        self._broker.format()
        started = time.perf_counter()
        self._broker.start()
        self.start_s = time.perf_counter() - started

    @property
    def port(self) -> int:
        return self._broker.port

    @property
    def pid(self) -> int:
        return self._broker.process.pid

    def kill(self) -> None:
        """Kill -9; `start` starts it again on the same data."""
        self._broker.kill()

    def stop(self) -> None:
        self._broker.stop()

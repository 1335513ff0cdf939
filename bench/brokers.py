"""Both brokers as processes, and what the kernel says of their CPU and memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.oracle.kafka_broker import KafkaBroker

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_READY = re.compile(rb"address=\S*:(\d+)")


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


class Barnabas:
    """This checkout's broker."""

    name = "barnabas"

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start_s = 0.0

    def start(self) -> None:
        started = time.perf_counter()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = (self.directory / "broker.log").open("wb")
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
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()


class Kafka:
    """Apache Kafka with the heap and collector that its own start script gives it."""

    name = "kafka"
    _JVM = ("-server", "-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")

    def __init__(self, directory: Path, **settings: str) -> None:
        self._broker = KafkaBroker(directory, config=settings, jvm_options=self._JVM)
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
        self._broker.kill()

    def stop(self) -> None:
        self._broker.stop()

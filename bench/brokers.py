"""Both brokers as processes in either class of durability, and what the kernel says of their CPU and memory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import BarnabasProcess, KafkaProcess
from tests.oracle.kafka_broker import KafkaBroker, broker_count

if TYPE_CHECKING:
    from collections.abc import Mapping


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far, to the nanosecond (Linux: the clock of another process)."""
    return time.clock_gettime((~pid << 3) | 2)


def family_cpu_s(pid: int) -> float:
    """The same with the children that it has and had, whose times are counted in hundredths of a second once they have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended_s = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    total = cpu_s(pid) + ended_s
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it ends just now
            total += cpu_s(int(child))
    return total


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


PAGE_CACHE = "page cache"
FSYNC = "fsync"

_OUR_SETTINGS = {PAGE_CACHE: {"barnabas.durability": "page-cache"}, FSYNC: {}}
_KAFKAS_SETTINGS = {PAGE_CACHE: {}, FSYNC: {"log.flush.interval.messages": "1"}}
_KAFKAS_DEFAULTS = {
    "offsets.topic.num.partitions": "50",
    "transaction.state.log.num.partitions": "50",
    "share.coordinator.state.topic.num.partitions": "50",
}
"""Where the broker of the tests, which soon starts, is set up otherwise."""


class Barnabas(BarnabasProcess):
    """This checkout's broker. FSYNC is its default; PAGE_CACHE acknowledges what the kernel has."""

    name = "barnabas"
    title = "Barnabas"
    as_shipped: Mapping[str, str] = {}

    def __init__(
        self, directory: Path, durability: str = FSYNC, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, {**_OUR_SETTINGS[durability], **(settings or {})})

    def start(self) -> None:
        self.launch()
        wait_until_served(self)

    def memory_kb(self) -> int:
        """What it holds: its resident memory."""
        return rss_kb(self.pid)


class Kafka(KafkaProcess):
    """Apache Kafka with the heap and collector that its own start script gives it.

    PAGE_CACHE is its default; FSYNC flushes each batch before it is acknowledged.
    """

    name = "kafka"
    title = "Apache Kafka 4.3"
    as_shipped: Mapping[str, str] = {"group.initial.rebalance.delay.ms": "3000"}
    _JVM = ("-server", "-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")

    def __init__(
        self, directory: Path, durability: str = PAGE_CACHE, settings: Mapping[str, str] | None = None
    ) -> None:
        config = {**_KAFKAS_DEFAULTS, **_KAFKAS_SETTINGS[durability], **(settings or {})}
        super().__init__(KafkaBroker(directory, config=config, jvm_options=self._JVM))

    def start(self) -> None:
        self.prepare()
        self.launch()
        wait_until_served(self)

    def memory_kb(self) -> int:
        """What it holds: the heap that is in use after a collection, where the JDK's jcmd can tell; else its resident memory.

        A JVM takes memory in steps and does not give it back, so that its resident memory says nothing of a connection.
        """
        if shutil.which("jcmd") is None:
            return rss_kb(self.pid)
        for order in ("GC.run", "GC.heap_info"):
            said = subprocess.run(
                ["jcmd", str(self.pid), order], capture_output=True, text=True, check=True
            ).stdout
        return int(re.search(r"used (\d+)K", said)[1])


def wait_until_served(broker: Barnabas | Kafka) -> None:
    """Until a Metadata request is answered with the broker itself."""
    deadline = time.monotonic() + 120
    while not broker_count(broker.port):
        if not broker.is_running or time.monotonic() > deadline:
            raise RuntimeError(f"{broker.title} does not start:\n{broker.log_tail()}")
        time.sleep(0.005)

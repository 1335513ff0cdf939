"""`python -m bench`: a first look at speed beside Apache Kafka, one run, medians and ratios.

Each row is measured on both brokers in turn, several times; the ratio is the better broker's advantage as seen from Barnabas
(above 1 is ahead). CPU is the broker's own, from the kernel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import raw
from bench.brokers import Barnabas, Kafka, cpu_s, rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_000_000


class Row:
    def __init__(self, name: str, unit: str, *, more_is_better: bool) -> None:
        self.name = name
        self.unit = unit
        self.more_is_better = more_is_better
        self.figures: dict[str, list[float]] = {}

    def add(self, broker: str, figure: float) -> None:
        self.figures.setdefault(broker, []).append(figure)

    def line(self) -> str:
        ours, theirs = (statistics.median(self.figures[broker]) for broker in ("barnabas", "kafka"))
        ratio = ours / theirs if self.more_is_better else theirs / ours
        cells = []
        for broker in ("barnabas", "kafka"):
            figures = self.figures[broker]
            cells.append(f"{statistics.median(figures):,.2f} ({min(figures):,.2f}-{max(figures):,.2f})")
        return f"| {self.name} | {self.unit} | {cells[0]} | {cells[1]} | {ratio:.2f} |"


class Table:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def add(self, broker: str, name: str, unit: str, figure: float, *, more_is_better: bool) -> None:
        self.rows.setdefault(name, Row(name, unit, more_is_better=more_is_better)).add(broker, figure)

    def print(self) -> None:
        print("| what | unit | barnabas: median (min-max) | Apache Kafka 4.3 | times ahead |")
        print("|---|---|---|---|---|")
        for row in self.rows.values():
            print(row.line(), flush=True)


def measured(broker, work: Callable[[], float]) -> tuple[float, float]:
    """(what `work` gives, the broker's CPU seconds meanwhile)."""
    before = cpu_s(broker.pid)
    figure = work()
    return figure, cpu_s(broker.pid) - before


def produce(
    broker,
    table: Table,
    topic: str,
    label: str,
    *,
    partitions: int,
    records: int,
    size_bytes: int,
    total_mb: int,
) -> None:
    raw.create_topic(broker.port, topic, partitions)
    frames = [
        raw.produce_frame(topic, partition, records=records, size_bytes=size_bytes)
        for partition in range(partitions)
    ]
    count = max(1, total_mb * MEGABYTE // len(frames[0]))
    connections = min(partitions, 4)
    seconds, cpu = measured(
        broker, lambda: raw.pump(broker.port, frames, count, connections=connections, depth=8)[0]
    )
    megabytes = count // connections * connections * len(frames[0]) / MEGABYTE
    table.add(broker.name, f"produce {label}", "MB/s", megabytes / seconds, more_is_better=True)
    table.add(broker.name, f"produce {label}, CPU", "s/GB", cpu / megabytes * 1000, more_is_better=False)
    seconds, cpu = measured(
        broker, lambda: raw.fetch_all(broker.port, topic, partitions, int(megabytes * MEGABYTE * 0.9))
    )
    table.add(broker.name, f"fetch {label}", "MB/s", megabytes * 0.9 / seconds, more_is_better=True)
    table.add(broker.name, f"fetch {label}, CPU", "s/GB", cpu / megabytes / 0.9 * 1000, more_is_better=False)


def requests(
    broker, table: Table, topic: str, label: str, *, connections: int, depth: int, count: int
) -> None:
    raw.create_topic(broker.port, topic, 1)
    _requests(broker, table, topic, label, connections=connections, depth=depth, count=count, acks=1)


def synced_requests(broker, table: Table, topic: str, label: str, *, connections: int, count: int) -> None:
    """Every acknowledgement after fsync: our default for acks=all, flush.messages=1 for Kafka."""
    if broker.name == "kafka":
        raw.create_topic(broker.port, topic, 1, flush_messages="1")
        count //= 10
    else:
        raw.create_topic(broker.port, topic, 1)
    _requests(broker, table, topic, label, connections=connections, depth=1, count=count, acks=-1)


def _requests(
    broker, table: Table, topic: str, label: str, *, connections: int, depth: int, count: int, acks: int
) -> None:
    frame = raw.produce_frame(topic, 0, records=1, size_bytes=100, acks=acks)
    raw.pump(broker.port, [frame], count // 5, connections=connections, depth=depth)
    latencies: list[float] = []

    def work() -> float:
        seconds, found = raw.pump(broker.port, [frame], count, connections=connections, depth=depth)
        latencies.extend(found)
        return seconds

    seconds, cpu = measured(broker, work)
    latencies.sort()
    table.add(
        broker.name, f"one-record produces, {label}", "requests/s", count / seconds, more_is_better=True
    )
    table.add(
        broker.name, f"one-record produces, {label}, CPU", "µs each", cpu / count * 1e6, more_is_better=False
    )
    for name, place in (("p50", 0.5), ("p99", 0.99)):
        table.add(
            broker.name,
            f"one-record produces, {label}, {name}",
            "ms",
            latencies[int(len(latencies) * place)] * 1000,
            more_is_better=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured (default 3)")
    parser.add_argument("--only", default="", help="only the broker named (for profiling)")
    arguments = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for round_index in range(arguments.rounds):
            # Alternating who begins, so that a drifting machine favours neither.
            brokers = [Barnabas, Kafka] if round_index % 2 == 0 else [Kafka, Barnabas]
            for make in brokers:
                if arguments.only and make.name != arguments.only:
                    continue
                one_round(make, Path(directory) / f"{make.name}-{round_index}", table)
    if arguments.only:
        for row in table.rows.values():
            print(row.name, row.unit, row.figures)
    else:
        table.print()


def one_round(make, directory: Path, table: Table) -> None:
    broker = make(directory)
    broker.start()
    try:
        table.add(broker.name, "start to ready", "s", broker.start_s, more_is_better=False)
        time.sleep(1)
        table.add(broker.name, "memory after start", "MB", rss_mb(broker.pid), more_is_better=False)
        requests(broker, table, "one", "1 connection ping-pong", connections=1, depth=1, count=20_000)
        requests(broker, table, "pipe", "1 connection pipelined", connections=1, depth=32, count=100_000)
        requests(broker, table, "many", "32 connections", connections=32, depth=1, count=100_000)
        synced_requests(
            broker, table, "synced", "32 connections, each after fsync", connections=32, count=30_000
        )
        produce(
            broker,
            table,
            "big",
            "1 kB records, 1 partition",
            partitions=1,
            records=900,
            size_bytes=1000,
            total_mb=1000,
        )
        produce(
            broker,
            table,
            "small",
            "100 B records, 1 partition",
            partitions=1,
            records=150,
            size_bytes=100,
            total_mb=500,
        )
        produce(
            broker,
            table,
            "wide",
            "1 kB records, 100 partitions",
            partitions=100,
            records=100,
            size_bytes=1000,
            total_mb=1000,
        )
        table.add(broker.name, "memory after load", "MB", rss_mb(broker.pid), more_is_better=False)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()

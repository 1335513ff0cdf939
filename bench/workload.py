"""What a row's workload is handed, and the register of all of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.brokers import FSYNC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.generator import Load
    from bench.table import Table

__all__ = ["FULL", "QUICK", "WORKLOADS", "Run", "Sizes", "Workload", "workload"]


@dataclass(frozen=True)
class Sizes:
    """How long and how much. The warm-up is the same load as what is measured, and the same for both brokers."""

    warm_s: float
    seconds: float
    bulk_s: float
    bulk_bytes: int
    fetch_bytes: int
    fetch_warm_s: float
    fetch_s: float
    client_bytes: int
    idle_connections: int
    topics: int
    recovery_bytes: int
    idle_s: float
    settle_s: float
    groups: int
    compaction_bytes: int
    members: int
    member_pauses_s: tuple[float, ...]
    cluster_bytes: int
    move_bytes: int
    growth_brokers: tuple[int, ...]
    growth_partitions: tuple[int, ...]


FULL = Sizes(
    warm_s=3,
    seconds=2.5,
    bulk_s=2,
    bulk_bytes=1_000_000_000,
    fetch_bytes=400_000_000,
    fetch_warm_s=0.7,
    fetch_s=1.2,
    client_bytes=500_000_000,
    idle_connections=5000,
    topics=1000,
    recovery_bytes=1_000_000_000,
    idle_s=5,
    settle_s=10,
    groups=300,
    compaction_bytes=150_000_000,
    members=100,
    member_pauses_s=(0.5, 2.0, 3.5),
    cluster_bytes=300_000_000,
    move_bytes=1_000_000_000,
    growth_brokers=(1, 2, 4),
    growth_partitions=(10, 100, 1000, 10_000),
)
QUICK = Sizes(
    warm_s=0.05,
    seconds=0.1,
    bulk_s=0.05,
    bulk_bytes=4_000_000,
    fetch_bytes=4_000_000,
    fetch_warm_s=0.02,
    fetch_s=0.05,
    client_bytes=1_000_000,
    idle_connections=50,
    topics=10,
    recovery_bytes=5_000_000,
    idle_s=0.1,
    settle_s=0.1,
    groups=5,
    compaction_bytes=4_000_000,
    members=3,
    member_pauses_s=(0.0,),
    cluster_bytes=4_000_000,
    move_bytes=5_000_000,
    growth_brokers=(2,),
    growth_partitions=(10,),
)


@dataclass
class Run:
    """One broker in one class of durability, the table, and the sizes."""

    broker: object
    durability: str
    section: str
    table: Table
    sizes: Sizes
    directory: Path

    def add(self, name: str, unit: str, figure: float, *, more_is_better: bool) -> None:
        self.table.add(
            self.section,
            self.broker,
            name,
            unit,
            figure,
            more_is_better=more_is_better,
            durability=self.durability,
        )

    def more(self, name: str, unit: str, figure: float) -> None:
        """A figure that is better the higher it is."""
        self.add(name, unit, figure, more_is_better=True)

    def less(self, name: str, unit: str, figure: float) -> None:
        """A figure that is better the lower it is."""
        self.add(name, unit, figure, more_is_better=False)

    def skip(self, why: str) -> None:
        """Says in the result what could not be measured here."""
        if why not in self.table.skipped:
            self.table.skipped.append(why)

    def generator(self, load: Load) -> None:
        """Says what the generator itself used, which it took from the broker."""
        each_us = load.own_cpu_s / max(load.requests, 1) * 1e6
        share = load.own_cpu_s / load.seconds
        print(
            f"bench:   generator {each_us:.1f} µs a request, {share:.0%} of a core",
            file=sys.stderr,
            flush=True,
        )


@dataclass(frozen=True)
class Workload:
    """`durability` is the class it is measured in, or None if it starts brokers of its own."""

    name: str
    durability: str | None
    section: str
    measure: Callable[[Run], None]
    most_rounds: int


WORKLOADS: list[Workload] = []


def workload(name: str, section: str, *durabilities: str | None, most_rounds: int = 1000) -> Callable:
    """Registers a workload, once for each class; in the fsync class its name ends with -fsync. The section is the table's.

    `most_rounds` is for what takes minutes.
    """

    def register(measure: Callable[[Run], None]) -> Callable[[Run], None]:
        for durability in durabilities:
            suffix = "-fsync" if durability == FSYNC else ""
            WORKLOADS.append(Workload(name + suffix, durability, section, measure, most_rounds))
        return measure

    return register

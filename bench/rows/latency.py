"""From produced to consumed: a record every 200 µs on one connection, a fetch that waits for it on another."""

from __future__ import annotations

from bench import generator, raw
from bench.brokers import FSYNC, PAGE_CACHE
from bench.workload import Run, workload

_RATES = {PAGE_CACHE: 5000, FSYNC: 500}
"""Records/s; with a sync for each, Kafka cannot follow 5,000 on the usual disk."""
_WARM_UPS = 4
"""A JVM that has just started does not follow 5,000 in the usual time, and what is late then counts as late afterwards."""


@workload("endtoend", "From produced to consumed", PAGE_CACHE, FSYNC)
def end_to_end(run: Run) -> None:
    raw.create_topic(run.broker.port, "endtoend", 1)
    rate = _RATES[run.durability]
    load = generator.end_to_end(
        run.broker, "endtoend", rate=rate, warm_s=_WARM_UPS * run.sizes.warm_s, seconds=run.sizes.seconds
    )
    name = f"end to end at {rate:,} records/s"
    run.less(f"{name}: p50", "ms", load.p50_ms)
    run.less(f"{name}: p99", "ms", load.p99_ms)
    run.less(f"{name}: p99.9", "ms", load.p999_ms)
    run.less(f"{name}: CPU", "s per million records", load.broker_cpu_s / load.requests * 1e6)
    run.generator(load)

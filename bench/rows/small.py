"""One-record produce requests: what a request costs, and how long it takes."""

from __future__ import annotations

from bench import generator, raw
from bench.brokers import FSYNC, PAGE_CACHE
from bench.workload import Run, workload


def _measure(run: Run, label: str, *, connections: int, depth: int) -> None:
    topic = f"small-{connections}-{depth}"
    raw.create_topic(run.broker.port, topic, 1)
    frame = raw.produce_frame(topic, 0, records=1, size_bytes=100)
    load = generator.pump(
        run.broker,
        [frame],
        connections=connections,
        depth=depth,
        warm_s=run.sizes.warm_s,
        seconds=run.sizes.seconds,
        error_at=raw.produce_error_at(topic),
    )
    name = f"one-record produces, {label}"
    run.more(name, "requests/s", load.requests / load.seconds)
    run.less(f"{name}: CPU", "s per million", load.broker_cpu_s / load.requests * 1e6)
    run.less(f"{name}: p50", "ms", load.p50_ms)
    run.less(f"{name}: p99", "ms", load.p99_ms)
    run.less(f"{name}: p99.9", "ms", load.p999_ms)
    run.generator(load)


@workload("small1", "One-record requests", PAGE_CACHE, FSYNC)
def one(run: Run) -> None:
    _measure(run, "1 connection", connections=1, depth=1)


@workload("pipelined", "One-record requests", PAGE_CACHE, FSYNC)
def pipelined(run: Run) -> None:
    _measure(run, "1 connection, 32 under way", connections=1, depth=32)


@workload("small32", "One-record requests", PAGE_CACHE, FSYNC)
def many(run: Run) -> None:
    _measure(run, "32 connections", connections=32, depth=1)

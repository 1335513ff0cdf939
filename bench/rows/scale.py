"""Many of something: idle connections, and topics."""

from __future__ import annotations

import shutil
import time

from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from bench import generator, raw
from bench.brokers import PAGE_CACHE, cpu_s, wait_until_served
from bench.workload import Run, workload

_PARTITIONS = 10
_TOPICS_AT_ONCE = 50


@workload("connections", "Many connections, many topics", PAGE_CACHE)
def idle_connections(run: Run) -> None:
    """Each has made itself known, as a client does, and then says nothing."""
    count = run.sizes.idle_connections
    hello = raw.frame(18, 2, ApiVersionsRequest(), flexible=False)
    with raw.connect(run.broker.port) as first:
        first.sendall(hello)
        raw.receive(first)
    before_kb = run.broker.memory_kb()
    connections = []
    try:
        for _ in range(count):
            connection = raw.connect(run.broker.port)
            connections.append(connection)
            connection.sendall(hello)
            raw.receive(connection)
        name = f"{count:,} idle connections"
        run.less(f"{name}: memory of each", "kB", max(run.broker.memory_kb() - before_kb, 0) / count)
        _idle(run, f"{name}: idle CPU")
    finally:
        for connection in connections:
            connection.close()


def _idle(run: Run, name: str) -> None:
    """What the broker's process uses while nobody asks it anything."""
    before_s, began = cpu_s(run.broker.pid), time.monotonic()
    time.sleep(run.sizes.idle_s)
    share = (cpu_s(run.broker.pid) - before_s) / (time.monotonic() - began)
    run.less(name, "% of a core", share * 100)


def _stop_and_start(run: Run, label: str, names: list[str]) -> None:
    broker = run.broker
    started = time.perf_counter()
    broker.stop()
    run.less(f"{label}: stop", "s", time.perf_counter() - started)
    started = time.perf_counter()
    broker.launch()
    wait_until_served(broker)
    raw.wait_until_led(broker.port, names, _PARTITIONS)
    run.less(f"{label}: start again", "s", time.perf_counter() - started)


@workload("topics", "Many connections, many topics", None, most_rounds=2)
def topics(run: Run) -> None:
    """First empty ones, then with a record in each."""
    count = run.sizes.topics
    names = [f"topic-{index:04}" for index in range(count)]
    broker = run.broker
    broker.start()
    try:
        raw.create_topic(broker.port, "first", 1)
        before_kb = broker.memory_kb()
        started = time.perf_counter()
        for index in range(0, count, _TOPICS_AT_ONCE):
            raw.create_topics(broker.port, names[index : index + _TOPICS_AT_ONCE], _PARTITIONS)
        raw.wait_until_led(broker.port, names, _PARTITIONS)
        label = f"{count:,} topics of {_PARTITIONS} partitions"
        run.less(f"{label}: create", "s", time.perf_counter() - started)
        partitions = count * _PARTITIONS
        run.less(
            f"{label}: memory of each partition", "kB", max(broker.memory_kb() - before_kb, 0) / partitions
        )
        _idle(run, f"{label}: idle CPU right after")
        time.sleep(run.sizes.settle_s)
        _idle(run, f"{label}: idle CPU")
        request = raw.frame(3, 8, MetadataRequest(topics=None), flexible=False)
        load = generator.pump(broker, [request], warm_s=run.sizes.warm_s, seconds=run.sizes.seconds)
        run.less(f"{label}: Metadata of all, p50", "ms", load.p50_ms)
        run.less(f"{label}: Metadata of all, p99", "ms", load.p99_ms)
        run.less(f"{label}: Metadata of all: CPU", "ms each", load.broker_cpu_s / load.requests * 1e3)
        _stop_and_start(run, label, names)
        with raw.connect(broker.port) as connection:
            for name in names:
                for partition in range(_PARTITIONS):
                    connection.sendall(raw.produce_frame(name, partition, records=1, size_bytes=100, acks=1))
                    raw.receive(connection)
        label += ", a record in each"
        run.less(
            f"{label}: memory of each partition", "kB", max(broker.memory_kb() - before_kb, 0) / partitions
        )
        _stop_and_start(run, label, names)
    finally:
        broker.kill()
        shutil.rmtree(run.directory)

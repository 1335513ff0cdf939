"""Clusters of three brokers, with three replicas of everything and acks=all: load, failover, a move, many partitions, growth.

Only one cluster runs at a time, started for the row. CPU is that of all brokers and of ZooKeeper, which is shown on its own as well.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import cluster_client as client
from bench import generator, raw
from bench.clusters import BarnabasCluster, KafkaCluster
from bench.workload import Run, workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.generator import Load

_SECTION = "Three brokers"
_MANY = "Three brokers, many partitions"
_GROWTH = "More brokers, more partitions"
_UNDER_WAY = 5
_EQUAL_SESSION_MS = 6000
"""`zookeeper.session.timeout.ms` as Barnabas is shipped; Kafka's `broker.session.timeout.ms` is 9000."""


@contextmanager
def _cluster(run: Run, count: int = 3, **settings: str) -> Iterator:
    """A started cluster; all its processes and data are gone afterwards."""
    kind = BarnabasCluster if run.broker.name == "barnabas" else KafkaCluster
    cluster = kind(run.directory, {key.replace("_", "."): value for key, value in settings.items()})
    try:
        cluster.start(count)
        yield cluster
    finally:
        cluster.kill()
        shutil.rmtree(run.directory, ignore_errors=True)


def _cpu(run: Run, name: str, unit: str, load: Load, count: float) -> None:
    run.less(f"{name}: CPU", unit, (load.broker_cpu_s + load.other_cpu_s) / count)
    if load.other_cpu_s:
        run.less(f"{name}: CPU, of it ZooKeeper", unit, load.other_cpu_s / count)


@workload("cluster-load", _SECTION, None)
def load(run: Run) -> None:
    with _cluster(run) as cluster:
        _warm(run, cluster)
        for size_bytes, records, partitions in (
            (1000, 900, 1),
            (1000, 100, 12),
            (100, 150, 1),
            (100, 150, 12),
        ):
            _produce(run, cluster, size_bytes, records, partitions)
        for rate in (500, 2000):
            _latency(run, cluster, rate)


def _warm(run: Run, cluster) -> None:
    """A while of both kinds of load, before the rows have a warm-up of their own: three JVMs on a few cores compile for long."""
    client.create_topics(cluster.port, ["warm"], 12)
    found = client.wait_until_replicated(cluster, ["warm"], 12)
    for records in (100, 1):
        frames = client.share_out(
            cluster,
            found,
            lambda name, index, records=records: raw.produce_frame(
                name, index, records=records, size_bytes=100
            ),
        )
        generator.pump_cluster(
            cluster,
            frames,
            connections=2,
            depth=_UNDER_WAY,
            warm_s=0,
            seconds=run.sizes.warm_s * 1.5,
            total_bytes=run.sizes.cluster_bytes,
            error_at=raw.produce_error_at("warm"),
        )
    client.delete_topic(cluster.port, "warm")


def _produce(run: Run, cluster, size_bytes: int, records: int, partitions: int) -> None:
    sizes = run.sizes
    topic = f"produce-{size_bytes}-{partitions}"
    client.create_topics(cluster.port, [topic], partitions, file_delete_delay_ms="0")
    found = client.wait_until_replicated(cluster, [topic], partitions)
    frames = client.share_out(
        cluster,
        found,
        lambda name, index: raw.produce_frame(name, index, records=records, size_bytes=size_bytes),
    )
    measured = generator.pump_cluster(
        cluster,
        frames,
        connections=1 if partitions == 1 else 2,
        depth=_UNDER_WAY,
        warm_s=sizes.bulk_s,
        seconds=sizes.bulk_s,
        warm_bytes=sizes.cluster_bytes // 2,
        total_bytes=sizes.cluster_bytes,
        error_at=raw.produce_error_at(topic),
    )
    size = "1 kB" if size_bytes == 1000 else f"{size_bytes} B"
    name = f"three replicas, produce {size}, {partitions} partition{'s' if partitions > 1 else ''}"
    run.more(name, "MB/s", measured.bytes / measured.seconds / 1e6)
    _cpu(run, name, "s per GB", measured, measured.bytes / 1e9)
    run.less(f"{name}: p99", "ms", measured.p99_ms)
    run.generator(measured)
    client.delete_topic(cluster.port, topic)


def _latency(run: Run, cluster, rate: int) -> None:
    topic = f"latency-{rate:04}"
    client.create_topics(cluster.port, [topic], 12)
    found = client.wait_until_replicated(cluster, [topic], 12)
    frames = client.share_out(
        cluster, found, lambda name, index: raw.produce_frame(name, index, records=1, size_bytes=100)
    )
    measured = generator.pump_cluster(
        cluster,
        frames,
        connections=4,
        rate=rate,
        warm_s=run.sizes.warm_s,
        seconds=run.sizes.seconds * 2,
        error_at=raw.produce_error_at(topic),
    )
    name = f"three replicas, {rate:,} one-record requests/s on 12 connections"
    run.less(f"{name}: p50", "ms", measured.p50_ms)
    run.less(f"{name}: p99", "ms", measured.p99_ms)
    run.less(f"{name}: p99.9", "ms", measured.p999_ms)
    _cpu(run, name, "s per million requests", measured, measured.requests / 1e6)
    run.generator(measured)


@workload("cluster-failover", _SECTION, None)
def failover(run: Run) -> None:
    """Time-outs as shipped (6 s for us, 9 s for Kafka), and 6 s for both, which is the same run for us."""
    if run.broker.name == "barnabas":
        _failovers(run, ["as shipped", "6 s"])
    else:
        _failovers(run, ["as shipped"])
        _failovers(run, ["6 s"], broker_session_timeout_ms=str(_EQUAL_SESSION_MS))


def _failovers(run: Run, kinds: list[str], **settings: str) -> None:
    topic = "failover"
    with _cluster(run, **settings) as cluster:
        client.create_topics(cluster.port, [topic], 0, assignments=[(1, 2, 3), (2, 3, 1), (3, 1, 2)])

        def longest_without(how: str, *, deciding: bool) -> float:
            """Seconds without an acknowledgement when a leader goes that also is, or is not, the controller."""
            client.wait_until_replicated(cluster, [topic], 3)
            client.elect_preferred(cluster)
            found = client.wait_until_replicated(cluster, [topic], 3, preferred=True)
            decides = client.controller(cluster)
            (_, index), led = next(
                (name, led) for name, led in found.items() if (led.leader == decides) is deciding
            )
            node = cluster.nodes[led.leader]
            with client.Producer(cluster, topic, index) as producer:
                producer.frozen = node.id
                getattr(node, how)()
                producer.wait_for(200)
            if how == "freeze":
                node.thaw()
            else:
                node.launch()
            cluster.wait_until_whole()
            return producer.longest_s

        figures = {
            "kill -9 of a leader": longest_without("kill", deciding=False),
            "kill -9 of a leader that is the controller": longest_without("kill", deciding=True),
            "SIGSTOP of a leader": longest_without("freeze", deciding=False),
        }
        if "as shipped" in kinds:
            figures["clean stop of a leader"] = longest_without("stop", deciding=False)
            figures["clean stop of a leader that is the controller"] = longest_without("stop", deciding=True)
        for what, seconds in figures.items():
            for kind in kinds if "stop" not in what else kinds[:1]:
                label = f", session {kind}" if "stop" not in what else ""
                run.less(f"failover, {what}{label}", "s", seconds)


@workload("cluster-move", _SECTION, None)
def move(run: Run) -> None:
    """A topic's four partitions, each on one broker, go to a fourth broker, which leads them afterwards."""
    topic, partitions, size_bytes = "move", 4, run.sizes.move_bytes
    with _cluster(
        run, **{"barnabas_durability": "page-cache"} if run.broker.name == "barnabas" else {}
    ) as cluster:
        client.create_topics(cluster.port, [topic], 0, assignments=[(1,), (2,), (3,), (1,)])
        found = client.wait_until_replicated(cluster, [topic], partitions, isr=1)
        frames = client.share_out(
            cluster, found, lambda name, index: raw.produce_frame(name, index, records=900, size_bytes=1000)
        )
        filled = generator.pump_cluster(
            cluster,
            frames,
            connections=1,
            depth=_UNDER_WAY,
            warm_s=0,
            seconds=60,
            total_bytes=size_bytes,
            error_at=raw.produce_error_at(topic),
        )
        node = cluster.add()
        cpu_s = cluster.brokers_cpu_s() + cluster.others_cpu_s()
        started = time.perf_counter()
        client.move(cluster, topic, partitions, [node.id])
        seconds = time.perf_counter() - started
        cpu_s = cluster.brokers_cpu_s() + cluster.others_cpu_s() - cpu_s
        moved = client.wait_until_replicated(cluster, [topic], partitions, isr=1)
        if {led.leader for led in moved.values()} != {node.id}:
            raise RuntimeError(f"{cluster.title} has not moved: {moved}")
        name = f"{size_bytes / 1e9:g} GB to a new broker"
        run.less(name, "s", seconds)
        run.less(f"{name}: CPU", "s per GB", cpu_s / filled.bytes * 1e9)


@workload("cluster-partitions", _MANY, None)
def partitions(run: Run) -> None:
    """1,000 topics of 3 partitions with three replicas each: every broker leads 1,000 and follows 2,000."""
    sizes = run.sizes
    topics = [f"many-{index:04}" for index in range(sizes.topics)]
    with _cluster(run) as cluster:
        before_mb = cluster.rss_mb()
        cpu_s = cluster.brokers_cpu_s() + cluster.others_cpu_s()
        started = time.perf_counter()
        for index in range(0, len(topics), 50):
            client.create_topics(cluster.port, topics[index : index + 50], 3)
        client.wait_until_replicated(cluster, topics, 3)
        label = f"{3 * len(topics):,} partitions with three replicas"
        run.less(f"{label}: create", "s", time.perf_counter() - started)
        run.less(f"{label}: create: CPU", "s", cluster.brokers_cpu_s() + cluster.others_cpu_s() - cpu_s)
        run.less(f"{label}: memory of each broker before", "MB", sum(before_mb) / 3)
        run.less(f"{label}: memory of each broker", "MB", sum(cluster.rss_mb()) / 3)
        time.sleep(sizes.settle_s / 2)
        _idle(run, f"{label}: idle CPU", cluster)
        found = client.wait_until_replicated(cluster, topics, 3)
        frames = client.share_out(
            cluster, found, lambda name, index: raw.produce_frame(name, index, records=1, size_bytes=100)
        )
        measured = generator.pump_cluster(
            cluster,
            frames,
            connections=4,
            rate=1000,
            # Each partition has had a record by then.
            warm_s=sizes.warm_s + 3 * len(topics) / 1000,
            seconds=sizes.seconds * 2,
            error_at=raw.produce_error_at(topics[0]),
        )
        name = f"{label}, 1,000 one-record requests/s to all of them"
        run.less(f"{name}: p50", "ms", measured.p50_ms)
        run.less(f"{name}: p99", "ms", measured.p99_ms)
        _cpu(run, name, "s per million requests", measured, measured.requests / 1e6)
        run.less(f"{label}: memory of each broker after the load", "MB", sum(cluster.rss_mb()) / 3)
        _idle(run, f"{label}: idle CPU after the load", cluster)
        node = cluster.nodes[2]
        started = time.perf_counter()
        node.stop()
        run.less(f"{label}: stop of one broker", "s", time.perf_counter() - started)
        started = time.perf_counter()
        node.launch()
        client.wait_until_replicated(cluster, topics, 3)
        run.less(f"{label}: its start, until all replicas are in sync", "s", time.perf_counter() - started)


def _idle(run: Run, name: str, cluster) -> None:
    """What all processes use together while nobody asks them anything."""
    brokers_s, others_s, began = cluster.brokers_cpu_s(), cluster.others_cpu_s(), time.monotonic()
    time.sleep(run.sizes.idle_s * 2)
    seconds = time.monotonic() - began
    others_s = cluster.others_cpu_s() - others_s
    run.less(name, "% of a core", (cluster.brokers_cpu_s() - brokers_s + others_s) / seconds * 100)
    if cluster.other_pids:
        run.less(f"{name}, of it ZooKeeper", "% of a core", others_s / seconds * 100)


@workload("cluster-growth", _GROWTH, None, most_rounds=1)
def growth(run: Run) -> None:
    """One replica of each partition, so that a record costs the same however many brokers there are; ten records of 1 kB a request."""
    settings = {"barnabas_durability": "page-cache"} if run.broker.name == "barnabas" else {}
    for brokers in run.sizes.growth_brokers:
        with _cluster(run, brokers, **settings) as cluster:
            for partitions in run.sizes.growth_partitions:
                _grown(run, cluster, brokers, partitions)


def _grown(run: Run, cluster, brokers: int, partitions: int) -> None:
    sizes = run.sizes
    # A controller makes 10,000 records of metadata at once at most, on either side.
    each = min(partitions, 1000)
    topics = [f"growth-{partitions:05}-{index}" for index in range(partitions // each)]
    started = time.perf_counter()
    for topic in topics:
        client.create_topics(cluster.port, [topic], each, replicas=1, file_delete_delay_ms="0")
    found = client.wait_until_replicated(cluster, topics, each, isr=1)
    name = f"{brokers} broker{'s' if brokers > 1 else ''}, {partitions:,} partitions"
    run.less(f"{name}: create", "s", time.perf_counter() - started)
    frames = client.share_out(
        cluster, found, lambda name, index: raw.produce_frame(name, index, records=10, size_bytes=1000)
    )
    measured = generator.pump_cluster(
        cluster,
        frames,
        connections=8 // brokers,
        depth=_UNDER_WAY,
        warm_s=sizes.warm_s,
        seconds=sizes.bulk_s,
        # Each partition has had a record by then.
        warm_bytes=max(sizes.cluster_bytes // 2, partitions * 11_000),
        total_bytes=sizes.cluster_bytes,
        error_at=raw.produce_error_at(topics[0]),
    )
    run.more(f"{name}: produce", "MB/s", measured.bytes / measured.seconds / 1e6)
    _cpu(run, f"{name}: produce", "s per GB", measured, measured.bytes / 1e9)
    run.generator(measured)
    for topic in topics:
        client.delete_topic(cluster.port, topic)

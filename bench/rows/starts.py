"""Starts, fresh and after kill -9, and memory; as both are shipped, each on brokers of its own."""

from __future__ import annotations

import shutil
import time

from bench import generator, raw
from bench.brokers import rss_kb
from bench.rows.groups import first_record_s
from bench.workload import Run, workload

_TOPIC = "starts"
_TOPIC_ALREADY_EXISTS = 36
_DEADLINE_S = 120


def _acknowledge(broker, frame: bytes, *, create: bool) -> None:
    """Tries until a record is acknowledged, from before the broker listens."""
    error_at = raw.produce_error_at(_TOPIC)
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            if create:
                create = raw.try_create_topics(broker.port, [_TOPIC], 1) not in ([0], [_TOPIC_ALREADY_EXISTS])
            answer = raw.ask(broker.port, frame)
            if answer[error_at : error_at + 2] == b"\0\0":
                return
        except OSError:
            pass
        if broker.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{broker.title} does not start:\n{broker.log_tail()}")
        time.sleep(0.002)


@workload("start", "Start, recovery and memory", None)
def start(run: Run) -> None:
    broker = run.broker
    broker.prepare()
    frame = raw.produce_frame(_TOPIC, 0, records=1, size_bytes=100, acks=1)
    try:
        started = time.perf_counter()
        broker.launch()
        _acknowledge(broker, frame, create=True)
        run.less("start to the first acknowledged record", "s", time.perf_counter() - started)
        time.sleep(1)
        run.less("memory, idle", "MB", rss_kb(broker.pid) / 1000)
        run.less("first group's first record, as shipped", "s", first_record_s(broker.port, _TOPIC, "first"))
        _load(run)
        run.less("memory, after load", "MB", rss_kb(broker.pid) / 1000)
    finally:
        broker.kill()
        shutil.rmtree(run.directory)


def _load(run: Run) -> None:
    """Large batches to 100 partitions and back, then small ones on 32 connections."""
    broker, sizes = run.broker, run.sizes
    raw.create_topic(broker.port, "load", 100)
    frames = [
        raw.produce_frame("load", partition, records=100, size_bytes=1000, acks=1) for partition in range(100)
    ]
    generator.pump(broker, frames, connections=4, depth=5, warm_s=0, seconds=sizes.bulk_s)
    generator.fetch(broker, "load", 100, warm_s=0, seconds=sizes.fetch_s, partition_bytes=1 << 20)
    small = raw.produce_frame("load", 0, records=1, size_bytes=100, acks=1)
    generator.pump(broker, [small], connections=32, warm_s=0, seconds=sizes.seconds)


@workload("recovery", "Start, recovery and memory", None)
def recovery(run: Run) -> None:
    """After kill -9, until the partition with all the data takes a record again; none that was acknowledged may be missing."""
    broker, size_bytes = run.broker, run.sizes.recovery_bytes
    broker.start()
    try:
        raw.create_topic(broker.port, _TOPIC, 1)
        frame = raw.produce_frame(_TOPIC, 0, records=900, size_bytes=1000, acks=1)
        load = generator.pump(broker, [frame], depth=5, warm_s=0, seconds=60, total_bytes=size_bytes)
        broker.kill()
        started = time.perf_counter()
        broker.launch()
        _acknowledge(broker, raw.produce_frame(_TOPIC, 0, records=1, size_bytes=100, acks=1), create=False)
        seconds = time.perf_counter() - started
        end = raw.wait_until_led(broker.port, [_TOPIC], 1)[0]
        if end < load.requests * 900:
            raise RuntimeError(f"{broker.title} lost records: {end} of {load.requests * 900} are left")
        run.less(
            f"recovery of {size_bytes / 1e9:g} GB after kill -9, to the next acknowledged record",
            "s",
            seconds,
        )
    finally:
        broker.kill()
        shutil.rmtree(run.directory)

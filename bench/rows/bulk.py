"""Many records at once: produced in batches, and fetched from the page cache.

What is fetched is as much for both brokers, and more than a processor's cache holds: fetching little again and again costs half.

Batches as the usual clients make them: 900 records of 1 kB (librdkafka's batch.size of 1 MB) or 150 of 100 B (Java's of 16 kB) for one
partition, 100 of 1 kB for each of 100. MB are what crosses the wire, records/s say what that is worth when it is compressed.
"""

from __future__ import annotations

import random
import time

from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.record import Record
from bench import generator, memory, raw
from bench.brokers import FSYNC, PAGE_CACHE
from bench.workload import Run, workload

_UNDER_WAY = 5
"""Requests on each connection: max.in.flight.requests.per.connection of the Java client and librdkafka's idempotent producer."""
_FILL_S_MAX = 60
_PARTITION_BYTES = 1 << 20
"""max.partition.fetch.bytes of all the usual clients."""


def _batch(records: int, size_bytes: int, codec: Codec) -> bytes:
    # Half words that repeat, half digits that do not: lz4 makes 2/3 of it, zstd 1/2, as of usual JSON.
    chance = random.Random(7)
    words = [
        f'"{name}":'
        for name in ("time", "level", "message", "user", "session", "amount", "currency", "country")
    ]
    now_ms = int(time.time() * 1000)
    batch = []
    for index in range(records):
        text = ""
        while len(text) < size_bytes:
            text += f"{chance.choice(words)}{chance.randrange(10**9)},"
        batch.append(Record(index, now_ms, None, text[:size_bytes].encode(), ()))
    return bytes(build_batch(batch, compression=codec))


def _measure(run: Run, size_bytes: int, codec: Codec, partitions: int, *, also_fetch: bool) -> None:
    sizes = run.sizes
    memory.touch(4 * sizes.bulk_bytes)  # more than a turn writes, with its warm-up
    topic = f"bulk-{size_bytes}-{codec.name.lower()}-{partitions}"
    # Its files vanish with it: nothing of this row is still being written while the next is measured.
    raw.create_topic(run.broker.port, topic, partitions, file_delete_delay_ms="0")
    records = 150 if size_bytes == 100 else 900 if partitions == 1 else 100
    batch = _batch(records, size_bytes, codec)
    frames = [
        raw.produce_frame(topic, partition, records=0, size_bytes=0, batch=batch)
        for partition in range(partitions)
    ]
    load = generator.pump(
        run.broker,
        frames,
        connections=1 if partitions == 1 else 4,
        depth=_UNDER_WAY,
        warm_s=sizes.bulk_s,
        seconds=sizes.bulk_s,
        warm_bytes=sizes.bulk_bytes,
        total_bytes=sizes.bulk_bytes,
        error_at=raw.produce_error_at(topic),
    )
    kind = {Codec.NONE: "", Codec.LZ4: ", lz4", Codec.ZSTD: ", zstd"}[codec]
    size = "1 kB" if size_bytes == 1000 else f"{size_bytes} B"
    label = f"{size}{kind}, {partitions} partition{'s' if partitions > 1 else ''}"
    _report(run, f"produce {label}", load, len(frames[0]), records)
    raw.delete_topic(run.broker.port, topic)
    if also_fetch:
        topic = f"fetch-{size_bytes}-{codec.name.lower()}-{partitions}"
        raw.create_topic(run.broker.port, topic, partitions, file_delete_delay_ms="0")
        frames = [
            raw.produce_frame(topic, partition, records=0, size_bytes=0, batch=batch)
            for partition in range(partitions)
        ]
        generator.pump(
            run.broker,
            frames,
            depth=_UNDER_WAY,
            warm_s=0,
            seconds=_FILL_S_MAX,
            total_bytes=sizes.fetch_bytes,
            error_at=raw.produce_error_at(topic),
        )
        load = generator.fetch(
            run.broker,
            topic,
            partitions,
            warm_s=sizes.fetch_warm_s,
            seconds=sizes.fetch_s,
            partition_bytes=_PARTITION_BYTES,
        )
        _report(run, f"fetch {label}", load, len(batch), records)
        raw.delete_topic(run.broker.port, topic)


def _report(run: Run, name: str, load: generator.Load, batch_bytes: int, records: int) -> None:
    run.more(name, "MB/s", load.bytes / load.seconds / 1e6)
    run.more(name, "records/s", load.bytes / batch_bytes * records / load.seconds)
    run.less(f"{name}: CPU", "s per GB", load.broker_cpu_s / load.bytes * 1e9)
    run.generator(load)


def _register(size_bytes: int, codec: Codec, partitions: int) -> None:
    name = f"bulk-{size_bytes}-{codec.name.lower()}-{partitions}"

    def measure(run: Run) -> None:
        _measure(run, size_bytes, codec, partitions, also_fetch=run.durability == PAGE_CACHE)

    workload(name, "Batches", PAGE_CACHE, *([FSYNC] if codec == Codec.NONE else []))(measure)


for _size_bytes in (1000, 100):
    for _codec in (Codec.NONE, Codec.LZ4, Codec.ZSTD):
        for _partitions in (1, 100):
            _register(_size_bytes, _codec, _partitions)

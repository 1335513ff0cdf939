"""What a large cluster's metadata costs each broker and its controller: bytes, microseconds and memory for each partition.

    python -m bench.metadata_scale [--brokers 100] [--topics 10000] [--partitions 10]

Three replicas each, spread in turn. Everything here is the work of one process, without ZooKeeper and without logs; times are processor time.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path

from barnabas.config.broker import BrokerConfig
from barnabas.controller.liveness import fence_broker
from barnabas.controller.store.batches import decode_snapshot, encode_batch, encode_snapshot
from barnabas.controller.topic_rules import TopicRules
from barnabas.metadata.deltas import apply
from barnabas.metadata.image import Broker, MetadataImage
from barnabas.metadata.snapshot import image_records
from barnabas.wire.messages.metadata.partition_change_record import PartitionChangeRecord
from barnabas.wire.messages.metadata.partition_record import PartitionRecord
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from bench.brokers import rss_kb

_REPLICAS = 3
_TOPICS_AT_ONCE = 50
_CHANGES = 20


def show(what: str, figure: float, unit: str) -> None:
    print(f"{what:<66} {figure:12,.2f} {unit}", flush=True)


def brokers(count: int) -> dict[int, Broker]:
    return {
        node: Broker(
            node,
            node,
            {"PLAINTEXT": (f"broker-{node}", 9092)},
            log_dirs=(node.to_bytes(16),),
            incarnation_id=node.to_bytes(16),
        )
        for node in range(1, count + 1)
    }


def topic_records(number: int, partitions: int, node_count: int) -> list:
    topic_id = os.urandom(16)
    records: list = [TopicRecord(name=f"topic-{number:07}", topic_id=topic_id)]
    for index in range(partitions):
        replicas = [(number * partitions + index + turn) % node_count + 1 for turn in range(_REPLICAS)]
        records.append(
            PartitionRecord(
                partition_id=index,
                topic_id=topic_id,
                replicas=replicas,
                isr=replicas,
                leader=replicas[0],
                leader_epoch=0,
                partition_epoch=0,
                directories=[node.to_bytes(16) for node in replicas],
            )
        )
    return records


def size_of_batch(records: list) -> int:
    return len(encode_batch(records, base_offset=0, epoch=1, timestamp_ms=1_700_000_000_000))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.metadata_scale", description=__doc__)
    parser.add_argument("--brokers", type=int, default=100)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--partitions", type=int, default=10, help="of each topic")
    options = parser.parse_args()
    count = options.topics * options.partitions
    print(
        f"{options.brokers} brokers, {options.topics:,} topics, {count:,} partitions of {_REPLICAS} replicas"
    )

    image = MetadataImage("cluster", brokers=brokers(options.brokers))
    gc.collect()
    before_kb = rss_kb(os.getpid())
    log_bytes = 0
    made_s = 0.0
    last_s = 0.0
    for first in range(0, options.topics, _TOPICS_AT_ONCE):
        records = [
            record
            for number in range(first, min(first + _TOPICS_AT_ONCE, options.topics))
            for record in topic_records(number, options.partitions, options.brokers)
        ]
        log_bytes += size_of_batch(records)
        started = time.process_time()
        image, _ = apply(image, records, offset=image.offset + len(records), epoch=1)
        last_s = time.process_time() - started
        made_s += last_s
    del records
    gc.collect()
    show("metadata log, for each partition made", log_bytes / count, "bytes")
    show("replay of new topics, for each partition", made_s / count * 1e6, "us")
    show(
        f"the same for the last {_TOPICS_AT_ONCE} topics",
        last_s / _TOPICS_AT_ONCE / options.partitions * 1e6,
        "us",
    )
    show("memory of the image, for each partition", (rss_kb(os.getpid()) - before_kb) / count * 1000, "bytes")

    topic = next(iter(image.topics.values()))
    change = PartitionChangeRecord(partition_id=0, topic_id=topic.id, isr=[1, 2])
    show("one change of a partition, as a batch of its own", size_of_batch([change]), "bytes")
    started = time.process_time()
    for _ in range(_CHANGES):
        apply(image, [change], offset=image.offset + 1, epoch=1)
    show(
        "replay of one change, as a batch of its own", (time.process_time() - started) / _CHANGES * 1e6, "us"
    )

    gone = image.brokers[1]
    rules = TopicRules(image, BrokerConfig({}))
    started = time.process_time()
    records = fence_broker(image, rules, gone)
    seconds = time.process_time() - started
    show(f"a broker is gone: decision about {len(records) - 1:,} partitions", seconds * 1e3, "ms")
    started = time.process_time()
    content = encode_batch(records, base_offset=0, epoch=1, timestamp_ms=1_700_000_000_000)
    show("the same: encoding", (time.process_time() - started) * 1e3, "ms")
    show("the same: metadata log, for each partition", len(content) / len(records), "bytes")
    started = time.process_time()
    apply(image, records, offset=image.offset + len(records), epoch=1)
    show("the same: replay, on every broker", (time.process_time() - started) * 1e3, "ms")
    del records

    started = time.process_time()
    content = b"".join(encode_snapshot(image_records(image), epoch=1, last_timestamp_ms=1, timestamp_ms=1))
    show("snapshot, for each partition", len(content) / count, "bytes")
    show("snapshot: writing, for each partition", (time.process_time() - started) / count * 1e6, "us")
    started = time.process_time()
    records = decode_snapshot(content)
    show("snapshot: decoding, for each partition", (time.process_time() - started) / count * 1e6, "us")
    started = time.process_time()
    apply(MetadataImage("cluster"), records, offset=len(records), epoch=1)
    show("snapshot: replay, for each partition", (time.process_time() - started) / count * 1e6, "us")
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    show("most memory of this process", int(peak.split()[1]) / 1e6, "GB")


if __name__ == "__main__":
    main()

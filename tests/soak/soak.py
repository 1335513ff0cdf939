"""Mixed load on one broker for as long as one likes: nothing is lost or reordered, and nothing in the process grows."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from tests.fuzz.findings import Finding, log_flaws
from tests.soak.counted_broker import CountedBroker
from tests.soak.judge import Sample, flaws
from tests.soak.workers import ORDERED, PARTITIONS, Checker, IdempotentProducer, all_workers, create_topics

__all__ = ["soak"]

SETTINGS = {
    "offsets.topic.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
    # What is kept for a time is kept for a short one, so that it comes and goes in a run of minutes.
    "log.segment.bytes": str(1 << 20),
    "log.retention.bytes": str(4 << 20),
    "log.retention.check.interval.ms": "5000",
    "log.segment.delete.delay.ms": "5000",
    "producer.id.expiration.ms": "60000",
    "producer.id.expiration.check.interval.ms": "10000",
    "transactional.id.expiration.ms": "60000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "10000",
    "transaction.state.log.num.partitions": "2",
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "10000",
    "max.incremental.fetch.session.cache.slots": "100",
    "metadata.log.max.record.bytes.between.snapshots": str(256 << 10),
    "connections.max.idle.ms": "120000",
    # So that clients that never read reach it.
    "barnabas.outgoing.bytes.per.connection": str(1 << 20),
}
DRAIN_DEADLINE_S = 120


def soak(directory: Path, *, seconds: float, seed: int, interval_s: float) -> dict[str, object]:
    """Runs for that long and prints a line for each sample; gives figures. Raises Finding."""
    broker = CountedBroker(directory, SETTINGS)
    stop, checker = threading.Event(), Checker()
    failures: list[str] = []
    samples: list[Sample] = []
    with broker:
        create_topics(broker.bootstrap_server)
        workers = all_workers(broker.bootstrap_server, stop, failures, seed, checker)
        started = time.monotonic()
        for worker in workers:
            worker.start()
        try:
            while not stop.wait(min(interval_s, max(0.0, started + seconds - time.monotonic()))):
                at_s = time.monotonic() - started
                samples.append(broker.sample(at_s))
                _show(samples[-1], broker)
                if at_s >= seconds:
                    break
        finally:
            stop.set()
            for worker in workers:
                worker.join(DRAIN_DEADLINE_S)
        failures += [f"{worker.name} does not end" for worker in workers if worker.is_alive()]
        if not failures:
            _read_the_rest(broker.bootstrap_server, checker)
            for worker in workers:
                if isinstance(worker, IdempotentProducer):
                    for partition in range(PARTITIONS):
                        last = checker.read.get((worker.number, partition), -1)
                        if last != worker.sent - 1:
                            failures.append(f"{worker.sent} records were written and {last + 1} were read")
        flaw = log_flaws(broker.log_path.read_text())
        if flaw is not None:
            failures.append(f"the log says:\n{flaw}")
        cpu_s = _cpu_s(broker)
        if broker.stop() != 0:
            failures.append("the broker does not stop cleanly")
    failures += flaws(samples)
    if failures:
        raise Finding("\n".join(failures))
    return {
        "seconds": round(time.monotonic() - started),
        "records": sum(checker.positions),
        "steps": {worker.name: worker.steps for worker in workers},
        "broker_cpu_s": round(cpu_s),
        "rss_mb": [sample.rss_bytes >> 20 for sample in samples[:: max(1, len(samples) // 20)]],
    }


def _cpu_s(broker: CountedBroker) -> float:
    fields = Path(f"/proc/{broker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _show(sample: Sample, broker: CountedBroker) -> None:
    owned = sum(count for name, count in sample.counts.items() if name.startswith("barnabas."))
    print(
        f"{sample.at_s:7.0f} s  rss {sample.rss_bytes / 2**20:6.1f} MiB  descriptors {sample.descriptors:4}  "
        f"threads {sample.threads:2}  objects and elements {owned:6}  cpu {_cpu_s(broker):6.1f} s",
        flush=True,
    )


def _read_the_rest(address: str, checker: Checker) -> None:
    """What the group had not read when its members left."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "rest",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    try:
        for partition in range(PARTITIONS):
            _, end = consumer.get_watermark_offsets(TopicPartition(ORDERED, partition), timeout=30)
            consumer.assign([TopicPartition(ORDERED, partition, checker.positions[partition])])
            deadline = time.monotonic() + DRAIN_DEADLINE_S
            while checker.positions[partition] < end:
                if time.monotonic() > deadline:
                    raise Finding(f"partition {partition} is read to {checker.positions[partition]} of {end}")
                for message in consumer.consume(500, 1):
                    if message.error() is not None:
                        raise Finding(f"reading the rest: {message.error()}")
                    checker.take(partition, message.offset(), message.value().decode())
    finally:
        consumer.close()

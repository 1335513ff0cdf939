"""How long a new consumer group waits for its first record, with librdkafka as the consumer."""

from __future__ import annotations

import statistics
import time

from confluent_kafka import Consumer

from bench import raw
from bench.brokers import PAGE_CACHE
from bench.workload import Run, workload

__all__ = ["first_record_s"]

_GROUPS = 5


def first_record_s(port: int, topic: str, group: str) -> float:
    """From the making of a consumer until it has a record; the topic has one."""
    started = time.perf_counter()
    consumer = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{port}", "group.id": group, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(30)
        seconds = time.perf_counter() - started
        if message is None or message.error():
            raise RuntimeError(f"group {group}: {message.error() if message else 'no record'}")
        return seconds
    finally:
        consumer.close()


@workload("group", "Consumer groups", PAGE_CACHE)
def group(run: Run) -> None:
    """With no wait for more members on either side (`group.initial.rebalance.delay.ms=0`)."""
    raw.create_topic(run.broker.port, "group", 1)
    raw.ask(run.broker.port, raw.produce_frame("group", 0, records=1, size_bytes=100))
    # The first makes the topic of the offsets and warms up.
    seconds = [first_record_s(run.broker.port, "group", f"group-{index}") for index in range(_GROUPS + 1)]
    run.less("a further new group's first record", "s", statistics.median(seconds[1:]))

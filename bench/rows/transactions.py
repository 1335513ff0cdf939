"""Transactions: how many a second, and how long one takes, with little and with more in it, of one producer and of many."""

from __future__ import annotations

import sys
import time

from confluent_kafka import Producer

from bench import raw, transactions
from bench.brokers import FSYNC, PAGE_CACHE, cpu_s
from bench.workload import Run, workload

_RECORDS = (1, 100)
_PRODUCERS = (1, 16)


@workload("transactions", "Transactions", PAGE_CACHE, FSYNC)
def raw_transactions(run: Run) -> None:
    """Records of 100 B in one request, and the commit; each producer begins the next transaction at once."""
    for producers in _PRODUCERS:
        for records in _RECORDS:
            topic = f"transactions-{producers}-{records}"
            raw.create_topic(run.broker.port, topic, producers)
            load, again = transactions.run(
                run.broker,
                topic,
                producers=producers,
                records=records,
                warm_s=run.sizes.warm_s,
                seconds=run.sizes.seconds,
            )
            name = f"transactions of {_plural(records, 'record')}, {_plural(producers, 'producer')}"
            run.more(name, "transactions/s", load.requests / load.seconds)
            run.less(f"{name}: p50", "ms", load.p50_ms)
            run.less(f"{name}: p99", "ms", load.p99_ms)
            run.less(f"{name}: CPU", "ms each", load.broker_cpu_s / load.requests * 1e3)
            run.generator(load)
            if again:
                print(
                    f"bench:   {again / load.requests:.2f} requests sent again", file=sys.stderr, flush=True
                )


@workload("transactions-librdkafka", "Transactions", PAGE_CACHE, FSYNC)
def real_transactions(run: Run) -> None:
    """One producer of librdkafka, which adds the partition with a request of its own (transaction version 1)."""
    for records in _RECORDS:
        topic = f"real-transactions-{records}"
        raw.create_topic(run.broker.port, topic, 1)
        producer = Producer(
            {
                "bootstrap.servers": f"127.0.0.1:{run.broker.port}",
                "transactional.id": topic,
                "linger.ms": 0,
            }
        )
        producer.init_transactions(30)
        _commit(producer, topic, records, run.sizes.warm_s)
        before = cpu_s(run.broker.pid)
        latencies = _commit(producer, topic, records, run.sizes.seconds)
        cpu = cpu_s(run.broker.pid) - before
        count, seconds = len(latencies), sum(latencies)
        latencies.sort()
        name = f"transactions of {_plural(records, 'record')}, librdkafka"
        run.more(name, "transactions/s", count / seconds)
        run.less(f"{name}: p99", "ms", latencies[int(count * 0.99)] * 1e3)
        run.less(f"{name}: CPU", "ms each", cpu / count * 1e3)


def _commit(producer: Producer, topic: str, records: int, seconds: float) -> list[float]:
    """Transaction after transaction; how long each took."""
    value = b"0123456789abcdef" * 6 + b"0123"
    found = []
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until or not found:
        producer.begin_transaction()
        for _ in range(records):
            producer.produce(topic, value, partition=0)
        producer.commit_transaction(60)
        found.append(time.perf_counter() - now)
    return found


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

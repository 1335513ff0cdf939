"""librdkafka for `rows/real_clients.py`: produces to a topic, or consumes what is there, and prints one line of JSON.

    rdkafka.py produce|consume|consume-short-pauses BOOTSTRAP TOPIC PARTITIONS PID WARM_BYTES BYTES SIZE_BYTES

A process of its own, so that what it uses is counted apart. Only calls for thousands of records at once, so that Python's part is small.
"""

from __future__ import annotations

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

_AT_ONCE = 5000
# As shipped a consumer asks for nothing for a second whenever 100,000 records wait in it.
_SHORT_PAUSES = {"fetch.queue.backoff.ms": 10}


def _cpu_s(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def _produce(producer: Producer, topic: str, partitions: int, value: bytes, count: int) -> None:
    failed = []

    def delivered(error, _message) -> None:
        if error is not None:
            failed.append(error)

    left = count
    turn = 0
    while left > 0:
        # The last of each batch tells: a callback for every record would measure Python.
        size = min(_AT_ONCE, left)
        messages = [{"value": value} for _ in range(size)]
        messages[-1]["callback"] = delivered
        while messages:
            if producer.produce_batch(topic, messages, partition=turn % partitions) == len(messages):
                break
            messages = [message for message in messages if message.pop("_error", None)]
            producer.poll(0.01)
        producer.poll(0)
        turn += 1
        left -= size
    producer.flush()
    if failed:
        raise SystemExit(f"rdkafka: {failed[0]}")


def _consume(bootstrap: str, topic: str, partitions: int, count: int, settings: dict[str, int]) -> None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False, **settings}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    got = 0
    while got < count:
        messages = consumer.consume(min(_AT_ONCE, count - got), 10)
        if not messages or messages[0].error():
            raise SystemExit(
                f"rdkafka: {messages[0].error() if messages else 'nothing comes'} after {got} of {count}"
            )
        got += len(messages)
    consumer.close()


def main() -> None:
    mode, bootstrap, topic = sys.argv[1:4]
    partitions, pid, warm_bytes, total_bytes, size_bytes = map(int, sys.argv[4:9])
    value = (b"0123456789abcdef" * (size_bytes // 16 + 1))[:size_bytes]
    count = total_bytes // size_bytes
    settings = _SHORT_PAUSES if mode == "consume-short-pauses" else {}
    if mode == "produce":
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 5,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 200_000,
            }
        )
        _produce(producer, topic, partitions, value, warm_bytes // size_bytes)
    else:
        _consume(bootstrap, topic, partitions, warm_bytes // size_bytes, settings)
    started, before, own = time.perf_counter(), _cpu_s(pid), time.process_time()
    if mode == "produce":
        _produce(producer, topic, partitions, value, count)
    else:
        _consume(bootstrap, topic, partitions, count, settings)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "requests": count,
                "bytes": count * size_bytes,
                "broker_cpu_s": _cpu_s(pid) - before,
                "own_cpu_s": time.process_time() - own,
            }
        )
    )


if __name__ == "__main__":
    main()

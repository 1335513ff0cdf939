"""Produce and consume by real clients, as they are set up when nobody sets them up; the client takes most of the machine."""

from __future__ import annotations

from functools import partial

from bench import clients, raw
from bench.brokers import PAGE_CACHE
from bench.workload import Run, workload

_PARTITIONS = 10


def _measure(client: str, size_bytes: int, run: Run) -> None:
    topic = f"{client}-{size_bytes}"
    # A client takes many times longer for a byte of small records.
    total_bytes = run.sizes.client_bytes * (1 if size_bytes == 1000 else 0.3)
    raw.create_topic(run.broker.port, topic, _PARTITIONS, file_delete_delay_ms="0")
    size = "1 kB" if size_bytes == 1000 else f"{size_bytes} B"
    for mode in clients.CLIENTS[client]:
        try:
            load = clients.run(
                client,
                mode,
                run.broker,
                topic,
                _PARTITIONS,
                warm_bytes=int(total_bytes),
                total_bytes=int(total_bytes),
                size_bytes=size_bytes,
            )
        except clients.MissingClientError as error:
            run.skip(str(error))
            break
        name = f"{client}, {mode.removesuffix('-short-pauses')} {size}"
        if mode.endswith("-short-pauses"):
            name += ", short pauses"
        run.more(name, "MB/s", load.bytes / load.seconds / 1e6)
        run.less(f"{name}: CPU", "s per GB", load.broker_cpu_s / load.bytes * 1e9)
    raw.delete_topic(run.broker.port, topic)


for _client in clients.CLIENTS:
    for _size_bytes in (1000, 100):
        workload(f"{_client}-{_size_bytes}", "Real clients", PAGE_CACHE)(
            partial(_measure, _client, _size_bytes)
        )

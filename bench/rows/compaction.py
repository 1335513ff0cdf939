"""Compaction of one partition, and what producers of another one feel of it."""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING

from barnabas.records.builder import build_batch
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from bench import raw
from bench.brokers import Barnabas
from bench.workload import Run, workload

if TYPE_CHECKING:
    import socket

_TOPIC = "compacted"
_OTHER = "other"
_KEYS = 200_000
_BATCH_RECORDS = 1000
_PAUSE_S = 0.001
_DEADLINE_S = 300


@workload("compaction", "Compaction", None, most_rounds=2)
def compaction(run: Run) -> None:
    """Records of 100 B, each key some six times; meanwhile one-record produces, one after the other, a millisecond between them."""
    broker = run.broker
    settings = broker.settings if isinstance(broker, Barnabas) else broker._broker.config
    settings["log.cleaner.backoff.ms"] = "50"
    try:
        broker.start()
        raw.create_topic(broker.port, _OTHER, 1)
        raw.create_topic(
            broker.port,
            _TOPIC,
            1,
            **{
                "cleanup.policy": "delete",
                "segment.bytes": str(min(16 << 20, max(run.sizes.compaction_bytes // 8, 1 << 20))),
                "min.cleanable.dirty.ratio": "0",
            },
        )
        produced = _fill(broker.port, run.sizes.compaction_bytes)
        produce = raw.produce_frame(_OTHER, 0, records=1, size_bytes=100, acks=1)
        with raw.connect(broker.port) as connection:
            _latencies(connection, produce, until=time.perf_counter() + run.sizes.warm_s)
            before = _latencies(connection, produce, until=time.perf_counter() + run.sizes.seconds)
            target = _segments(run)[-1]
            _compact(broker.port)
            started = time.perf_counter()
            during = _latencies(
                connection, produce, until=started + _DEADLINE_S, is_done=lambda: _cleaned(run) == target
            )
            seconds = time.perf_counter() - started
        run.more("MB/s", "MB/s", produced / seconds / 1e6)
        run.less("one-record produce before, p99", "ms", _p99(before) * 1e3)
        run.less("one-record produce meanwhile, p99", "ms", _p99(during) * 1e3)
        run.less("one-record produce meanwhile, longest", "ms", max(during) * 1e3)
    finally:
        # Of the rows that follow, none is to look for work twenty times a second.
        del settings["log.cleaner.backoff.ms"]
        broker.kill()
        shutil.rmtree(run.directory)


def _fill(port: int, wanted: int) -> int:
    chance = random.Random(1)
    sent = 0
    with raw.connect(port) as connection:
        while sent < wanted:
            now_ms = int(time.time() * 1000)
            batch = bytes(
                build_batch(
                    [
                        (0, now_ms, b"user-%08d" % chance.randrange(_KEYS), chance.randbytes(88), ())
                        for _ in range(_BATCH_RECORDS)
                    ]
                )
            )
            connection.sendall(raw.produce_frame(_TOPIC, 0, records=0, size_bytes=0, acks=1, batch=batch))
            raw.receive(connection)
            sent += len(batch)
    # What was closed is on the disk before it is compacted.
    time.sleep(1.5)
    return sent


def _compact(port: int) -> None:
    config = IncrementalAlterConfigsRequest.AlterableConfig(name="cleanup.policy", value="compact")
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=2, resource_name=_TOPIC, configs=[config]
    )
    raw.ask(port, raw.frame(44, 0, IncrementalAlterConfigsRequest(resources=[resource]), flexible=False))


def _segments(run: Run) -> list[int]:
    (directory,) = run.directory.rglob(f"{_TOPIC}-0")
    return sorted(int(path.stem) for path in directory.glob("*.log"))


def _cleaned(run: Run) -> int:
    for path in run.directory.rglob("cleaner-offset-checkpoint"):
        for line in path.read_text().splitlines():
            if line.startswith(f"{_TOPIC} 0 "):
                return int(line.split()[2])
    return -1


def _latencies(
    connection: socket.socket, frame: bytes, *, until: float, is_done=lambda: False
) -> list[float]:
    found = []
    looked = time.perf_counter()
    while (now := time.perf_counter()) < until:
        connection.sendall(frame)
        raw.receive(connection)
        found.append(time.perf_counter() - now)
        time.sleep(_PAUSE_S)
        if now - looked > 0.05:  # a look at the file takes the generator's time, not the broker's
            looked = now
            if is_done():
                return found
    return found


def _p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)]

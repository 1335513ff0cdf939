"""Compaction of one partition, and what producers of another one feel of it."""

from __future__ import annotations

import random
import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

from barnabas.records.batch import HEADER_SIZE, MAGIC, BatchHeader
from barnabas.records.builder import recompress
from barnabas.records.compression import Codec
from barnabas.records.varint import encode_varint
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from bench import raw
from bench.brokers import Barnabas, family_cpu_s
from bench.workload import Run, workload

if TYPE_CHECKING:
    import socket

_TOPIC = "compacted"
_OTHER = "other"
_BATCH_RECORDS = {100: 1000, 1000: 100}
_WORDS = ("time", "level", "message", "user", "session", "amount", "currency", "country")
_PAUSE_S = 0.001
_DEADLINE_S = 300


def compaction(run: Run, size_bytes: int, codec: Codec, batch_records: int) -> None:
    """Records of a size, each key some six times; meanwhile one-record produces, one after the other, a millisecond between them."""
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
        produced = _fill(broker.port, run.sizes.compaction_bytes, size_bytes, codec, batch_records)
        produce = raw.produce_frame(_OTHER, 0, records=1, size_bytes=100, acks=1)
        with raw.connect(broker.port) as connection:
            _latencies(connection, produce, until=time.perf_counter() + run.sizes.warm_s)
            before = _latencies(connection, produce, until=time.perf_counter() + run.sizes.seconds)
            target = _segments(run)[-1]
            cpu_before_s = family_cpu_s(broker.pid)
            _compact(broker.port)
            started = time.perf_counter()
            during = _latencies(
                connection, produce, until=started + _DEADLINE_S, is_done=lambda: _cleaned(run) == target
            )
            seconds = time.perf_counter() - started
            # What a process took is counted when its end has been noticed.
            time.sleep(0.5)
            used_s = family_cpu_s(broker.pid) - cpu_before_s
        what = f"compaction, {'1 kB' if size_bytes == 1000 else f'{size_bytes} B'}"
        if codec != Codec.NONE:
            what += f", {codec.name.lower()}"
        if batch_records != _BATCH_RECORDS[size_bytes]:
            what += f", batches of {batch_records}"
        run.more(what, "MB/s", produced / seconds / 1e6)
        run.less(f"{what}: CPU", "s per GB", used_s / produced * 1e9)
        run.less(f"{what}: one-record produce before, p99", "ms", _p99(before) * 1e3)
        run.less(f"{what}: one-record produce meanwhile, p99", "ms", _p99(during) * 1e3)
        run.less(f"{what}: one-record produce meanwhile, longest", "ms", max(during) * 1e3)
    finally:
        # Of the rows that follow, none is to look for work twenty times a second.
        del settings["log.cleaner.backoff.ms"]
        broker.kill()
        shutil.rmtree(run.directory)


for _size_bytes, _codec, _records in (
    (100, Codec.NONE, 1000),
    (100, Codec.NONE, 150),
    (100, Codec.LZ4, 1000),
    (1000, Codec.NONE, 100),
    (1000, Codec.ZSTD, 100),
):
    _name = f"compaction-{_size_bytes}-{_codec.name.lower()}"
    workload(
        _name if _records == _BATCH_RECORDS[_size_bytes] else f"{_name}-{_records}",
        "Compaction",
        None,
        most_rounds=2,
    )(partial(compaction, size_bytes=_size_bytes, codec=_codec, batch_records=_records))


def _fill(port: int, wanted: int, size_bytes: int, codec: Codec, batch_records: int) -> int:
    """Produces so much; gives the bytes of the batches as they are without compression."""
    chance = random.Random(1)
    values = [_value(chance, size_bytes - 12) for _ in range(5000)]
    keys = max(wanted // size_bytes // 7, 1)
    sent = 0
    with raw.connect(port) as connection:
        while sent < wanted:
            header = BatchHeader(
                base_offset=0,
                batch_length=0,
                partition_leader_epoch=-1,
                magic=MAGIC,
                crc=0,
                attributes=0,
                last_offset_delta=batch_records - 1,
                base_timestamp=(now_ms := int(time.time() * 1000)),
                max_timestamp=now_ms,
                producer_id=-1,
                producer_epoch=-1,
                base_sequence=-1,
                record_count=batch_records,
            )
            records = b"".join(
                [
                    _record(delta, chance.randrange(keys), chance.choice(values))
                    for delta in range(batch_records)
                ]
            )
            batch = recompress(header, records, codec)
            sent += HEADER_SIZE + len(records)
            frame = raw.produce_frame(_TOPIC, 0, records=0, size_bytes=0, acks=1, batch=bytes(batch))
            connection.sendall(frame)
            raw.receive(connection)
    # What was closed is on the disk before it is compacted.
    time.sleep(1.5)
    return sent


def _record(delta: int, user: int, value: bytes) -> bytes:
    """As the builder makes it, in a third of the time."""
    key = b"user-%d" % user
    body = b"".join(
        (
            b"\0\0",
            encode_varint(delta),
            encode_varint(len(key)),
            key,
            encode_varint(len(value)),
            value,
            b"\0",
        )
    )
    return encode_varint(len(body)) + body


def _value(chance: random.Random, size_bytes: int) -> bytes:
    """Half words, half digits, a tenth shorter or longer."""
    wanted = chance.randrange(size_bytes * 9 // 10, size_bytes * 11 // 10 + 1)
    text = ""
    while len(text) < wanted:
        text += f'"{chance.choice(_WORDS)}":{chance.randrange(10**9)},'
    return text[:wanted].encode()


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

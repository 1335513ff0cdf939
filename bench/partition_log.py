"""What a partition log costs by itself: microseconds per append and read, seconds per gigabyte to recover.

    python -m bench.partition_log [DIRECTORY]

Appends are shown beside the bare write of the same bytes, so that the difference is what the log adds.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfig
from barnabas.log.files import Files
from barnabas.log.partition_log import PartitionLog
from barnabas.records.batch import parse_header, set_base_offset_and_epoch
from barnabas.records.builder import build_batch

ROUNDS = 5
LOG_COUNT = 2000


def best(work, count):
    """Microseconds per call, the best of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            work()
        times.append(time.perf_counter() - start)
    return min(times) / count * 1e6


def open_log(directory, files, *, clean=True, recovery_point=0):
    directory.mkdir(exist_ok=True)
    return PartitionLog.open(
        directory,
        LogConfig(),
        files,
        SystemClock(),
        topic=directory.name,
        partition=0,
        clean=clean,
        recovery_point=recovery_point,
    )


def appends(directory, files):
    now_ms = SystemClock().now_ms()
    for records, idempotent in ((1, False), (1, True), (160, False)):
        batch = memoryview(build_batch([(0, now_ms, b"key", bytes(90), ())] * records))
        log = open_log(directory / f"append-{records}-{idempotent}", files)
        sequence = iter(range(1 << 30))
        header = parse_header(batch)

        def append(log=log, batch=batch, header=header, idempotent=idempotent, sequence=sequence):
            one = header
            if idempotent:
                one = header._replace(producer_id=7, producer_epoch=0, base_sequence=next(sequence))
            log.append(batch, (one,), leader_epoch=0, now_ms=now_ms)

        descriptor = os.open(directory / "bare", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
        position = 0

        def write(descriptor=descriptor, batch=batch):
            nonlocal position
            position += os.pwrite(descriptor, batch, position)

        count = 20_000 if records == 1 else 3_000
        bare, whole = best(write, count), best(append, count)
        os.close(descriptor)
        kind = "idempotent, " if idempotent else ""
        print(f"append of {len(batch):6} B  {kind:12} {whole:6.2f} us, bare write {bare:6.2f} us")
        log.retire()


def reads(directory, files):
    now_ms = SystemClock().now_ms()
    batch = memoryview(build_batch([(0, now_ms, b"key", bytes(90), ())] * 10))
    header = parse_header(batch)
    log = open_log(directory / "read", files)
    for _ in range(50_000):
        log.append(batch, (header,), leader_epoch=0, now_ms=now_ms)
    end = log.log_end_offset

    def read(offset):
        log.read(offset, 1 << 20, up_to_offset=end).region.release()

    print(f"read at the end             {best(lambda: read(end - 5), 20_000):6.2f} us")
    print(f"read anywhere               {best(lambda: read(random.randrange(end)), 5_000):6.2f} us")
    log.retire()


def recovery(directory, files):
    size = 512 << 20
    for batch_bytes in (1_000, 16_000, 1_000_000):
        path = directory / f"recover-{batch_bytes}"
        path.mkdir()
        batch = build_batch([(0, 1, None, bytes(batch_bytes - 80), ())])
        with (path / "00000000000000000000.log").open("wb") as file:
            for offset in range(size // len(batch)):
                set_base_offset_and_epoch(batch, 0, offset, 0)
                file.write(batch)
        start = time.perf_counter()
        open_log(path, files, clean=False).retire()
        seconds = time.perf_counter() - start
        print(f"recovery, batches of {batch_bytes:7} B  {seconds * (1 << 30) / size:5.2f} s per GiB")


def many(directory, files):
    now_ms = SystemClock().now_ms()
    batch = memoryview(build_batch([(0, now_ms, b"key", bytes(90), ())]))
    header = (parse_header(batch),)
    logs = [open_log(directory / f"many-{number}", files) for number in range(LOG_COUNT)]
    for log in logs:
        log.append(batch, header, leader_epoch=0, now_ms=now_ms)
    start = time.perf_counter()
    for log in logs:
        log.append(batch, header, leader_epoch=0, now_ms=now_ms)
    seconds = time.perf_counter() - start
    print(
        f"append, {LOG_COUNT} logs in turn with {files.max_open} descriptors {seconds / LOG_COUNT * 1e6:6.2f} us"
    )
    for log in logs:
        log.close(sync=False)
    start = time.perf_counter()
    for number in range(LOG_COUNT):
        open_log(directory / f"many-{number}", files, recovery_point=2)
    print(f"clean open                  {(time.perf_counter() - start) / LOG_COUNT * 1e6:6.2f} us")


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        files = Files(500)
        for part in (appends, reads, recovery, many):
            part(Path(name), files)


if __name__ == "__main__":
    main()

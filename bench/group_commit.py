"""What the durability promise costs: appends acknowledged after an fsync that all waiting producers share.

    python -m bench.group_commit [DIRECTORY]

Each line is a number of producers that append 1 kB, wait until it is on disk, and append again, spread over some logs.
The first line is the disk itself: write and fdatasync in a loop, which is what each append would cost without sharing.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfig
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.partition_log import PartitionLog
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch

SECONDS = 1.0
CASES = ((1, 1), (10, 1), (100, 1), (100, 10), (1000, 10))


def bare_disk(directory: Path) -> list[float]:
    """Milliseconds of each write of 1 kB with its own fdatasync."""
    times = []
    with (directory / "bare").open("wb", buffering=0) as file:
        end = time.perf_counter() + SECONDS
        while (start := time.perf_counter()) < end:
            file.write(bytes(1024))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return times


async def shared(directory: Path, producers: int, log_count: int) -> tuple[list[float], GroupCommit, float]:
    """Milliseconds of each acknowledged append, and the CPU seconds that all of them took."""
    batch = bytes(build_batch([(0, 1, None, bytes(950), ())]))
    header = [parse_header(batch)]
    files = Files()
    group_commit = GroupCommit(asyncio.get_running_loop())
    logs = []
    for number in range(log_count):
        path = directory / f"t{producers}x{log_count}-{number}"
        path.mkdir()
        logs.append(
            PartitionLog.open(
                path, LogConfig(), files, SystemClock(), topic=path.name, partition=0, clean=True
            )
        )
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def producer(log: PartitionLog) -> None:
        while (start := time.perf_counter()) < end:
            appended = log.append(bytearray(batch), header, leader_epoch=0, now_ms=1)
            await group_commit.request(log, appended.last_offset + 1)
            times.append((time.perf_counter() - start) * 1000)

    cpu = time.process_time()
    await asyncio.gather(*(producer(logs[number % log_count]) for number in range(producers)))
    cpu = time.process_time() - cpu
    group_commit.close()
    return times, group_commit, cpu


def report(name: str, times: list[float], seconds: float, note: str) -> None:
    times.sort()
    print(
        f"{name:28} {len(times) / seconds:9,.0f}/s   p50 {statistics.median(times):7.3f} ms   "
        f"p99 {times[int(len(times) * 0.99)]:7.3f} ms   {note}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        directory = Path(name)
        report("write + fdatasync", bare_disk(directory), SECONDS, "")
        for producers, logs in CASES:
            times, group_commit, cpu = asyncio.run(shared(directory, producers, logs))
            note = (
                f"{len(times) / group_commit.sync_count:6.1f} appends per sync, "
                f"{cpu / len(times) * 1e6:5.1f} us CPU each"
            )
            report(f"{producers} producers, {logs} logs", times, SECONDS, note)


if __name__ == "__main__":
    main()

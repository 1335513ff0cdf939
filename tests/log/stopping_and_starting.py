"""A broker's log directories for tests, with what they need."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager

from barnabas.config.broker import BrokerConfig
from barnabas.config.topic import LogConfig
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.log_directories import LogDirectories
from barnabas.log.missing_directories import KnownPlacements
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch

IDS = [bytes([number]) * 16 for number in range(1, 9)]
CONFIG = LogConfig(file_delete_delay_ms=0)
NOTHING_KNOWN = KnownPlacements()


class FakeClock:
    def __init__(self):
        self.ms = 1_000_000
        self.set_back_ms = 0

    def now_ms(self):
        return self.ms - self.set_back_ms

    def monotonic_ms(self):
        return float(self.ms)


class FailingFiles(Files):
    """A disk that fails below certain directories."""

    def __init__(self):
        super().__init__()
        self.failing = []
        self.failing_syncs = False
        self.file_system_syncs = self.directory_syncs = self.file_syncs = 0
        self.most_open = 0

    def _check(self, path):
        if any(path.is_relative_to(failing) for failing in self.failing):
            raise OSError(5, "Input/output error")

    def sync(self, file):
        self._check(file.path)
        self.file_syncs += 1
        super().sync(file)

    def pin(self, file):
        super().pin(file)
        self.most_open = max(self.most_open, self.open_count)

    def sync_file_system(self, path, since=None):
        if self.failing_syncs:
            raise OSError(5, "Input/output error")
        self.file_system_syncs += 1
        super().sync_file_system(path, since)

    def sync_directory(self, path):
        self.directory_syncs += 1
        super().sync_directory(path)

    def make_directory(self, path):
        self._check(path)
        super().make_directory(path)

    def lock(self, path):
        self._check(path)
        return super().lock(path)

    def entries(self, directory):
        self._check(directory)
        return super().entries(directory)

    def write_file(self, path, data, *, sync=False):
        self._check(path)
        super().write_file(path, data, sync=sync)

    def rename(self, source, target):
        self._check(source)
        super().rename(source, target)


class Broker:
    """Log directories with what they need, which can be stopped and started again."""

    def __init__(self, tmp_path, count=1, **settings):
        self.paths = [tmp_path / f"data{number}" for number in range(count)]
        self.settings = {"log.dirs": ",".join(map(str, self.paths)), **settings}
        self.files = FailingFiles()
        self.clock = FakeClock()
        self.failed = []
        self.configs = {}

    @asynccontextmanager
    async def running(self, *, clean=True, cluster_id=None, known=NOTHING_KNOWN):
        loop = asyncio.get_running_loop()
        group_commit = GroupCommit(loop, threads=2)
        logs = LogDirectories(
            BrokerConfig(self.settings),
            self.files,
            self.clock,
            loop=loop,
            group_commit=group_commit,
            log_config=lambda topic: self.configs.get(topic, CONFIG),
            on_change=self.failed.append,
        )
        try:
            async with asyncio.timeout(20):
                logs.open(cluster_id=cluster_id)
                self.report = logs.adopt(known)
                await logs.recover()
                yield logs
        finally:
            await logs.close(clean=clean)
            group_commit.close()


def scenario(function):
    """A test that runs on a loop."""

    @functools.wraps(function)
    def test(tmp_path):
        asyncio.run(function(tmp_path))

    return test


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def append(log, count=1, *, pid=-1, sequence=-1, time_ms=1_000_000):
    batch = build_batch(
        [(index, time_ms, b"k", b"v", ()) for index in range(count)],
        producer_id=pid,
        producer_epoch=-1 if pid < 0 else 0,
        base_sequence=sequence,
    )
    headers = [parse_header(batch)]
    return log.append(batch, headers, leader_epoch=0, now_ms=time_ms).last_offset + 1


def names(path):
    return sorted(entry.name for entry in path.iterdir())

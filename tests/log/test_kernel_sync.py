"""Syncs without a thread: the kernel's own, where there are any, and what happens where there are none."""

from __future__ import annotations

import asyncio
import os
import platform
import sys

import pytest

from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfig
from barnabas.errors import StorageError
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.kernel_sync import UNDER_WAY_MAX, KernelSync
from barnabas.log.partition_log import PartitionLog
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch


@pytest.fixture
def kernel(loop):
    kernel = KernelSync.open(loop)
    if kernel is None:
        on_ci = os.environ.get("CI") == "true" and sys.platform == "linux" and platform.machine() == "x86_64"
        (pytest.fail if on_ci else pytest.skip)(
            "this kernel does not sync on its own, or a sandbox forbids it"
        )
    yield kernel
    kernel.close()


@pytest.fixture
def open_log(tmp_path):
    def open_():
        return PartitionLog.open(
            tmp_path, LogConfig(), Files(), SystemClock(), topic="t", partition=0, clean=True
        )

    return open_


def append(log):
    batch = build_batch([(0, 1, b"k", b"v", ())])
    return log.append(batch, [parse_header(batch)], leader_epoch=0, now_ms=1).last_offset + 1


async def test_a_sync_is_reported_when_it_is_done(loop, kernel, tmp_path):
    """Each sync is reported once, with None, in a later turn of the loop."""
    seen = []
    everybody = loop.create_future()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for number in range(20):
            file.write(b"x")

            def on_synced(error, number=number):
                seen.append((number, error))
                if len(seen) == 20:
                    everybody.set_result(None)

            assert kernel.sync(file.fileno(), on_synced)
        assert seen == []
        await asyncio.wait_for(everybody, 10)
    assert sorted(seen) == [(number, None) for number in range(20)]
    assert kernel.under_way == 0


async def test_what_the_kernel_does_not_take_is_left_to_others(loop, kernel, tmp_path):
    """No more than so many at a time, and no descriptor that cannot be synced; nobody is called for those."""
    seen = []
    reading, writing = os.pipe()
    assert not kernel.sync(writing, seen.append)
    os.close(reading)
    os.close(writing)
    assert not kernel.sync(writing, seen.append)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        taken = sum(kernel.sync(file.fileno(), seen.append) for _ in range(UNDER_WAY_MAX + 5))
        assert taken == UNDER_WAY_MAX
        kernel.close()
    assert seen == [None] * UNDER_WAY_MAX
    kernel.__init__(loop, 206, 207, 208, 209)  # for the fixture to close


async def test_it_is_done_without_where_there_is_none(loop, monkeypatch):
    """Another machine, another system, or a sandbox: None, and no error."""
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "riscv64")
        assert KernelSync.open(loop) is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert KernelSync.open(loop) is None
    with monkeypatch.context() as patch:
        patch.delattr(os, "eventfd")
        assert KernelSync.open(loop) is None


async def test_a_group_commit_goes_without_threads(loop, kernel, open_log):
    """The sync of one file takes no thread; all who wait are answered, and the log knows what is on the disk."""
    log = open_log()
    group_commit = GroupCommit(loop, open_kernel_sync=lambda _: kernel)
    await group_commit.request(log, append(log))  # the first one syncs the directory, too
    threads = len(group_commit._threads)
    for _ in range(5):
        waiting = [group_commit.request(log, append(log)) for _ in range(10)]
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert log.recovery_point == log.log_end_offset
    assert len(group_commit._threads) == threads
    assert group_commit.sync_count <= 11
    group_commit._kernel_sync = None  # the fixture closes it
    group_commit.close()


async def test_a_sync_that_fails_in_the_kernel_takes_the_log_offline(loop, open_log):
    """Whoever waits hears of it, and nothing counts as being on the disk."""

    class Failing:
        def sync(self, descriptor, on_synced):
            assert descriptor >= 0
            loop.call_soon(on_synced, OSError(5, "Input/output error"))
            return True

        def close(self):
            pass

    log = open_log()
    group_commit = GroupCommit(loop, open_kernel_sync=lambda _: Failing())
    await group_commit.request(log, append(log))
    synced = log.recovery_point
    with pytest.raises(StorageError, match="Input/output error"):
        await asyncio.wait_for(group_commit.request(log, append(log)), 10)
    assert log.is_offline
    assert log.recovery_point == synced
    group_commit.close()


async def test_closing_waits_for_what_the_kernel_has(loop, kernel, open_log):
    """A close with a sync under way ends after it, and its waiters are answered."""
    log = open_log()
    group_commit = GroupCommit(loop, open_kernel_sync=lambda _: KernelSync.open(loop))
    await group_commit.request(log, append(log))
    waiting = group_commit.request(log, append(log))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    group_commit.close()
    assert waiting.done()

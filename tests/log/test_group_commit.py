from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfig
from barnabas.errors import KafkaError, StorageError
from barnabas.log.files import Files
from barnabas.log.group_commit import ABANDONED_MAX, ROUNDS_MAX, GroupCommit
from barnabas.log.partition_log import PartitionLog
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch


class GatedFiles(Files):
    """A disk whose syncs wait for a gate, and fail when told to."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.synced = []
        self.error = None

    def sync(self, file):
        self.started.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.synced.append(file.path.name)
        super().sync(file)


@pytest.fixture
def files():
    return GatedFiles()


@pytest.fixture
def open_log(tmp_path, files):
    failures = []

    def open_(name="t-0", on_failure=lambda log, error: failures.append((log, error))):
        directory = tmp_path / name
        directory.mkdir()
        return PartitionLog.open(
            directory,
            LogConfig(),
            files,
            SystemClock(),
            topic="t",
            partition=0,
            clean=True,
            on_failure=on_failure,
        )

    open_.failures = failures
    return open_


def append(log, count=1):
    batch = build_batch([(index, 1, b"k", b"v", ()) for index in range(count)])
    return log.append(batch, [parse_header(batch)], leader_epoch=0, now_ms=1).last_offset + 1


def run(scenario):
    """Run a scenario with a group commit, which is closed afterwards."""

    async def whole():
        group_commit = GroupCommit(asyncio.get_running_loop(), threads=2)
        try:
            async with asyncio.timeout(10):
                await scenario(group_commit)
        finally:
            group_commit.close()

    asyncio.run(whole())


@contextmanager
def closed_gate(files):
    files.started.clear()
    files.gate.clear()
    try:
        yield
    finally:
        files.gate.set()


async def sync_started(files):
    while not files.started.is_set():
        await asyncio.sleep(0.001)


def test_a_request_is_answered_once_the_disk_has_it(open_log, files):
    """The future is done after a sync that began after the append; what is synced already is done at once."""
    log = open_log()

    async def scenario(group_commit):
        end = append(log, 3)
        assert log.recovery_point == 0
        await group_commit.request(log, end)
        assert log.recovery_point == 3
        assert files.synced == ["00000000000000000000.log"]
        again = group_commit.request(log, end)
        assert again.done()
        assert len(files.synced) == 1

    run(scenario)


def test_requests_of_one_tick_share_a_sync(open_log, files):
    """Whoever asks in the same tick of the loop shares one sync."""
    log = open_log()

    async def scenario(group_commit):
        await asyncio.gather(*(group_commit.request(log, append(log)) for _ in range(50)))
        assert files.synced == ["00000000000000000000.log"]
        assert group_commit.sync_count == 1
        assert group_commit.request_count == 50

    run(scenario)


def test_requests_during_a_sync_share_the_next(open_log, files):
    """Who comes while a sync is under way is not answered by it: its append may have missed that sync."""
    log = open_log()

    async def scenario(group_commit):
        with closed_gate(files):
            first = group_commit.request(log, append(log))
            await sync_started(files)
            later = [group_commit.request(log, append(log)) for _ in range(20)]
        await first
        await asyncio.gather(*later)
        assert log.recovery_point == 21
        assert group_commit.sync_count == 2

    run(scenario)


def test_logs_sync_beside_one_another(open_log, files):
    """A slow sync of one log does not hold up another's."""
    logs = [open_log("t-0"), open_log("t-1")]
    running = threading.Barrier(2)

    async def scenario(group_commit):
        original = Files.sync

        def sync(self, file):
            running.wait(10)
            original(self, file)

        files.sync = sync.__get__(files)
        await asyncio.gather(*(group_commit.request(log, append(log)) for log in logs))

    run(scenario)


def test_many_logs_take_turns(open_log, files):
    """However many logs are to be synced at once, no more of them than the limit keep their files open for it."""
    files.max_open = 10
    logs = [open_log(f"t-{number}") for number in range(2 * ROUNDS_MAX + 5)]

    async def scenario(group_commit):
        with closed_gate(files):
            futures = [group_commit.request(log, append(log)) for log in logs]
            await sync_started(files)
            assert ROUNDS_MAX <= files.open_count <= ROUNDS_MAX + files.max_open
            group_commit.discard(logs[-1])
        await asyncio.gather(*futures[:-1])
        with pytest.raises(KafkaError):
            await futures[-1]
        assert [log.recovery_point for log in logs] == [1] * (len(logs) - 1) + [0]
        assert files.open_count <= files.max_open

    run(scenario)


def test_the_last_rounds(open_log, files):
    """When it ends, rounds that have begun are waited for, and no other one begins; who waits for one is told at the close."""
    logs = [open_log(f"t-{number}") for number in range(ROUNDS_MAX + 1)]

    async def scenario(group_commit):
        with closed_gate(files):
            futures = [group_commit.request(log, append(log)) for log in logs]
            await sync_started(files)
            again = group_commit.request(logs[0], append(logs[0]))
            ending = asyncio.ensure_future(group_commit.finish_rounds())
            await asyncio.sleep(0)
            assert not ending.done()
        await ending
        assert group_commit.sync_count == ROUNDS_MAX
        assert [future.done() for future in futures] == [True] * ROUNDS_MAX + [False]
        await group_commit.finish_rounds()
        group_commit.close()
        for future in (again, futures[-1]):
            with pytest.raises(StorageError):
                await future

    run(scenario)


def test_a_failed_sync_fails_who_waits_and_is_not_tried_again(open_log, files):
    """After a failed sync the log is offline: later requests fail without asking the disk."""
    log = open_log()

    async def scenario(group_commit):
        files.error = OSError(5, "Input/output error")
        waiting = [group_commit.request(log, append(log)) for _ in range(3)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, StorageError) for outcome in outcomes)
        assert log.is_offline
        assert log.recovery_point == 0
        assert [failed for failed, _ in open_log.failures] == [log]
        files.error = None
        with pytest.raises(StorageError):
            await group_commit.request(log, 1)
        group_commit.flush(log)
        assert files.synced == []

    run(scenario)


def test_who_gave_up_is_forgotten_while_a_sync_hangs(open_log, files):
    """Clients come again and again; those who still wait are answered."""
    log = open_log()

    async def scenario(group_commit):
        with closed_gate(files):
            live = []
            for number in range(5 * ABANDONED_MAX):
                waiting = group_commit.request(log, append(log) if number % 1000 == 0 else 1)
                if number % 1000 == 0:
                    live.append(waiting)
                else:
                    waiting.cancel()
                group_commit.flush(log)
                assert len(group_commit._waiting[log]) <= ABANDONED_MAX
        await asyncio.gather(*live)
        assert log.recovery_point == log.log_end_offset

    run(scenario)


def test_a_waiter_that_gave_up_harms_nobody(open_log, files):
    """A cancelled future is passed over; the others are answered."""
    log = open_log()

    async def scenario(group_commit):
        with closed_gate(files):
            gone = group_commit.request(log, append(log))
            stays = group_commit.request(log, append(log))
            await sync_started(files)
            gone.cancel()
        await stays

    run(scenario)


def test_a_flush_without_anybody_waiting(open_log, files):
    """flush() gets everything to disk soon; one up to the active segment leaves that one alone."""
    log = open_log()

    async def scenario(group_commit):
        append(log, 2)
        log.roll()
        append(log, 2)
        group_commit.flush(log, log.active_base_offset)
        while log.recovery_point < 2:
            await asyncio.sleep(0.001)
        assert files.synced == ["00000000000000000000.log"]
        group_commit.flush(log)
        while log.recovery_point < 4:
            await asyncio.sleep(0.001)
        assert files.synced[1:] == ["00000000000000000002.log"]

    run(scenario)


def test_the_entry_of_a_new_partition_is_synced_first(open_log, files):
    """What `prepare` gives runs in the worker before the log is synced, and its failure counts like the sync's."""
    log = open_log()
    done = []

    async def scenario(group_commit):
        group_commit.prepare = lambda prepared: lambda: done.append((prepared, len(files.synced)))
        await group_commit.request(log, append(log))
        assert done == [(log, 0)]

        def broken():
            raise OSError(28, "No space left on device")

        group_commit.prepare = lambda _log: broken
        with pytest.raises(StorageError):
            await group_commit.request(log, append(log))

    run(scenario)


def test_deleting_a_log_fails_who_waits_for_it(open_log, files):
    """A log that is deleted meanwhile takes nothing offline, whatever becomes of its sync."""
    log = open_log()

    async def scenario(group_commit):
        with closed_gate(files):
            first = group_commit.request(log, append(log))
            await sync_started(files)
            second = group_commit.request(log, append(log))
            group_commit.discard(log)
            log.retire()
            log.directory.rename(log.directory.with_name("gone"))
            files.error = OSError(5, "Input/output error")
        for future in (first, second):
            with pytest.raises(KafkaError):
                await future
        while group_commit.sync_count < 1:
            await asyncio.sleep(0.001)
        assert open_log.failures == []
        never_started = open_log("t-1")
        files.error = None
        third = group_commit.request(never_started, append(never_started))
        group_commit.discard(never_started)
        with pytest.raises(KafkaError):
            await third

    run(scenario)


def test_closing_ends_the_round_and_fails_the_rest(open_log, files):
    """At the end the sync under way still counts; whoever would need another one is failed."""
    log = open_log()

    async def scenario(group_commit):
        with closed_gate(files):
            first = group_commit.request(log, append(log))
            await sync_started(files)
            second = group_commit.request(log, append(log))
        group_commit.close()
        await first
        with pytest.raises(StorageError):
            await second
        with pytest.raises(StorageError):
            await group_commit.request(log, append(log))

    run(scenario)


def test_a_cut_waits_for_a_round_of_its_own(open_log, files):
    """The one under way when the log was cut says nothing of it, even where all that is left had been synced before."""

    async def scenario(group_commit):
        log = open_log()
        await group_commit.request(log, append(log))
        end = append(log)
        with closed_gate(files):
            group_commit.flush(log, end)
            await sync_started(files)
            log.truncate_to(1)
            synced = asyncio.get_running_loop().create_future()
            group_commit.call_when_cut_is_synced(log, synced.set_result)
        assert await synced is None
        assert not log.has_unsynced_cut
        assert files.synced == ["00000000000000000000.log"] * 3

    run(scenario)


def test_a_log_is_synced_at_once(open_log, files):
    """Its cut as well, while the loop waits; a disk that fails takes it offline."""

    async def scenario(group_commit):
        log = open_log()
        await group_commit.request(log, append(log, 2))
        append(log, 3)
        log.truncate_to(2)
        group_commit.sync_now(log)
        assert not log.has_unsynced_cut
        log.truncate_to(0)
        files.error = StorageError("Input/output error")
        with pytest.raises(StorageError):
            group_commit.sync_now(log)
        assert log.is_offline
        with pytest.raises(StorageError):
            group_commit.call_when_cut_is_synced(log, lambda _: None)

    run(scenario)


def test_what_was_truncated_away_is_not_acknowledged(open_log, files):
    """A record that is gone before it was synced is refused."""

    async def scenario(group_commit):
        log = open_log()
        files.gate.clear()
        first = group_commit.request(log, append(log, 2))
        while not files.started.is_set():
            await asyncio.sleep(0.001)
        gone = group_commit.request(log, append(log, 3))
        log.truncate_to(1)
        append(log, 1)
        files.gate.set()
        for future in (first, gone):
            with pytest.raises(KafkaError, match="truncated"):
                await future
        assert log.recovery_point <= log.log_end_offset == 1

    run(scenario)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("something unforeseen")])
def test_an_unforeseen_failure_is_one_too(open_log, files, error):
    """Whatever goes wrong in the thread, those who wait hear of it, and other logs are synced as before."""

    async def scenario(group_commit):
        log, other = open_log(), open_log("t-1")
        files.error = error
        with pytest.raises(StorageError, match=type(error).__name__):
            await group_commit.request(log, append(log))
        files.error = None
        for _ in range(4):
            await group_commit.request(other, append(other))

    run(scenario)

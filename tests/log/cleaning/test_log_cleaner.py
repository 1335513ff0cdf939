from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import DecodeError, DiskFullError, StorageError
from barnabas.log.checkpoints import OffsetCheckpoint
from barnabas.log.cleaning.log_cleaner import LogCleaner
from barnabas.log.cleaning.tasks import Clean, Index
from barnabas.log.cleaning.worker import InlineWorker, ProcessWorker, WorkerLostError
from barnabas.log.directory_checkpoints import CLEANED_OFFSETS
from barnabas.log.files import Files
from barnabas.metrics import Registry
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from tests.log.stopping_and_starting import IDS, Broker, append, names, scenario, until

CONFIG = LogConfig(cleanup_policy=frozenset({"compact"}), segment_bytes=300, file_delete_delay_ms=0)


def fill(log, keys=(b"a", b"b"), count=20, *, is_synced=True):
    for number in range(count):
        batch = build_batch([(0, 1_000_000, key, b"%d" % number, ()) for key in keys])
        headers = [header for _, header in iterate_headers(batch)]
        log.append(batch, headers, leader_epoch=0, now_ms=1_000_000)
    log.roll()
    if is_synced:
        log.flush()


def offsets(log):
    found = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        result = log.read(offset, 1 << 16, up_to_offset=log.log_end_offset)
        if result.region is None:
            break
        data = result.region.read()
        result.region.release()
        found += [record.offset for record in iterate_records(data)]
        offset = max(header.next_offset for _, header in iterate_headers(data))
    return found


def cleaning_broker(tmp_path, **settings):
    broker = Broker(tmp_path, **{"log.cleaner.backoff.ms": "20", **settings})
    broker.configs["orders"] = CONFIG
    return broker


def checkpoint(broker):
    return OffsetCheckpoint(Files(), broker.paths[0] / CLEANED_OFFSETS).read()


class Blocked(InlineWorker):
    """A worker that waits before it reads the keys, and before each group, until it is let go on."""

    def __init__(self, files):
        super().__init__(files)
        self.has_arrived = threading.Event()
        self.goes_on = threading.Event()
        self.waits_in = "index"
        self.error = None

    def _wait(self, where):
        if self.waits_in == where:
            self.has_arrived.set()
            assert self.goes_on.wait(20)
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def index(self, task):
        self._wait("index")
        return super().index(task)

    def clean(self, task):
        answer = super().clean(task)
        self._wait("clean")
        return answer

    def rest(self):
        self.goes_on.set()
        super().rest()


def use(logs, broker, worker):
    logs.cleaner = LogCleaner(
        logs, broker.files, asyncio.get_running_loop(), logs._executor, new_worker=lambda: worker
    )
    logs.cleaner.start()


@scenario
async def test_dirty_logs_are_cleaned_by_a_process(tmp_path):
    """A log that is due is cleaned by a process, which ends when nothing is left; how far it is clean is remembered."""
    broker = cleaning_broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        other = logs.create("others", 0, IDS[1], LogConfig())
        fill(log)
        fill(other, keys=(b"c",))
        cleaner = logs.cleaner
        cleaner.start()
        await until(lambda: log.cleaned_offset == 40)
        assert offsets(log) == [38, 39]
        assert offsets(other) == list(range(20))
        await until(lambda: cleaner._cleaners[0].worker.process_id is None)
        await until(lambda: checkpoint(broker) == {("orders", 0): 40})
        await until(lambda: not [name for name in names(log.directory) if name.endswith(".deleted")])
        fill(log, keys=(b"a",))
        await until(lambda: log.cleaned_offset == 60)
        assert offsets(log) == [39, 59]
    async with broker.running() as logs:
        assert next(iter(logs.hosted())).cleaned_offset == 60
        log = logs.create("orders", 0, IDS[0], CONFIG)
        assert log.cleaned_offset == 60
        assert offsets(log) == [39, 59]


@scenario
async def test_a_log_that_nobody_opened_is_cleaned(tmp_path):
    """What was dirty when the broker stopped is cleaned after its start, though no client asks for it."""
    broker = cleaning_broker(tmp_path, **{"log.cleaner.enable": "false"})
    async with broker.running() as logs:
        fill(logs.create("orders", 0, IDS[0], CONFIG))
        clean = logs.create("orders", 1, IDS[0], CONFIG)
        append(clean)
        logs.cleaner.start()
        assert not logs.cleaner._cleaners
    del broker.settings["log.cleaner.enable"]
    async with broker.running() as logs:
        hosted = {each.partition: each for each in logs.hosted()}
        logs.cleaner.start()
        await until(lambda: hosted[0].log is not None and hosted[0].log.cleaned_offset == 40)
        assert hosted[1].log is None


@scenario
async def test_a_log_that_is_deleted_is_forgotten(tmp_path):
    """Also one that nobody has opened, and that is not compacted: topics may come and go for ever."""
    broker = cleaning_broker(tmp_path, **{"log.cleaner.enable": "false"})
    async with broker.running() as logs:
        for index in range(3):
            append(logs.create("others", index, IDS[0], LogConfig()))
    del broker.settings["log.cleaner.enable"]
    async with broker.running() as logs:
        cleaner = logs.cleaner
        cleaner.start()
        await until(lambda: len(cleaner._settled) == 3)
        logs.delete("others", 1)
        await until(lambda: len(cleaner._settled) == 2)


@scenario
async def test_a_worker_that_is_killed_is_replaced(tmp_path):
    """The system kills the process for want of memory: the log is cleaned by the next one."""
    broker = cleaning_broker(tmp_path)
    worker = ProcessWorker()
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        fill(log)
        os.kill(worker._started().pid, signal.SIGKILL)
        use(logs, broker, worker)
        await until(lambda: log.cleaned_offset == 40)


def test_a_call_to_a_process_that_is_gone_fails(tmp_path):
    """Whoever waits for a process that ended is told so, and the next call starts another one."""
    worker = ProcessWorker()
    task = Index(str(tmp_path), [], 0, [], 1000, 0.9, 1000, 1e9)
    try:
        assert worker.index(task).latest_offset == -1
        first = worker.process_id
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            worker.index(task)
        assert worker.index(task).latest_offset == -1
        assert worker.process_id != first
    finally:
        worker.rest()


def test_failures_come_back_from_the_process(tmp_path):
    """A damaged segment, a missing one and a wrong task each come back as what they are."""
    worker = ProcessWorker()
    task = Clean(str(tmp_path), [(0, 100, 1)], 1, 0, 0, 100, 0, b"")
    index = Index(str(tmp_path), [(0, 100, 1)], 0, [], 1000, 0.9, 1000, 1e9)
    try:
        for call, missing in ((worker.index, index), (worker.clean, task)):
            with pytest.raises(StorageError, match="No such file") as failure:
                call(missing)
            assert failure.value.errno == errno.ENOENT
        (tmp_path / "00000000000000000000.log").write_bytes(bytes(100))
        with pytest.raises(DecodeError, match="no record batch at position 0"):
            worker.index(index)
        with pytest.raises(DecodeError):
            worker.clean(task)
        assert names(tmp_path) == ["00000000000000000000.log"], "what was begun is deleted"
    finally:
        worker.rest()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_the_process_ends_with_the_broker(tmp_path):
    """However the broker ends, no cleaning process goes on writing into its directories."""
    program = (
        "from barnabas.log.cleaning.worker import ProcessWorker\n"
        "from barnabas.log.cleaning.tasks import Index\n"
        "worker = ProcessWorker()\n"
        f"worker.index(Index({str(tmp_path)!r}, [], 0, [], 1000, 0.9, 1000, 1e9))\n"
        "print(worker.process_id, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as broker:
        process_id = int(broker.stdout.readline())
        os.kill(process_id, 0)
        broker.kill()
    asyncio.run(asyncio.wait_for(until(lambda: not _is_running(process_id)), 20))


def _is_running(process_id):
    try:
        os.kill(process_id, 0)
        with open(f"/proc/{process_id}/stat") as status:  # noqa: PTH123
            return status.read().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("moment", ["index", "clean"])
@pytest.mark.parametrize("change", ["delete", "truncate", "retention", "policy"])
def test_a_log_that_changes_meanwhile_is_left_as_it_is(tmp_path, moment, change):
    """Deletion, truncation, retention and another policy end a pass; nothing that it wrote is left."""

    async def run():
        broker = cleaning_broker(tmp_path)
        worker = Blocked(broker.files.private())
        worker.waits_in = moment
        async with broker.running() as logs:
            log = logs.create("orders", 0, IDS[0], CONFIG)
            fill(log)
            use(logs, broker, worker)
            await asyncio.to_thread(worker.has_arrived.wait, 20)
            if change == "delete":
                logs.delete("orders", 0)
                log = logs.create("orders", 0, IDS[1], CONFIG)
                append(log)
            elif change == "truncate":
                log.truncate_to(3)
            elif change == "retention":
                log.delete_records(10)
            else:
                log.config = LogConfig(segment_bytes=300)
            left = offsets(log)
            worker.waits_in = None
            worker.goes_on.set()
            await until(lambda: not logs.cleaner._in_progress)
            await logs.cleaner.close()
            if change != "retention":
                assert offsets(log) == left
                assert not log.cleaned_offset
            assert not log.is_offline
            assert not [name for name in names(log.directory) if name.endswith((".cleaned", ".swap"))]
            assert not broker.failed

    asyncio.run(run())


@scenario
async def test_damaged_logs_are_left_alone(tmp_path):
    """A batch that fails its checksum stops the cleaning of its log, and of no other one; metrics tell of it."""
    broker = cleaning_broker(tmp_path)
    async with broker.running() as logs:
        registry = Registry(broker.clock)
        logs.cleaner.register_metrics(registry)
        damaged = logs.create("orders", 0, IDS[0], CONFIG)
        log = logs.create("orders", 1, IDS[0], CONFIG)
        fill(damaged)
        fill(log)
        path = damaged.segments[0].file.path
        content = bytearray(path.read_bytes())
        content[80] ^= 1
        path.write_bytes(content)
        logs.cleaner.start()
        await until(lambda: log.cleaned_offset == 40)
        await until(lambda: len(logs.cleaner._uncleanable) == 1)
        assert not broker.failed
        found = {family.metric.name: family.rows for family in registry.collect()}
        count = found["kafka_log_logcleanermanager_uncleanable_partitions_count"]
        assert [number for _, number in count] == [1]
        size = found["kafka_log_logcleanermanager_uncleanable_bytes"]
        assert [number for _, number in size] == [damaged.size_bytes]
        logs.delete("orders", 0)
        await until(lambda: not logs.cleaner._uncleanable)


@scenario
async def test_a_full_disk_is_waited_for(tmp_path):
    """No space for the new segment: the log is as it was, its directory serves on, and it is cleaned once there is space."""
    broker = cleaning_broker(tmp_path)
    worker = Blocked(broker.files.private())
    worker.waits_in = None
    worker.error = DiskFullError("cannot write: no space")
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        fill(log)
        use(logs, broker, worker)
        await until(lambda: log.cleaned_offset == 40)
        assert worker.error is None
        assert all(not directory.is_offline for directory in logs._directories.values())


@scenario
async def test_a_failing_disk_takes_its_directory_offline(tmp_path):
    """What cannot be read is a failure of the disk."""
    broker = cleaning_broker(tmp_path)
    worker = Blocked(broker.files.private())
    worker.waits_in = None
    worker.error = StorageError("cannot read")
    worker.error.errno = errno.EIO
    async with broker.running() as logs:
        fill(logs.create("orders", 0, IDS[0], CONFIG))
        use(logs, broker, worker)
        await until(lambda: broker.failed)


@scenario
async def test_what_is_being_sent_stays_open(tmp_path):
    """A region that was read before its segment is replaced is sent to its end, also after the old file is deleted."""
    broker = cleaning_broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        fill(log)
        region = log.read(0, 1 << 16, up_to_offset=40).region
        pinned = log.read(2, 1 << 16, up_to_offset=40).region
        expected = region.path.read_bytes()
        logs.cleaner.start()
        await until(lambda: log.cleaned_offset == 40)
        await until(lambda: not [name for name in names(log.directory) if name.endswith(".deleted")])
        assert region.read() == expected
        assert expected.endswith(pinned.read())
        region.release()
        pinned.release()
        assert offsets(log) == [38, 39]


@scenario
async def test_only_what_is_on_the_disk_is_cleaned(tmp_path):
    """A record does not go in favour of one that the next power failure takes."""
    broker = cleaning_broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        fill(log, count=10)
        fill(log, count=10, is_synced=False)
        assert log.assess_dirtiness(0).first_uncleanable_offset == 20
        logs.cleaner.start()
        await until(lambda: log.cleaned_offset == 20)
        log.flush()
        await until(lambda: log.cleaned_offset == 40)
        assert offsets(log) == [38, 39]


@scenario
async def test_as_many_cleaners_as_are_wanted(tmp_path):
    """log.cleaner.threads counts at once; several cleaners take different logs."""
    broker = cleaning_broker(tmp_path, **{"log.cleaner.threads": "2"})
    async with broker.running() as logs:
        cleaners = []

        def new_worker():
            cleaners.append(Blocked(broker.files.private()))
            return cleaners[-1]

        logs_ = [logs.create("orders", partition, IDS[0], CONFIG) for partition in range(2)]
        for log in logs_:
            fill(log)
        logs.cleaner = LogCleaner(
            logs, broker.files, asyncio.get_running_loop(), logs._executor, new_worker=new_worker
        )
        logs.cleaner.start()
        for worker in cleaners:
            assert await asyncio.to_thread(worker.has_arrived.wait, 20)
        assert len(logs.cleaner._in_progress) == 2
        for worker in cleaners:
            worker.goes_on.set()
        await until(lambda: all(log.cleaned_offset == 40 for log in logs_))
        logs.config.update({"log.cleaner.threads": "1"})
        logs.cleaner.reconfigure()
        assert len(logs.cleaner._cleaners) == 1
        assert len(cleaners) == 2

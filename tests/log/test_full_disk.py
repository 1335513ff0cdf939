"""A disk that is full at any one write: that operation is refused or does without, and nothing else changes."""

from __future__ import annotations

import errno
import random

import pytest

from barnabas.errors import DiskFullError
from barnabas.log import files as files_module
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.records.control import build_end_marker
from tests.log.harness import START_MS, LogHarness, batch

OPERATIONS = 40
WRITES = 80


class FullDisk(Files):
    """Has no room for some writes, counted from the first; half of what goes to a handle is written then."""

    def __init__(self, monkeypatch, full):
        super().__init__()
        self.full = full
        self.count = 0
        self.write = files_module.pwrite
        monkeypatch.setattr(files_module, "pwrite", self.pwrite)

    def is_full(self):
        self.count += 1
        return self.count in self.full

    def private(self):
        return self

    def close(self):
        pass

    def pwrite(self, descriptor, data, position):
        if self.is_full():
            view = memoryview(data)
            half = len(view) // 2
            if half and self.count % 2:
                return self.write(descriptor, view[:half], position)
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.write(descriptor, data, position)

    def create(self, path):
        if self.is_full():
            raise self.error(path)
        return super().create(path)

    def write_file(self, path, data, *, sync=False):
        if self.is_full():
            raise self.error(path)
        super().write_file(path, data, sync=sync)

    def rename(self, source, target):
        if self.is_full():
            raise self.error(source)
        super().rename(source, target)

    @staticmethod
    def error(path):
        failure = DiskFullError(f"cannot write {path}")
        failure.errno = errno.ENOSPC
        return failure


class Worker:
    """Random work on a log. What the disk refuses is tried again, as clients do, until it is done."""

    def __init__(self, harness, seed):
        self.harness = harness
        self.chance = random.Random(seed)
        self.acknowledged = []
        self.aborted = []
        self.refusals = 0
        self.sequences = {7: 0, 9: 0}

    def insist(self, operation):
        while True:
            try:
                return operation()
            except DiskFullError:
                self.refusals += 1

    def produce(self, producer_id, value, **options):
        records = batch(
            value,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=self.sequences[producer_id],
            **options,
        )
        result = self.insist(lambda: self.harness.append_bytes(records))
        assert not result.duplicate
        self.sequences[producer_id] += 1
        self.acknowledged.append((result.first_offset, value))
        return result.first_offset

    def abort(self, value):
        first_offset = self.produce(9, value, is_transactional=True)
        marker = build_end_marker(
            is_commit=False, producer_id=9, producer_epoch=0, coordinator_epoch=0, timestamp_ms=START_MS
        )
        self.insist(lambda: self.harness.append_bytes(marker, origin=Origin.COORDINATOR))
        self.aborted.append((9, first_offset))

    def run(self):
        log = self.harness.log
        for number in range(OPERATIONS):
            value = b"%d " % number + b"x" * 300
            what = self.chance.choice(["records", "records", "abort", "flush", "roll", "epoch"])
            if what == "records":
                self.produce(7, value)
            elif what == "abort":
                self.abort(value)
            elif what == "flush":
                self.insist(log.flush)
            elif what == "roll":
                self.insist(log.roll)
            else:
                log.assign_leader_epoch(number + 1, log.log_end_offset)
        self.insist(lambda: log.delete_records(self.acknowledged[len(self.acknowledged) // 3][0]))

    def check(self):
        log = self.harness.log
        expected = [(offset, value) for offset, value in self.acknowledged if offset >= log.log_start_offset]
        found = [(offset, value) for offset, value in self.harness.records() if value.endswith(b"x")]
        assert found == expected
        for offset, value in expected:
            assert (offset, value) in self.harness.records(offset)[:1]
        aborted = log.aborted_transactions(log.log_start_offset, log.log_end_offset)
        assert aborted == [
            (producer, first) for producer, first in self.aborted if first + 1 >= log.log_start_offset
        ]
        assert log.log_end_offset == len(self.acknowledged) + len(self.aborted), "nothing twice"
        assert not log.is_offline


@pytest.mark.parametrize("stretch", [1, 5])
@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_no_room_for_any_one_write(tmp_path, monkeypatch, stretch, ending):
    """Whichever writes find no room: what was acknowledged is there once, in order, before and after the next start."""
    refusals = 0
    for first in range(1, WRITES, stretch):
        disk = FullDisk(monkeypatch, frozenset())
        harness = LogHarness(
            tmp_path / f"orders-{first}", files=disk, segment_bytes=4000, index_interval_bytes=500
        )
        disk.count, disk.full = 0, frozenset(range(first, first + stretch))
        worker = Worker(harness, first)
        worker.run()
        worker.check()
        refusals += worker.refusals
        disk.full = frozenset()
        if ending == "closed":
            harness.reopen()
        else:
            harness.crash()
        worker.check()
        worker.produce(7, b"after x")
        worker.check()
        harness.log.retire()
        monkeypatch.undo()
    assert refusals > 10

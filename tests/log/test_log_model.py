"""A partition log against a list of batches: whatever is done to both, they stay the same."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log import batch_scan, index_file, recovery, segment, tracked_log
from barnabas.log.files import Files
from barnabas.records.batch import parse_header
from tests.log.harness import START_MS, LogHarness, batch

# So small that a few appends cross every boundary that a big log crosses.
SMALL = {
    (index_file, "WINDOW_ENTRIES"): 4,
    (segment, "TAIL_BATCHES"): 4,
    (segment, "SCAN_BYTES"): 100,
    (batch_scan, "CHUNK_BYTES"): 100,
    (recovery, "BUFFER_BYTES"): 200,
    (tracked_log, "SNAPSHOT_INTERVAL_BYTES"): 300,
}


class Batch(NamedTuple):
    """A batch as the log should hold it."""

    data: bytes
    base_offset: int
    next_offset: int
    epoch: int
    times: tuple[int, ...]


class LogMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        for (module, name), value in SMALL.items():
            self.stack.enter_context(mock.patch.object(module, name, value))
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.copies = 0
        self.batches: list[Batch] = []
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.sequence = 0
        self.producer_epoch = 0

    @initialize(
        segment_bytes=st.integers(200, 1500),
        index_interval_bytes=st.sampled_from([0, 60, 200, 5000]),
        max_open=st.integers(1, 6),
        index_entries=st.integers(2, 20),
    )
    def begin(self, segment_bytes, index_interval_bytes, max_open, index_entries):
        self.harness = LogHarness(
            self.root / "orders-0",
            files=Files(max_open),
            segment_bytes=segment_bytes,
            segment_ms=10_000,
            index_interval_bytes=index_interval_bytes,
            segment_index_bytes=index_entries * 12,
            retention_ms=20_000,
            file_delete_delay_ms=60_000,
        )

    def teardown(self):
        self.stack.close()

    @property
    def log(self):
        return self.harness.log

    # ----- what changes the log

    @rule(
        sizes=st.lists(st.integers(0, 120), min_size=1, max_size=4),
        passed_ms=st.integers(-500, 4000),
        new_epoch=st.booleans(),
        idempotent=st.booleans(),
    )
    def append(self, sizes, passed_ms, new_epoch, idempotent):
        self.harness.clock.now += max(passed_ms, 0)
        self.epoch += new_epoch
        options = {}
        if idempotent:
            options = {
                "producer_id": 5,
                "producer_epoch": self.producer_epoch,
                "base_sequence": self.sequence,
            }
            self.sequence += len(sizes)
        time_ms = self.harness.clock.now + min(passed_ms, 0)
        records = batch(*[b"x" * size for size in sizes], time_ms=time_ms, **options)
        result = self.harness.append_bytes(records, leader_epoch=self.epoch)
        assert result.first_offset == self.end
        self._add(bytes(records), (time_ms,) * len(sizes))
        assert result.last_offset == self.end - 1

    @rule(gap=st.integers(0, 5), count=st.integers(1, 3), cut=st.booleans())
    def append_as_follower(self, gap, count, cut):
        records = b""
        for index in range(count):
            base_offset = self.end + gap
            data = bytes(
                batch(
                    b"f" * 20,
                    time_ms=self.harness.clock.now,
                    base_offset=base_offset,
                    leader_epoch=self.epoch,
                )
            )
            if cut and index == count - 1:
                records += data[:-1]
            else:
                records += data
                self._add(data, (self.harness.clock.now,))
        result = self.log.append_as_follower(records)
        if cut and count == 1:
            assert result is None

    def _add(self, data, times):
        header = parse_header(data)
        self.batches.append(
            Batch(data, header.base_offset, header.next_offset, header.partition_leader_epoch, times)
        )
        self.end = header.next_offset

    @rule()
    def roll(self):
        self.log.roll()
        assert self.log.active_base_offset == self.end

    @rule(data=st.data())
    def truncate(self, data):
        offset = data.draw(st.integers(max(self.start - 1, 0), self.end + 1))
        if offset < self.log.segment_base_offsets()[0]:
            return
        self.log.truncate_to(offset)
        if offset < self.end:
            while self.batches and self.batches[-1].next_offset > offset:
                self.batches.pop()
            self.end = self._model_end(self.log.active_base_offset)
        self.start = min(self.start, self.end)
        self._forget_sequence()

    def _forget_sequence(self):
        # What the producer had sent was taken back: it begins a new epoch, as a real one would.
        self.sequence = 0
        self.producer_epoch += 1

    @rule(data=st.data())
    def delete_records(self, data):
        offset = data.draw(st.integers(self.start, self.end))
        self.log.delete_records(offset)
        self.start = max(self.start, offset)

    @rule(passed_ms=st.sampled_from([0, 10_000, 30_000]))
    def apply_retention(self, passed_ms):
        self.harness.clock.now += passed_ms
        self.log.apply_retention(self.harness.clock.now)
        assert self.log.log_start_offset >= self.start
        gone = [found for found in self.batches if found.next_offset <= self.log.log_start_offset]
        for found in gone:
            assert (
                found.next_offset <= self.start
                or max(found.times) < self.harness.clock.now - 20_000
                or self._in_old_segment(found)
            )
        self.start = self.log.log_start_offset

    def _in_old_segment(self, gone):
        # A batch may go with its segment's newest record, of which we only know that it is not younger than allowed.
        return all(
            max(other.times) < self.harness.clock.now - 20_000
            for other in self.batches
            if other.next_offset <= self.log.log_start_offset and other.base_offset >= gone.base_offset
        )

    @rule(offset=st.integers(0, 50))
    def start_over(self, offset):
        self.log.truncate_fully_and_start_at(self.end + offset)
        self.end = self.start = self.end + offset
        self.batches = []
        self.sequence = 0

    @rule()
    def flush(self):
        self.log.flush()
        assert self.log.recovery_point == self.end

    # ----- restarts

    @rule()
    def reopen(self):
        before = self.log
        self.harness.reopen()
        assert self.log.log_end_offset == before.log_end_offset

    @rule()
    def kill(self):
        self.harness.crash()

    @rule(data=st.data())
    def lose_power(self, data):
        """What was not flushed is there in part only; the file may also have grown without its bytes."""
        log = self.log
        log.retire()
        self.copies += 1
        directory = self.root / f"copy-{self.copies}" / "orders-0"
        shutil.copytree(self.harness.directory, directory)
        newest = max(directory.glob("*.log"))
        in_active = [found for found in self.batches if found.base_offset >= int(newest.stem)]
        unsynced = sum(len(found.data) for found in in_active if found.next_offset > log.recovery_point)
        content = newest.read_bytes()
        assert content == b"".join(found.data for found in in_active)
        torn = data.draw(st.integers(0, unsynced), label="torn bytes")
        content = content[: len(content) - torn]
        content += data.draw(st.sampled_from([b"", b"\0" * 200, b"garbage" * 20]), label="tail")
        newest.write_bytes(content)
        for suffix in data.draw(st.sets(st.sampled_from([".index", ".timeindex"])), label="spoiled indexes"):
            index = newest.with_suffix(suffix)
            if index.exists():
                kept = index.read_bytes()
                index.write_bytes(kept[: len(kept) // 2] + b"\0" * 40)
        self.harness.directory = directory
        self.harness.log = self.harness.open(
            clean=False, recovery_point=log.recovery_point, log_start_offset=log.log_start_offset
        )
        position = 0
        for found in in_active:
            if content[position : position + len(found.data)] != found.data:
                # All from here on is lost (a tail of zeros may have made the last batch whole again).
                self.batches = [other for other in self.batches if other.base_offset < found.base_offset]
                self.end = max(self._model_end(int(newest.stem)), self.start)
                self._forget_sequence()
                break
            position += len(found.data)

    def _model_end(self, base_offset):
        return max([base_offset, *(found.next_offset for found in self.batches)])

    # ----- what only looks

    def _readable(self):
        return [found for found in self.batches if found.next_offset > self.start]

    @rule(data=st.data(), max_bytes=st.integers(0, 2000), min_one_batch=st.booleans())
    def read(self, data, max_bytes, min_one_batch):
        offset = data.draw(st.integers(self.start, self.end), label="offset")
        boundaries = [self.end, *(found.base_offset for found in self._readable())]
        up_to = data.draw(st.sampled_from(boundaries) | st.integers(self.start, self.end), label="up to")
        got = self.harness.read(offset, max_bytes, up_to=up_to, min_one_batch=min_one_batch)
        wanted = [
            found for found in self.batches if found.next_offset > offset and found.next_offset <= up_to
        ]
        if offset >= up_to or not wanted:
            assert got == b""
            return
        expected = b"".join(found.data for found in wanted)
        assert expected.startswith(got)
        first = len(wanted[0].data)
        if min_one_batch or first <= max_bytes:
            assert first <= len(got) <= max(max_bytes, first)
            bases = self.log.segment_base_offsets()
            segment_of = [max(base for base in bases if base <= found.base_offset) for found in wanted]
            here = sum(
                len(found.data)
                for found, base in zip(wanted, segment_of, strict=True)
                if base == segment_of[0]
            )
            assert len(got) == min(here, max(max_bytes, first))
        else:
            assert got == b""

    @rule(below=st.booleans())
    def read_out_of_range(self, below):
        offset = self.start - 1 if below else self.end + 1
        with pytest.raises(KafkaError) as refused:
            self.harness.read(offset)
        assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    @rule(data=st.data())
    def find_timestamp(self, data):
        time_ms = data.draw(st.integers(START_MS - 1000, self.harness.clock.now + 1))
        expected = None
        for found in self.batches:
            for index, time in enumerate(found.times):
                if expected is None and time >= time_ms and found.base_offset + index >= self.start:
                    expected = (found.base_offset + index, time, found.epoch)
        assert self.log.offset_for_timestamp(time_ms) == expected

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def find_epoch(self, data):
        epoch = data.draw(st.integers(0, self.epoch))
        readable = self._readable()
        known = sorted({found.epoch for found in readable})
        found_epoch, end_offset = self.log.epoch_end_offset(epoch)
        if epoch in known:
            after = [found.base_offset for found in readable if found.epoch > epoch]
            assert found_epoch == epoch
            assert end_offset == (min(after) if after else self.end)

    @invariant()
    def same_offsets(self):
        if hasattr(self, "harness"):
            assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
            assert self.log.recovery_point <= self.end
            assert not self.harness.failures
            assert self.harness.files.open_count <= self.harness.files.max_open

    @invariant()
    def same_records(self):
        if hasattr(self, "harness"):
            got = self.harness.records()
            expected = [
                offset
                for found in self.batches
                for offset in range(found.base_offset, found.next_offset)
                if offset >= self.start
            ]
            assert [offset for offset, _ in got] == expected


LogMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLogAgainstModel = LogMachine.TestCase

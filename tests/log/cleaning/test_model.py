"""Compaction against a model: the newest record of each key stays, with its offset, in order; whatever else happens meanwhile."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from itertools import count
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from barnabas.log import batch_scan, index_file, recovery, segment
from barnabas.log.cleaning import assessment, key_reader, sieve
from barnabas.log.cleaning.log_pass import PassSettings
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.control import build_end_marker, decode_end_marker
from barnabas.records.record import iterate_batch
from tests.durability.failing_power import Disk, FailingPowerFiles
from tests.log.cleaning.compacting import CompactedLog

DELETE_RETENTION_MS = 1000
SMALL = {
    (index_file, "WINDOW_ENTRIES"): 4,
    (segment, "TAIL_BATCHES"): 4,
    (segment, "SCAN_BYTES"): 100,
    (batch_scan, "CHUNK_BYTES"): 100,
    (recovery, "BUFFER_BYTES"): 200,
    (assessment, "GROUP_SEGMENTS_MAX"): 3,
    (key_reader, "FEWEST_RECORDS"): 3,
    (sieve, "FEWEST_RECORDS"): 3,
    (sieve, "MOST_RECORDS"): 8,
}
PLAIN, IDEMPOTENT, FIRST_TRANSACTIONAL, SECOND_TRANSACTIONAL = range(4)


class PowerFailure(BaseException):
    """Raised where the power fails."""


class Record:
    def __init__(self, offset, key, value, batch):
        self.offset, self.key, self.value, self.batch = offset, key, value, batch


class Batch:
    def __init__(self, base_offset, transaction=None):
        self.base_offset = base_offset
        self.horizon = None
        self.transaction = transaction


class Transaction:
    def __init__(self):
        self.is_aborted = False


class World:
    """A compacted log on a disk whose power may fail, and what it should hold."""

    def __init__(self, root, **config):
        self.root = root
        self.lives = 0
        self.records = []
        self.sequences = [0] * 4
        self.open = {}
        self.values = count()
        self.config = {"delete_retention_ms": DELETE_RETENTION_MS, **config}
        self.harness = self._begin(root / "life0", None)

    def _begin(self, root, old):
        root.mkdir(exist_ok=True)
        (root / "orders-0").mkdir(exist_ok=True)
        self.disk = Disk(root)
        harness = CompactedLog.__new__(CompactedLog)
        if old is None:
            CompactedLog.__init__(
                harness, root / "orders-0", files=FailingPowerFiles(self.disk), **self.config
            )
            return harness
        harness.__dict__.update(old.__dict__)
        harness.directory = root / "orders-0"
        harness.files = FailingPowerFiles(self.disk)
        harness.log = harness.open(
            clean=False, recovery_point=old.log.recovery_point, log_start_offset=old.log.log_start_offset
        )
        harness.log.cleaned_offset = old.log.cleaned_offset
        return harness

    # ----- what is done to it

    def append(self, producer, fields, codec):
        log = self.harness.log
        transaction = None
        if producer >= FIRST_TRANSACTIONAL:
            transaction = self.open.setdefault(producer, Transaction())
        batch = Batch(log.log_end_offset, transaction)
        records = []
        for number, (key, has_value) in enumerate(fields):
            value = b"%d" % next(self.values) if has_value else None
            name = b"key-%d" % key if key % 2 else b"a longer key, which is digested, %d" % key
            records.append((0, self.harness.clock.now + number, name, value, ()))
        data = build_batch(
            records,
            compression=codec,
            producer_id=producer or -1,
            producer_epoch=0 if producer else -1,
            base_sequence=self.sequences[producer] if producer else -1,
            is_transactional=transaction is not None,
        )
        self.sequences[producer] += len(records)
        offset = log.log_end_offset
        self.harness.append_bytes(data)
        for number, record in enumerate(records):
            self.records.append(Record(offset + number, record[2], record[3], batch))

    def end(self, producer, is_commit):
        transaction = self.open.pop(producer, None)
        if transaction is not None:
            transaction.is_aborted = not is_commit
            self.harness.append_bytes(
                build_end_marker(
                    is_commit=is_commit,
                    producer_id=producer,
                    producer_epoch=0,
                    coordinator_epoch=0,
                    timestamp_ms=self.harness.clock.now,
                ),
                origin=Origin.COORDINATOR,
            )

    def compact(self, capacity=None):
        """`capacity` bounds how many keys the map takes; then the log need not be as clean as it can be."""
        self.harness.log.flush()
        dirtiness = self.harness.log.assess_dirtiness(self.harness.clock.now)
        limit, start = dirtiness.first_uncleanable_offset, dirtiness.first_dirty_offset
        memory_bytes = 1 << 20 if capacity is None else 176 * capacity
        done = self.harness.compact(settings=PassSettings(memory_bytes, 1.0, 300))
        if not done:
            return
        end = self.harness.log.cleaned_offset
        assert end == limit if capacity is None else start < end <= limit
        self._forget(start, end)

    def _forget(self, start, end):
        now = self.harness.clock.now
        newest = {}
        for record in self.records:
            if start <= record.offset < end and not self._is_aborted(record):
                newest[record.key] = record.offset

        def stays(record):
            if record.offset >= end:
                return not self._is_aborted(record) or self._is_above(record)
            if self._is_aborted(record) or record.offset < newest.get(record.key, -1):
                return False
            horizon = record.batch.horizon
            return record.value is not None or horizon is None or now < horizon

        self.records = [record for record in self.records if stays(record)]
        for record in self.records:
            # A batch has one horizon, also for those of its records of which no key was read yet.
            batch = record.batch
            if batch.base_offset < end and record.value is None and batch.horizon is None:
                batch.horizon = now + DELETE_RETENTION_MS

    @staticmethod
    def _is_aborted(record):
        return record.batch.transaction is not None and record.batch.transaction.is_aborted

    def _is_above(self, record):
        # Segments behind the last one that was cleaned are as they were.
        log = self.harness.log
        following = [base for base in log.segment_base_offsets() if base >= log.cleaned_offset]
        return not following or record.offset >= following[0]

    def fail_power(self, moment, chance):
        """The power fails in the midst of a compaction, and the broker starts again."""
        self.harness.log.flush()
        moments = count()
        image = self.root / f"life{self.lives + 1}"

        def on_moment():
            if next(moments) == moment:
                self.disk.on_moment = lambda: None
                self.disk.image(image, chance)
                raise PowerFailure

        dirtiness = self.harness.log.assess_dirtiness(self.harness.clock.now)
        self.disk.on_moment = on_moment
        try:
            with contextlib.suppress(PowerFailure):
                self.harness.compact()
        finally:
            self.disk.on_moment = lambda: None
        if not image.exists():
            self.disk.image(image, chance)
        self.lives += 1
        before = self.harness
        before.log.retire()
        before.files.close()
        if before.log.cleaned_offset is not None:
            before.log.cleaned_offset = min(before.log.cleaned_offset, dirtiness.first_dirty_offset)
        self.harness = self._begin(image, before)
        shutil.rmtree(before.directory.parent)
        self._check_after_failure(dirtiness)
        return next(moments) > moment

    def _check_after_failure(self, dirtiness):
        """Nothing is there that was not, and what must stay is there; then the model goes on with what there is."""
        there = {offset: (key, value) for offset, key, value, _ in self._stored()}
        known = {record.offset: record for record in self.records}
        for offset, (key, value) in there.items():
            assert (known[offset].key, known[offset].value) == (key, value)
        newest = {}
        for record in self.records:
            if record.offset < dirtiness.first_uncleanable_offset and not self._is_aborted(record):
                newest[record.key] = record
        for record in self.records:
            if record.offset >= dirtiness.first_uncleanable_offset:
                assert record.offset in there, "a record above what may be cleaned is gone"
        for record in newest.values():
            if record.value is not None:
                assert record.offset in there, "the newest record of a key is gone"
        self.records = [record for record in self.records if record.offset in there]
        for _, header in self._batches():
            for record in self.records:
                if header.base_offset <= record.offset <= header.last_offset:
                    record.batch.horizon = header.delete_horizon_ms

    # ----- what it holds

    def _batches(self):
        harness = self.harness
        log = harness.log
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            data = harness.read(offset, 1000)
            if not data:
                return
            for position, header in iterate_headers(data):
                assert header.last_offset >= offset
                yield data[position : position + header.size_bytes], header
                offset = header.next_offset

    def _stored(self):
        """Offset, key, value of all records that are not the broker's, and the header of their batch."""
        last_offset = -1
        for batch, header in self._batches():
            for record in iterate_batch(batch, 0, header):
                assert record.offset > last_offset
                assert header.base_offset <= record.offset <= header.last_offset
                last_offset = record.offset
                if not header.is_control:
                    yield record.offset, record.key, record.value, header

    def _seen_by_read_committed(self):
        """What a consumer sees that goes by the list of aborted transactions and the end markers."""
        log = self.harness.log
        stable = log.last_stable_offset(log.log_end_offset)
        aborted = sorted(
            log.aborted_transactions(log.log_start_offset, log.log_end_offset), key=lambda pair: pair[1]
        )
        skipped = set()
        for batch, header in self._batches():
            if header.base_offset >= stable:
                return
            while aborted and aborted[0][1] <= header.last_offset:
                skipped.add(aborted.pop(0)[0])
            if header.is_control:
                for record in iterate_batch(batch, 0, header):
                    if not decode_end_marker(record.key, record.value).is_commit:
                        skipped.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in skipped):
                for record in iterate_batch(batch, 0, header):
                    yield record.offset, record.key, record.value

    def check(self):
        log = self.harness.log
        stored = [(offset, key, value) for offset, key, value, _ in self._stored()]
        assert stored == [(record.offset, record.key, record.value) for record in self.records]
        stable = log.last_stable_offset(log.log_end_offset)
        assert list(self._seen_by_read_committed()) == [
            (record.offset, record.key, record.value)
            for record in self.records
            if record.offset < stable and not self._is_aborted(record)
        ]

    def check_files(self):
        """A start that reads every batch and trusts no other file finds the same log and the same producers."""
        log = self.harness.log
        copy = self.root / "copy"
        shutil.copytree(self.harness.directory, copy)
        for path in copy.iterdir():
            if path.suffix in {".snapshot", ".index", ".timeindex"}:
                path.unlink()
        files, self.harness.files = self.harness.files, Files()
        reopened = self.harness.open(clean=False, directory=copy, log_start_offset=log.log_start_offset)
        self.harness.files = files
        try:
            assert reopened.log_end_offset == log.log_end_offset
            assert reopened.segment_base_offsets() == log.segment_base_offsets()
            for entry in log.producer_state.active_producers():
                found = reopened.producer_state.entry(entry.producer_id)
                assert found is not None, "a producer is forgotten"
                assert found.epoch == entry.epoch
                assert (found.last_sequence, found.last_offset) == (entry.last_sequence, entry.last_offset)
                assert found.transaction_first_offset == entry.transaction_first_offset
            for one, other in zip(reopened.segments, log.segments, strict=True):
                if one.size:
                    assert one.max_timestamp.timestamp_ms == other.max_timestamp.timestamp_ms
            self.harness.log = reopened
            self.check()
        finally:
            self.harness.log = log
            reopened.retire()
            shutil.rmtree(copy)


FIELDS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([True, True, True, False])), min_size=1, max_size=4
)
APPEND = st.tuples(
    st.just("append"), st.integers(PLAIN, SECOND_TRANSACTIONAL), FIELDS, st.sampled_from([0, 0, 1, 4])
)
END = st.tuples(st.just("end"), st.sampled_from([FIRST_TRANSACTIONAL, SECOND_TRANSACTIONAL]), st.booleans())
OPERATION = st.one_of(
    APPEND,
    APPEND,
    APPEND,
    APPEND,
    END,
    st.tuples(st.just("roll")),
    st.tuples(st.just("wait"), st.integers(1, 1500)),
    st.tuples(st.just("compact"), st.sampled_from([None, None, None, 3])),
    st.tuples(st.just("fail_power"), st.integers(0, 60), st.integers(0, 2**32)),
    st.tuples(st.just("reopen")),
)


@contextlib.contextmanager
def small_world(**config):
    with contextlib.ExitStack() as stack:
        for (module, name), value in SMALL.items():
            stack.enter_context(mock.patch.object(module, name, value))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = World(root, **config)
        yield world
        world.harness.log.retire()
        world.harness.files.close()


FOUND = [
    ("append", 0, [(0, True)], 0),
    ("append", 2, [(0, True)], 0),
    ("end", 2, False),
    ("roll",),
    ("append", 2, [(0, True)], 0),
    ("end", 2, True),
    ("append", 3, [(0, True)], 0),
    ("roll",),
    ("compact", None),
    ("append", 0, [(0, True)], 0),
    ("end", 3, False),
    ("compact", None),
]
"""A producer whose transaction was aborted in the clean part of the log commits another one in the dirty part."""


CUT_SHORT = [
    ("append", 0, [(0, True)], 0),
    ("append", 0, [(3, True), (5, False)], 0),
    ("roll",),
    ("compact", 3),
    ("wait", 1254),
]
"""The keys take all memory in the midst of a batch, behind which its tombstone lies."""


@example(FOUND)
@example(CUT_SHORT)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=20, max_size=60))
def test_what_stays_is_the_newest_of_each_key(operations):
    """Through compactions, power failures and restarts the log holds exactly what it should."""
    with small_world() as world:
        for kind, *arguments in operations:
            if kind == "roll":
                world.harness.log.roll()
            elif kind == "wait":
                world.harness.clock.now += arguments[0]
            elif kind == "reopen":
                cleaned_offset = world.harness.log.cleaned_offset
                world.harness.reopen().cleaned_offset = cleaned_offset
            elif kind == "fail_power":
                world.fail_power(arguments[0], random.Random(arguments[1]))
            else:
                getattr(world, kind)(*arguments)
        world.check()
        world.end(FIRST_TRANSACTIONAL, True)
        world.end(SECOND_TRANSACTIONAL, False)
        world.harness.log.roll()
        world.compact()
        world.check()
        world.check_files()


def test_the_power_may_fail_at_any_moment_of_a_compaction():
    """Before and after every change and sync of a file: the newest records are there, and the next compaction completes."""
    moment = 0
    goes_on = True
    while goes_on:
        chance = random.Random(moment)
        operations = random.Random(5)
        with small_world() as world:
            for _ in range(14):
                world.append(
                    operations.choice([PLAIN, PLAIN, IDEMPOTENT, FIRST_TRANSACTIONAL]),
                    [
                        (operations.randrange(6), operations.random() < 0.8)
                        for _ in range(operations.randint(1, 3))
                    ],
                    operations.choice([0, 0, 4]),
                )
                if operations.random() < 0.3:
                    world.end(FIRST_TRANSACTIONAL, operations.random() < 0.5)
            world.end(FIRST_TRANSACTIONAL, False)
            world.harness.log.roll()
            goes_on = world.fail_power(moment, chance)
            world.check()
            world.compact()
            world.check()
            world.check_files()
        moment += 1
    assert moment > 50

"""A partition log on a directory of its own, and batches for it."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

from barnabas.config.topic import LogConfig
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.log.partition_log import PartitionLog
from barnabas.log.producer_state import ProducerSettings
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records

START_MS = 1_700_000_000_000
OFFSET_BYTES = 8
"""At the beginning of a batch."""


class StoppedClock:
    """A clock that a test moves."""

    def __init__(self, now_ms=START_MS):
        self.now = now_ms

    def now_ms(self):
        return self.now

    def monotonic_ms(self):
        return float(self.now)


def batch(*values, time_ms=START_MS, **options):
    """A batch of records with these values (or one record with the value `v`)."""
    return build_batch([(0, time_ms, None, value, ()) for value in values or (b"v",)], **options)


def moved_batches(before, after):
    """For each batch in `before`, whether it begins with another offset in `after`, which no checksum covers."""
    return [
        len(after) >= at + OFFSET_BYTES and after[at:][:OFFSET_BYTES] != before[at:][:OFFSET_BYTES]
        for at, _ in iterate_headers(before)
    ]


class LogHarness:
    """Opens, reopens and looks into one log."""

    def __init__(self, directory: Path, *, files=None, clean=False, recovery_point=0, **settings):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.files = files or Files()
        self.clock = StoppedClock()
        self.config = LogConfig(**settings)
        self.failures = []
        self.deletions = []
        self.log = self.open(clean=clean, recovery_point=recovery_point)

    def open(self, *, clean, directory=None, recovery_point=0, log_start_offset=0) -> PartitionLog:
        return PartitionLog.open(
            directory or self.directory,
            self.config,
            self.files,
            self.clock,
            topic="orders",
            partition=0,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            producer_settings=ProducerSettings(verify_transactions=False),
            schedule_deletion=lambda paths, delay_ms: self.deletions.append((paths, delay_ms)),
            on_failure=lambda log, error: self.failures.append((log, error)),
        )

    def reopen(self) -> PartitionLog:
        """As after a clean shutdown."""
        log = self.log
        log.close()
        self.log = self.open(
            clean=True, recovery_point=log.recovery_point, log_start_offset=log.log_start_offset
        )
        return self.log

    def crash(self, *, recovery_point=None) -> PartitionLog:
        """As after a killed process: nothing is closed, what was written is there."""
        log = self.log
        log.retire()
        self.log = self.open(
            clean=False,
            recovery_point=log.recovery_point if recovery_point is None else recovery_point,
            log_start_offset=log.log_start_offset,
        )
        return self.log

    def append(self, *values, leader_epoch=0, origin=Origin.CLIENT, **options):
        return self.append_bytes(batch(*values, **options), leader_epoch=leader_epoch, origin=origin)

    def append_bytes(self, records, *, leader_epoch=0, origin=Origin.CLIENT):
        headers = [header for _, header in iterate_headers(records)]
        return self.log.append(
            records, headers, leader_epoch=leader_epoch, now_ms=self.clock.now, origin=origin
        )

    def read(self, offset, max_bytes=1 << 20, *, up_to=None, **options) -> bytes:
        """What one read gives."""
        found = self.log.read(
            offset, max_bytes, up_to_offset=self.log.log_end_offset if up_to is None else up_to, **options
        )
        if found.region is None:
            return b""
        try:
            return found.region.read()
        finally:
            found.region.release()

    def records(self, offset=None, log=None):
        """(offset, value) of all records from `offset` on, as a consumer would collect them."""
        log = log or self.log
        offset = log.log_start_offset if offset is None else offset
        collected = []
        while offset < log.log_end_offset:
            found = log.read(offset, 1 << 16, up_to_offset=log.log_end_offset)
            if found.region is None:
                break
            data = found.region.read()
            found.region.release()
            for _, header in iterate_headers(data):
                next_offset = header.next_offset
            collected += [
                (record.offset, record.value) for record in iterate_records(data) if record.offset >= offset
            ]
            assert next_offset > offset
            offset = next_offset
        return collected

    def names(self, suffix=""):
        return [name for name in self.files.list_directory(self.directory) if name.endswith(suffix)]


class CountingFiles(Files):
    """Notes which files are opened, and how many bytes of which are read."""

    def __init__(self, max_open=1000, *, opened=None, read=None):
        super().__init__(max_open)
        self.opened_names = [] if opened is None else opened
        self.bytes_read = Counter() if read is None else read

    def private(self):
        return CountingFiles(opened=self.opened_names, read=self.bytes_read)

    def forget(self):
        self.opened_names.clear()
        self.bytes_read.clear()

    def _open_descriptor(self, path, flags):
        self.opened_names.append(Path(path).name)
        return super()._open_descriptor(path, flags)

    @contextlib.contextmanager
    def opened(self, path):
        self.opened_names.append(path.name)
        with super().opened(path) as file:
            yield file

    def read_at(self, file, position, count, *, wait=True):
        data = super().read_at(file, position, count, wait=wait)
        self.bytes_read[file.path.suffix] += len(data)
        return data

    def read_into(self, file, position, view):
        count = super().read_into(file, position, view)
        self.bytes_read[file.path.suffix] += count
        return count

    def read_file(self, path):
        self.opened_names.append(path.name)
        return super().read_file(path)

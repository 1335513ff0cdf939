from __future__ import annotations

import threading

import pytest

from barnabas.errors import StorageError
from barnabas.log.files import Files
from tests.log.harness import LogHarness


class SyncingFiles(Files):
    """Notes what is synced, and fails for names that end with `broken`."""

    def __init__(self):
        super().__init__()
        self.synced = []
        self.broken = None

    def _note(self, path, kind=""):
        if self.broken is not None and path.name.endswith(self.broken):
            raise StorageError(f"cannot sync {path}: Input/output error")
        self.synced.append(kind + path.name)

    def sync(self, file):
        self._note(file.path)
        super().sync(file)

    def sync_file(self, path):
        self._note(path)
        super().sync_file(path)

    def sync_directory(self, path):
        self._note(path, "directory ")
        super().sync_directory(path)


@pytest.fixture
def harness(tmp_path):
    return LogHarness(tmp_path / "orders-0", files=SyncingFiles())


def test_first_flush(harness):
    """The first flush syncs the batches and the directory that lists the new file."""
    harness.append(b"v")
    harness.log.flush()
    assert harness.files.synced == ["00000000000000000000.log", "directory orders-0"]
    assert harness.log.recovery_point == 1
    assert (harness.directory / "leader-epoch-checkpoint").read_text() == "0\n1\n0 0\n"


def test_later_flushes_are_one_sync(harness):
    """From then on a flush is one sync of the active segment."""
    harness.append(b"v")
    harness.log.flush()
    harness.files.synced.clear()
    harness.append(b"v")
    harness.log.flush()
    assert harness.files.synced == ["00000000000000000000.log"]


def test_nothing_to_do(harness):
    """What is on the disk already is not synced again."""
    assert harness.log.start_flush() is None
    harness.append(b"v")
    harness.log.flush()
    assert harness.log.start_flush() is None
    assert harness.log.start_flush(up_to=1) is None


def test_closed_segments(harness):
    """Closed segments are synced with their indexes and the snapshot that the roll took."""
    for _ in range(2):
        harness.append(b"v")
        harness.log.roll()
    harness.append(b"v")
    harness.log.flush()
    assert sorted(harness.files.synced) == sorted(
        [
            "00000000000000000000.log",
            "00000000000000000000.index",
            "00000000000000000000.timeindex",
            "00000000000000000001.log",
            "00000000000000000001.index",
            "00000000000000000001.timeindex",
            "00000000000000000001.snapshot",
            "00000000000000000002.log",
            "00000000000000000002.snapshot",
            "directory orders-0",
        ]
    )


def test_a_cut_is_synced(harness):
    """After a truncation there is something to sync though nothing was appended: else the old end could come back."""
    for value in (b"a", b"b", b"c"):
        harness.append(value)
        harness.log.roll()
    harness.log.flush()
    harness.log.truncate_to(1)
    assert harness.log.has_unsynced_cut
    harness.files.synced.clear()
    harness.log.flush(up_to=1)
    assert harness.files.synced[0] == "00000000000000000001.log"
    assert harness.files.synced[-1] == "directory orders-0"
    assert not harness.log.has_unsynced_cut
    assert harness.log.recovery_point == 1
    assert harness.log.start_flush() is None


def test_a_flush_from_before_the_cut(harness):
    """What was under way does not cover it; what began after it does, each by itself."""
    harness.append(b"a")
    harness.append(b"b")
    before = harness.log.start_flush()
    harness.log.truncate_to(1)
    first, second = harness.log.start_flush(), harness.log.start_flush()
    for flush in (before, second, first):
        assert harness.log.has_unsynced_cut is (flush is not first)
        harness.files.synced.clear()
        flush.run()
        assert harness.files.synced == ["00000000000000000000.log", "directory orders-0"]
        harness.log.finish_flush(flush)
    assert harness.log.recovery_point == 1


def test_an_empty_log_starts_over(harness):
    """Where there was nothing, nothing can come back."""
    harness.log.truncate_fully_and_start_at(7)
    assert not harness.log.has_unsynced_cut
    harness.append(b"a")
    harness.log.truncate_fully_and_start_at(20)
    assert harness.log.has_unsynced_cut
    harness.log.flush()
    assert not harness.log.has_unsynced_cut
    assert harness.log.recovery_point == 20


def test_closed_segments_alone(harness):
    """A flush up to the active segment leaves that one alone."""
    harness.append(b"v")
    harness.log.roll()
    harness.append(b"v")
    harness.log.flush(up_to=1)
    assert "00000000000000000001.log" not in harness.files.synced
    assert harness.log.recovery_point == 1
    assert harness.log.log_end_offset == 2


def test_in_a_worker_while_the_log_goes_on(harness):
    """What is appended, rolled and deleted during a flush is neither claimed nor disturbed by it."""
    harness.append(b"a")
    flush = harness.log.start_flush()
    harness.append(b"b")
    harness.log.roll()
    harness.log.delete_records(2)
    worker = threading.Thread(target=flush.run)
    worker.start()
    worker.join()
    harness.log.finish_flush(flush)
    assert flush.is_done
    assert harness.log.recovery_point == 1
    harness.log.flush()
    assert harness.log.recovery_point == 2
    harness.log.retire()
    assert harness.files.open_count == 0


def test_truncated_meanwhile(harness):
    """A flush that began before a truncation says nothing of what was appended after it."""
    harness.append(b"a")
    harness.append(b"b")
    flush = harness.log.start_flush()
    flush.run()
    harness.log.truncate_to(1)
    harness.append(b"c")
    harness.log.finish_flush(flush)
    assert harness.log.recovery_point == 0


def test_failure(harness):
    """A failed flush moves nothing; the log goes offline, and its director is told once."""
    harness.append(b"a")
    harness.files.broken = ".log"
    with pytest.raises(StorageError, match="cannot sync"):
        harness.log.flush()
    assert harness.log.recovery_point == 0
    assert harness.log.is_offline
    for call in (lambda: harness.append(b"b"), lambda: harness.read(0), harness.log.flush, harness.log.roll):
        with pytest.raises(StorageError, match="cannot sync"):
            call()
    assert len(harness.failures) == 1


def test_failed_parts_are_tried_by_the_next_flush(harness):
    """Files that a failed flush did not get to are not forgotten, should the owner go on after all."""
    harness.append(b"a")
    harness.log.roll()
    flush = harness.log.start_flush()
    harness.files.broken = ".snapshot"
    with pytest.raises(StorageError):
        flush.run()
    harness.log.finish_flush(flush)
    harness.files.broken = None
    harness.files.synced.clear()
    harness.log.flush()
    assert "00000000000000000001.snapshot" in harness.files.synced
    assert "directory orders-0" in harness.files.synced
    assert (harness.directory / "leader-epoch-checkpoint").exists()


def test_flush_messages(tmp_path):
    """With flush.messages a flush is due once so many records are not on the disk."""
    harness = LogHarness(tmp_path / "orders-0", flush_messages=3)
    harness.append(b"a", b"b")
    assert not harness.log.flush_due
    harness.append(b"c")
    assert harness.log.flush_due
    harness.clock.now += 7
    harness.log.flush()
    assert not harness.log.flush_due
    assert harness.log.last_flushed_ms == harness.clock.now


def test_close(harness):
    """A close syncs all that a clean restart relies on."""
    harness.append(b"a", producer_id=1, producer_epoch=0, base_sequence=0)
    harness.log.close()
    assert {
        "00000000000000000000.log",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000001.snapshot",
    } <= set(harness.files.synced)
    assert harness.log.recovery_point == 1
    assert harness.names() == sorted(
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000001.snapshot",
            "leader-epoch-checkpoint",
        ]
    )


def test_close_after_a_flush(harness):
    """Also after a flush, the files that only a clean close writes are synced."""
    harness.append(b"a")
    harness.log.flush()
    harness.files.synced.clear()
    harness.log.close()
    assert sorted(harness.files.synced) == [
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000001.snapshot",
        "directory orders-0",
    ]


def test_close_of_an_untouched_log(harness):
    """A log that nobody wrote to since it was opened is closed without a sync."""
    harness.append(b"a")
    harness.reopen()
    harness.read(0)
    harness.files.synced.clear()
    harness.log.close()
    assert harness.files.synced == []

from __future__ import annotations

import os
import struct

import pytest

from barnabas.errors import StorageError
from tests.log.harness import CountingFiles, LogHarness

FIRST = "00000000000000000000"


@pytest.fixture
def harness(tmp_path):
    return LogHarness(tmp_path / "orders-0", files=CountingFiles(), index_interval_bytes=100)


def fill(harness, segments=3, each=2):
    """Segments of two batches each, the last one open."""
    for number in range(segments):
        if number:
            harness.log.roll()
        for _ in range(each):
            harness.append(b"v" * 80)
    return [offset for offset, _ in harness.records()]


def offsets(harness):
    return [offset for offset, _ in harness.records()]


class TestCleanRestart:
    def test_reads_no_log_data(self, harness):
        """After a clean shutdown, opening a log opens none of its files."""
        fill(harness)
        harness.log.flush()
        harness.log.close()
        harness.files.forget()
        log = harness.open(clean=True, recovery_point=6)
        assert (log.log_start_offset, log.log_end_offset, log.recovery_point) == (0, 6, 6)
        assert log.size_bytes > 0
        assert harness.files.opened_names == []

    def test_first_use_reads_little(self, harness):
        """The first read looks at the end of the active segment from the last index entry on, not at the whole."""
        fill(harness, segments=1, each=300)
        harness.reopen()
        harness.files.forget()
        assert harness.read(299)
        assert harness.files.bytes_read[".log"] < 2000

    def test_without_a_recovery_point(self, harness):
        """Where the checkpoint says nothing of the log, its end is looked up."""
        fill(harness)
        harness.log.close()
        assert harness.open(clean=True, recovery_point=0).log_end_offset == 6

    def test_empty_log(self, harness):
        """A log without records survives a restart at whatever offset it begins."""
        harness.log.truncate_fully_and_start_at(40)
        harness.reopen()
        assert (harness.log.log_start_offset, harness.log.log_end_offset) == (40, 40)
        assert harness.append(b"v").first_offset == 40

    @pytest.mark.parametrize("end", [5, 7])
    def test_a_recovery_point_that_is_not_the_end(self, harness, caplog, end):
        """If the files do not end where they were closed, the files are right."""
        fill(harness)
        harness.log.close()
        harness.log = harness.open(clean=True, recovery_point=end)
        assert harness.append(b"v").first_offset == 6
        assert offsets(harness) == list(range(7))
        assert f"was closed at offset {end}, but its batches end at 6" in caplog.text

    @pytest.mark.parametrize(
        "entry",
        [(300, 10**6), (9, 0), (9, 307), None],
        ids=["behind the end", "zero", "no batch", "cut file"],
    )
    def test_an_index_that_does_not_fit(self, harness, caplog, entry):
        """An index whose last entry is not that of a batch is rebuilt on first use, marker or not."""
        fill(harness, segments=1, each=10)
        harness.log.close()
        if entry is None:
            os.truncate(harness.directory / (FIRST + ".log"), harness.log.size_bytes // 2)
        else:
            with (harness.directory / (FIRST + ".index")).open("ab") as file:
                file.write(struct.pack(">ii", *entry))
        harness.log = harness.open(clean=True, recovery_point=10)
        assert offsets(harness) == list(range(10 if entry else 5))
        assert [harness.log.read(offset, 1, up_to_offset=10).region.position for offset in range(5)] == [
            offset * (harness.log.size_bytes // len(offsets(harness))) for offset in range(5)
        ]
        assert "recovering it" in caplog.text

    def test_an_index_of_an_older_kafka(self, harness, caplog):
        """Kafka before 4.0 notes the last offset of an append, with the position of its first batch."""
        fill(harness, segments=1, each=10)
        harness.log.close()
        path = harness.directory / (FIRST + ".index")
        size = harness.log.size_bytes // 10
        path.write_bytes(struct.pack(">iiii", 3, size, 7, 5 * size))
        for clean in (True, False):
            harness.log = harness.open(clean=clean, recovery_point=9)
            assert offsets(harness) == list(range(10))
            assert [harness.log.read(offset, 1, up_to_offset=10).region.position for offset in range(10)] == [
                offset * size for offset in range(10)
            ]
        assert "recovering it" not in caplog.text

    def test_a_torn_end_in_spite_of_the_marker(self, harness, caplog):
        """A file that does not end with a batch is recovered on first use, marker or not."""
        fill(harness)
        harness.log.close()
        with (harness.directory / "00000000000000000004.log").open("ab") as file:
            file.write(b"garbage")
        harness.log = harness.open(clean=True, recovery_point=6)
        assert offsets(harness) == list(range(6))
        harness.append(b"v")
        assert offsets(harness) == list(range(7))
        assert "recovering it" in caplog.text


class TestIndexFaults:
    @pytest.mark.parametrize("suffix", [".index", ".timeindex"])
    @pytest.mark.parametrize("content", [None, b"12345"])
    def test_are_rebuilt(self, harness, caplog, suffix, content):
        """An index that is missing or has an impossible size is rebuilt, and the log says so."""
        fill(harness, each=5)
        harness.log.close()
        path = harness.directory / (FIRST + suffix)
        good = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        harness.log = harness.open(clean=True, recovery_point=15)
        assert path.read_bytes() == good
        assert offsets(harness) == list(range(15))
        assert f"{suffix} file" in caplog.text
        assert "rebuilding the indexes" in caplog.text

    def test_damaged_segment(self, harness, caplog):
        """A damaged batch in a closed segment stays, and what is before and after it can be read."""
        fill(harness, each=5)
        size = (harness.directory / (FIRST + ".log")).stat().st_size
        harness.log.close()
        (harness.directory / (FIRST + ".index")).unlink()
        with (harness.directory / (FIRST + ".log")).open("r+b") as file:
            file.seek(size // 5 * 3 + 70)
            file.write(b"\xff")
        harness.log = harness.open(clean=True, recovery_point=15)
        assert "left in place" in caplog.text
        assert len(harness.read(0)) == size
        assert harness.read(5)
        assert harness.log.log_end_offset == 15


def _with_wrong_checksum(data):
    return data[:-1] + bytes([data[-1] ^ 1])


class TestUnknownEnd:
    """The shutdown was clean, and the checkpoint that says where the log ends is lost."""

    def test_an_index_that_makes_no_sense(self, harness, caplog):
        """It is rebuilt: the log does not go offline for what its batches tell."""
        fill(harness, segments=1, each=5)
        harness.reopen()
        harness.append(b"last")
        harness.log.close()
        index = harness.directory / f"{FIRST}.index"
        index.write_bytes(index.read_bytes()[:-4] + b"\x7d\x7e\x7f\x71")
        harness.log = harness.open(clean=True, recovery_point=0)
        assert "the indexes are rebuilt" in caplog.text
        assert harness.log.log_end_offset == 6
        assert offsets(harness) == list(range(6))
        harness.append(b"new")
        assert harness.reopen().log_end_offset == 7

    def test_batches_that_make_no_sense(self, harness):
        """Nobody knows how far they went: the log is refused, with the name of the file, which stays as it is."""
        fill(harness, segments=1, each=5)
        harness.log.close()
        path = harness.directory / f"{FIRST}.log"
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(StorageError, match=f"{FIRST}.log is damaged, though it was closed cleanly"):
            harness.open(clean=True, recovery_point=0)
        assert path.read_bytes() == content[:-1]


class TestLeftovers:
    def test_deleted_files(self, harness):
        """Files that were to be deleted are."""
        fill(harness)
        (harness.directory / f"{FIRST}.log.deleted").write_bytes(b"x")
        (harness.directory / f"{FIRST}.snapshot.deleted").write_bytes(b"x")
        harness.reopen()
        assert harness.names(".deleted") == []

    def test_unfinished_compaction(self, harness):
        """Results of a compaction that had not finished are deleted, with swap files of the same round."""
        fill(harness)
        (harness.directory / f"{FIRST}.log.cleaned").write_bytes(b"half")
        (harness.directory / "00000000000000000002.log.swap").write_bytes(b"x")
        harness.crash()
        assert harness.names(".cleaned") == harness.names(".swap") == []
        assert offsets(harness) == list(range(6))

    @pytest.mark.parametrize("clean", [True, False])
    def test_finished_compaction(self, harness, clean):
        """A finished result takes the place of the segments that it was made of."""
        fill(harness)
        harness.log.close()
        first, second = (harness.directory / f"{base:020d}.log" for base in (0, 2))
        # Of offsets 0 to 3, compaction kept 0 and 3.
        size = first.stat().st_size // 2
        kept = first.read_bytes()[:size] + second.read_bytes()[size:]
        for suffix, content in ((".log", kept), (".index", b""), (".timeindex", b"")):
            (harness.directory / f"{FIRST}{suffix}.swap").write_bytes(content)
        harness.log = harness.open(clean=clean, recovery_point=6)
        assert offsets(harness) == [0, 3, 4, 5]
        assert harness.names(".log") == [f"{FIRST}.log", "00000000000000000004.log"]
        assert harness.names(".swap") == []

    @pytest.mark.parametrize("clean", [True, False])
    @pytest.mark.parametrize(
        "damage",
        [lambda _: b"", lambda _: b"x" * 100, lambda data: data[:-1], _with_wrong_checksum],
        ids=["empty", "overwritten", "torn", "garbled"],
    )
    def test_damaged_result_of_a_compaction(self, harness, caplog, damage, clean):
        """It takes nobody's place, as long as what it was made of is there."""
        fill(harness)
        harness.log.close()
        first = harness.directory / f"{FIRST}.log"
        swap = harness.directory / f"{FIRST}.log.swap"
        content = damage(first.read_bytes())
        swap.write_bytes(content)
        (harness.directory / f"{FIRST}.index.swap").write_bytes(b"")
        harness.log = harness.open(clean=clean, recovery_point=6)
        assert offsets(harness) == list(range(6))
        assert harness.names(".swap") == []
        assert not content or f"{swap}, the result of a compaction, is damaged" in caplog.text

    def test_damaged_result_of_which_the_originals_are_gone(self, harness, caplog):
        """It is cut where the damage begins, and what could restore the rest is kept."""
        fill(harness)
        harness.log.close()
        first, second = (harness.directory / f"{base:020d}.log" for base in (0, 2))
        (harness.directory / f"{FIRST}.log.swap").write_bytes(first.read_bytes() + second.read_bytes()[:-1])
        (harness.directory / f"{FIRST}.timeindex.swap").write_bytes(b"x" * 12)
        for path in (first, second):
            path.rename(path.with_name(path.name + ".deleted"))
        harness.log = harness.open(clean=True, recovery_point=6)
        assert offsets(harness) == [0, 1, 2, 4, 5]
        assert harness.names(".swap") == harness.names(".deleted") == []
        assert harness.names(".aside") == [f"{path.name}.deleted.aside" for path in (first, second)]
        assert "from offset 3 on, are cut off" in caplog.text

    def test_damaged_record_of_a_result_of_which_the_originals_are_gone(self, harness):
        """Readers learn that it is damaged, and have the records around it."""
        fill(harness)
        harness.log.close()
        first = harness.directory / f"{FIRST}.log"
        content = _with_wrong_checksum(first.read_bytes())
        first.with_name(first.name + ".swap").write_bytes(content)
        first.unlink()
        harness.log = harness.open(clean=True, recovery_point=6)
        assert first.read_bytes() == content
        assert harness.log.log_end_offset == 6

    def test_orphaned_indexes(self, harness, caplog):
        """An index without its segment is deleted."""
        fill(harness)
        orphan = harness.directory / "00000000000000000009.index"
        orphan.write_bytes(b"")
        harness.reopen()
        assert not orphan.exists()
        assert "belongs to no segment" in caplog.text

    def test_other_files_stay(self, harness):
        """What is no segment's file is none of the log's business."""
        for name in ("partition.metadata", "notes.txt", "1.log"):
            (harness.directory / name).write_text("mine")
        fill(harness)
        harness.reopen()
        assert (harness.directory / "notes.txt").read_text() == "mine"
        assert (harness.directory / "1.log").read_text() == "mine"
        assert offsets(harness) == list(range(6))


class TestStartOffset:
    @pytest.mark.parametrize("clean", [True, False])
    def test_from_the_checkpoint(self, harness, clean):
        """Records below the checkpoint's log start offset stay unreadable."""
        fill(harness)
        harness.log.close()
        harness.log = harness.open(clean=clean, recovery_point=6, log_start_offset=3)
        assert offsets(harness) == [3, 4, 5]

    def test_above_the_end(self, harness, caplog):
        """A log that ends before its start offset, having lost its records, begins anew there; what it had is kept aside."""
        fill(harness)
        before = harness.names(".log")
        harness.log.retire()
        harness.log = harness.open(clean=False, recovery_point=0, log_start_offset=50)
        assert (harness.log.log_start_offset, harness.log.log_end_offset) == (50, 50)
        assert harness.names(".log") == ["00000000000000000050.log"]
        assert harness.names(".log.aside") == [f"{name}.aside" for name in before]
        assert "before its log start offset 50" in caplog.text
        assert harness.append(b"v").first_offset == 50

    def test_above_the_end_after_a_clean_shutdown(self, harness, caplog):
        """A log that was closed in order does not begin after its end: the checkpoint is damaged, and not used."""
        fill(harness)
        harness.log.close()
        harness.log = harness.open(clean=True, recovery_point=6, log_start_offset=50)
        assert offsets(harness) == [0, 1, 2, 3, 4, 5]
        assert "which is not used" in caplog.text

    def test_missing_first_segments(self, harness):
        """If the oldest segments are gone, the log starts with the first one that is there."""
        fill(harness)
        harness.log.close()
        for suffix in (".log", ".index", ".timeindex"):
            (harness.directory / (FIRST + suffix)).unlink()
        harness.log = harness.open(clean=True, recovery_point=6)
        assert offsets(harness) == [2, 3, 4, 5]


def test_snapshots_that_belong_to_no_segment_go(harness):
    """Producer snapshots stay only where a segment begins, and the newest behind the last one."""
    fill(harness)
    harness.log.close()
    for offset in (1, 3, 5):
        (harness.directory / f"{offset:020d}.snapshot").write_bytes(b"")
    harness.open(clean=True, recovery_point=6)
    assert harness.names(".snapshot") == [f"{offset:020d}.snapshot" for offset in (2, 4, 6)]


def test_unreadable_directory(harness):
    """A directory that is not there is a StorageError that names it."""
    with pytest.raises(StorageError, match="elsewhere-0"):
        harness.open(clean=True, directory=harness.directory.with_name("elsewhere-0"))

from __future__ import annotations

import zlib

import pytest

from barnabas.errors import StorageError
from barnabas.log import recovery, tracked_log
from barnabas.log.origin import Origin
from barnabas.log.recovery import find_recovery_start, recover_segment
from barnabas.log.segment import Segment
from barnabas.records.batch import parse_header, set_base_offset_and_epoch
from barnabas.records.control import build_end_marker
from tests.log.harness import START_MS, CountingFiles, LogHarness, batch

LOG = "00000000000000000000.log"


@pytest.fixture
def harness(tmp_path):
    return LogHarness(tmp_path / "orders-0", files=CountingFiles(), index_interval_bytes=200)


def values(harness):
    return [value for _, value in harness.records()]


def spoil(harness, position, data, name=LOG):
    with (harness.directory / name).open("r+b") as file:
        file.seek(position)
        file.write(data)


def fill_three_segments(harness):
    """Two batches of the same size in each, and an empty segment behind them."""
    for value in (b"a", b"b", b"c"):
        harness.append(value)
        harness.append(value)
        harness.log.roll()


class TestBadBatches:
    """Each kind of damage ends the log there, and is told with its reason."""

    @pytest.fixture
    def three(self, harness):
        for value in (b"a" * 30, b"b" * 30, b"c" * 30):
            harness.append(value)
        return harness.log.size_bytes // 3

    @pytest.mark.parametrize(
        ("at", "data", "reason"),
        [
            (70, b"\xff", "fails its checksum"),
            (17, b"\0\0\0\0", "fails its checksum"),
            (16, b"\1", "no record batch"),
            (8, b"\0\0\0\x05", "no record batch"),
            (8, b"\xff\xff\xff\xff", "no record batch"),
            (8, b"\x7f\xff\xff\xff", "the file ends within"),
            (0, b"\0" * 8, "the offsets 0 to 0 where 1 is due"),
            (0, b"\0\0\1\0", "the offsets"),
            (4, b"\4", "the offsets 67108865 to 67108865 where 1 is due, and the one behind it goes back"),
            (0, b"\0" * 61, "no record batch"),
        ],
    )
    def test_in_the_middle(self, harness, three, caplog, at, data, reason):
        spoil(harness, three + at, data)
        harness.crash(recovery_point=0)
        assert values(harness) == [b"a" * 30]
        assert harness.log.log_end_offset == 1
        assert (harness.directory / LOG).stat().st_size == three
        assert reason in caplog.text
        assert f"cut off the last {2 * three} bytes, the log goes on at offset 1" in caplog.text

    @pytest.mark.parametrize("cut", [1, 30, 60, 85])
    def test_torn_tail(self, harness, three, caplog, cut):
        """A file that ends within a batch, or within its header, loses that batch only."""
        path = harness.directory / LOG
        path.write_bytes(path.read_bytes()[:-cut])
        harness.crash(recovery_point=0)
        assert values(harness) == [b"a" * 30, b"b" * 30]
        assert f"the file ends within the batch at position {2 * three}" in caplog.text

    def test_negative_offset_delta(self, harness, three, caplog):
        """A batch that ends before it begins is no batch, though its checksum be right."""
        bad = batch(b"x", base_offset=1)
        bad[23:27] = b"\xff\xff\xff\xff"
        crc = recovery.crc32c(bad[21:])
        bad[17:21] = crc.to_bytes(4, "big")
        spoil(harness, three, bad)
        harness.crash(recovery_point=0)
        assert harness.log.log_end_offset == 1
        assert "the offsets 1 to 0 where 1 is due" in caplog.text

    @pytest.mark.parametrize("buffer_bytes", [1 << 20, 130])
    def test_after_a_gap_nothing_is_cut_that_was_good(self, harness, three, monkeypatch, buffer_bytes):
        """A batch after a gap stays if what is behind it goes back and is itself torn."""
        monkeypatch.setattr(recovery, "BUFFER_BYTES", buffer_bytes)
        spoil(harness, three + 7, b"\x05")
        harness.crash(recovery_point=0)
        assert [offset for offset, _ in harness.records()] == [0]
        harness.append(b"b" * 30)
        harness.append(b"c" * 30)
        spoil(harness, three + 7, b"\x05")
        spoil(harness, 2 * three + 70, b"\xff")
        harness.crash(recovery_point=0)
        assert [offset for offset, _ in harness.records()] == [0, 5]

    def test_nothing_is_left(self, harness, three):
        """A log whose first batch is bad is empty, and usable."""
        spoil(harness, 70, b"\xff")
        harness.crash(recovery_point=0)
        assert values(harness) == []
        assert harness.append(b"new").first_offset == 0

    @pytest.mark.parametrize("buffer_bytes", [1, 61, 100, 150])
    def test_batches_larger_than_the_buffer(self, harness, three, monkeypatch, buffer_bytes):
        """The buffer grows for a batch that does not fit."""
        monkeypatch.setattr(recovery, "BUFFER_BYTES", buffer_bytes)
        harness.append(b"d" * 5000)
        harness.append(b"e")
        harness.crash(recovery_point=0)
        assert [len(value) for value in values(harness)] == [30, 30, 30, 5000, 1]

    @pytest.mark.parametrize("magic", [0, 1])
    def test_old_message_format_is_not_garbage(self, harness, three, magic):
        """Messages from before record batches are not cut off: the log is refused, and the file is as it was."""
        body = bytes([magic, 0]) + (b"\0" * 8 if magic else b"") + b"\xff\xff\xff\xff" + b"\0\0\0\1v"
        message = zlib.crc32(body).to_bytes(4, "big") + body
        spoil(harness, 3 * three, (3).to_bytes(8, "big") + len(message).to_bytes(4, "big") + message)
        before = (harness.directory / LOG).read_bytes()
        with pytest.raises(StorageError, match=r"before 0\.11"):
            harness.crash(recovery_point=0)
        assert (harness.directory / LOG).read_bytes() == before


class TestIndexes:
    def test_are_rebuilt_as_they_were(self, harness):
        """Recovery gives the same indexes as the appends had given."""
        for number in range(100):
            harness.append(b"v" * (number % 40), time_ms=1000 + number * (-1) ** number)
        harness.log.close(sync=False)
        before = {name: (harness.directory / name).read_bytes() for name in harness.names("index")}
        assert all(before.values())
        for name in before:
            (harness.directory / name).write_bytes(b"garbage")
        harness.log = harness.open(clean=False)
        assert {name: (harness.directory / name).read_bytes() for name in harness.names("index")} == before

    def test_aborted_transactions(self, harness):
        """The transaction index is rebuilt from the end markers."""
        abort(harness, producer_id=4)
        expected = harness.log.aborted_transactions(0, 100)
        assert expected == [(4, 0)]
        (harness.directory / "00000000000000000000.txnindex").unlink()
        harness.crash(recovery_point=0)
        assert harness.log.aborted_transactions(0, 100) == expected


def abort(harness, *, producer_id, values=(b"gone",), time_ms=5):
    first = harness.append(
        *values, producer_id=producer_id, producer_epoch=0, base_sequence=0, is_transactional=True
    )
    marker = build_end_marker(
        is_commit=False,
        producer_id=producer_id,
        producer_epoch=0,
        coordinator_epoch=1,
        timestamp_ms=time_ms,
    )
    harness.append_bytes(bytearray(marker), origin=Origin.COORDINATOR)
    return first.first_offset


class TestRecoveryPoint:
    def fill(self, harness, count):
        for number in range(count):
            harness.append(
                b"v" * 100,
                time_ms=1000 + number,
                producer_id=9,
                producer_epoch=0,
                base_sequence=number + self.sent,
            )
        self.sent += count

    sent = 0

    def test_recovery_begins_there(self, harness, monkeypatch):
        """Of a segment that was flushed, only what came after the last flush is read again."""
        monkeypatch.setattr(tracked_log, "SNAPSHOT_INTERVAL_BYTES", 2000)
        self.fill(harness, 500)
        harness.log.flush()
        self.fill(harness, 10)
        size = harness.log.size_bytes
        harness.files.forget()
        harness.crash()
        assert harness.files.bytes_read[".log"] < size // 10
        assert harness.log.log_end_offset == 510
        self.fill(harness, 1)  # the producer is known, or its sequence number would be out of order
        assert [offset for offset, _ in harness.records()] == list(range(511))
        assert harness.log.offset_for_timestamp(1400)[0] == 400
        assert harness.log.offset_of_max_timestamp()[:2] == (499, 1499)

    def test_damage_below_it_is_not_looked_for(self, harness, monkeypatch):
        """What is known to be on the disk is not read again: that is what the recovery point is for."""
        monkeypatch.setattr(tracked_log, "SNAPSHOT_INTERVAL_BYTES", 2000)
        self.fill(harness, 100)
        harness.log.flush()
        spoil(harness, 100, b"\xff")
        harness.crash()
        assert harness.log.log_end_offset == 100

    @pytest.mark.parametrize("suffix", [".index", ".timeindex"])
    @pytest.mark.parametrize("content", [None, b"", b"\0" * 240, b"\0" * 7])
    def test_indexes_that_were_not_synced(self, harness, monkeypatch, suffix, content):
        """An index that a power failure left empty or full of zeros is rebuilt."""
        monkeypatch.setattr(tracked_log, "SNAPSHOT_INTERVAL_BYTES", 2000)
        self.fill(harness, 100)
        harness.log.flush()
        self.fill(harness, 5)
        path = harness.directory / LOG.replace(".log", suffix)
        if content is None:
            path.unlink()
        else:
            kept = path.read_bytes()
            path.write_bytes(kept[: len(kept) // 2] + content)
        harness.crash()
        assert harness.log.log_end_offset == 105
        assert [harness.log.offset_for_timestamp(1000 + number)[0] for number in range(0, 100, 9)] == list(
            range(0, 100, 9)
        )
        assert [parse_header(harness.read(offset, 1)).base_offset for offset in range(0, 105, 7)] == list(
            range(0, 105, 7)
        )

    def test_an_index_entry_that_points_nowhere(self, harness, monkeypatch):
        """If the entry from which recovery would begin is not that of a batch, it begins at the beginning."""
        monkeypatch.setattr(tracked_log, "SNAPSHOT_INTERVAL_BYTES", 2000)
        self.fill(harness, 100)
        harness.log.flush()
        path = harness.directory / LOG.replace(".log", ".index")
        entries = bytearray(path.read_bytes())
        entries[-1] ^= 1
        path.write_bytes(entries)
        harness.crash()
        assert harness.log.log_end_offset == 100
        assert harness.read(95)

    def test_start_is_below_the_recovery_point(self, harness):
        """Recovery begins with a batch that ends below the recovery point."""
        self.fill(harness, 50)
        harness.log.close(sync=False)
        entries = {
            "." + entry.name.rpartition(".")[2]: entry for entry in harness.files.entries(harness.directory)
        }
        segment = Segment.open(harness.files, harness.directory, 0, entries=entries, now_ms=0)
        for recovery_point in range(51):
            start = find_recovery_start(segment, recovery_point)
            assert start.offset < max(recovery_point, 1)
            if start.position:
                assert start.offset >= recovery_point - 4


class TestProducers:
    def test_are_known_after_a_crash(self, harness):
        """Duplicates are known again, and gaps refused, as before the crash."""
        producer = {"producer_id": 3, "producer_epoch": 1}
        first = harness.append(b"a", b"b", **producer, base_sequence=0)
        harness.crash(recovery_point=0)
        again = harness.append(b"a", b"b", **producer, base_sequence=0)
        assert again.duplicate
        assert (again.first_offset, again.last_offset) == (first.first_offset, first.last_offset)

    def test_open_transactions_hold_readers_back(self, harness):
        """A transaction without a marker is open again, across segments."""
        harness.append(b"before")
        harness.append(b"open", producer_id=3, producer_epoch=0, base_sequence=0, is_transactional=True)
        harness.log.roll()
        harness.append(b"after")
        harness.crash(recovery_point=0)
        assert harness.log.last_stable_offset(3) == 1
        harness.log.flush()
        harness.crash()
        assert harness.log.last_stable_offset(3) == 1
        harness.reopen()
        assert harness.log.last_stable_offset(3) == 1

    def test_are_known_where_a_torn_batch_follows_their_snapshot(self, harness):
        """What is torn at the recovery point makes nobody forget a transaction below it."""
        for sequence in range(2):
            harness.append(b"v" * 100, producer_id=3, producer_epoch=0, base_sequence=sequence)
        abort(harness, producer_id=4, values=(b"v" * 300,), time_ms=START_MS + 1)
        harness.append(b"open", producer_id=5, producer_epoch=0, base_sequence=0, is_transactional=True)
        harness.crash(recovery_point=0)
        harness.log.flush()
        assert harness.names(".snapshot") == ["00000000000000000005.snapshot"]
        with (harness.directory / LOG).open("ab") as file:
            file.write(b"torn")
        harness.crash()
        assert harness.log.aborted_transactions(0, 5) == [(4, 2)]
        assert harness.log.last_stable_offset(5) == 4
        assert harness.append(b"v" * 100, producer_id=3, producer_epoch=0, base_sequence=1).duplicate


class TestLeaderEpochs:
    def test_are_rebuilt(self, harness):
        """The epochs that the file lacks are found in the batches."""
        for epoch in (1, 1, 4, 9):
            harness.append(b"v", leader_epoch=epoch)
        assert harness.names("checkpoint") == []
        harness.crash(recovery_point=0)
        assert harness.log.latest_epoch == 9
        assert harness.log.epoch_end_offset(1) == (1, 2)
        assert harness.log.epoch_end_offset(4) == (4, 3)

    def test_are_cut_with_the_log(self, harness):
        """An epoch that began in what was cut off is forgotten."""
        harness.append(b"v", leader_epoch=1)
        harness.append(b"v", leader_epoch=5)
        harness.log.flush()
        path = harness.directory / LOG
        path.write_bytes(path.read_bytes()[:-1])
        harness.crash(recovery_point=0)
        assert harness.log.latest_epoch == 1

    def test_that_a_truncation_had_taken_do_not_come_back(self, harness):
        """The file may still have them when the process is killed: records of an earlier epoch lie there now."""
        path = harness.directory / "leader-epoch-checkpoint"
        harness.append(b"a")
        harness.append(b"b")
        path.write_bytes(b"0\n2\n0 0\n1 1\n")
        harness.crash(recovery_point=0)
        assert harness.log.latest_epoch == 0
        assert harness.log.epoch_end_offset(0) == (0, 2)
        assert path.read_bytes() == b"0\n2\n0 0\n1 1\n"
        harness.append(b"c")
        harness.log.flush()
        assert path.read_bytes() == b"0\n1\n0 0\n"


class TestLaterSegments:
    def test_follow_the_fate_of_the_first_damaged_one(self, harness, caplog):
        """Segments after one that was cut are deleted: their offsets would not follow."""
        fill_three_segments(harness)
        spoil(harness, harness.log.size_bytes // 6 + 65, b"\xff", "00000000000000000002.log")
        harness.crash(recovery_point=0)
        assert values(harness) == [b"a", b"a", b"b"]
        assert harness.names(".log") == ["00000000000000000000.log", "00000000000000000002.log"]
        assert "00000000000000000004.log follows a segment that was cut: deleted" in caplog.text
        harness.append(b"new")
        assert values(harness) == [b"a", b"a", b"b", b"new"]
        harness.reopen()
        assert values(harness) == [b"a", b"a", b"b", b"new"]

    def test_a_batch_does_not_reach_into_the_next_segment(self, harness, caplog):
        """No checksum covers its offset: a damaged bit would send readers past all that follows."""
        fill_three_segments(harness)
        spoil(harness, harness.log.size_bytes // 6 + 4, b"\4", "00000000000000000002.log")
        harness.crash(recovery_point=0)
        assert values(harness) == [b"a", b"a", b"b"]
        assert harness.log.log_end_offset == 3
        assert "has the offsets 67108867 to 67108867 where 3 is due" in caplog.text

    def test_only_unflushed_segments_are_read(self, harness):
        """Segments below the recovery point are not opened, but for the one before it, whose indexes may lack their end."""
        for _ in range(4):
            harness.append(b"v" * 500)
            harness.log.roll()
        harness.log.flush(up_to=3)
        assert harness.log.recovery_point == 3
        harness.files.forget()
        harness.crash()
        opened = {name for name in harness.files.opened_names if name.endswith(".log")}
        assert opened == {f"0000000000000000000{base}.log" for base in (2, 3, 4)}


def test_recovering_without_cutting(harness):
    """A closed segment that turns out damaged keeps its bytes; only its indexes end before the damage."""
    for _ in range(20):
        harness.append(b"v" * 100)
    size = harness.log.size_bytes
    harness.log.close(sync=False)
    spoil(harness, size // 20 * 10 + 70, b"\xff")
    entries = {
        "." + entry.name.rpartition(".")[2]: entry for entry in harness.files.entries(harness.directory)
    }
    segment = Segment.open(harness.files, harness.directory, 0, entries=entries, now_ms=0)
    segment.configure(harness.config, 0)
    recovered = recover_segment(segment, cut=False)
    assert recovered.next_offset == 10
    assert (harness.directory / LOG).stat().st_size == size


def test_gaps_from_compaction_are_kept(harness):
    """Offsets that compaction took out are no damage."""
    records = bytearray()
    for offset in (5, 9, 30):
        data = batch(b"v")
        set_base_offset_and_epoch(data, 0, offset, 2)
        records += data
    harness.log.append_as_follower(records)
    harness.crash(recovery_point=0)
    assert [offset for offset, _ in harness.records()] == [5, 9, 30]
    assert harness.log.log_end_offset == 31

from __future__ import annotations

import os
import resource

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import ErrorCode, KafkaError, StorageError
from barnabas.log.files import ColdRead, Files
from barnabas.log.origin import Origin
from barnabas.log.partition_log import AppendResult
from barnabas.records.batch import iterate_headers
from barnabas.records.control import build_end_marker
from tests.log.harness import START_MS, CountingFiles, LogHarness, batch


@pytest.fixture
def harness(tmp_path):
    return LogHarness(tmp_path / "orders-0")


class TestAppend:
    def test_offsets_follow_each_other(self, harness):
        """Every record gets the next offset, and the batches carry the leader's epoch."""
        assert harness.append(b"a", b"b", leader_epoch=3) == AppendResult(0, 1, -1, 0)
        assert harness.append(b"c", leader_epoch=4) == AppendResult(2, 2, -1, 0)
        assert harness.records() == [(0, b"a"), (1, b"b"), (2, b"c")]
        assert [
            (header.base_offset, header.partition_leader_epoch)
            for _, header in iterate_headers(harness.read(0))
        ] == [(0, 3), (2, 4)]

    def test_several_batches_in_one_append(self, harness):
        """The batches of one append follow each other."""
        assert harness.append_bytes(batch(b"a") + batch(b"b", b"c")) == AppendResult(0, 2, -1, 0)
        assert harness.records() == [(0, b"a"), (1, b"b"), (2, b"c")]

    def test_bytes_after_the_last_batch_are_left_out(self, harness):
        """An unfinished batch behind the validated ones is not written."""
        records = batch(b"a")
        harness.log.append(
            records + b"torn",
            [header for _, header in iterate_headers(records)],
            leader_epoch=0,
            now_ms=START_MS,
        )
        assert harness.log.size_bytes == len(records)

    def test_log_append_time(self, tmp_path):
        """With message.timestamp.type=LogAppendTime the broker's time replaces the producer's, and is answered."""
        harness = LogHarness(tmp_path / "t-0", message_timestamp_type="LogAppendTime")
        harness.clock.now = 5000
        assert harness.append(b"a", time_ms=1).log_append_time_ms == 5000
        ((_, header),) = iterate_headers(harness.read(0))
        assert header.is_log_append_time
        assert header.max_timestamp == 5000

    def test_duplicate_of_an_idempotent_producer(self, harness):
        """A batch that was appended before gets its offsets and timestamp of then, and is not written again."""
        producer = {"producer_id": 7, "producer_epoch": 0}
        first = harness.append(b"a", b"b", **producer, base_sequence=0)
        harness.append(b"c", **producer, base_sequence=2)
        assert harness.append(b"a", b"b", **producer, base_sequence=0) == first._replace(
            log_append_time_ms=START_MS, duplicate=True
        )
        assert harness.log.log_end_offset == 3

    def test_sequence_gap(self, harness):
        """A batch that skips sequence numbers is refused, and nothing is written."""
        harness.append(b"a", producer_id=7, producer_epoch=0, base_sequence=0)
        with pytest.raises(KafkaError) as refused:
            harness.append(b"b", producer_id=7, producer_epoch=0, base_sequence=5)
        assert refused.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert harness.log.log_end_offset == 1


class TestReopen:
    def test_after_a_clean_close(self, harness):
        """Records and offsets are the same after a clean close, and appends go on behind them."""
        for value in (b"a", b"b", b"c"):
            harness.append(value)
        harness.reopen()
        assert harness.log.log_end_offset == 3
        harness.append(b"d")
        assert harness.records() == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d")]

    def test_after_a_kill(self, harness):
        """Records and offsets are the same after a kill, and appends go on behind them."""
        for value in (b"a", b"b", b"c"):
            harness.append(value)
        harness.crash()
        harness.append(b"d")
        assert harness.records() == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d")]

    def test_torn_tail(self, harness, caplog):
        """A batch that was half-written when the process died is cut off, and the log says so."""
        harness.append(b"a")
        harness.append(b"b" * 100)
        path = harness.directory / "00000000000000000000.log"
        with path.open("r+b") as file:
            file.truncate(harness.log.size_bytes - 10)
        harness.crash()
        assert harness.records() == [(0, b"a")]
        assert harness.log.log_end_offset == 1
        assert "cut off the last" in caplog.text
        assert str(path) in caplog.text


class TestAppendAsFollower:
    def test_keeps_offsets_and_epochs(self, harness):
        """Batches of the leader are stored as they are; one that is cut off is left out."""
        records = batch(b"a", base_offset=5, leader_epoch=2) + batch(b"b", base_offset=9, leader_epoch=3)
        result = harness.log.append_as_follower(bytes(records) + bytes(batch(b"c", base_offset=10))[:-1])
        assert (result.first_offset, result.last_offset) == (5, 9)
        assert harness.read(0) == bytes(records)
        assert harness.log.log_end_offset == 10
        assert harness.log.epoch_end_offset(2) == (2, 9)

    def test_only_a_cut_batch(self, harness):
        """Nothing happens if there is no whole batch."""
        assert harness.log.append_as_follower(bytes(batch(b"c"))[:-1]) is None
        assert harness.log.append_as_follower(b"") is None

    @pytest.mark.parametrize(
        ("at", "code"),
        [
            (70, ErrorCode.CORRUPT_MESSAGE),
            (16, ErrorCode.CORRUPT_MESSAGE),
            (7, ErrorCode.OFFSET_OUT_OF_RANGE),
        ],
    )
    def test_refused(self, harness, at, code):
        """Damage on the way, and offsets that do not rise, are refused, and nothing is written."""
        harness.append(b"a", b"b")
        records = batch(b"x" * 20, base_offset=2)
        records[at] ^= 1 if at == 7 else 0x7F
        if at == 7:
            records[7] = 1
        with pytest.raises(KafkaError) as refused:
            harness.log.append_as_follower(records)
        assert refused.value.code is code
        assert harness.log.log_end_offset == 2

    def test_idempotent_batches_are_remembered(self, harness):
        """A follower knows the producers of its leader, for the day when it leads."""
        harness.log.append_as_follower(batch(b"a", producer_id=4, producer_epoch=0, base_sequence=0))
        assert harness.append(b"a", producer_id=4, producer_epoch=0, base_sequence=0).duplicate


class TestRoll:
    def test_by_size(self, tmp_path):
        """The batch that no longer fits begins the next segment, whose files have its offset in their names."""
        harness = LogHarness(tmp_path / "t-0", segment_bytes=200)
        for _ in range(5):
            harness.append(b"v" * 10)
        assert harness.log.segment_base_offsets() == [0, 2, 4]
        assert harness.names(".log") == [f"{base:020d}.log" for base in (0, 2, 4)]
        assert harness.names(".snapshot") == [f"{base:020d}.snapshot" for base in (2, 4)]

    def test_of_an_empty_segment(self, harness):
        """An empty active segment is not rolled."""
        harness.log.roll()
        assert harness.log.segment_base_offsets() == [0]

    def test_settings_count_at_once(self, tmp_path):
        """A new segment.bytes counts from the next append on."""
        harness = LogHarness(tmp_path / "t-0")
        harness.append(b"v")
        harness.log.config = LogConfig(segment_bytes=100)
        harness.append(b"v")
        assert harness.log.segment_base_offsets() == [0, 1]


class TestRead:
    def test_at_the_end_reads_no_file(self, tmp_path):
        """What a consumer at the end of the log reads is found without a look at any file."""
        harness = LogHarness(tmp_path / "t-0", files=CountingFiles())
        for _ in range(100):
            harness.append(b"v" * 50)
        harness.files.forget()
        for offset in (99, 90):
            found = harness.log.read(offset, 1 << 20, up_to_offset=100)
            assert found.region.size == (100 - offset) * (harness.log.size_bytes // 100)
            assert found.region.is_cached()
            found.region.release()
        assert harness.log.read(100, 1 << 20, up_to_offset=100).region is None
        assert not harness.files.bytes_read

    def test_an_older_segment_is_one_before_that_of_the_end(self, tmp_path):
        """Where what may be read ends in a later segment, nothing more comes of this one."""
        harness = LogHarness(tmp_path / "t-0", segment_bytes=200)
        while len(harness.log.segment_base_offsets()) < 3:
            harness.append(b"v" * 50)
        first, second, third = harness.log.segment_base_offsets()
        for up_to_offset, older in [
            (second - 1, []),
            (second, [first]),
            (third - 1, [first]),
            (third, [first, second - 1, second]),
            (third + 1, [first, second - 1, second]),
        ]:
            for offset in (first, second - 1, second, third):
                found = harness.log.read(offset, 1, up_to_offset=up_to_offset)
                assert found.is_in_older_segment == (offset in older), (offset, up_to_offset)

    def test_nothing_is_pinned_for_ever(self, harness):
        """A released region pins no file."""
        harness.append(b"v")
        found = harness.log.read(0, 100, up_to_offset=1)
        assert harness.log._active.file.pins == 1
        found.region.release()
        assert harness.log._active.file.pins == 0

    def test_cold(self, tmp_path):
        """A read that must not block raises ColdRead, and finds the batch once that was warmed."""
        harness = LogHarness(tmp_path / "t-0")
        for _ in range(2000):
            harness.append(b"v" * 500)
        harness.log.roll()
        harness.log.flush()
        drop_from_cache(harness)
        cold_reads = 0
        while True:
            try:
                found = harness.log.read(1000, 4096, up_to_offset=2000, may_block=False)
                break
            except ColdRead as cold:
                cold_reads += 1
                cold.warm()
        assert found.region.read() == harness.read(1000, 4096)
        assert cold_reads <= 20
        if not cold_reads:
            pytest.skip("this file system does not drop pages")

    def test_cold_after_a_restart(self, tmp_path):
        """The same holds for the first look at a log after a restart."""
        harness = LogHarness(tmp_path / "t-0")
        for _ in range(100):
            harness.append(b"v" * 500)
        harness.reopen()
        drop_from_cache(harness)
        for _ in range(20):
            try:
                found = harness.log.read(50, 4096, up_to_offset=100, may_block=False)
                break
            except ColdRead as cold:
                cold.warm()
        assert found.region.read() == harness.read(50, 4096)


def drop_from_cache(harness):
    harness.files.close()
    for name in harness.names():
        descriptor = os.open(harness.directory / name, os.O_RDWR)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class TestTransactions:
    """Producer 1 aborts, 2 commits, 3 is undecided."""

    @pytest.fixture
    def transactions(self, harness):
        for producer_id in (1, 2, 3):
            self.send(harness, producer_id, 0)
        self.end(harness, 1, is_commit=False)
        self.end(harness, 2, is_commit=True)
        harness.append(b"plain")
        return harness

    def send(self, harness, producer_id, sequence):
        harness.append(
            b"v", producer_id=producer_id, producer_epoch=0, base_sequence=sequence, is_transactional=True
        )

    def end(self, harness, producer_id, *, is_commit):
        marker = build_end_marker(
            is_commit=is_commit,
            producer_id=producer_id,
            producer_epoch=0,
            coordinator_epoch=0,
            timestamp_ms=START_MS,
        )
        return harness.append_bytes(bytearray(marker), origin=Origin.COORDINATOR)

    def test_last_stable_offset(self, transactions):
        """Readers of committed records stop at the first undecided one."""
        log = transactions.log
        log.on_high_watermark(6)
        assert log.last_stable_offset(6) == 2
        self.end(transactions, 3, is_commit=True)
        log.on_high_watermark(7)
        assert log.last_stable_offset(7) == 7

    @pytest.mark.parametrize("is_torn", [False, True])
    def test_last_stable_offset_after_a_restart(self, transactions, is_torn):
        """Transactions that were settled before a restart hold nobody back after it, however they are found again."""
        self.end(transactions, 3, is_commit=False)
        if is_torn:
            transactions.crash(recovery_point=0)
        else:
            transactions.log.close()
            for name in transactions.names(".snapshot"):
                (transactions.directory / name).unlink()
            transactions.log = transactions.open(clean=True, recovery_point=7)
        transactions.log.high_watermark = 7
        assert transactions.log.last_stable_offset(7) == 7

    def test_aborted_transactions(self, transactions):
        """Readers learn of the aborted transactions in what they read, and of no others."""
        log = transactions.log
        assert log.has_aborted_transactions
        assert log.aborted_transactions(0, 2) == [(1, 0)]
        assert log.aborted_transactions(3, 6) == [(1, 0)]
        assert log.aborted_transactions(4, 6) == []
        assert log.aborted_transactions(0, 6, 0) == []

    def test_across_segments(self, transactions):
        """The marker may lie in a later segment than the records."""
        transactions.log.roll()
        self.end(transactions, 3, is_commit=False)
        assert transactions.log.aborted_transactions(0, 6) == [(1, 0), (3, 2)]
        assert transactions.log.aborted_transactions(6, 7) == [(3, 2)]
        transactions.reopen()
        assert transactions.log.aborted_transactions(0, 6) == [(1, 0), (3, 2)]
        transactions.crash(recovery_point=0)
        assert transactions.log.aborted_transactions(0, 6) == [(1, 0), (3, 2)]

    @pytest.mark.parametrize("has_snapshot", [True, False])
    @pytest.mark.parametrize("damage", [b"\0\7" * 17, b"\0" * 20])
    def test_a_damaged_index_is_rebuilt(self, transactions, damage, has_snapshot, caplog):
        """The batches of the segment say what the index said, together with the transactions that were open before them."""
        transactions.log.roll()
        self.end(transactions, 3, is_commit=False)
        transactions.log.close()
        if not has_snapshot:
            for name in transactions.names(".snapshot"):
                (transactions.directory / name).unlink()
        for name in transactions.names(".txnindex"):
            (transactions.directory / name).write_bytes(damage)
        transactions.log = transactions.open(clean=True, recovery_point=7)
        log = transactions.log
        assert log.aborted_transactions(0, 6) == [(1, 0), (3, 2)]
        assert log.aborted_transactions(6, 7) == [(3, 2)]
        assert "txnindex is damaged: rebuilt" in caplog.text
        transactions.crash(recovery_point=0)
        assert transactions.log.aborted_transactions(0, 6) == [(1, 0), (3, 2)]

    def test_an_aborted_transaction_after_damage(self, transactions):
        """The marker of another one finds the index damaged, and all are in it afterwards."""
        transactions.log.close()
        (name,) = transactions.names(".txnindex")
        (transactions.directory / name).write_bytes(b"\0" * 20)
        transactions.log = transactions.open(clean=True, recovery_point=6)
        self.end(transactions, 3, is_commit=False)
        assert transactions.log.aborted_transactions(0, 7) == [(1, 0), (3, 2)]

    def test_deleted_with_their_segment(self, transactions):
        """Once the segment is gone there is nothing to tell."""
        transactions.log.roll()
        transactions.log.delete_records(6)
        assert not transactions.log.has_aborted_transactions

    def test_end_of_a_read(self, tmp_path):
        """A read that was cut by size says how far its records may reach."""
        harness = LogHarness(tmp_path / "t-0", index_interval_bytes=0)
        self.send(harness, 1, 0)
        self.end(harness, 1, is_commit=False)
        for _ in range(10):
            harness.append(b"v" * 50)
        found = harness.log.read(2, 200, up_to_offset=12)
        headers = [header for _, header in iterate_headers(found.region.read())]
        assert headers[-1].last_offset < found.end_offset <= headers[-1].last_offset + 3
        assert harness.log.read(2, 1 << 20, up_to_offset=8).end_offset == 8


class TestDeleting:
    @pytest.fixture
    def three(self, tmp_path):
        """Three segments of two records, a second apart."""
        harness = LogHarness(tmp_path / "t-0", retention_ms=10_000, file_delete_delay_ms=60_000)
        for number in range(6):
            if number in (2, 4):
                harness.log.roll()
            harness.append(b"v", time_ms=START_MS + number * 1000, leader_epoch=number // 2)
        return harness

    def test_delete_records(self, three):
        """Records below the offset cannot be read, and segments below it are deleted later, with their files."""
        three.log.delete_records(3)
        assert three.log.log_start_offset == 3
        assert three.log.segment_base_offsets() == [2, 4]
        ((paths, delay_ms),) = three.deletions
        assert delay_ms == 60_000
        assert sorted(path.name for path in paths) == [
            f"{0:020d}{suffix}.deleted" for suffix in (".index", ".log", ".timeindex")
        ]
        assert all(path.exists() for path in paths)
        with pytest.raises(KafkaError) as refused:
            three.read(2)
        assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
        assert three.log.epoch_end_offset(0) == (0, 3)

    def test_delete_all_records(self, three):
        """All records can be deleted; the active segment stays until retention finds it."""
        three.log.delete_records(6)
        assert three.records() == []
        assert three.log.segment_base_offsets() == [4]
        assert three.append(b"v").first_offset == 6

    def test_delete_records_above_the_high_watermark(self, three):
        """What is not replicated cannot be deleted."""
        three.log.on_high_watermark(4)
        with pytest.raises(KafkaError) as refused:
            three.log.delete_records(5)
        assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
        assert three.log.log_start_offset == 0

    def test_a_reader_is_not_disturbed(self, three):
        """Who is being sent records that are deleted meanwhile gets them all."""
        found = three.log.read(0, 1000, up_to_offset=6)
        expected = found.region.read()
        three.files.close()
        three.log.delete_records(6)
        for paths, _ in three.deletions:
            for path in paths:
                path.unlink()
        assert found.region.read() == expected
        found.region.release()

    def test_retention_by_time(self, three):
        """Segments whose newest record is too old go, and with them the snapshots where they began."""
        assert three.log.apply_retention(START_MS + 13_000) == 1
        assert three.log.log_start_offset == 2
        assert three.log.apply_retention(START_MS + 13_001) == 1
        assert three.log.apply_retention(START_MS + 13_001) == 0
        assert three.names(".snapshot") == ["00000000000000000004.snapshot"]

    def test_retention_of_everything(self, three):
        """If all is too old, the active segment is rolled first, so that the log goes on at its end."""
        assert three.log.apply_retention(START_MS + 10**6) == 3
        assert (three.log.log_start_offset, three.log.log_end_offset) == (6, 6)
        assert three.log.segment_base_offsets() == [6]
        three.reopen()
        assert three.append(b"v").first_offset == 6

    def test_retention_by_size(self, three):
        """The oldest go as long as enough is left."""
        three.log.config = LogConfig(retention_bytes=three.log.size_bytes // 2, retention_ms=-1)
        assert three.log.apply_retention(START_MS) == 1

    def test_retention_stops_at_the_high_watermark(self, three):
        """What is not replicated stays."""
        three.log.on_high_watermark(3)
        assert three.log.apply_retention(START_MS + 10**6) == 1

    def test_after_a_clean_restart(self, three):
        """Retention knows the age of segments that it has not seen."""
        three.reopen()
        assert three.log.apply_retention(START_MS + 13_000) == 1

    def test_without_a_deleter(self, tmp_path, three):
        """Without a worker the files are deleted at once."""
        three.log._schedule_deletion = three.log._delete_now
        three.log.delete_records(4)
        assert three.names(".deleted") == []
        assert len(three.names(".log")) == 1


class TestTruncation:
    def test_across_segments(self, tmp_path):
        """Later segments go as a whole, epochs and producers with them."""
        harness = LogHarness(tmp_path / "t-0", segment_bytes=200)
        for number in range(8):
            harness.append(
                b"v" * 10, leader_epoch=number // 2, producer_id=1, producer_epoch=0, base_sequence=number
            )
        harness.log.flush()
        assert harness.log.truncate_to(3)
        assert harness.log.segment_base_offsets() == [0, 2]
        assert harness.log.latest_epoch == 1
        assert (harness.log.log_end_offset, harness.log.recovery_point) == (3, 3)
        harness.append(b"w", leader_epoch=9, producer_id=1, producer_epoch=0, base_sequence=3)
        harness.crash()
        assert [value for _, value in harness.records()] == [b"v" * 10] * 3 + [b"w"]

    def test_to_the_end(self, harness):
        """There is nothing to truncate at the end; an epoch that begins there goes."""
        harness.append(b"v", leader_epoch=1)
        harness.log.assign_leader_epoch(4, 1)
        assert not harness.log.truncate_to(1)
        assert harness.log.latest_epoch == 1
        assert harness.records()

    def test_below_the_first_segment(self, harness):
        """Below all that is there, the log starts over."""
        harness.log.truncate_fully_and_start_at(10)
        harness.append(b"v")
        assert harness.log.truncate_to(5)
        assert (harness.log.log_start_offset, harness.log.log_end_offset) == (5, 5)

    def test_back_to_where_it_was_opened(self, harness):
        """Of what is gone the producers know nothing: neither its sequences nor its transactions."""
        known = {"producer_id": 1, "producer_epoch": 0}
        harness.append(b"a", base_sequence=0, **known)
        harness.reopen()
        harness.append(b"b", base_sequence=1, is_transactional=True, **known)
        assert harness.log.truncate_to(1)
        assert harness.log.producer_state.transactions.first_undecided_offset is None
        assert not harness.append(b"b", base_sequence=1, **known).duplicate

    def test_high_watermark_comes_along(self, harness):
        """The high watermark is never above the end."""
        harness.append(b"a", b"b")
        harness.append(b"c")
        harness.log.on_high_watermark(3)
        harness.log.truncate_to(2)
        assert harness.log.high_watermark == 2

    def test_start_over(self, harness):
        """Nothing of the past is left."""
        harness.append(b"a", leader_epoch=3, producer_id=1, producer_epoch=0, base_sequence=0)
        harness.log.truncate_fully_and_start_at(0)
        assert harness.log.size_bytes == 0
        assert harness.log.latest_epoch == -1
        assert harness.log.producer_state.producer_count == 0
        assert harness.append(b"b").first_offset == 0
        harness.reopen()
        assert harness.records() == [(0, b"b")]

    def test_start_over_below(self, harness):
        """A follower may begin behind the log start offset of its leader."""
        harness.log.truncate_fully_and_start_at(50, 20)
        assert (harness.log.log_start_offset, harness.log.log_end_offset) == (20, 50)


class TestEpochs:
    def test_current_epoch_ends_at_the_log_end(self, harness):
        """The epoch of the present leader ends at the log end, with or without records."""
        harness.append(b"v", leader_epoch=2)
        assert harness.log.epoch_end_offset(5, 5) == (5, 1)
        assert harness.log.epoch_end_offset(2, 5) == (2, 1)
        harness.log.assign_leader_epoch(5, 1)
        assert harness.log.epoch_end_offset(4) == (2, 1)

    def test_survive_a_clean_restart(self, harness):
        """Epochs are read back on first use."""
        harness.append(b"v", leader_epoch=2)
        harness.append(b"v", leader_epoch=4)
        harness.reopen()
        assert harness.log.latest_epoch == 4
        assert harness.log.epoch_for_offset(0) == 2


class TestTimestamps:
    def test_across_segments(self, tmp_path):
        """The first record that is late enough is found, whichever segment it is in, and never below the start."""
        harness = LogHarness(tmp_path / "t-0", segment_bytes=200)
        for number in range(10):
            harness.append(b"v" * 10, time_ms=START_MS + number * 10, leader_epoch=number)
        for _ in range(2):
            assert harness.log.offset_for_timestamp(START_MS + 41) == (5, START_MS + 50, 5)
            assert harness.log.offset_for_timestamp(0) == (0, START_MS, 0)
            assert harness.log.offset_for_timestamp(START_MS + 91) is None
            assert harness.log.offset_of_max_timestamp() == (9, START_MS + 90, 9)
            harness.reopen()
        harness.log.delete_records(3)
        assert harness.log.offset_for_timestamp(0) == (3, START_MS + 30, 3)

    def test_of_an_empty_log(self, harness):
        """An empty log has no timestamps."""
        assert harness.log.offset_for_timestamp(0) is None
        assert harness.log.offset_of_max_timestamp() is None


class BrokenFiles(Files):
    """A disk that fails on demand."""

    broken = False

    def write_at(self, file, position, data, size=None):
        if self.broken:
            raise StorageError(f"cannot write to {file.path}: Input/output error")
        super().write_at(file, position, data, size)

    def read_at(self, file, position, count, *, wait=True):
        if self.broken:
            raise StorageError(f"cannot read {file.path}: Input/output error")
        return super().read_at(file, position, count, wait=wait)

    def create(self, path):
        if self.broken:
            raise StorageError(f"cannot create {path}: Input/output error")
        return super().create(path)

    def rename(self, source, target):
        if self.broken:
            raise OSError(5, "Input/output error", str(source))
        super().rename(source, target)


class TestFailure:
    @pytest.mark.parametrize(
        "call",
        [
            lambda harness: harness.append(b"v"),
            lambda harness: harness.log.append_as_follower(batch(b"v", base_offset=100)),
            lambda harness: harness.log.roll(),
            lambda harness: harness.read(0, up_to=50),
            lambda harness: harness.log.offset_for_timestamp(START_MS),
            lambda harness: harness.log.offset_of_max_timestamp(),
            lambda harness: harness.log.truncate_to(50),
            lambda harness: harness.log.truncate_fully_and_start_at(0),
            lambda harness: harness.log.delete_records(90),
            lambda harness: harness.log.apply_retention(START_MS * 2),
            lambda harness: harness.log.close(),
        ],
    )
    def test_of_the_disk(self, tmp_path, call):
        """Whatever the disk fails at, the error names a file, the log is offline, and its owner is told once."""
        harness = LogHarness(
            tmp_path / "orders-0", files=BrokenFiles(), index_interval_bytes=100, segment_bytes=5000
        )
        for _ in range(100):
            harness.append(b"v" * 20)
        end = harness.log.log_end_offset
        harness.files.broken = True
        with pytest.raises(StorageError, match="orders-0"):
            call(harness)
        harness.files.broken = False
        assert harness.log.is_offline
        with pytest.raises(StorageError, match="orders-0"):
            harness.append(b"v")
        assert [log for log, _ in harness.failures] == [harness.log]
        assert harness.log.log_end_offset == end
        harness.log.close()
        assert harness.log.is_offline

    def test_full_disk(self, harness):
        """What a full disk took of a batch is not there after a restart, and nothing of it is claimed."""
        harness.append(b"a" * 100)
        size = harness.log.size_bytes
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
        try:
            with pytest.raises(StorageError, match=r"00000000000000000000\.log"):
                harness.append(b"b" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (harness.directory / "00000000000000000000.log").stat().st_size == size
        harness.crash()
        assert harness.records() == [(0, b"a" * 100)]

    def test_closed(self, harness):
        """A closed log refuses everything, without a failure being told."""
        harness.append(b"v")
        harness.log.close()
        with pytest.raises(StorageError, match="is closed"):
            harness.read(0)
        with pytest.raises(StorageError, match="is closed"):
            harness.log.start_flush()
        assert harness.failures == []


def test_ten_thousand_logs_need_few_descriptors(tmp_path):
    """Active segments take turns at the descriptors; here a hundred logs at eight."""
    files = Files(8)
    harnesses = [LogHarness(tmp_path / f"orders-{number}", files=files) for number in range(100)]
    for value in (b"a", b"b"):
        for harness in harnesses:
            harness.append(value)
    assert files.open_count <= 8
    for harness in harnesses:
        assert harness.records() == [(0, b"a"), (1, b"b")]
        harness.reopen()
        assert harness.records() == [(0, b"a"), (1, b"b")]
    assert files.open_count <= 8

from __future__ import annotations

import struct
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barnabas.config.topic import LogConfig
from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.log import segment as segment_module
from barnabas.log.segment import MAX_RELATIVE_OFFSET, Segment, roll_jitter_ms
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from tests.log.harness import CountingFiles, batch

NOW_MS = 1_000_000


@pytest.fixture
def files():
    return CountingFiles()


def create(files, directory, base_offset=100, **settings):
    segment = Segment.create(files, directory, base_offset, now_ms=NOW_MS)
    segment.configure(LogConfig(**settings), 0)
    return segment


def append(segment, records, now_ms=NOW_MS):
    segment.append(records, len(records), [parse_header(records)], None, now_ms)


def fill(segment, count, *, size=20, first=None, step=1, time_ms=0):
    offset = segment.base_offset if first is None else first
    for number in range(count):
        append(segment, batch(b"v" * size, base_offset=offset + number * step, time_ms=time_ms + number))


def reopen(files, segment, suffixes=(".log", ".index", ".timeindex", ".txnindex")):
    entries = {}
    for entry in files.entries(segment.directory):
        suffix = Path(entry.name).suffix
        if suffix in suffixes:
            entries[suffix] = entry
    reopened = Segment.open(files, segment.directory, segment.base_offset, entries=entries, now_ms=NOW_MS)
    reopened.configure(LogConfig(), 0)
    return reopened


class TestLocate:
    def test_recent_batches_are_found_without_a_read(self, files, tmp_path):
        """The newest batches are found without a look at any file."""
        segment = create(files, tmp_path)
        fill(segment, 50)
        size = segment.size // 50
        files.forget()
        assert segment.locate(149) == (49 * size, size)
        assert segment.locate(120) == (20 * size, size)
        assert segment.locate(150) is None
        assert not files.bytes_read

    @pytest.mark.parametrize("interval", [0, 100, 4096])
    def test_older_batches_are_found_through_the_index(self, files, tmp_path, interval):
        """Every batch is found, and the further the index reaches the less of the file is read."""
        segment = create(files, tmp_path, index_interval_bytes=interval)
        fill(segment, 500)
        size = segment.size // 500
        segment.become_inactive()
        for number in range(0, 500, 7):
            assert segment.locate(100 + number) == (number * size, size)
        files.forget()
        segment.locate(590)
        assert files.bytes_read[".log"] <= segment_module.SCAN_BYTES + interval + size

    @pytest.mark.parametrize("is_active", [True, False])
    def test_gaps(self, files, tmp_path, is_active):
        """In a gap that compaction left, the batch after it is found."""
        segment = create(files, tmp_path)
        fill(segment, 10, step=10)
        size = segment.size // 10
        if not is_active:
            segment.become_inactive()
        assert segment.locate(131) == (4 * size, size)
        assert segment.locate(140) == (4 * size, size)
        assert segment.locate(191) is None

    def test_headers_across_reads(self, files, tmp_path):
        """A header that lies across the border of two reads is still one header."""
        segment = create(files, tmp_path, index_interval_bytes=1 << 30)
        for number in range(40):
            append(segment, batch(b"x" * (number * 13 % 97), base_offset=100 + number))
        segment.become_inactive()
        whole = [segment.locate(100 + number) for number in range(40)]
        for scan_bytes in range(27, 100, 11):
            with mock.patch.object(segment_module, "SCAN_BYTES", scan_bytes):
                assert [segment.locate(100 + number) for number in range(40)] == whole

    def test_damaged_file(self, files, tmp_path):
        """Where there should be a batch and is none, the read fails with the file and the position."""
        segment = create(files, tmp_path)
        fill(segment, 3)
        segment.become_inactive()
        with segment.file.path.open("r+b") as file:
            file.write(b"\0" * segment.size)
        with pytest.raises(KafkaError, match=r"000100\.log has no record batch at position 0") as failed:
            segment.locate(102)
        assert failed.value.code is ErrorCode.CORRUPT_MESSAGE

    def test_cut_file(self, files, tmp_path):
        """Of a batch that the file ends within, nothing is served: a reader would ask for the rest forever."""
        segment = create(files, tmp_path)
        fill(segment, 3)
        segment.become_inactive()
        whole = segment.size // 3
        segment.files.truncate(segment.file, segment.size - 1)
        reopened = reopen(files, segment)
        assert reopened.locate(101) == (whole, whole)
        with pytest.raises(
            KafkaError, match=r"000100\.log ends within the record batch at position"
        ) as failed:
            reopened.locate(102)
        assert failed.value.code is ErrorCode.CORRUPT_MESSAGE


_ONE_BY_ONE = {"index_bytes": 10_000, "interval": 10_000}


@settings(max_examples=300)
@example(batches=[(60, 0, 0)] * 8, segment_bytes=1000, changes=[(5, True)], **_ONE_BY_ONE)
@example(
    batches=[(1, 1000, 0), (1, 0, 0), (1, 2001, 0)], segment_bytes=1000, changes=[(1, False)], **_ONE_BY_ONE
)
@given(
    batches=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.sampled_from([-1, 0, 1, 1000, 2000, 2001, 3000]),
            st.sampled_from([0, 0, 0, 0, 1, MAX_RELATIVE_OFFSET]),
        ),
        min_size=2,
        max_size=30,
    ),
    segment_bytes=st.sampled_from([100, 1000, 2000, 10_000]),
    index_bytes=st.sampled_from([24, 36, 10_000]),
    interval=st.sampled_from([0, 150, 10_000]),
    changes=st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=3),
)
def test_the_short_way_leads_to_the_same(
    tmp_path_factory, batches, segment_bytes, index_bytes, interval, changes
):
    """Batches that take the short way where it is open end up in the same files, and roll at the same place."""
    config = {
        "segment_bytes": segment_bytes,
        "segment_ms": 2000,
        "segment_index_bytes": index_bytes,
        "index_interval_bytes": interval,
    }
    files = CountingFiles()
    one, other = (create(files, tmp_path_factory.mktemp("segment"), **config) for _ in range(2))
    rolled = [False, False]
    for number, (size, time_ms, delta) in enumerate(batches):
        for _, to_smaller in filter(lambda change, number=number: change[0] == number, changes):
            for segment in (one, other):
                if to_smaller:
                    segment.configure(LogConfig(**(config | {"segment_bytes": segment_bytes // 2})), 0)
                else:
                    segment.truncate_to(segment.next_offset - 1)
        records = batch(b"v" * size, base_offset=one.next_offset, time_ms=time_ms)
        records[23:27] = struct.pack(">i", delta)
        last_offset = one.next_offset + delta
        header = parse_header(records)
        is_done = one.append_if_sure(records, len(records), last_offset, time_ms, NOW_MS + number)
        for segment in (one, other):
            if segment is other or not is_done:
                rolls = segment.should_roll(len(records), time_ms, last_offset, NOW_MS + number)
                rolled[segment is other] = rolls
                if not rolls:
                    segment.append(records, len(records), [header], None, NOW_MS + number)
        assert rolled[0] == rolled[1]
        if rolled[0]:
            break
        assert (one.next_offset, one.size, one.max_timestamp) == (
            other.next_offset,
            other.size,
            other.max_timestamp,
        )
        assert one.locate(last_offset) == other.locate(last_offset)
    for segment in (one, other):
        segment.become_inactive()
    for path, twin in zip(one.paths(), other.paths(), strict=True):
        assert path.read_bytes() == twin.read_bytes()


class TestRoll:
    def test_by_size(self, files, tmp_path):
        """A batch that would make the segment larger than segment.bytes belongs into the next one."""
        segment = create(files, tmp_path, segment_bytes=1000)
        assert not segment.should_roll(1001, 0, 100, NOW_MS)
        fill(segment, 1)
        assert not segment.should_roll(1000 - segment.size, 0, 101, NOW_MS)
        assert segment.should_roll(1001 - segment.size, 0, 101, NOW_MS)

    def test_by_time(self, files, tmp_path):
        """Time passes by the timestamps of the records, from the first batch on, not by the clock."""
        segment = create(files, tmp_path, segment_ms=1000)
        append(segment, batch(b"v", base_offset=100, time_ms=5000))
        assert not segment.should_roll(10, 6000, 101, NOW_MS + 10**9)
        assert segment.should_roll(10, 6001, 101, NOW_MS)

    def test_by_time_after_a_reopening(self, files, tmp_path):
        """The first batch's timestamp counts also after a restart."""
        segment = create(files, tmp_path)
        append(segment, batch(b"v", base_offset=100, time_ms=5000))
        segment.write_indexes()
        reopened = reopen(files, segment)
        reopened.configure(LogConfig(segment_ms=1000), 0)
        assert not reopened.should_roll(10, 6000, 101, NOW_MS)
        assert reopened.should_roll(10, 6001, 101, NOW_MS)

    def test_by_the_clock_without_timestamps(self, files, tmp_path):
        """Without timestamps the clock counts."""
        segment = create(files, tmp_path, segment_ms=1000)
        append(segment, batch(b"v", base_offset=100, time_ms=-1))
        assert not segment.should_roll(10, -1, 101, NOW_MS + 1000)
        assert segment.should_roll(10, -1, 101, NOW_MS + 1001)

    def test_jitter(self, files, tmp_path):
        """The jitter is taken off segment.ms, is never more than allowed, and differs from log to log."""
        config = LogConfig(segment_ms=1000, segment_jitter_ms=300)
        jitters = {roll_jitter_ms(config, f"t-{partition}", 0) for partition in range(200)}
        assert len(jitters) > 50
        assert all(0 <= jitter < 300 for jitter in jitters)
        assert roll_jitter_ms(config, "t-1", 5) == roll_jitter_ms(config, "t-1", 5)
        assert roll_jitter_ms(LogConfig(), "t-1", 0) == 0
        segment = create(files, tmp_path)
        segment.configure(config, 200)
        append(segment, batch(b"v", base_offset=100, time_ms=5000))
        assert segment.should_roll(10, 5801, 101, NOW_MS)
        assert not segment.should_roll(10, 5800, 101, NOW_MS)

    def test_by_index_size(self, files, tmp_path):
        """A full offset index closes the segment, and so does a time index with room for its last entry only."""
        segment = create(files, tmp_path, segment_index_bytes=8 * 6, index_interval_bytes=0)
        fill(segment, 3)
        assert (segment.offset_index.count, segment.time_index.count) == (2, 2)
        assert not segment.should_roll(1, 0, 103, NOW_MS)
        fill(segment, 1, first=103, time_ms=50)
        assert segment.time_index.count == 3
        assert segment.should_roll(1, 0, 104, NOW_MS)

    def test_by_relative_offset(self, files, tmp_path):
        """Offsets that are too far from the base offset for the indexes belong into the next segment."""
        segment = create(files, tmp_path)
        assert not segment.should_roll(1, 0, 100 + MAX_RELATIVE_OFFSET, NOW_MS)
        assert segment.should_roll(1, 0, 101 + MAX_RELATIVE_OFFSET, NOW_MS)


class TestIndexes:
    def test_entries(self, files, tmp_path):
        """An entry comes after more than index.interval.bytes, for the batch that follows, with the highest timestamp."""
        segment = create(files, tmp_path, index_interval_bytes=150)
        size = len(batch(b"v" * 20, base_offset=0))
        for number, time_ms in enumerate([10, 50, 30, 40, 20, 60, 70]):
            append(segment, batch(b"v" * 20, base_offset=100 + number, time_ms=time_ms))
        assert 75 < size < 150
        assert [segment.offset_index.entry(number) for number in range(3)] == [
            (102, 2 * size),
            (104, 4 * size),
            (106, 6 * size),
        ]
        assert [segment.time_index.entry(number) for number in range(2)] == [(50, 101), (70, 106)]

    def test_files_are_written_when_the_segment_is_closed(self, files, tmp_path):
        """A closed segment has both index files, also without entries, and the highest timestamp in the last entry."""
        segment = create(files, tmp_path)
        fill(segment, 2, time_ms=500)
        assert [entry.name for entry in files.entries(tmp_path)] == ["00000000000000000100.log"]
        segment.become_inactive()
        assert {entry.name: entry.size for entry in files.entries(tmp_path)} == {
            "00000000000000000100.index": 0,
            "00000000000000000100.log": segment.size,
            "00000000000000000100.timeindex": 12,
        }
        assert reopen(files, segment).max_timestamp == (501, 101)


class TestLoadEnd:
    def test_reads_what_the_index_does_not_cover(self, files, tmp_path):
        """The end of a segment is found from the last index entry on."""
        segment = create(files, tmp_path, index_interval_bytes=300)
        fill(segment, 100)
        segment.become_inactive()
        reopened = reopen(files, segment)
        files.forget()
        assert reopened.load_end() == 200
        assert files.bytes_read[".log"] < 600
        assert reopened.locate(199) == segment.locate(199)
        assert reopened.locate(101) == segment.locate(101)
        fill(reopened, 20, first=200)
        assert reopened.locate(210).position == 110 * (segment.size // 100)

    @pytest.mark.parametrize("tail", [b"\0" * 80, b"x" * 80, b"x"])
    def test_torn_end(self, files, tmp_path, tail):
        """A file that does not end with a whole batch is noticed."""
        segment = create(files, tmp_path)
        fill(segment, 2)
        segment.write_indexes()
        with segment.file.path.open("ab") as file:
            file.write(tail)
        with pytest.raises(DecodeError, match=r"000100\.log"):
            reopen(files, segment).load_end()


class TestTimestamps:
    @pytest.mark.parametrize("codec", list(Codec))
    def test_find(self, files, tmp_path, codec):
        """The first record with the timestamp or a later one is found inside its batch, whatever its codec."""
        segment = create(files, tmp_path)
        for base_offset in (100, 105):
            records = [(0, base_offset * 10 + delta * 10, None, b"v", ()) for delta in range(5)]
            append(segment, build_batch(records, base_offset=base_offset, compression=codec, leader_epoch=3))
        assert segment.find_timestamp(1011, 0) == (102, 1020, 3)
        assert segment.find_timestamp(1060, 0) == (106, 1060, 3)
        assert segment.find_timestamp(0, 104) == (104, 1040, 3)
        assert segment.find_timestamp(1091, 0) is None
        assert segment.find_max_timestamp() == (109, 1090, 3)

    def test_out_of_order(self, files, tmp_path):
        """Among timestamps that go up and down, the first offset counts, not the first time."""
        segment = create(files, tmp_path, index_interval_bytes=0)
        for number, time_ms in enumerate([10, 90, 20, 95, 30, 40]):
            append(segment, batch(b"v", base_offset=100 + number, time_ms=time_ms))
        assert segment.find_timestamp(25, 0)[:2] == (101, 90)
        assert segment.find_timestamp(25, 102)[:2] == (103, 95)
        assert segment.find_timestamp(91, 0)[:2] == (103, 95)
        assert segment.find_max_timestamp()[:2] == (103, 95)

    def test_log_append_time(self, files, tmp_path):
        """With log append time, the last record of the last batch of that time is the newest."""
        segment = create(files, tmp_path)
        append(segment, batch(b"a", b"b", base_offset=100, log_append_time_ms=70))
        assert segment.find_max_timestamp() == (101, 70, -1)
        assert segment.find_timestamp(70, 0) == (100, 70, -1)

    def test_without_timestamps(self, files, tmp_path):
        """Records without timestamps have no newest one; the segment's age is that of its last append."""
        segment = create(files, tmp_path)
        append(segment, batch(b"a", base_offset=100, time_ms=-1), now_ms=NOW_MS + 5)
        assert segment.find_max_timestamp() is None
        assert segment.largest_timestamp_ms == NOW_MS + 5

    def test_damaged_batch(self, files, tmp_path):
        """A batch whose records do not parse fails the search with the file and the position."""
        segment = create(files, tmp_path)
        records = batch(b"a" * 100, base_offset=100, time_ms=5, compression=Codec.GZIP)
        records[70:] = b"\xff" * (len(records) - 70)
        append(segment, records)
        with pytest.raises(KafkaError, match=r"000100\.log has a damaged batch at position 0"):
            segment.find_timestamp(1, 0)

    @pytest.mark.parametrize("position", [-1, -(2**31), 7, 2**31 - 1])
    def test_damaged_index(self, files, tmp_path, position):
        """Positions of an index that are not in the file, or not where a batch begins, are found out and made anew."""
        segment = create(files, tmp_path, index_interval_bytes=0)
        fill(segment, 20)
        segment.become_inactive()
        path = segment.offset_index.entries.file.path
        count = segment.offset_index.count
        path.write_bytes(b"".join(struct.pack(">ii", number + 1, position) for number in range(count)))
        reopened = reopen(files, segment)
        assert reopened.find_timestamp(15, 0)[:2] == (115, 15)
        path.write_bytes(struct.pack(">ii", 1, position) * count)
        assert reopen(files, segment).find_max_timestamp()[:2] == (119, 19)

    @pytest.mark.parametrize("position", [-1, -(2**31), 7, 2**31 - 1])
    def test_damaged_index_of_the_active_segment(self, files, tmp_path, position):
        """A last position that is not in the file is damage to be recovered from, not a disk that fails."""
        segment = create(files, tmp_path)
        fill(segment, 20)
        segment.write_indexes()
        segment.offset_index.entries.file.path.write_bytes(struct.pack(">ii", 1, position))
        with pytest.raises(DecodeError, match=r"000100\.log (has no|ends)"):
            reopen(files, segment).load_end()


class TestTruncate:
    def test_to_a_batch(self, files, tmp_path):
        """What is at the offset and after it goes, from all files, and appends go on there."""
        segment = create(files, tmp_path, index_interval_bytes=0)
        fill(segment, 10, time_ms=50)
        size = segment.size // 10
        assert segment.truncate_to(104) == 104
        assert (segment.size, segment.file.path.stat().st_size) == (4 * size, 4 * size)
        assert (segment.offset_index.count, segment.time_index.count) == (3, 3)
        assert segment.max_timestamp == (53, 103)
        fill(segment, 2, first=104, time_ms=54)
        assert segment.locate(105) == (5 * size, size)

    def test_into_a_batch(self, files, tmp_path):
        """A batch is never cut: the whole of it goes."""
        segment = create(files, tmp_path)
        append(segment, batch(b"a", b"b", b"c", base_offset=100))
        append(segment, batch(b"a", b"b", b"c", base_offset=103))
        assert segment.truncate_to(104) == 103
        assert segment.truncate_to(101) == 100
        assert segment.size == 0

    def test_to_nothing(self, files, tmp_path):
        """An emptied segment is as good as new."""
        segment = create(files, tmp_path, segment_ms=1000)
        fill(segment, 3, time_ms=50)
        assert segment.truncate_to(100) == 100
        assert segment.max_timestamp.timestamp_ms == -1
        append(segment, batch(b"v", base_offset=100, time_ms=9000))
        assert not segment.should_roll(10, 10_000, 101, NOW_MS)

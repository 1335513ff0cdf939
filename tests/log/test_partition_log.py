from __future__ import annotations

import pytest
from tests.log.harness import START_MS, LogHarness, batch

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.partition_log import AppendResult
from barnabas.records.batch import iterate_headers


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

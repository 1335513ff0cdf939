import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.controller.store.batches import (
    Replay,
    decode_snapshot,
    encode_batch,
    encode_leader_change,
    encode_snapshot,
    scan_log,
)
from barnabas.errors import DecodeError
from barnabas.records.builder import build_batch
from barnabas.records.control import ControlType, control_key
from barnabas.wire.messages.metadata.abort_transaction_record import AbortTransactionRecord
from barnabas.wire.messages.metadata.begin_transaction_record import BeginTransactionRecord
from barnabas.wire.messages.metadata.end_transaction_record import EndTransactionRecord
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord


def feature(level):
    return FeatureLevelRecord(name="group.version", feature_level=level)


def batch(*levels, offset, epoch=1):
    return encode_batch(
        [feature(level) for level in levels], base_offset=offset, epoch=epoch, timestamp_ms=77
    )


def scan(content, expected_offset=0, from_offset=0):
    replay = Replay()
    return replay, scan_log(bytes(content), replay, expected_offset=expected_offset, from_offset=from_offset)


def test_a_log_is_read_as_it_was_written():
    """Records come back in order; the leader's own batch takes an offset and gives no record."""
    content = (
        encode_leader_change(leader_id=1, base_offset=0, epoch=3, timestamp_ms=1)
        + batch(1, 2, offset=1, epoch=3)
        + batch(3, offset=3, epoch=4)
    )
    replay, found = scan(content)
    assert replay.records == [feature(1), feature(2), feature(3)]
    assert found == (4, 4, 77, len(content), None)


def test_what_a_snapshot_covers_is_passed_over():
    """Replay begins at the offset asked for, even within a batch."""
    replay, found = scan(batch(1, offset=5) + batch(2, 3, offset=6), expected_offset=5, from_offset=7)
    assert replay.records == [feature(3)]
    assert found.next_offset == 8


@given(st.data())
def test_a_torn_end_is_found_wherever_it_is_torn(data):
    """Whatever is cut off: all whole batches before count, nothing after does."""
    batches = [batch(1, offset=0), batch(2, 3, offset=1), batch(4, offset=3)]
    content = b"".join(batches)
    size = data.draw(st.integers(0, len(content)))
    replay, found = scan(content[:size])
    ends = [len(b"".join(batches[: count + 1])) for count in range(3)]
    whole = sum(end <= size for end in ends)
    assert len(replay.records) == [0, 1, 3, 4][whole]
    assert found.size_bytes == ([0, *ends][whole])
    assert (found.complaint is None) == (found.size_bytes == size)


@given(st.data())
def test_a_flipped_bit_is_found(data):
    """A changed bit is never taken for a record: the log ends before its batch."""
    batches = [batch(1, offset=0), batch(2, 3, offset=1), batch(4, offset=3)]
    damaged_batch = data.draw(st.integers(0, 2))
    # The leader epoch (bytes 12 to 15) is outside of the checksum: it only tells who wrote the batch.
    position = data.draw(st.integers(0, len(batches[damaged_batch]) - 1).filter(lambda at: not 12 <= at < 16))
    batches[damaged_batch][position] ^= 1 << data.draw(st.integers(0, 7))
    replay, found = scan(b"".join(batches))
    assert replay.records == [[], [feature(1)], [feature(1), feature(2), feature(3)]][damaged_batch]
    assert found.complaint is not None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\0" * 10, "10 bytes are too few for a batch"),
        (b"\0" * 100, "there is no batch"),
        (bytes(batch(1, offset=1)), "the batch has offset 1 where 0 is due"),
        (bytes(batch(1, offset=0))[:-1], "the batch claims 88 bytes, 87 are there"),
        (bytes(batch(1, offset=0))[:-1] + b"x", "the batch fails its checksum"),
    ],
    ids=["short", "zeros", "offset", "length", "checksum"],
)
def test_a_complaint_says_what_is_wrong(content, complaint):
    """The message that an operator reads names the damage."""
    assert scan(content)[1].complaint == complaint


def test_a_whole_batch_of_something_else_is_an_error():
    """A batch that is whole but holds no metadata is not cut off as if it were torn."""
    for value in (None, b"", b"\x02\x0c\x00"):
        with pytest.raises(DecodeError):
            scan(build_batch([(0, 1, None, value, ())], base_offset=0, leader_epoch=1))


def test_transactions_of_kafka_count_when_they_end():
    """What is aborted or never ended is left out, over the ends of batches and segments."""
    begin, end, abort = BeginTransactionRecord(name="n"), EndTransactionRecord(), AbortTransactionRecord()
    replay = Replay()
    for record in (feature(1), begin, feature(2), end, begin, feature(3), abort, feature(4), abort):
        replay.add(record)
    assert replay.records == [feature(1), feature(2), feature(4)]
    assert not replay.in_transaction
    replay.add(begin)
    replay.add(feature(5))
    assert replay.in_transaction
    replay.abort()
    assert replay.records == [feature(1), feature(2), feature(4)]
    assert not replay.in_transaction


@pytest.mark.parametrize("count", [0, 1, 1000, 1001])
def test_a_snapshot_is_read_as_it_was_written(count):
    """However many batches it takes."""
    records = [feature(number % 100) for number in range(count)]
    content = b"".join(encode_snapshot(records, epoch=2, last_timestamp_ms=1, timestamp_ms=2))
    assert decode_snapshot(content) == records


def test_what_kafka_says_of_voters_is_kept():
    """Control records of a dynamic quorum go from log to snapshot, the last of each kind, with the bytes they had."""
    said = [
        (ControlType.KRAFT_VERSION, b"version"),
        (ControlType.KRAFT_VOTERS, b"old"),
        (ControlType.KRAFT_VOTERS, b"new"),
    ]
    content = build_batch(
        [(0, 1, control_key(kind), value, ()) for kind, value in said], base_offset=0, is_control=True
    )
    replay, found = scan(content + batch(1, offset=3))
    assert (found.next_offset, replay.records) == (4, [feature(1)])
    assert replay.voters == {ControlType.KRAFT_VERSION: b"version", ControlType.KRAFT_VOTERS: b"new"}
    snapshot = b"".join(
        encode_snapshot([feature(1)], epoch=2, last_timestamp_ms=1, timestamp_ms=2, voters=replay.voters)
    )
    voters = {}
    assert decode_snapshot(snapshot, voters) == [feature(1)]
    assert voters == replay.voters


@given(st.data())
def test_a_damaged_snapshot_is_refused(data):
    """Cut short or changed, a snapshot is not used in part."""
    content = b"".join(encode_snapshot([feature(1)], epoch=2, last_timestamp_ms=1, timestamp_ms=2))
    with pytest.raises(DecodeError):
        decode_snapshot(content[: data.draw(st.integers(0, len(content) - 1))])
    damaged = bytearray(content)
    damaged[data.draw(st.sampled_from(range(17, 61)))] ^= 0xFF
    with pytest.raises(DecodeError):
        decode_snapshot(bytes(damaged))

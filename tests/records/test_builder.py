from __future__ import annotations

import pytest

from barnabas.errors import EncodeError
from barnabas.records.batch import check_crc, parse_header
from barnabas.records.builder import BatchBuilder, build_batch, build_empty_batch, recompress
from barnabas.records.compression import Codec
from barnabas.records.record import Record, iterate_records, uncompressed_records


def test_size_is_known_before_building():
    """A caller can stop at a limit: uncompressed, the size so far is the size of the batch."""
    builder = BatchBuilder()
    for index in range(300):
        size = builder.append(index, b"key", b"v" * index, (("h", None),))
    assert size == builder.size_bytes == len(builder.build())
    assert builder.record_count == 300


def test_offsets_may_leave_gaps():
    """Compaction keeps offsets, the last one too when its record is gone."""
    builder = BatchBuilder(base_offset=100)
    builder.append(1, b"a", b"", offset=100)
    builder.append(1, b"b", b"", offset=107)
    builder.append(1, b"c", b"")
    batch = builder.build(last_offset=120)
    assert [record.offset for record in iterate_records(batch)] == [100, 107, 108]
    assert parse_header(batch).last_offset == 120
    assert parse_header(batch).record_count == 3


def test_delete_horizon_stands_in_the_base_timestamp():
    """The horizon takes the base timestamp's place, and the records keep their times (KIP-534)."""
    builder = BatchBuilder(delete_horizon_ms=5000)
    builder.append(1000, b"a", None)
    batch = builder.build()
    assert parse_header(batch).delete_horizon_ms == 5000
    assert parse_header(batch).max_timestamp == 1000
    assert [record.timestamp for record in iterate_records(batch)] == [1000]


@pytest.mark.parametrize("offset", [99, 100, 100 + 2**31])
def test_offsets_must_rise_within_range(offset):
    """An offset that does not follow, or is too far away, is our own mistake."""
    builder = BatchBuilder(base_offset=100)
    builder.append(0, None, None)
    with pytest.raises(EncodeError):
        builder.append(0, None, None, offset=offset)


def test_what_cannot_be_written_is_refused():
    """No records, a timestamp delta beyond 64 bits, a producer epoch beyond 16."""
    with pytest.raises(EncodeError):
        build_batch([])
    with pytest.raises(EncodeError):
        build_batch([(0, -(2**63), None, None, ()), (0, 2**62, None, None, ())])
    with pytest.raises(EncodeError):
        build_batch([(0, 0, None, None, ())], producer_epoch=2**15)


def test_empty_batches_keep_offsets_and_producer():
    """What compaction leaves of a producer's last batch says where it ended, and has no records."""
    batch = build_batch(
        [Record(0, 10, b"a", b"b")] * 3,
        base_offset=7,
        leader_epoch=2,
        compression=Codec.GZIP,
        producer_id=5,
        producer_epoch=1,
        base_sequence=11,
    )
    header = parse_header(build_empty_batch(parse_header(batch)))
    assert check_crc(build_empty_batch(header))
    assert list(iterate_records(build_empty_batch(header))) == []
    assert (header.size_bytes, header.record_count, header.compression) == (61, 0, 0)
    assert (header.base_offset, header.last_offset, header.last_sequence) == (7, 9, 13)
    assert (header.producer_id, header.producer_epoch, header.partition_leader_epoch) == (5, 1, 2)


@pytest.mark.parametrize("source", Codec)
@pytest.mark.parametrize("target", Codec)
def test_recompressing_changes_the_codec_only(source, target):
    """The records and the other fields of the header stay."""
    records = [Record(index, 10 + index, b"a", b"b" * 50) for index in range(20)]
    batch = build_batch(records, compression=source, producer_id=5, producer_epoch=1, base_sequence=0)
    header = parse_header(batch)
    changed = recompress(header, uncompressed_records(batch, 0, header), target)
    assert list(iterate_records(changed)) == records
    assert parse_header(changed).compression == target
    expected = header._replace(crc=0, batch_length=0, attributes=target)
    assert parse_header(changed)._replace(crc=0, batch_length=0) == expected

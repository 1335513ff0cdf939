import pytest

from barnabas.coordinators.shard_batches import NO_TRANSACTION, TransactionalWriter, build_batches
from barnabas.records.batch import parse_header
from barnabas.records.record import iterate_records

RECORDS = [(b"key %d" % number, b"v" * 100) for number in range(10)] + [(b"gone", None)]


def batches(records=RECORDS, limit_bytes=500, *, atomic=False, writer=NO_TRANSACTION):
    return list(
        build_batches(
            records, now_ms=77, limit_bytes=limit_bytes, compression=0, atomic=atomic, writer=writer
        )
    )


def test_all_records_are_in_batches_within_the_limit():
    """In order, each batch with the records that it holds."""
    made = batches()
    assert len(made) > 1
    assert all(len(batch) <= 500 for batch, _ in made)
    held = [[(record.key, record.value) for record in iterate_records(batch)] for batch, _ in made]
    assert held == [part for _, part in made]
    assert [pair for part in held for pair in part] == RECORDS


@pytest.mark.parametrize("options", [{"atomic": True}, {"limit_bytes": 1 << 20}], ids=str)
def test_what_belongs_together_is_one_batch(options):
    """Also where that is larger than it may be, which is for the partition to refuse."""
    ((batch, part),) = batches(**options)
    assert part == RECORDS
    assert {record.timestamp for record in iterate_records(batch)} == {77}


def test_a_record_that_is_too_large_is_alone():
    """Those beside it are not refused with it."""
    records = [(b"a", b"1"), (b"b", b"x" * 1000), (b"c", b"2")]
    assert [list(part) for _, part in batches(records)] == [[record] for record in records]


def test_a_transaction_shows_in_every_batch():
    """Its producer's id and epoch, so that readers leave the records out until it ends."""
    for batch, _ in batches(writer=TransactionalWriter(5, 2)):
        header = parse_header(batch)
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 2, 0)
        assert header.is_transactional

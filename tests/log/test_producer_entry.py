from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.producer_entry import (
    AppendedBatch,
    ProducerEntry,
    Verification,
    check_marker_epoch,
    check_sequence,
)

LAST = 2**31 - 1


def entry(epoch: int = 3, *batches: AppendedBatch) -> ProducerEntry:
    made = ProducerEntry(7, epoch=epoch)
    for batch in batches:
        made.add_batch(epoch, batch)
    return made


def test_five_batches_are_remembered_and_the_sixth_pushes_the_first_out():
    """A duplicate is known by its exact sequence numbers among the last five batches."""
    known = entry(3, *(AppendedBatch(last, 100 + last, 1, 0) for last in (1, 3, 5, 7, 9, 11)))
    assert known.find_duplicate(3, 0, 1) is None
    assert known.find_duplicate(3, 2, 3) == AppendedBatch(3, 103, 1, 0)
    assert known.find_duplicate(3, 10, 11).first_offset == 110
    assert known.find_duplicate(3, 10, 10) is None
    assert known.find_duplicate(4, 10, 11) is None


def test_a_new_epoch_forgets_the_batches():
    """Sequence numbers of an earlier epoch are no duplicates."""
    known = entry(3, AppendedBatch(4, 10, 4, 99))
    known.add_batch(4, AppendedBatch(0, 11, 0, 100))
    assert known.batches == [AppendedBatch(0, 11, 0, 100)]
    assert known.last_timestamp_ms == 100


def test_sequence_numbers_wrap():
    """After 2^31 - 1 comes 0, also within a batch."""
    known = entry(3, AppendedBatch(1, 500, 3, 0))
    assert known.batches[0].first_sequence == LAST - 1
    assert known.find_duplicate(3, LAST - 1, 1) is not None
    at_the_end = entry(3, AppendedBatch(LAST, 500, 0, 0))
    check_sequence(at_the_end, None, 7, 3, 0, "t-0")


@pytest.mark.parametrize(
    ("known", "epoch", "sequence"),
    [
        (None, 0, 41),
        (ProducerEntry(7), 0, 41),
        (entry(3, AppendedBatch(4, 10, 4, 0)), 3, 5),
        (entry(3, AppendedBatch(4, 10, 4, 0)), 4, 0),
        (entry(3), 3, 0),
    ],
)
def test_a_batch_in_sequence_is_taken(known, epoch, sequence):
    """The next number, any number of an unknown producer, and 0 in a new epoch are in sequence."""
    check_sequence(known, None, 7, epoch, sequence, "t-0")


@pytest.mark.parametrize(
    ("known", "epoch", "sequence"),
    [
        (entry(3, AppendedBatch(4, 10, 4, 0)), 3, 6),
        (entry(3, AppendedBatch(4, 10, 4, 0)), 3, 4),
        (entry(3, AppendedBatch(4, 10, 4, 0)), 4, 5),
        (entry(3), 3, 1),
    ],
)
def test_a_gap_is_refused(known, epoch, sequence):
    """A number that leaves a gap, or a new epoch that does not begin with 0, is out of order."""
    with pytest.raises(KafkaError) as refusal:
        check_sequence(known, None, 7, epoch, sequence, "t-0")
    assert refusal.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_batch_waits_for_the_lower_one_under_verification():
    """While a transaction is verified, no batch overtakes the lowest sequence number seen (KIP-890)."""
    verification = Verification(5, 3, supports_epoch_bump=False, started_ms=0)
    verification.see(2, 3)
    verification.see(1, 2)
    assert verification.lowest_sequence == 2
    check_sequence(None, verification, 7, 3, 2, "t-0")
    with pytest.raises(KafkaError):
        check_sequence(None, verification, 7, 3, 5, "t-0")
    verification.see(9, 4)
    assert (verification.epoch, verification.lowest_sequence) == (4, 9)


def test_a_bumping_producer_begins_with_zero():
    """A producer that bumps its epoch by itself and is not known here begins with sequence number 0."""
    verification = Verification(3, 0, supports_epoch_bump=True, started_ms=0)
    with pytest.raises(KafkaError):
        check_sequence(None, verification, 7, 0, 3, "t-0")
    check_sequence(None, Verification(0, 0, supports_epoch_bump=True, started_ms=0), 7, 0, 0, "t-0")


@given(st.integers(-1, 5), st.integers(0, 5), st.booleans())
def test_marker_epochs(known_epoch, epoch, in_transaction):
    """Up to version 1 a marker may repeat the epoch; from version 2 on only that of a finished transaction."""
    known = ProducerEntry(7, epoch=known_epoch, transaction_first_offset=9 if in_transaction else -1)

    def taken(version: int) -> bool:
        try:
            check_marker_epoch(known, epoch, version, "t-0")
        except KafkaError:
            return False
        return True

    assert taken(1) == (epoch >= known_epoch)
    assert taken(2) == (epoch > known_epoch or (epoch == known_epoch and not in_transaction))


def test_the_last_epoch_may_end_its_transaction():
    """Where no epoch is left to bump to, the marker comes with the last one."""
    known = ProducerEntry(7, epoch=32767, transaction_first_offset=9)
    check_marker_epoch(known, 32767, 2, "t-0")

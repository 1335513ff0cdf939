"""A producer repeats what it has in flight, and a clean restart lies between: nothing is there twice."""

from __future__ import annotations

import pytest

from barnabas.errors import ErrorCode, KafkaError
from tests.log.harness import LogHarness

IN_FLIGHT = 5


@pytest.fixture
def harness(tmp_path):
    return LogHarness(tmp_path / "orders-0", index_interval_bytes=100)


def append(harness, sequence, producer_id=7, epoch=0, count=1):
    return harness.append(
        *[b"value"] * count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
    )


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("rolls_before", [None, 0, 2, 5])
def test_all_in_flight_are_known(harness, is_clean, rolls_before):
    """The snapshot knows a producer's last batch only; the log knows the others, in whatever segments."""
    for sequence in range(20):
        append(harness, sequence, producer_id=8)
        if rolls_before is not None and sequence == 20 - rolls_before:
            harness.log.roll()
        append(harness, 3 * sequence, count=3)
    if rolls_before == 0:
        harness.log.roll()
    end = harness.log.log_end_offset
    if is_clean:
        harness.reopen()
    else:
        harness.crash()
    for sequence in range(20 - IN_FLIGHT, 20):
        again = append(harness, 3 * sequence, count=3)
        assert again.duplicate
        assert again.first_offset == 4 * sequence + 1
    assert harness.log.log_end_offset == end
    assert not append(harness, 60).duplicate


def test_what_is_older_is_a_gap(harness):
    """More than five are not remembered, as before the restart."""
    for sequence in range(20):
        append(harness, sequence)
    harness.reopen()
    with pytest.raises(KafkaError) as refused:
        append(harness, 20 - IN_FLIGHT - 1)
    assert refused.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_batches_of_an_earlier_epoch_are_none_of_this_one(harness):
    """Their sequence numbers may be the same."""
    for sequence in range(3):
        append(harness, sequence)
    for sequence in range(2):
        append(harness, sequence, epoch=1)
    harness.reopen()
    assert append(harness, 0, epoch=1).first_offset == 3
    assert append(harness, 1, epoch=1).first_offset == 4
    with pytest.raises(KafkaError) as refused:
        append(harness, 2, epoch=0)
    assert refused.value.code == ErrorCode.INVALID_PRODUCER_EPOCH


def test_numbers_that_begin_again(harness):
    """After 2^31 - 1 comes 0."""
    last = (1 << 31) - 1
    for sequence in (last - 1, last, 0, 1):
        append(harness, sequence)
    harness.reopen()
    assert [append(harness, sequence).first_offset for sequence in (last - 1, last, 0, 1)] == [0, 1, 2, 3]

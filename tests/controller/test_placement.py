import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.controller.placement import place
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.cluster import broker


def placed(brokers, partition_count, replication_factor, seed=0):
    return place(
        brokers,
        partition_count=partition_count,
        replication_factor=replication_factor,
        chance=random.Random(seed),
    )


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 20),
    st.integers(0, 2**32),
)
def test_any_placement_keeps_the_rules(kinds, replication_factor, partition_count, seed):
    """No broker twice in a partition, an active broker leads, fenced brokers only where there are no others in the rack."""
    brokers = [broker(number, rack, fenced=fenced) for number, (rack, fenced) in enumerate(kinds)]
    active = {each.id for each in brokers if not each.fenced}
    if not active or replication_factor > len(brokers):
        with pytest.raises(KafkaError) as refusal:
            placed(brokers, partition_count, replication_factor, seed)
        assert refusal.value.code is ErrorCode.INVALID_REPLICATION_FACTOR
        return
    partitions = placed(brokers, partition_count, replication_factor, seed)
    assert len(partitions) == partition_count
    racks = {each.id: each.rack for each in brokers}
    for replicas in partitions:
        assert len(set(replicas)) == len(replicas) == replication_factor
        assert replicas[0] in active
        spread = Counter(racks[replica] for replica in replicas)
        available = Counter(racks.values())
        # As many racks as there can be: a rack gets a second replica only when every other has one, or is used up.
        for rack, count in spread.items():
            assert all(spread[other] >= min(count - 1, available[other]) for other in available), (
                rack,
                spread,
            )


def test_leaders_and_replicas_are_spread_evenly():
    """Over as many partitions as brokers, each leads once, and each follows as often as the others."""
    partitions = placed([broker(number) for number in range(5)], 5, 3)
    assert Counter(replicas[0] for replicas in partitions) == dict.fromkeys(range(5), 1)
    assert Counter(replica for replicas in partitions for replica in replicas) == dict.fromkeys(range(5), 3)


def test_partitions_do_not_always_share_the_same_brokers():
    """After all brokers have led, they are shuffled."""
    sets = {frozenset(replicas) for replicas in placed([broker(number) for number in range(6)], 60, 3)}
    assert len(sets) > 6


def test_single_node():
    """One broker holds everything."""
    assert placed([broker(7)], 3, 1) == [(7,), (7,), (7,)]


@pytest.mark.parametrize(
    ("brokers", "factor", "message"),
    [
        ([broker(1)], 0, "Invalid replication factor 0: the replication factor must be positive."),
        ([broker(1, fenced=True)], 1, "All brokers are currently fenced."),
        (
            [broker(1)],
            2,
            "The target replication factor of 2 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
    ],
)
def test_refusals_say_why(brokers, factor, message):
    """In Kafka's words."""
    with pytest.raises(KafkaError) as refusal:
        placed(brokers, 1, factor)
    assert (refusal.value.code, refusal.value.message) == (ErrorCode.INVALID_REPLICATION_FACTOR, message)

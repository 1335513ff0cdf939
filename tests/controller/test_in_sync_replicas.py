"""Proposals of leaders, and what makes them void (`validateAlterPartitionData` of Apache Kafka)."""

import pytest

from barnabas.controller.in_sync_replicas import ANY_EPOCH, Proposal, alter_in_sync_replicas
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.cluster import after, broker, image_of, rules, topic

TOPIC = b"t".ljust(16, b"\0")


def image(*brokers, **state):
    brokers = brokers or (broker(1), broker(2), broker(3))
    return image_of(
        *brokers,
        topics=[
            topic(
                "t",
                **{"replicas": (1, 2, 3), "isr": (1, 2), "leader_epoch": 4, "partition_epoch": 9, **state},
            )
        ],
    )


def propose(before, isr=(1, 2, 3), *, by=1, epochs=None, **changes):
    """The partition after a proposal, and its error's name."""
    proposal = Proposal(
        **{
            "topic_id": TOPIC,
            "partition_index": 0,
            "leader_epoch": 4,
            "partition_epoch": 9,
            "isr": [(replica, (epochs or {}).get(replica, 10 + replica)) for replica in isr],
            **changes,
        }
    )
    records, (outcome,) = alter_in_sync_replicas(before, rules(before), by, 10 + by, [proposal])
    now = after(before, records).partition("t", 0)
    if outcome.partition is not None:
        assert outcome.partition == now
    return now, outcome.error.name


@pytest.mark.parametrize("isr", [(1, 2, 3), (1,), (3, 1)])
def test_a_proposal_that_holds_is_the_new_state(isr):
    """The leader epoch stays, the partition epoch goes up."""
    now, error = propose(image(), isr)
    assert (now.isr, now.leader, now.leader_epoch, now.partition_epoch, error) == (isr, 1, 4, 10, "NONE")


def test_what_is_so_already_is_no_change():
    """The answer is the state that there is."""
    now, error = propose(image(), (1, 2))
    assert (now.partition_epoch, error) == (9, "NONE")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"topic_id": b"x" * 16}, "UNKNOWN_TOPIC_ID"),
        ({"partition_index": 1}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"leader_epoch": 5}, "NOT_CONTROLLER"),
        ({"partition_epoch": 10}, "NOT_CONTROLLER"),
        ({"leader_epoch": 3}, "FENCED_LEADER_EPOCH"),
        ({"by": 2}, "INVALID_REQUEST"),
        ({"partition_epoch": 8}, "INVALID_UPDATE_VERSION"),
        ({"isr": (1, 4)}, "INVALID_REQUEST"),
        ({"isr": (1, 1)}, "INVALID_REQUEST"),
        ({"isr": (2, 3)}, "INVALID_REQUEST"),
        ({"isr": ()}, "INVALID_REQUEST"),
        ({"is_recovering": True}, "INVALID_REQUEST"),
        ({"epochs": {3: 12}}, "INELIGIBLE_REPLICA"),
    ],
)
def test_a_proposal_of_yesterday_is_void(more, error):
    """Nothing changes."""
    now, told = propose(image(), **more)
    assert (now.isr, now.partition_epoch, told) == ((1, 2), 9, error)


@pytest.mark.parametrize(
    "third",
    [broker(3, fenced=True), broker(3, in_controlled_shutdown=True), None],
    ids=["fenced", "stops", "gone"],
)
def test_who_cannot_serve_is_not_taken_in(third):
    """Whatever its epoch."""
    brokers = (broker(1), broker(2)) if third is None else (broker(1), broker(2), third)
    now, error = propose(image(*brokers), epochs={3: ANY_EPOCH})
    assert (now.isr, error) == ((1, 2), "INELIGIBLE_REPLICA")


def test_any_epoch_is_the_one_that_it_has():
    """As versions of the request that know of no epochs say it."""
    assert propose(image(), epochs={3: ANY_EPOCH})[1] == "NONE"


def test_the_end_of_a_move_may_take_the_leader_away():
    """It hears that there is another one; the move is over."""
    before = image(leader=1, replicas=(3, 2, 1), adding_replicas=(3,), removing_replicas=(1,))
    now, error = propose(before)
    assert (now.replicas, now.isr, now.leader, error) == ((3, 2), (2, 3), 3, "NEW_LEADER_ELECTED")


def test_a_leader_that_repairs_stays_alone():
    """Until it says that it is done."""
    before = image(isr=(1,), recovering=True)
    assert propose(before, (1, 2), is_recovering=True)[1] == "INVALID_REQUEST"
    assert propose(before, (1,), is_recovering=True)[0].recovering
    now, _ = propose(before, (1,))
    assert (now.recovering, now.partition_epoch) == (False, 10)


def test_a_broker_of_an_earlier_run_is_refused_as_a_whole():
    """It has registered anew since it asked."""
    before = image()
    with pytest.raises(KafkaError) as refused:
        alter_in_sync_replicas(before, rules(before), 1, 10, [])
    assert refused.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_two_proposals_for_one_partition_follow_one_another():
    """The second one is of yesterday."""
    before = image()
    proposals = [Proposal(TOPIC, 0, 4, 9, [(1, 11)]), Proposal(TOPIC, 0, 4, 9, [(1, 11), (3, 13)])]
    records, outcomes = alter_in_sync_replicas(before, rules(before), 1, 11, proposals)
    assert [outcome.error.name for outcome in outcomes] == ["NONE", "INVALID_UPDATE_VERSION"]
    assert after(before, records).partition("t", 0).isr == (1,)

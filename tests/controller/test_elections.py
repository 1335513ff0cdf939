"""Elections and moves of replicas in clusters of several brokers."""

import pytest

from barnabas.controller.elections import elect_leaders
from barnabas.controller.liveness import unregister_broker
from barnabas.controller.reassignments import Reassignment, alter_partition_reassignments
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.cluster import after, broker, image_of, rules, topic

PREFERRED, UNCLEAN = 0, 1


def elect(image, kind, wanted=(("t", (0,)),)):
    """The image after an election, and its error codes."""
    records, results = elect_leaders(image, rules(image), kind, wanted)
    errors = [election.error and election.error.code.name for _, each in results for election in each]
    return after(image, records).partition("t", 0), errors


def image(*brokers, **partition):
    return image_of(*brokers, topics=[topic("t", **partition)])


def test_the_preferred_leader_comes_back():
    """In a new epoch; nothing else changes."""
    before = image(broker(1), broker(2), replicas=(1, 2), leader=2, leader_epoch=4)
    partition, errors = elect(before, PREFERRED)
    assert (partition.leader, partition.leader_epoch, partition.isr, errors) == (1, 5, (1, 2), [None])
    assert (
        elect_leaders(before, rules(before), PREFERRED, None)[1]
        == elect_leaders(before, rules(before), PREFERRED, [("t", [0])])[1]
    )


@pytest.mark.parametrize(
    "before",
    [
        image(broker(1, fenced=True), broker(2), replicas=(1, 2), leader=2),
        image(broker(1), broker(2), replicas=(1, 2), leader=2, isr=(2,)),
    ],
    ids=["fenced", "not in sync"],
)
def test_a_preferred_leader_that_is_not_ready_stays_away(before):
    """It would lose records, or serve nobody."""
    partition, errors = elect(before, PREFERRED)
    assert (partition.leader, errors) == (2, ["PREFERRED_LEADER_NOT_AVAILABLE"])


def test_an_unclean_election_takes_whoever_lives():
    """The in-sync ones first, then the others, who are in sync with themselves from then on."""
    partition, errors = elect(image(broker(1), broker(2), replicas=(2, 1), leader=-1, isr=(1,)), UNCLEAN)
    assert (partition.leader, partition.isr, errors) == (1, (1,), [None])
    partition, errors = elect(
        image(broker(1, fenced=True), broker(2), replicas=(1, 2), leader=-1, isr=(1,)), UNCLEAN
    )
    assert (partition.leader, partition.isr, errors) == (2, (2,), [None])
    _, errors = elect(image(broker(1, fenced=True), leader=-1), UNCLEAN)
    assert errors == ["ELIGIBLE_LEADERS_NOT_AVAILABLE"]
    _, errors = elect(image(broker(1)), UNCLEAN, [("t", (0, 1)), ("u", (0,))])
    assert errors == ["ELECTION_NOT_NEEDED", "UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_OR_PARTITION"]


def test_a_partition_is_elected_once():
    """Naming it twice moves its epoch once."""
    before = image(broker(1), broker(2), replicas=(1, 2), leader=2, leader_epoch=4)
    partition, errors = elect(before, PREFERRED, [("t", (0, 0))])
    assert (partition.leader_epoch, errors) == (5, [None, "ELECTION_NOT_NEEDED"])


def reassign(before, replicas, *, allowed=True, unclean=False):
    """The partition after a move, and what is wrong with it."""
    records, (error,) = alter_partition_reassignments(
        before,
        rules(before, unclean_leader_election_enable=unclean),
        [Reassignment("t", 0, replicas)],
        allow_replication_factor_change=allowed,
    )
    return after(before, records).partition("t", 0), error and error.code.name


THREE = (broker(1), broker(2), broker(3))


def test_replicas_are_taken_away_and_reordered_at_once():
    """What stays is in sync already; a leader that goes is replaced."""
    before = image(*THREE, replicas=(1, 2), leader_epoch=3)
    partition, error = reassign(before, [2])
    assert (partition.replicas, partition.isr, partition.leader, error) == ((2,), (2,), 2, None)
    assert (partition.leader_epoch, len(partition.directories)) == (4, 1)
    partition, error = reassign(before, [2, 1])
    assert (partition.replicas, partition.leader, partition.leader_epoch, error) == ((2, 1), 1, 3, None)


def test_new_replicas_come_before_old_ones_go():
    """Until they are in sync both are there; a move can be called off then."""
    before = image(*THREE, replicas=(1, 2))
    partition, error = reassign(before, [1, 3])
    assert (partition.replicas, partition.adding_replicas, partition.removing_replicas, error) == (
        (1, 3, 2),
        (3,),
        (2,),
        None,
    )
    assert (partition.isr, partition.leader) == ((1, 2), 1)
    moving = image(*THREE, replicas=(1, 3, 2), isr=(1, 2), adding_replicas=(3,), removing_replicas=(2,))
    partition, error = reassign(moving, None)
    assert (partition.replicas, partition.adding_replicas, partition.removing_replicas, error) == (
        (1, 2),
        (),
        (),
        None,
    )


def test_a_move_is_only_called_off_cleanly():
    """Where only new replicas are in sync, going back loses records and has to be allowed."""
    moving = image(*THREE, replicas=(3, 1), leader=3, isr=(3,), adding_replicas=(3,))
    assert reassign(moving, None)[1] == "INVALID_REPLICA_ASSIGNMENT"
    partition, error = reassign(moving, None, unclean=True)
    assert (partition.replicas, partition.isr, partition.leader, error) == ((1,), (1,), 1, None)
    assert reassign(image(*THREE), None)[1] == "NO_REASSIGNMENT_IN_PROGRESS"


def test_the_number_of_replicas_changes_only_where_it_may():
    """KIP-860; a move that is under way counts with what it had before."""
    before = image(*THREE, replicas=(1, 2))
    assert reassign(before, [1, 3, 2], allowed=False)[1] == "INVALID_REPLICATION_FACTOR"
    assert reassign(before, [1, 3], allowed=False)[1] is None
    moving = image(*THREE, replicas=(1, 3, 2), isr=(1, 2), adding_replicas=(3,), removing_replicas=(2,))
    assert reassign(moving, [1, 2], allowed=False)[1] is None


def test_a_broker_that_is_gone_is_forgotten():
    """Its partitions go to others, and stay its own where nobody else has the records."""
    before = image_of(
        broker(1),
        broker(2, fenced=True),
        topics=[topic("t", replicas=(2, 1), leader=2), topic("alone", replicas=(2,), leader=-1)],
    )
    now = after(before, unregister_broker(before, rules(before), 2))
    assert set(now.brokers) == {1}
    partition, alone = now.partition("t", 0), now.partition("alone", 0)
    assert (partition.leader, partition.isr) == (1, (1,))
    assert (alone.leader, alone.isr) == (-1, (2,))
    with pytest.raises(KafkaError) as refused:
        unregister_broker(before, rules(before), 1)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    with pytest.raises(KafkaError) as refused:
        unregister_broker(before, rules(before), 3)
    assert refused.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED

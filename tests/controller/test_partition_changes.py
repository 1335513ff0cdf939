"""What becomes of a partition: any state, any change, and a cluster that lives through crashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.controller.partition_changes import Change, Election, change_partition
from barnabas.metadata.deltas import changed_partition
from barnabas.metadata.image import NO_LEADER, Partition

BROKERS = (1, 2, 3, 4, 5)
TOPIC = b"t" * 16


def change(partition, wanted, alive=BROKERS, *, min_insync_replicas=1, has_elr=False):
    """The partition after a change, and the record (None where there is none)."""
    record = change_partition(
        TOPIC,
        partition,
        wanted,
        may_lead=lambda broker_id: broker_id in alive,
        min_insync_replicas=min_insync_replicas,
        has_elr=has_elr,
    )
    return (partition if record is None else changed_partition(partition, record)), record


def partition(replicas=(1, 2, 3), isr=None, leader=None, **more):
    isr = replicas if isr is None else isr
    return Partition(
        0,
        (isr[0] if isr else NO_LEADER) if leader is None else leader,
        5,
        replicas,
        isr,
        7,
        (b"d" * 16,) * len(replicas),
        **more,
    )


@st.composite
def partitions(draw):
    """States that the controller itself can bring about."""
    replicas = tuple(draw(st.permutations(BROKERS))[: draw(st.integers(1, 5))])
    isr = tuple(draw(st.lists(st.sampled_from(replicas), unique=True)))
    others = [replica for replica in replicas if replica not in isr]
    elr = tuple(draw(st.lists(st.sampled_from(others), unique=True))) if others else ()
    adding = removing = ()
    if len(replicas) > 1 and draw(st.booleans()):
        cut = draw(st.integers(0, len(replicas) - 1))
        adding = tuple(draw(st.lists(st.sampled_from(replicas[:cut] or replicas[:1]), unique=True)))
        removing = tuple(replicas[cut:]) if cut else ()
        adding = tuple(replica for replica in adding if replica not in removing)
    return partition(
        replicas,
        isr,
        draw(st.sampled_from((*isr, NO_LEADER))),
        elr=elr,
        last_known_elr=() if isr or elr else tuple(draw(st.lists(st.sampled_from(replicas), max_size=1))),
        adding_replicas=adding,
        removing_replicas=removing,
    )


@given(
    partitions(),
    st.sets(st.sampled_from(BROKERS)),
    st.sampled_from(Election),
    st.integers(1, 3),
    st.booleans(),
    st.data(),
)
def test_any_change_keeps_the_rules(before, alive, election, min_insync_replicas, has_elr, data):
    """The leader is in sync and alive, nobody is in two lists, and nobody leads cleanly who may lack records."""
    isr = data.draw(st.lists(st.sampled_from(before.replicas), unique=True), label="isr")
    without = frozenset(data.draw(st.sets(st.sampled_from(before.replicas), max_size=1), label="without"))
    after, record = change(
        before,
        Change(isr=[each for each in isr if each not in without], without=without, election=election),
        alive,
        min_insync_replicas=min_insync_replicas,
        has_elr=has_elr,
    )
    assert set(after.isr) <= set(after.replicas)
    assert len(set(after.isr)) == len(after.isr)
    assert not set(after.isr) & set(after.elr)
    assert set(after.elr) <= set(after.replicas)
    assert len(after.directories) == len(after.replicas)
    assert set(after.adding_replicas) | set(after.removing_replicas) <= set(after.replicas)
    if record is None:
        return
    assert after.partition_epoch == before.partition_epoch + 1
    assert after.leader_epoch - before.leader_epoch == (record.leader != -2)
    if after.leader != NO_LEADER:
        assert after.leader in after.isr
        assert after.leader in alive
    if after.leader != before.leader:
        assert after.leader_epoch > before.leader_epoch
        if after.leader not in {NO_LEADER, *isr, *before.isr, *before.elr}:
            assert election is Election.UNCLEAN or (after.leader,) == before.last_known_elr
            assert after.recovering
            assert after.isr == (after.leader,)
    if not has_elr:
        assert after.isr or not before.isr
        assert not after.elr
    else:
        assert not set(after.elr) & without or after.elr == before.elr
        assert len(after.isr) < min_insync_replicas or not after.elr
    # What follows from a state has followed: asking again changes nothing.
    assert change(after, Change(), alive, min_insync_replicas=min_insync_replicas, has_elr=has_elr)[
        1
    ] is None or (after.leader == NO_LEADER)


@pytest.mark.parametrize(
    ("isr", "min_insync_replicas", "elr"),
    [((1, 2), 2, ()), ((1,), 2, (2, 3)), ((), 2, (2, 3)), ((1,), 1, ())],
)
def test_who_left_while_too_few_were_in_sync_stays_eligible(isr, min_insync_replicas, elr):
    """Nothing can be committed without them (KIP-966), so they lack nothing."""
    before = partition()
    after, _ = change(
        before,
        Change(isr=isr, without=frozenset({1} - set(isr))),
        (),
        min_insync_replicas=min_insync_replicas,
        has_elr=True,
    )
    assert (after.isr, after.elr) == (isr, elr)


def test_an_eligible_replica_leads_when_nobody_is_in_sync():
    """Cleanly: it is in sync with itself from then on, and the others stay eligible."""
    before = partition(isr=(), leader=NO_LEADER, elr=(2, 3))
    after, _ = change(before, Change(), {3}, min_insync_replicas=2, has_elr=True)
    assert (after.leader, after.isr, after.elr, after.recovering) == (3, (3,), (2,), False)


@pytest.mark.parametrize("election", [Election.ONLINE, Election.UNCLEAN])
def test_an_election_may_be_the_end_of_a_move(election):
    """Whoever is elected is in sync, which may be all that was missing."""
    before = partition(replicas=(1, 2), isr=(), leader=NO_LEADER, removing_replicas=(2,), elr=(1,))
    if election is Election.UNCLEAN:
        before = partition(replicas=(1, 2), isr=(2,), leader=NO_LEADER, removing_replicas=(2,))
    after, _ = change(before, Change(election=election), {1}, min_insync_replicas=1, has_elr=True)
    assert (after.leader, after.isr, after.replicas, after.removing_replicas) == (1, (1,), (1,), ())


def test_the_last_leader_is_waited_for():
    """When nobody is eligible any more, only the last leader comes back by itself, and has to repair."""
    before = partition(isr=(1,))
    gone, _ = change(before, Change(isr=(), without=frozenset({1})), (), min_insync_replicas=2, has_elr=True)
    assert (gone.leader, gone.isr, gone.elr, gone.last_known_elr) == (NO_LEADER, (), (), (1,))
    other, record = change(gone, Change(), {2, 3}, min_insync_replicas=2, has_elr=True)
    assert record is None
    assert other.leader == NO_LEADER
    back, _ = change(gone, Change(), {1, 2, 3}, min_insync_replicas=2, has_elr=True)
    assert (back.leader, back.isr, back.recovering, back.last_known_elr) == (1, (1,), True, ())


def test_the_last_one_in_sync_stays_on_the_list():
    """Without eligible replicas, an empty list would say that nobody has the records."""
    after, _ = change(partition(isr=(2,)), Change(isr=()), ())
    assert (after.leader, after.isr) == (NO_LEADER, (2,))


def test_a_move_is_complete_when_the_new_replicas_are_in_sync():
    """Then the old ones go, and a leader among them is replaced."""
    moving = partition((3, 4, 1), isr=(1, 3), leader=1, adding_replicas=(4,), removing_replicas=(1,))
    unchanged, record = change(moving, Change())
    assert record is None
    assert unchanged is moving
    after, _ = change(moving, Change(isr=(1, 3, 4)))
    assert (after.replicas, after.isr, after.leader) == ((3, 4), (3, 4), 3)
    assert (after.adding_replicas, after.removing_replicas) == ((), ())
    assert after.leader_epoch == moving.leader_epoch + 1


def test_an_unclean_election_takes_who_lives_and_says_so():
    """Only where it is allowed."""
    before = partition(isr=(1,), leader=NO_LEADER)
    assert change(before, Change(), {2, 3})[1] is None
    after, _ = change(before, Change(election=Election.UNCLEAN), {2, 3})
    assert (after.leader, after.isr, after.recovering) == (2, (2,), True)
    repaired, _ = change(after, Change(isr=(2,), is_recovered=True), {2, 3})
    assert not repaired.recovering

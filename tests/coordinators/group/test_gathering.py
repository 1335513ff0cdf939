"""Members that have been given an id and are on their way: a generation without them is not begun, or not sent home, for a moment."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, stable_group


@pytest.fixture
def a(coordinator):
    return Client(coordinator, "a")


@pytest.fixture
def b(coordinator):
    """Has an id, and may come back with it."""
    client = Client(coordinator, "b")
    client.member_id = client.send_join().response.member_id
    return client


def test_members_that_start_together_share_the_first_generation(coordinator, a, b):
    """Without a delay of the first rebalance (0), and without waiting for anybody's heartbeat."""
    a.join()
    assert a.joined is None
    b.waiter = b.send_join()
    assert {client.joined.generation_id for client in (a, b)} == {1}
    assert {member.member_id for member in a.joined.members} == {a.member_id, b.member_id}


def test_who_does_not_come_back_is_not_waited_for_long(coordinator, a, b):
    """Half a second, from when its id was given."""
    coordinator.advance(100)
    a.join()
    coordinator.advance(399)
    assert a.joined is None
    coordinator.advance(1)
    assert [member.member_id for member in a.joined.members] == [a.member_id]


def test_a_client_that_only_takes_ids_can_not_hold_up_a_group(coordinator, a, b):
    """Three seconds at most, which is what Kafka's delay is."""
    a.join()
    for _ in range(8):
        coordinator.advance(365)
        b.send_join(member_id="")
    assert a.joined is None
    coordinator.advance(100)
    assert a.joined.generation_id == 1


def test_who_took_an_id_long_ago_is_not_waited_for(coordinator, a, b):
    """It is most likely gone."""
    coordinator.advance(500)
    a.join()
    assert a.joined.generation_id == 1


def test_the_wait_ends_when_the_one_that_is_waited_for_leaves(coordinator, a, b):
    """A pending member may leave, too."""
    a.join()
    assert b.leave() is ErrorCode.NONE
    assert a.joined.generation_id == 1


def test_the_wait_ends_when_the_one_that_waits_leaves(coordinator, a, b):
    """The group is empty again, and the next one to come is the first."""
    a.join()
    a.leave()
    b.waiter = b.send_join()
    coordinator.advance(500)
    assert [member.member_id for member in b.joined.members] == [b.member_id]
    assert b.sync([(b, b"all")]).response.assignment == b"all"


def test_members_learn_at_once_of_one_who_comes_while_the_leader_assigns(coordinator, a):
    """They rejoin now, and not after their next heartbeats."""
    c = Client(coordinator, "c")
    c.member_id = c.send_join().response.member_id
    a.join()
    c.waiter = c.send_join()
    b = Client(coordinator, "b")
    b.member_id = b.send_join().response.member_id
    follower = c.sync()
    leader = a.sync([(a, b"for a"), (c, b"for c")])
    assert leader.response is follower.response is None
    b.waiter = b.send_join()
    assert leader.error is follower.error is ErrorCode.REBALANCE_IN_PROGRESS
    a.join()
    c.join()
    assert {client.joined.generation_id for client in (a, b, c)} == {2}


def test_the_assignment_is_handed_out_if_nobody_comes(coordinator, a):
    """After half a second."""
    a.join()
    b = Client(coordinator, "b")
    b.send_join()
    leader = a.sync([(a, b"all")])
    coordinator.advance(499)
    assert leader.response is None
    coordinator.advance(1)
    assert leader.response.assignment == b"all"
    assert coordinator.state() == "Stable"
    coordinator.advance(5_000)
    assert a.heartbeat() is ErrorCode.NONE


def test_a_stable_group_does_not_wait_with_what_it_has(coordinator, a):
    """Who asks again for an assignment that is there gets it."""
    stable_group(coordinator, a)
    Client(coordinator, "b").send_join()
    assert a.sync().error is ErrorCode.NONE

"""The assignment: handed in by the leader, handed out once it is committed."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, Coordinator, stable_group


@pytest.fixture
def joined(coordinator):
    """Two members with a generation, and no assignment yet."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    a.join()
    b.join()
    a.join()
    return a, b


def test_everyone_gets_their_part_when_it_is_committed(coordinator, joined):
    """Neither the leader nor a follower sees an assignment that a failure could take back."""
    a, b = joined
    coordinator.hold_commits = True
    follower = b.sync()
    leader = a.sync([(a, b"for a"), (b, b"for b")])
    assert (leader.response, follower.response) == (None, None)
    assert coordinator.state() == "CompletingRebalance"

    coordinator.commit()
    assert (leader.response.assignment, follower.response.assignment) == (b"for a", b"for b")
    assert (leader.response.protocol_type, leader.response.protocol_name) == ("consumer", "range")
    assert coordinator.state() == "Stable"


def test_who_syncs_late_gets_the_assignment_at_once(coordinator, joined):
    """A stable group answers from memory."""
    a, b = joined
    a.sync([(a, b"for a"), (b, b"for b")])
    assert b.sync().response.assignment == b"for b"


def test_members_without_a_part_get_an_empty_one(coordinator, joined):
    """The leader may leave somebody out."""
    a, b = joined
    a.sync([(a, b"all")])
    assert b.sync().response.assignment == b""


def test_parts_for_strangers_are_ignored(coordinator, joined):
    """Only members are written down."""
    a, b = joined
    stranger = Client(coordinator, "s")
    stranger.member_id = "stranger"
    a.sync([(a, b"for a"), (b, b"for b"), (stranger, b"for s")])
    assert set(coordinator.replayed().group().members) == {a.member_id, b.member_id}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"generation_id": 1}, ErrorCode.ILLEGAL_GENERATION),
        ({"generation_id": 3}, ErrorCode.ILLEGAL_GENERATION),
        ({"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_name": "sticky"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"group_instance_id": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"group_id": "another"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_a_sync_must_fit_the_generation(coordinator, joined, fields, error):
    """Wrong member, generation or protocol (KIP-559)."""
    assert joined[1].sync(**fields).error is error


def test_old_clients_need_not_name_the_protocol(coordinator, joined):
    """Before version 5 type and name are null."""
    a, _ = joined
    assert a.sync([(a, b"x")], protocol_type=None, protocol_name=None).error is ErrorCode.NONE


def test_a_sync_during_a_rebalance_is_sent_back(coordinator, joined):
    """The generation is over before it began."""
    a, b = joined
    c = Client(coordinator, "c")
    c.join()
    assert a.sync().error is ErrorCode.REBALANCE_IN_PROGRESS
    assert b.sync().error is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_joins_while_the_assignment_is_written_wins(coordinator, joined):
    """The write of a generation that is over changes nothing when it is committed."""
    a, b = joined
    coordinator.hold_commits = True
    waiting = a.sync([(a, b"for a"), (b, b"for b")])
    c = Client(coordinator, "c")
    c.join()
    assert waiting.error is ErrorCode.REBALANCE_IN_PROGRESS
    coordinator.commit()
    assert coordinator.state() == "PreparingRebalance"
    a.join()
    b.join()
    assert {client.joined.generation_id for client in (a, b, c)} == {3}


@pytest.mark.parametrize("when", ["append", "commit"])
def test_an_assignment_that_is_not_written_is_not_handed_out(coordinator, joined, when):
    """Everyone gets the error and rejoins."""
    a, b = joined
    coordinator.hold_commits = True
    follower = b.sync()
    if when == "append":
        coordinator.fail_appends_with = ErrorCode.COORDINATOR_NOT_AVAILABLE
    leader = a.sync([(a, b"for a"), (b, b"for b")])
    coordinator.lose()
    assert leader.error is follower.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert leader.response.assignment == b""
    assert coordinator.state() == "PreparingRebalance"
    coordinator.fail_appends_with = None
    coordinator.hold_commits = False
    a.join()
    b.join()
    assert a.sync([(a, b"again")]).response.assignment == b"again"


def test_a_leader_may_repeat_itself(coordinator, joined):
    """The answer goes to the last request, and the earlier one does not hang."""
    a, _ = joined
    coordinator.hold_commits = True
    first = a.sync([(a, b"one")])
    second = a.sync([(a, b"two")])
    assert first.error is ErrorCode.REBALANCE_IN_PROGRESS
    coordinator.commit()
    assert second.error is ErrorCode.NONE
    assert coordinator.state() == "Stable"


def test_who_never_syncs_is_removed(coordinator):
    """A member that takes the generation and does not ask for its assignment is gone after the rebalance timeout."""
    a, b = (
        Client(coordinator, name, session_timeout_ms=600_000, rebalance_timeout_ms=30_000) for name in "ab"
    )
    a.join()
    b.join()
    a.join()
    waiting = a.sync([(a, b"x"), (b, b"y")])
    assert waiting.error is ErrorCode.NONE
    coordinator.advance(30_000)
    assert coordinator.state() == "PreparingRebalance"
    assert b.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_leader_that_never_syncs_is_removed(coordinator):
    """Followers that wait for the assignment are sent back to join, under another leader."""
    a, b = (
        Client(coordinator, name, session_timeout_ms=600_000, rebalance_timeout_ms=30_000) for name in "ab"
    )
    a.join()
    b.join()
    a.join()
    waiting = b.sync()
    coordinator.advance(30_000)
    assert waiting.error is ErrorCode.REBALANCE_IN_PROGRESS
    b.join()
    assert b.joined.leader == b.member_id


def test_the_assignment_survives_a_restart(coordinator):
    """Replay of the record gives the group as it was, ready for heartbeats and commits."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b", instance="i-b")
    stable_group(coordinator, a, b)
    restarted = coordinator.replayed()
    a.coordinator = b.coordinator = restarted
    assert restarted.state() == "Stable"
    assert a.heartbeat() is b.heartbeat() is ErrorCode.NONE
    assert b.sync().response.assignment == b"b"
    assert a.commit(5) is ErrorCode.NONE


def test_members_have_a_whole_session_after_a_restart():
    """A coordinator that was away does not take its absence for theirs."""
    coordinator = Coordinator()
    a = Client(coordinator, "a", session_timeout_ms=10_000)
    stable_group(coordinator, a)
    coordinator.ms = 50_000
    restarted = coordinator.replayed()
    restarted.advance(9_999)
    assert restarted.state() == "Stable"
    restarted.advance(1)
    assert restarted.state() == "Empty"

"""Who may join, under which id, and what that does to the group."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, Coordinator, stable_group


def test_a_first_member_gets_an_id_and_then_leads_at_once(coordinator):
    """From version 4 on an unknown member is given an id to come back with; nobody else is waited for (KIP-394)."""
    client = Client(coordinator, "c")

    first = client.send_join()
    assert first.error is ErrorCode.MEMBER_ID_REQUIRED
    assert first.response.member_id == "c-1"
    assert coordinator.state() == "Empty"

    joined = client.send_join(member_id=first.response.member_id).response
    assert joined.error_code == ErrorCode.NONE
    assert (joined.generation_id, joined.leader, joined.member_id) == (1, "c-1", "c-1")
    assert (joined.protocol_type, joined.protocol_name) == ("consumer", "range")
    assert [(m.member_id, m.metadata) for m in joined.members] == [("c-1", b"range of c")]
    assert coordinator.state() == "CompletingRebalance"


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_old_clients_join_with_their_first_request(coordinator, version):
    """Before version 4 there is no second request."""
    client = Client(coordinator, version=version)
    assert client.send_join().error is ErrorCode.NONE


def test_only_the_leader_is_told_who_the_members_are(coordinator):
    """Followers get an empty list."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    a.join()
    b.join()
    a.join()
    assert len(a.joined.members) == 2
    assert b.joined.members == []
    assert b.joined.leader == a.member_id


def test_a_second_member_makes_the_first_rejoin(coordinator):
    """The newcomer waits until everyone has rejoined; heartbeats tell the others to."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a)

    b.join()
    assert b.joined is None
    assert coordinator.state() == "PreparingRebalance"
    assert a.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS

    a.join()
    assert (a.joined.generation_id, b.joined.generation_id) == (2, 2)
    assert coordinator.state() == "CompletingRebalance"


def test_an_unknown_group_knows_no_members(coordinator):
    """A member id for a group that does not exist is unknown, and no group comes of it."""
    assert Client(coordinator).send_join(member_id="ghost").error is ErrorCode.UNKNOWN_MEMBER_ID
    assert coordinator.group() is None


def test_a_member_id_that_was_never_given_is_unknown(coordinator):
    """Ids come from the coordinator."""
    stable_group(coordinator, Client(coordinator))
    assert Client(coordinator).send_join(member_id="ghost").error is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize(
    ("protocol_type", "protocols"),
    [("consumer", ()), ("", (("range", b""),)), ("", ())],
)
def test_the_first_member_must_support_something(coordinator, protocol_type, protocols):
    """No protocol type, or no protocol, is INCONSISTENT_GROUP_PROTOCOL; and no group is left behind."""
    client = Client(coordinator, protocol_type=protocol_type, protocols=protocols)
    assert client.send_join().error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert coordinator.group() is None


@pytest.mark.parametrize(
    ("protocol_type", "protocols"),
    [("connect", (("range", b""),)), ("consumer", (("sticky", b""),))],
)
def test_members_must_have_a_protocol_in_common(coordinator, protocol_type, protocols):
    """Another protocol type, or no protocol that all support, is refused; the group is not disturbed."""
    member = Client(coordinator, "a")
    stable_group(coordinator, member)
    other = Client(coordinator, "b", protocol_type=protocol_type, protocols=protocols)
    assert other.send_join().error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert member.heartbeat() is ErrorCode.NONE


def test_the_protocol_with_most_votes_wins(coordinator):
    """Among the protocols that all support, each member votes for the one it lists first."""
    a = Client(coordinator, "a", protocols=(("range", b"1"), ("sticky", b"2"), ("own", b"")))
    b = Client(coordinator, "b", protocols=(("sticky", b"3"), ("range", b"4")))
    c = Client(coordinator, "c", protocols=(("new", b""), ("sticky", b"5"), ("range", b"6")))
    a.join()
    for newcomer, members in ((b, [a]), (c, [a, b])):
        newcomer.join()
        for member in members:
            member.join()
    assert a.joined.protocol_name == "sticky"
    assert {m.metadata for m in a.joined.members} == {b"2", b"3", b"5"}


def test_foreign_protocol_types_pass_untouched(coordinator):
    """Kafka Connect and schema registries use groups with metadata that is theirs alone."""
    worker = Client(
        coordinator, "w", protocol_type="connect", protocols=(("sessioned", b"\x00\x01\xff not ours"),)
    )
    stable_group(coordinator, worker)
    assert worker.joined.members[0].metadata == b"\x00\x01\xff not ours"
    assert worker.joined.protocol_type == "connect"


def test_a_full_group_takes_nobody_more():
    """`group.max.size` answers GROUP_MAX_SIZE_REACHED; members themselves stay welcome."""
    coordinator = Coordinator(group_max_size=2)
    a, b, c = (Client(coordinator, name) for name in "abc")
    stable_group(coordinator, a, b)

    refused = c.send_join()
    assert refused.error is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert refused.response.member_id == ""
    assert a.heartbeat() is ErrorCode.NONE

    a.join()
    b.join()
    assert a.joined.generation_id == b.joined.generation_id == 3


def test_those_with_an_id_still_need_room():
    """Ids given out do not reserve a place: with group.max.size 1, the second to come back is refused."""
    coordinator = Coordinator(group_max_size=1, group_initial_rebalance_delay_ms=1_000)
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    ids = [client.send_join().response.member_id for client in (a, b)]
    first = a.send_join(member_id=ids[0])
    assert b.send_join(member_id=ids[1]).error is ErrorCode.GROUP_MAX_SIZE_REACHED
    coordinator.advance(1_000)
    assert first.error is ErrorCode.NONE


def test_too_many_ids_are_not_given_out():
    """Members that only ever ask for an id can not fill the memory."""
    coordinator = Coordinator(group_max_pending_members=2)
    errors = [Client(coordinator).send_join().error for _ in range(3)]
    assert errors == [
        ErrorCode.MEMBER_ID_REQUIRED,
        ErrorCode.MEMBER_ID_REQUIRED,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ]


def test_an_id_is_good_for_a_session_timeout(coordinator):
    """Who does not come back with the id is forgotten, and so is a group that was nothing else."""
    client = Client(coordinator, session_timeout_ms=10_000)
    member_id = client.send_join().response.member_id
    coordinator.advance(9_999)
    assert coordinator.group() is not None
    coordinator.advance(1)
    assert coordinator.group() is None
    assert client.send_join(member_id=member_id).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert coordinator.log == []


def test_an_id_holds_up_a_rebalance_only_until_it_expires(coordinator):
    """A rebalance waits for members that were given an id, since they are about to come."""
    a, b, c = (Client(coordinator, name, session_timeout_ms=20_000) for name in "abc")
    stable_group(coordinator, a)
    c.send_join()
    b.join()
    a.join()
    assert a.joined is None
    coordinator.advance(20_000)
    assert a.joined.error_code == b.joined.error_code == 0


def test_a_follower_that_rejoins_unchanged_disturbs_nobody(coordinator):
    """It gets the present generation again."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a, b)
    generation = b.generation
    b.join()
    assert b.joined.generation_id == generation
    assert coordinator.state() == "Stable"
    assert b.sync().response.assignment == b"b"


def test_a_leader_that_rejoins_rebalances(coordinator):
    """It does so when topics change, which no member's metadata shows."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a, b)
    a.join()
    assert a.joined is None
    assert coordinator.state() == "PreparingRebalance"
    b.join()
    assert a.joined.generation_id == b.joined.generation_id == 3


def test_a_follower_with_other_metadata_rebalances(coordinator):
    """A changed subscription needs a new assignment."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a, b)
    b.protocols = (("range", b"another subscription"),)
    b.join()
    assert b.joined is None
    a.join()
    assert b"another subscription" in {m.metadata for m in a.joined.members}


def test_a_join_answer_that_was_lost_is_given_again(coordinator):
    """While the assignment is awaited, an unchanged JoinGroup gets the same generation."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    a.join()
    b.join()
    a.join()
    again = a.send_join()
    assert again.response == a.joined
    assert b.send_join().response == b.joined


def test_other_metadata_while_the_assignment_is_awaited_rebalances(coordinator):
    """Members that wait for their assignment are sent back to join."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    a.join()
    b.join()
    a.join()
    waiting = b.sync()
    a.protocols = (("range", b"new"),)
    a.join()
    assert waiting.error is ErrorCode.REBALANCE_IN_PROGRESS
    b.join()
    assert a.joined.generation_id == b.joined.generation_id == 3


def test_a_repeated_join_releases_the_earlier_one(coordinator):
    """Answers leave in order: a client that asks again on the same connection must not wait for itself."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a)
    first = b.join()
    second = b.join()
    assert first.error is ErrorCode.REBALANCE_IN_PROGRESS
    a.join()
    assert second.error is ErrorCode.NONE


def test_a_rebalance_says_why(coordinator, caplog):
    """The log line has group, member, client and the client's own reason (KIP-800)."""
    caplog.set_level("INFO")
    Client(coordinator, "billing-7").join(reason="scaled up")
    (line,) = [record.getMessage() for record in caplog.records if "group rebalances" in record.getMessage()]
    for part in ("group=orders", "member=billing-7-1", "client=billing-7@127.0.0.1", "scaled up"):
        assert part in line

"""Signs of life, and what happens without them."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import Client, stable_group


def test_a_silent_member_is_removed_after_its_session_timeout(coordinator):
    """And the others are made to rebalance."""
    a = Client(coordinator, "a", session_timeout_ms=6_000)
    b = Client(coordinator, "b", session_timeout_ms=100_000)
    stable_group(coordinator, a, b)
    coordinator.advance(5_999)
    assert b.heartbeat() is ErrorCode.NONE
    coordinator.advance(1)
    assert b.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert a.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_session(coordinator):
    """Each begins it anew."""
    a = Client(coordinator, "a", session_timeout_ms=6_000)
    stable_group(coordinator, a)
    for _ in range(20):
        coordinator.advance(5_999)
        assert a.heartbeat() is ErrorCode.NONE
    coordinator.advance(6_000)
    assert a.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert coordinator.state() == "Empty"


def test_heartbeats_touch_no_timer(coordinator):
    """However many come, the shard holds one entry for the group."""
    clients = [Client(coordinator, f"c{n}", session_timeout_ms=45_000) for n in range(5)]
    stable_group(coordinator, *clients)
    before = len(coordinator.shard._deadlines)
    for _ in range(1_000):
        coordinator.ms += 3
        for client in clients:
            assert client.heartbeat() is ErrorCode.NONE
    assert len(coordinator.shard._deadlines) == before


def test_a_member_that_waits_for_us_owes_no_heartbeat(coordinator):
    """While SyncGroup is parked the session does not end; afterwards it starts anew."""
    a = Client(coordinator, "a", session_timeout_ms=6_000)
    b = Client(coordinator, "b", session_timeout_ms=6_000)
    a.join()
    b.join()
    a.join()
    coordinator.advance(3_000)
    assert a.heartbeat() is ErrorCode.NONE
    waiting = b.sync()
    coordinator.advance(5_500)
    a.sync([(a, b"a"), (b, b"b")])
    assert waiting.error is ErrorCode.NONE
    coordinator.advance(5_999)
    assert b.heartbeat() is ErrorCode.NONE


def test_heartbeats_count_before_the_assignment(coordinator):
    """A member of the generation that has not synced yet is told nothing is wrong."""
    a = Client(coordinator, "a")
    a.join()
    assert a.joined is not None
    assert a.heartbeat() is ErrorCode.NONE


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"generation": 7}, ErrorCode.ILLEGAL_GENERATION),
        ({"generation": 0}, ErrorCode.ILLEGAL_GENERATION),
        ({"instance": "unknown"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_a_heartbeat_must_fit_the_generation(coordinator, fields, error):
    """Wrong member, instance or generation."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    assert a.heartbeat(**fields) is error


def test_an_unknown_group_knows_no_members(coordinator):
    """As Kafka answers."""
    assert Client(coordinator).heartbeat(member_id="x") is ErrorCode.UNKNOWN_MEMBER_ID


def test_members_that_die_together_cause_one_rebalance(coordinator, caplog):
    """One line in the log, one generation."""
    a, b, c = (Client(coordinator, name, session_timeout_ms=6_000) for name in "abc")
    c.session_timeout_ms = 60_000
    stable_group(coordinator, c, a, b)
    caplog.set_level("INFO")
    coordinator.advance(6_000)
    lines = [record.getMessage() for record in caplog.records if "group rebalances" in record.getMessage()]
    assert len(lines) == 1
    assert "session timeout of" in lines[0]
    c.join()
    assert c.joined.generation_id == 4

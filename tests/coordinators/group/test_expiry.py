"""Offsets and groups do not stay for ever (KIP-211)."""

import pytest

from barnabas.errors import ErrorCode
from tests.coordinators.group.conversation import (
    WALL_START_MS,
    Client,
    Coordinator,
    commit,
    fetched,
    stable_group,
)
from tests.coordinators.group.test_commit import TOPIC_ID, replay_in_transaction, subscription

DAY_MS = 86_400_000


@pytest.fixture
def coordinator():
    return Coordinator(offsets_retention_ms=DAY_MS, offsets_retention_check_interval_ms=60_000)


def test_a_simple_groups_offsets_expire_by_themselves(coordinator):
    """Each a retention after its commit; the group goes with the last."""
    commit(coordinator, 1)
    coordinator.advance(DAY_MS // 2)
    commit(coordinator, 2, partition=1)
    coordinator.advance(DAY_MS // 2 + 60_000)
    assert fetched(coordinator) == {("t", 1): 2}
    coordinator.advance(DAY_MS // 2 + 60_000)
    assert coordinator.group() is None
    assert coordinator.replayed().shard.groups == {}


def test_a_groups_offsets_expire_after_it_became_empty(coordinator):
    """However old they are, and all together."""
    a = Client(coordinator, "a", session_timeout_ms=10 * DAY_MS)
    stable_group(coordinator, a)
    a.commit(1)
    coordinator.advance(3 * DAY_MS)
    a.leave()
    coordinator.advance(DAY_MS - 60_000)
    assert fetched(coordinator) == {("t", 0): 1}
    coordinator.advance(2 * 60_000)
    assert coordinator.group() is None


def test_a_live_group_keeps_what_it_reads(coordinator):
    """Offsets of topics it no longer subscribes to expire."""
    a = Client(coordinator, "a", session_timeout_ms=10 * DAY_MS, protocols=(("range", subscription("t")),))
    stable_group(coordinator, a)
    a.commit(1)
    a.commit(2, topic="old")
    coordinator.advance(DAY_MS + 60_000)
    assert fetched(coordinator) == {("t", 0): 1}
    assert a.heartbeat() is ErrorCode.NONE


@pytest.mark.parametrize(
    ("protocol_type", "metadata"), [("connect", subscription("t")), ("consumer", b"not a subscription")]
)
def test_a_live_group_that_can_not_be_read_keeps_everything(coordinator, protocol_type, metadata):
    """Nobody knows what it reads."""
    a = Client(
        coordinator,
        "a",
        session_timeout_ms=10 * DAY_MS,
        protocol_type=protocol_type,
        protocols=(("p", metadata),),
    )
    stable_group(coordinator, a)
    a.commit(1)
    coordinator.advance(3 * DAY_MS)
    assert fetched(coordinator) == {("t", 0): 1}


def test_a_retention_of_the_clients_own_counts(coordinator):
    """OffsetCommit 2 to 4 may say how long."""
    commit(coordinator, 1, version=2, retention_time_ms=5 * 60_000)
    coordinator.advance(4 * 60_000)
    assert fetched(coordinator) == {("t", 0): 1}
    coordinator.advance(2 * 60_000)
    assert coordinator.group() is None


def test_a_retention_without_end_is_possible(coordinator):
    """The time at which it ends would be past what a timestamp can say."""
    commit(coordinator, 1, version=2, retention_time_ms=2**63 - 1)
    coordinator.advance(3 * DAY_MS)
    assert fetched(coordinator) == {("t", 0): 1}


def test_a_commit_time_of_the_clients_own_counts(coordinator):
    """OffsetCommit 1 has a timestamp for each partition."""
    commit(coordinator, 1, version=1, commit_timestamp=WALL_START_MS - DAY_MS)
    coordinator.advance(60_000)
    assert coordinator.group() is None


def test_an_empty_group_without_offsets_goes_at_the_next_check(coordinator):
    """It has nothing to keep."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    a.leave()
    coordinator.advance(60_000)
    assert coordinator.group() is None
    assert coordinator.replayed().shard.groups == {}


def test_a_group_that_somebody_is_about_to_join_stays(coordinator):
    """A member that was given an id is as good as there."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    a.leave()
    b = Client(coordinator, "b", session_timeout_ms=1_000_000)
    member_id = b.send_join().response.member_id
    coordinator.advance(120_000)
    assert b.send_join(member_id=member_id).error is ErrorCode.NONE


def test_offsets_of_an_open_transaction_do_not_expire(coordinator):
    """Nor does their group."""
    commit(coordinator, 1)
    replay_in_transaction(coordinator, 7, 3)
    coordinator.advance(2 * DAY_MS)
    assert fetched(coordinator) == {("t", 0): 1}
    coordinator.shard.replay_end_transaction_marker(7, 0, committed=False)
    coordinator.advance(60_000)
    assert coordinator.group() is None


def test_a_deleted_topic_takes_its_offsets_along(coordinator):
    """Those of this topic, not those of another of the same name."""
    commit(coordinator, 1, topic_id=TOPIC_ID)
    commit(coordinator, 2, partition=1)
    commit(coordinator, 3, partition=2, topic_id=b"n" * 16)
    commit(coordinator, 4, topic="u")
    commit(coordinator, 5, group="billing")
    coordinator.run(coordinator.shard.on_topics_deleted({"t": TOPIC_ID, "none": bytes(16)}))
    assert fetched(coordinator) == {("t", 2): 3, ("u", 0): 4}
    assert fetched(coordinator, group="billing") == {}


def test_expiry_goes_in_small_steps():
    """However many groups there are, no step takes long; the steps follow each other at once."""
    coordinator = Coordinator(offsets_retention_ms=1_000, offsets_retention_check_interval_ms=60_000)
    for number in range(2_500):
        commit(coordinator, 1, group=f"g{number}")
    coordinator.ms = 60_000
    sizes = []
    while coordinator.shard.next_deadline_ms() <= coordinator.ms:
        for result in list(coordinator.shard.on_timer(coordinator.now)):
            sizes.append(len(result.records))
            coordinator.run(result)
    assert coordinator.shard.groups == {}
    assert max(sizes) <= 1_001
    assert len(sizes) > 2

"""Committing, fetching and deleting offsets."""

import pytest

from barnabas.coordinators.group.offsets import CommittedOffset
from barnabas.coordinators.group.records import OffsetRecordWriter
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from tests.coordinators.group.conversation import (
    WALL_START_MS,
    Client,
    Coordinator,
    commit,
    fetched,
    leave,
    stable_group,
)

TOPIC_ID = bytes(range(16))


def subscription(*topics):
    """Consumer protocol metadata as clients send it: version 1, topics, user data, owned partitions."""
    names = b"".join(len(topic).to_bytes(2) + topic.encode() for topic in topics)
    return b"\x00\x01" + len(topics).to_bytes(4) + names + b"\xff\xff\xff\xff" + b"\x00\x00\x00\x00"


def delete(coordinator, topics, group="orders"):
    """OffsetDelete: {(topic, partition): error}, or the error of the whole."""
    request = OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequest.OffsetDeleteRequestTopic(
                name=name,
                partitions=[
                    OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=index)
                    for index in indexes
                ],
            )
            for name, indexes in topics.items()
        ],
    )
    try:
        response = coordinator.run(coordinator.shard.delete_offsets(request))
    except KafkaError as error:
        return error.code
    return {
        (topic.name, partition.partition_index): ErrorCode(partition.error_code)
        for topic in response.topics
        for partition in topic.partitions
    }


def test_what_is_committed_is_fetched(coordinator):
    """Offset, epoch and note; the last commit counts."""
    commit(coordinator, 5, committed_metadata="note", committed_leader_epoch=3)
    commit(coordinator, 7, partition=1)
    commit(coordinator, 8, partition=1)
    commit(coordinator, 9, topic="u")
    assert fetched(coordinator) == {("t", 0): 5, ("t", 1): 8, ("u", 0): 9}
    assert fetched(coordinator, topics={"t": [0, 2], "x": [0]}) == {
        ("t", 0): 5,
        ("t", 2): -1,
        ("x", 0): -1,
    }
    offset = coordinator.shard.offsets.committed.get("orders", "t", 0)
    assert (offset.metadata, offset.leader_epoch, offset.commit_timestamp_ms) == ("note", 3, WALL_START_MS)


def test_a_group_that_does_not_exist_has_committed_nothing(coordinator):
    """That is no error."""
    assert fetched(coordinator) == {}
    assert fetched(coordinator, topics={"t": [0]}) == {("t", 0): -1}


def test_a_member_commits_under_its_generation(coordinator):
    """And only under that."""
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    assert a.commit(4) is ErrorCode.NONE
    assert a.commit(5, generation_id_or_member_epoch=2) is ErrorCode.ILLEGAL_GENERATION
    assert a.commit(5, member_id="ghost") is ErrorCode.UNKNOWN_MEMBER_ID
    assert a.commit(5, group_instance_id="i") is ErrorCode.UNKNOWN_MEMBER_ID
    assert a.commit(5, generation_id_or_member_epoch=-1) is ErrorCode.ILLEGAL_GENERATION
    assert fetched(coordinator) == {("t", 0): 4}


def test_strangers_commit_only_while_a_group_is_empty(coordinator):
    """Consumers without a group, and administrators, send no member id and generation -1."""
    assert commit(coordinator, 1) is ErrorCode.NONE
    a = Client(coordinator, "a")
    stable_group(coordinator, a)
    assert commit(coordinator, 2) is ErrorCode.UNKNOWN_MEMBER_ID
    a.leave()
    assert commit(coordinator, 3) is ErrorCode.NONE


@pytest.mark.parametrize(
    ("version", "error"), [(8, ErrorCode.ILLEGAL_GENERATION), (9, ErrorCode.GROUP_ID_NOT_FOUND)]
)
def test_a_generation_of_a_group_that_does_not_exist(coordinator, version, error):
    """Its name changed with version 9 (KIP-848)."""
    assert commit(coordinator, 1, generation_id_or_member_epoch=3, member_id="m", version=version) is error
    assert coordinator.group() is None


def test_commits_before_the_assignment_are_sent_back(coordinator):
    """A member between generations rejoins instead; during the rebalance itself it may still commit."""
    a, b = Client(coordinator, "a"), Client(coordinator, "b")
    stable_group(coordinator, a)
    b.join()
    assert coordinator.state() == "PreparingRebalance"
    assert a.commit(1) is ErrorCode.NONE
    a.join()
    assert coordinator.state() == "CompletingRebalance"
    assert a.commit(2) is ErrorCode.REBALANCE_IN_PROGRESS
    assert fetched(coordinator) == {("t", 0): 1}


def test_a_commit_is_a_sign_of_life(coordinator):
    """A client that processes for long and commits on the way stays a member."""
    a = Client(coordinator, "a", session_timeout_ms=6_000)
    stable_group(coordinator, a)
    for offset in range(5):
        coordinator.advance(5_999)
        assert a.commit(offset) is ErrorCode.NONE


def test_notes_have_a_limit():
    """`offset.metadata.max.bytes`, for each partition by itself."""
    coordinator = Coordinator(offset_metadata_max_bytes=4)
    assert commit(coordinator, 1, committed_metadata="12345") is ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert commit(coordinator, 1, committed_metadata="1234") is ErrorCode.NONE
    assert commit(coordinator, 2, partition=1, committed_metadata=None) is ErrorCode.NONE
    assert fetched(coordinator) == {("t", 0): 1, ("t", 1): 2}


def test_offsets_of_an_earlier_topic_of_the_same_name_do_not_count(coordinator):
    """Who asks by topic id gets no offset that was committed for a topic since deleted."""
    commit(coordinator, 5, topic_id=TOPIC_ID)

    def fetch(topic_id):
        request = OffsetFetchRequest.OffsetFetchRequestGroup(
            group_id="orders",
            topics=[
                OffsetFetchRequest.OffsetFetchRequestTopics(
                    name="t", topic_id=topic_id, partition_indexes=[0]
                )
            ],
        )
        response = coordinator.shard.fetch_offsets(request, require_stable=False)
        return response.topics[0].partitions[0].committed_offset

    assert fetch(TOPIC_ID) == 5
    assert fetch(bytes(16)) == 5
    assert fetch(b"x" * 16) == -1


def test_deleted_offsets_are_gone(coordinator):
    """Whether or not there was one."""
    commit(coordinator, 5)
    commit(coordinator, 6, partition=1)
    assert delete(coordinator, {"t": [0, 9]}) == {("t", 0): ErrorCode.NONE, ("t", 9): ErrorCode.NONE}
    assert fetched(coordinator) == {("t", 1): 6}
    assert fetched(coordinator.replayed()) == {("t", 1): 6}


def test_offsets_in_use_are_not_deleted(coordinator):
    """A live group of consumers protects the topics that it subscribes to."""
    a = Client(coordinator, "a", protocols=(("range", subscription("t", "u")),))
    stable_group(coordinator, a)
    a.commit(1)
    a.commit(1, topic="old")
    assert delete(coordinator, {"t": [0], "old": [0]}) == {
        ("t", 0): ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
        ("old", 0): ErrorCode.NONE,
    }
    assert fetched(coordinator) == {("t", 0): 1}


@pytest.mark.parametrize("how", ["live", "loaded"])
def test_a_subscription_counts_from_the_generation_that_has_it(coordinator, how):
    """Who waits to be let in protects nothing yet, also where nobody has asked before."""
    a = Client(coordinator, "a", protocols=(("range", subscription("t")),))
    stable_group(coordinator, a)
    a.commit(1)
    a.commit(1, topic="u")
    if how == "loaded":
        coordinator = coordinator.replayed()
    b = Client(coordinator, "b", protocols=(("range", subscription("u")),))
    b.join()
    assert b.joined is None
    assert delete(coordinator, {"t": [0], "u": [0]}) == {
        ("t", 0): ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
        ("u", 0): ErrorCode.NONE,
    }


def test_a_stranger_who_leaves_takes_no_group_along(coordinator):
    """One without members and offsets stays until it is cleaned up, as in Kafka."""
    commit(coordinator, 5)
    assert delete(coordinator, {"t": [0]}) == {("t", 0): ErrorCode.NONE}
    assert leave(coordinator, ("nobody", None, None)) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert coordinator.group() is not None


def test_offsets_of_a_live_group_of_another_kind_are_not_deleted(coordinator):
    """Nobody can tell what they are for."""
    worker = Client(coordinator, "w", protocol_type="connect")
    stable_group(coordinator, worker)
    worker.commit(1)
    assert delete(coordinator, {"t": [0]}) is ErrorCode.NON_EMPTY_GROUP


def test_offsets_are_not_deleted_if_a_subscription_does_not_parse(coordinator):
    """Any topic may be in use then."""
    a = Client(coordinator, "a", protocols=(("own", b"\x00"),))
    stable_group(coordinator, a)
    a.commit(1)
    assert delete(coordinator, {"t": [0]}) == {("t", 0): ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC}


def test_offsets_of_a_group_that_does_not_exist(coordinator):
    """As Kafka answers."""
    assert delete(coordinator, {"t": [0]}) is ErrorCode.GROUP_ID_NOT_FOUND


# ----- transactions, as far as replay goes


def replay_in_transaction(coordinator, producer_id, offset, *, partition=0, at=None):
    key, value = OffsetRecordWriter("orders", "t").record(partition, CommittedOffset(offset, -1, "", 0))
    coordinator.shard.replay(len(coordinator.log) if at is None else at, producer_id, 0, key, value)
    coordinator.log.append((key, value))


def test_offsets_of_an_open_transaction_are_not_seen(coordinator):
    """They become visible with its end; who insists on stable offsets is told to wait (KIP-447)."""
    commit(coordinator, 1)
    replay_in_transaction(coordinator, 77, 5)
    assert fetched(coordinator) == {("t", 0): 1}
    assert fetched(coordinator, require_stable=True) == {("t", 0): ErrorCode.UNSTABLE_OFFSET_COMMIT}
    assert fetched(coordinator, topics={"t": [0, 1]}, require_stable=True) == {
        ("t", 0): ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ("t", 1): -1,
    }
    coordinator.shard.replay_end_transaction_marker(77, 0, committed=True)
    assert fetched(coordinator, require_stable=True) == {("t", 0): 5}


def test_offsets_of_an_aborted_transaction_are_dropped(coordinator):
    """And leave no trace."""
    commit(coordinator, 1)
    replay_in_transaction(coordinator, 77, 5)
    coordinator.shard.replay_end_transaction_marker(77, 0, committed=False)
    assert fetched(coordinator, require_stable=True) == {("t", 0): 1}
    assert coordinator.shard.offsets.pending == {}


def test_the_later_commit_in_the_log_wins(coordinator):
    """A commit outside of the transaction that lies behind it in the log is not undone by the transaction's end."""
    replay_in_transaction(coordinator, 77, 5)
    commit(coordinator, 9)
    coordinator.shard.replay_end_transaction_marker(77, 0, committed=True)
    assert fetched(coordinator) == {("t", 0): 9}

"""Incremental fetch sessions."""

from __future__ import annotations

import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metrics import Registry
from barnabas.replication.sessions import FetchSessions
from barnabas.wire.messages.fetch import FetchRequest, FetchResponse


class _Clock:
    def __init__(self) -> None:
        self.ms = 0.0

    def now_ms(self) -> int:
        return int(self.ms)

    def monotonic_ms(self) -> float:
        return self.ms


def _request(session_id, epoch, *offsets, forgotten=(), topic="t"):
    return FetchRequest(
        replica_id=-1,
        session_id=session_id,
        session_epoch=epoch,
        topics=[
            FetchRequest.FetchTopic(
                topic=topic,
                partitions=[
                    FetchRequest.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=100)
                    for index, offset in offsets
                ],
            )
        ],
        forgotten_topics_data=[FetchRequest.ForgottenTopic(topic=topic, partitions=list(forgotten))],
    )


def _read(context, *, records=(), high_watermark=5):
    """An answer for each partition of a fetch, with records for those named."""
    return [
        (
            fetched,
            FetchResponse.PartitionData(
                partition_index=fetched.partition,
                high_watermark=high_watermark,
                log_start_offset=0,
                records=memoryview(b"batch") if fetched.partition in records else b"",
                aborted_transactions=None,
            ),
        )
        for fetched in context.partitions()
    ]


def _told(context, read):
    return [answer.partition_index for _, answer in context.select(read)]


@pytest.fixture
def sessions():
    return FetchSessions(_Clock(), max_sessions=3, eviction_ms=1000)


def _open_session(sessions, *partitions):
    context = sessions.open(_request(0, 0, *((index, 0) for index in partitions)), 11)
    _told(context, _read(context))
    return context.session_id


def test_a_full_fetch_of_nothing_opens_a_session_too(sessions):
    """Partitions may follow with the next request; one that brings none ends it."""
    context = sessions.open(_request(0, 0), 11)
    assert context.session_id
    context = sessions.open(_request(context.session_id, 1, (0, 0)), 11)
    assert _told(context, _read(context)) == [0]
    context = sessions.open(_request(context.session_id, 0), 11)
    assert len(sessions) == 1
    assert sessions.open(_request(context.session_id, 1), 11).session_id == 0
    assert len(sessions) == 0


def test_a_full_fetch_opens_a_session_and_tells_everything(sessions):
    """The first answer of a session mentions every partition, with or without records."""
    context = sessions.open(_request(0, 0, (0, 0), (1, 0)), 11)
    assert context.session_id != 0
    assert _told(context, _read(context)) == [0, 1]


def test_an_incremental_fetch_tells_only_what_changed(sessions):
    """Nothing new, nothing told; records, watermarks and errors are."""
    session = _open_session(sessions, 0, 1, 2)
    context = sessions.open(_request(session, 1), 11)
    assert _told(context, _read(context)) == []
    context = sessions.open(_request(session, 2), 11)
    assert _told(context, _read(context, records=[1])) == [1]
    context = sessions.open(_request(session, 3), 11)
    assert sorted(_told(context, _read(context, high_watermark=6))) == [0, 1, 2]


def test_an_error_is_told_until_it_is_over_and_then_once_more(sessions):
    """The client learns that a partition is well again even if its watermark is where it was."""
    session = _open_session(sessions, 0)
    context = sessions.open(_request(session, 1), 11)
    read = _read(context)
    read[0][1].error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert _told(context, read) == [0]
    context = sessions.open(_request(session, 2), 11)
    assert _told(context, _read(context)) == [0]
    context = sessions.open(_request(session, 3), 11)
    assert _told(context, _read(context)) == []


def test_partitions_that_gave_records_go_to_the_end(sessions):
    """A small max_bytes starves no partition: who was served is asked last the next time."""
    session = _open_session(sessions, 0, 1, 2)
    context = sessions.open(_request(session, 1), 11)
    context.select(_read(context, records=[0]))
    context = sessions.open(_request(session, 2), 11)
    assert [fetched.partition for fetched in context.partitions()] == [1, 2, 0]


def test_partitions_are_added_changed_and_forgotten(sessions):
    """A request names only what is new, what moved and what is no longer wanted."""
    session = _open_session(sessions, 0, 1)
    context = sessions.open(_request(session, 1, (1, 7), (2, 3), forgotten=[0]), 11)
    assert [(fetched.partition, fetched.fetch_offset) for fetched in context.partitions()] == [(1, 7), (2, 3)]


@pytest.mark.parametrize(
    ("session_delta", "epoch", "version", "code"),
    [
        (1, 1, 11, ErrorCode.FETCH_SESSION_ID_NOT_FOUND),
        (0, 5, 11, ErrorCode.INVALID_FETCH_SESSION_EPOCH),
        (0, 1, 13, ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR),
    ],
)
def test_a_wrong_session_or_epoch_is_refused(sessions, session_delta, epoch, version, code):
    """A client that lost track is told so, and starts anew."""
    session = _open_session(sessions, 0)
    with pytest.raises(KafkaError) as refused:
        sessions.open(_request(session + session_delta, epoch), version)
    assert refused.value.code is code


def test_a_final_epoch_closes_the_session(sessions):
    """Epoch -1 ends the session; the fetch itself is served without one."""
    session = _open_session(sessions, 0)
    context = sessions.open(_request(session, -1, (0, 0)), 11)
    assert context.session_id == 0
    with pytest.raises(KafkaError):
        sessions.open(_request(session, 1), 11)


def test_forgetting_everything_ends_the_session(sessions):
    """A session without partitions is of no use."""
    session = _open_session(sessions, 0)
    assert sessions.open(_request(session, 1, forgotten=[0]), 11).session_id == 0
    assert len(sessions) == 0


def test_old_versions_have_no_sessions(sessions):
    """Before version 7 nothing is kept."""
    assert sessions.open(_request(0, 0, (0, 0)), 6).session_id == 0
    assert len(sessions) == 0


def test_a_full_cache_refuses_smaller_sessions_and_makes_room_for_bigger_ones():
    """At most max_sessions; an idle one makes room, a bigger one replaces a smaller one that had its time. Both count."""
    clock = _Clock()
    sessions = FetchSessions(clock, max_sessions=2, eviction_ms=1000)
    registry = Registry(clock)
    sessions.register_metrics(registry)
    first, second = _open_session(sessions, 0), _open_session(sessions, 0, 1)
    assert first
    assert second
    assert _open_session(sessions, 0, 1, 2) == 0, "nobody has had a second of time yet"
    clock.ms = 900
    sessions.open(_request(first, 1), 11)
    sessions.open(_request(second, 1), 11)
    clock.ms = 1500
    third = _open_session(sessions, 0, 1, 2)
    assert third != 0
    with pytest.raises(KafkaError):
        sessions.open(_request(first, 2), 11)
    clock.ms = 9000
    assert _open_session(sessions, 5) != 0, "an idle session makes room for anyone"
    assert len(sessions) == 2
    assert (
        registry.counter("kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total").value == 2
    )

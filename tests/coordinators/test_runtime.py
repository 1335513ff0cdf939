"""The runtime on a real log: what is appended when, who is answered when, and what a restart finds."""

import asyncio

import pytest

from barnabas.coordinators.runtime import CoordinatorRuntime
from barnabas.coordinators.shard import CoordinatorResult
from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.origin import Origin
from barnabas.records.builder import build_batch
from barnabas.records.control import build_end_marker
from barnabas.replication.partition import Durability
from tests.coordinators.internal_topic import TOPIC, Notes, internal_topic, put
from tests.event_loops import eventually


async def answered(outcome):
    return await outcome if isinstance(outcome, asyncio.Future) else outcome


async def test_a_write_is_in_the_log_and_in_the_state(loop, tmp_path):
    """Append first, then replay, then the answer."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        assert topic.hosted.write(put("a", b"1")) == "put a"
        assert topic.hosted.write(put("b", b"2")) == "put b"
        shard = topic.hosted.shard
        assert shard.notes == {b"a": b"1", b"b": b"2"}
        assert shard.offsets == [0, 1]
        assert topic.batches() == [(0, 1), (1, 1)]


async def test_an_answer_waits_until_the_records_are_committed(loop, tmp_path):
    """With nobody else in sync that means until they are on disk; the state has them at once."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        outcome = topic.hosted.write(put("a", b"1"))
        assert not outcome.done()
        assert topic.hosted.shard.notes == {b"a": b"1"}
        assert await outcome == "put a"
        assert topic.partition.log.recovery_point == 1


async def test_an_answer_that_waits_for_nothing_is_no_reason_to_sync(loop, tmp_path):
    """What is written next takes it along: both are on the disk then."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        records = [(b"a", b"1")]
        assert topic.hosted.write(lambda *_: CoordinatorResult("put a", records, is_awaited=False)) == "put a"
        assert topic.hosted.shard.notes == {b"a": b"1"}
        assert topic.partition.log.recovery_point == 0
        assert await topic.hosted.write(put("b", b"2")) == "put b"
        assert topic.partition.log.recovery_point == 2


async def test_readers_can_wait_for_what_they_saw(loop, tmp_path):
    """What a reader is told can not be lost afterwards."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        assert topic.hosted.when_committed("nothing yet") == "nothing yet"
        outcome = topic.hosted.write(put("a", b"1"))
        seen = topic.hosted.when_committed(dict(topic.hosted.read().notes))
        assert not seen.done()
        await outcome
        assert await seen == {b"a": b"1"}


async def test_writes_of_one_turn_share_a_batch(loop, tmp_path):
    """Offset commits that arrive together are one append and one sync."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        outcomes = [topic.hosted.write_batched(put(f"n{number}", b"x")) for number in range(50)]
        assert topic.batches() == []
        assert await asyncio.gather(*outcomes) == [f"put n{number}" for number in range(50)]
        assert topic.batches() == [(0, 50)]
        assert len(topic.hosted.shard.notes) == 50


@pytest.mark.parametrize("how", ["write", "read"])
async def test_what_comes_later_finds_what_was_batched(loop, tmp_path, how):
    """A read or another write appends the batch before it looks."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        batched = topic.hosted.write_batched(put("a", b"1"))
        if how == "read":
            assert topic.hosted.read().notes == {b"a": b"1"}
        else:
            seen = topic.hosted.write(lambda shard, _: CoordinatorResult(dict(shard.notes)))
            assert seen == {b"a": b"1"}
        assert await batched == "put a"


async def test_a_refused_append_leaves_nothing_to_undo(loop, tmp_path):
    """Neither log nor state has any of it, and the next write goes on as if nothing had been."""
    async with internal_topic(tmp_path, loop, max_message_bytes=2_000) as topic:
        topic.lead()
        with pytest.raises(KafkaError) as refusal:
            topic.hosted.write(put("big", bytes(3_000)))
        assert refusal.value.code is ErrorCode.UNKNOWN_SERVER_ERROR
        batched = topic.hosted.write_batched(put("big", bytes(3_000)))
        with pytest.raises(KafkaError):
            await batched
        assert topic.hosted.shard.notes == {}
        assert topic.hosted.write(put("small", b"1")) == "put small"
        assert topic.batches() == [(0, 1)]


async def test_many_records_are_split_into_batches(loop, tmp_path):
    """A group's tombstones may be more than one batch holds; what is atomic stays together or fails."""
    records = [(f"key {number}".encode(), bytes(100)) for number in range(100)]
    async with internal_topic(tmp_path, loop, max_message_bytes=2_000) as topic:
        topic.lead()
        topic.hosted.write(lambda *_: CoordinatorResult(None, records))
        assert len(topic.batches()) > 5
        assert len(topic.hosted.shard.notes) == 100
        with pytest.raises(KafkaError):
            topic.hosted.write(lambda *_: CoordinatorResult(None, records, atomic=True))


async def test_a_machine_that_knows_is_not_told_again(loop, tmp_path):
    """replay=False: the records are for other brokers and for restarts."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.hosted.write(put("a", b"1", replay=False))
        assert topic.hosted.shard.notes == {}
        assert topic.batches() == [(0, 1)]


class Fate:
    """A completion that remembers what it was told."""

    def __init__(self):
        self.told = []

    def committed(self, now):
        self.told.append("committed")

    def failed(self, error, now):
        self.told.append(error.code)


async def test_a_completion_learns_of_the_commit(loop, tmp_path):
    """Before the answer is given."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        fate = Fate()
        outcome = topic.hosted.write(put("a", b"1", completion=fate))
        assert fate.told == []
        outcome.add_done_callback(lambda _: fate.told.append("answered"))
        await outcome
        await asyncio.sleep(0)
        assert fate.told == ["committed", "answered"]


async def test_a_completion_learns_of_a_failure(loop, tmp_path):
    """With the error that clients of a coordinator know."""
    async with internal_topic(tmp_path, loop, min_insync_replicas=2) as topic:
        topic.lead()
        fate = Fate()
        with pytest.raises(KafkaError) as refusal:
            topic.hosted.write(put("a", b"1", completion=fate))
        assert fate.told == [refusal.value.code] == [ErrorCode.COORDINATOR_NOT_AVAILABLE]


async def test_nobody_waits_for_ever_for_a_commit(loop, tmp_path):
    """`offsets.commit.timeout.ms`; readers are not kept waiting by it either."""
    async with internal_topic(
        tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE, commit_timeout_ms=20
    ) as topic:
        topic.lead()
        stuck = loop.create_future()
        topic.partition.log.recovery_point = -1
        request, topic.group_commit.request = topic.group_commit.request, lambda *_: stuck
        fate = Fate()
        outcome = topic.hosted.write(put("a", b"1", completion=fate))
        with pytest.raises(KafkaError) as refusal:
            await outcome
        assert refusal.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert fate.told == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        with pytest.raises(KafkaError):
            topic.hosted.when_committed("x")
        topic.group_commit.request = request
        stuck.set_result(None)
        await asyncio.sleep(0)
        assert topic.hosted.when_committed("x") == "x"
        topic.hosted._commit_timeout_ms = 60_000
        assert await answered(topic.hosted.write(put("b", b"2"))) == "put b"


async def test_commits_that_do_not_come_leave_one_write_behind(loop, tmp_path):
    """Who asks what is committed has to be refused until the last one comes; the others stand for nothing more."""
    async with internal_topic(
        tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE, commit_timeout_ms=20
    ) as topic:
        topic.lead()
        commits = []

        def never(*_):
            commits.append(loop.create_future())
            return commits[-1]

        topic.partition.log.recovery_point = -1
        request, topic.group_commit.request = topic.group_commit.request, never
        for number in range(5):
            with pytest.raises(KafkaError):
                await topic.hosted.write(put("a", b"%d" % number))
        assert len(topic.hosted._writes) == 1
        assert [commit.cancelled() for commit in commits] == [True] * 4 + [False]
        with pytest.raises(KafkaError):
            topic.hosted.when_committed("x")
        topic.group_commit.request = request
        commits[-1].set_result(None)
        await asyncio.sleep(0)
        assert topic.hosted.when_committed("x") == "x"


# ----- leadership


async def test_who_does_not_lead_is_no_coordinator(loop, tmp_path):
    """Before, and again afterwards."""
    async with internal_topic(tmp_path, loop) as topic:
        for step in (lambda: None, topic.resign):
            step()
            with pytest.raises(KafkaError) as refusal:
                topic.runtime.shard_for("any group")
            assert refusal.value.code is ErrorCode.NOT_COORDINATOR
            topic.lead()
            assert topic.runtime.shard_for("any group") is topic.hosted


async def test_an_empty_partition_is_ready_at_once(loop, tmp_path):
    """The first group of a new cluster waits for nothing."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        assert topic.hosted.shard.loaded == 1


async def test_resigning_answers_everyone_who_waits(loop, tmp_path):
    """Parked requests, writes on their way, and what was batched."""
    async with internal_topic(tmp_path, loop, durability=Durability.FSYNC_WHEN_ALONE) as topic:
        topic.lead()
        hosted = topic.hosted
        waiter = loop.create_future()
        hosted.shard.waiters.append(waiter)
        written = hosted.write(put("a", b"1"))
        batched = hosted.write_batched(put("b", b"2"))
        topic.resign()
        assert await waiter == "gone"
        for outcome in (written, batched):
            with pytest.raises(KafkaError) as refusal:
                await outcome
            assert refusal.value.code is ErrorCode.NOT_COORDINATOR


async def test_leading_on_in_another_epoch_changes_nothing(loop, tmp_path):
    """The state is that of the log."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        hosted = topic.hosted
        topic.lead()
        assert topic.hosted is hosted


async def test_partitions_of_other_topics_are_passed_over(loop, tmp_path):
    """The runtime hears of every partition of the broker."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.runtime = topic.new_runtime(topic="__other")
        topic.lead()
        with pytest.raises(KafkaError):
            topic.runtime.shard(0)


async def test_a_broker_that_stops_says_so(loop, tmp_path):
    """What was batched is appended before."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.hosted.write_batched(put("a", b"1"))
        await topic.runtime.close()
        assert topic.batches() == [(0, 1)]
        with pytest.raises(KafkaError) as refusal:
            topic.runtime.shard(0)
        assert refusal.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE


# ----- loading


async def loaded(topic):
    await eventually(lambda: not topic.runtime.loading)
    return topic.hosted.shard


async def test_a_restart_replays_the_log(loop, tmp_path):
    """In order, over many chunks; meanwhile the answer is to wait."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        for number in range(300):
            topic.hosted.write(put(f"n{number % 50}", b"%d" % number + bytes(100)))
        topic.hosted.write(put("n7", None))
        before = topic.hosted.shard.notes
        topic.resign()
        topic.lead()
        with pytest.raises(KafkaError) as refusal:
            topic.runtime.shard(0)
        assert refusal.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        shard = await loaded(topic)
        assert shard.notes == before
        assert shard.offsets == list(range(301))
        assert shard.loaded == 1
        assert topic.hosted.write(put("new", b"1")) == "put new"


async def test_transactions_are_replayed_with_their_end(loop, tmp_path):
    """End markers go to the shard, too."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.resign()
        topic.epoch += 1
        topic.partition.leader_id = 1
        for producer_id, is_commit in ((7, True), (8, False)):
            records = build_batch(
                [(0, 0, b"k", b"v", ())],
                producer_id=producer_id,
                producer_epoch=0,
                base_sequence=0,
                is_transactional=True,
            )
            marker = build_end_marker(
                producer_id=producer_id,
                producer_epoch=0,
                is_commit=is_commit,
                coordinator_epoch=0,
                timestamp_ms=0,
            )
            for batch in (records, marker):
                topic.partition.append(batch, -1, now_ms=0, origin=Origin.REPLICATION)
        topic.lead()
        assert (await loaded(topic)).ended_transactions == [(7, True), (8, False)]


async def test_a_record_that_nobody_understands_is_named(loop, tmp_path, caplog):
    """The partition is not served, others are; the log says which record it was."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.hosted.write(put("a", b"1"))
        topic.hosted.write(put("b", b"damaged", replay=False))
        topic.resign()
        topic.lead()
        await eventually(lambda: not topic.runtime.loading)
        with pytest.raises(KafkaError) as refusal:
            topic.runtime.shard(0)
        assert refusal.value.code is ErrorCode.NOT_COORDINATOR
        assert f"{TOPIC}-0, batch at offset 1" in caplog.text


async def test_state_and_log_that_part_are_brought_together(loop, tmp_path, caplog):
    """A defect in replay does not leave a state that the log knows nothing of: the shard is loaded anew."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.hosted.write(put("a", b"1"))
        with pytest.raises(KafkaError) as refusal:
            topic.hosted.write(put("b", b"defect"))
        assert refusal.value.code is ErrorCode.NOT_COORDINATOR
        await eventually(lambda: not topic.runtime.loading)
        assert "state and log have parted" in caplog.text


async def test_resigning_stops_a_load(loop, tmp_path):
    """Whoever leads next has it."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        topic.hosted.write(put("a", b"1"))
        topic.resign()
        topic.lead()
        assert topic.runtime.loading
        topic.resign()
        assert not topic.runtime.loading
        topic.lead()
        assert (await loaded(topic)).notes == {b"a": b"1"}


# ----- time


async def test_a_deadline_calls_the_shard(loop, tmp_path):
    """Also an earlier one that comes up later; what the shard writes then is written."""
    async with internal_topic(tmp_path, loop) as topic:
        topic.lead()
        hosted = topic.hosted

        def wake_in(ms):
            def operation(shard, now):
                shard.deadline_ms = now.monotonic_ms + ms
                return CoordinatorResult(None)

            return operation

        hosted.write(wake_in(60_000))
        hosted.write(wake_in(10))
        await eventually(lambda: hosted.shard.rings == 1)
        assert hosted.shard.notes == {b"ring": b"1"}
        hosted.write(wake_in(5))
        await eventually(lambda: hosted.shard.rings == 2)


async def test_a_deadline_found_in_the_log_calls_the_shard(loop, tmp_path):
    """Though nobody asks for anything after it was loaded: else nothing of a client that is gone would ever time out."""

    class Dated(Notes):
        def on_loaded(self, now):
            self.deadline_ms = now.monotonic_ms + 5
            return super().on_loaded(now)

    async with internal_topic(tmp_path, loop) as topic:
        topic.runtime = topic.new_runtime(new_shard=Dated)
        topic.lead()
        await eventually(lambda: topic.hosted.shard.rings == 1)


async def test_a_timer_that_fails_does_not_stop_the_others(loop, tmp_path, caplog):
    """A defect in one group is logged; the shard's timer goes on."""

    class Failing(Notes):
        def on_timer(self, now):
            if self.rings == 0:
                self.rings = 1
                self.deadline_ms = now.monotonic_ms
                raise RuntimeError("a defect in a timer")
            yield from super().on_timer(now)

    async with internal_topic(tmp_path, loop) as topic:
        topic.runtime = topic.new_runtime(new_shard=Failing)
        topic.lead()
        topic.hosted.shard.deadline_ms = topic.clock.monotonic_ms()
        topic.hosted.write(put("a", b"1"))
        await eventually(lambda: topic.hosted.shard.rings == 2)
        assert "a defect in a timer" in caplog.text


def test_the_runtime_is_for_any_state_machine():
    """It knows nothing of groups: transactions will run on it, too."""
    assert "group" not in CoordinatorRuntime.__module__

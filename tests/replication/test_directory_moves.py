"""Replicas move between log directories of one broker, while they are written and read."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from barnabas.errors import ErrorCode, StorageError
from barnabas.wire.messages.delete_records import DeleteRecordsRequest
from barnabas.wire.messages.describe_log_dirs import DescribeLogDirsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests import topic_requests as requests
from tests.event_loops import eventually
from tests.handlers.node import running
from tests.oracle.building import build

DEADLINE_S = 20
RATE = "replica.alter.log.dirs.io.max.bytes.per.second"


class Moving:
    """A broker with the directories `a` and `b`, and a topic of one partition."""

    def __init__(self, node, directory):
        self.node = node
        self.directory = directory
        self.written = []

    async def create(self, **configs):
        answer = await self.node.call(requests.create_topics(["orders"], **configs), requests.CREATE)
        assert answer.topics[0].error_code == 0
        await self.produce(0)

    async def produce(self, count=1, size_bytes=100, acks=-1, **producer):
        for _ in range(count):
            value = len(self.written).to_bytes(8, "big") + bytes(size_bytes)
            request = requests.produce("orders", 0, value, acks, b"k", **producer)
            answer = requests.produced(await self.node.call(request, requests.PRODUCE))
            assert answer.error_code == 0, answer
            self.written.append(value)
        return answer.base_offset if count else -1

    async def read(self, from_offset=0):
        """The numbers in all records."""
        found = []
        offset = from_offset
        while True:
            answer = await self.node.call(requests.fetch("orders", 0, offset), requests.FETCH)
            offset, values = requests.offset_and_values(answer, offset)
            assert isinstance(values, list), values
            if not values:
                return found
            found += [int.from_bytes(value[:8], "big") for value in values]

    async def move(self, to, topic="orders"):
        """Asks for a move; the error code."""
        request = requests.move_replica(topic, 0, self.directory / to)
        answer = await self.node.call(request, requests.ALTER_REPLICA_LOG_DIRS)
        return answer.results[0].partitions[0].error_code

    async def places(self):
        """(directory, size, lag, whether it is a future replica) of each copy."""
        answer = await self.node.call(DescribeLogDirsRequest(topics=None), 4)
        return [
            (result.log_dir[-1], part.partition_size, part.offset_lag, part.is_future_key)
            for result in answer.results
            for topic in result.topics
            if topic.name == "orders"
            for part in topic.partitions
        ]

    async def until(self, condition):
        end = time.monotonic() + DEADLINE_S
        while not condition(places := await self.places()):
            assert time.monotonic() < end, places
            await asyncio.sleep(0.01)
        return places

    async def has_moved(self, to):
        await self.until(lambda places: [place[0] for place in places] == [to])

    async def start_at(self):
        (place,) = await self.places()
        return place[0], "b" if place[0] == "a" else "a"

    async def throttle(self, rate):
        change = {"name": RATE, "config_operation": 0 if rate is not None else 1, "value": str(rate)}
        resource = {"resource_type": 4, "resource_name": "", "configs": [change]}
        answer = await self.node.call(build(IncrementalAlterConfigsRequest, resources=[resource]), 1)
        assert answer.responses[0].error_code == 0

    def names(self, place):
        """The directories of the topic in a log directory."""
        return sorted(path.name for path in (self.directory / place).glob("orders-*"))

    def metadata_place(self):
        """The directory in which the metadata places the partition."""
        directory_id = self.node.image.partition("orders", 0).directories[0]
        for each in self.node.broker.log_directories.directories:
            if each.directory_id == directory_id:
                return each.path.name
        return None


@asynccontextmanager
async def moving(directory, **settings):
    settings.setdefault("log_segment_delete_delay_ms", 0)
    async with running(directory, log_dirs=f"{directory}/a,{directory}/b", **settings) as node:
        yield Moving(node, directory)


async def test_a_replica_moves_with_all_that_it_has(tmp_path, loop):
    """Several segments, offsets, and what is written afterwards; the old directory goes, and a restart finds the new one."""
    async with moving(tmp_path) as m:
        await m.create(segment_bytes=1 << 20)
        await m.produce(30, 100_000)
        here, there = await m.start_at()
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert m.metadata_place() == there
        await m.produce(5)
        assert await m.read() == list(range(35))
        assert m.names(there) == ["orders-0"]
        await m.until(lambda _: m.names(here) == [])
        assert len(list((tmp_path / there / "orders-0").glob("*.log"))) >= 3
        written = m.written
    async with moving(tmp_path) as m:
        m.written = written
        assert (await m.places())[0][0] == there
        assert await m.read() == list(range(35))
        assert await m.produce() == 35


async def test_writers_and_readers_notice_nothing(tmp_path, loop):
    """While it moves to and fro all records are acknowledged, and read once and in order."""
    async with moving(tmp_path) as m:
        await m.create(segment_bytes=1 << 20)
        here, there = await m.start_at()
        for to in (there, here, there, here, there):
            assert await m.move(to) == 0
            end = time.monotonic() + DEADLINE_S
            while [place[0] for place in await m.places()] != [to]:
                await m.produce(3, 20_000, acks=-1)
                await m.produce(3, 2_000, acks=1)
                assert time.monotonic() < end
        assert await m.read() == list(range(len(m.written)))


async def test_a_move_under_way_is_shown_and_throttled(tmp_path, loop):
    """As a future replica that lags behind; it is faster once it may be."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(20, 10_000)
        here, there = await m.start_at()
        await m.throttle(20_000)
        assert await m.move(there) == 0
        places = await m.until(lambda places: any(place[3] and place[1] > 0 for place in places))
        assert {(place[0], place[3]) for place in places} == {(here, False), (there, True)}
        (future,) = [place for place in places if place[3]]
        assert future[1] < 200_000
        assert future[2] > 0
        (name,) = m.names(there)
        assert name.startswith("orders-0.")
        assert name.endswith("-future")
        assert await m.read() == list(range(20))
        await m.throttle(None)
        await m.has_moved(there)
        assert await m.read() == list(range(20))


async def test_a_move_can_be_given_up(tmp_path, loop):
    """By asking for the directory in which the replica is; its copy is deleted."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(20, 10_000)
        here, there = await m.start_at()
        await m.throttle(1000)
        assert await m.move(there) == 0
        assert await m.move(there) == 0
        assert len(await m.places()) == 2
        assert await m.move(here) == 0
        assert [place[0] for place in await m.places()] == [here]
        await m.until(lambda _: m.names(there) == [])
        await m.throttle(None)
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert await m.read() == list(range(20))


async def test_a_stop_interrupts_a_move_and_the_next_start_goes_on(tmp_path, loop):
    """As Kafka's, which finds the unfinished copy by its name."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(20, 10_000)
        here, there = await m.start_at()
        await m.throttle(1000)
        assert await m.move(there) == 0
    assert len(m.names(there)) == 1
    async with moving(tmp_path) as m:
        places = await m.places()
        assert {(place[0], place[3]) for place in places} == {(here, False), (there, True)}
        await m.throttle(None)
        await m.has_moved(there)
        assert await m.read() == list(range(20))
        await m.until(lambda _: m.names(there) == ["orders-0"])


async def test_a_topic_that_is_deleted_moves_no_more(tmp_path, loop):
    """Nothing of it is left in either directory, and one of the same name begins anew."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(20, 10_000)
        _, there = await m.start_at()
        await m.throttle(1000)
        assert await m.move(there) == 0
        await m.node.call(requests.delete_topics(["orders"]), requests.DELETE)
        assert await m.places() == []
        await m.until(lambda _: m.names("a") + m.names("b") == [])
        m.written = []
        await m.create()
        await m.produce(3)
        assert await m.read() == [0, 1, 2]


async def test_what_retention_deletes_meanwhile_stays_deleted(tmp_path, loop):
    """The copy begins where the log does, also after a restart."""
    async with moving(tmp_path) as m:
        await m.create(segment_bytes=1 << 20)
        await m.produce(30, 100_000)
        _, there = await m.start_at()
        await m.throttle(1_000_000)
        assert await m.move(there) == 0
        part = {"partition_index": 0, "offset": 25}
        request = build(
            DeleteRecordsRequest, topics=[{"name": "orders", "partitions": [part]}], timeout_ms=5000
        )
        answer = await m.node.call(request, 2)
        assert answer.topics[0].partitions[0].low_watermark == 25
        await m.throttle(None)
        await m.has_moved(there)
        assert await m.read(25) == list(range(25, 30))
    async with moving(tmp_path) as m:
        assert m.node.broker._replicas.get("orders", 0).log_start_offset == 25


async def test_producers_are_known_after_a_move(tmp_path, loop):
    """A batch that is sent again is still a duplicate."""
    async with moving(tmp_path) as m:
        await m.create()
        first = await m.produce(producer_id=7, producer_epoch=0, base_sequence=0)
        await m.produce(producer_id=7, producer_epoch=0, base_sequence=1)
        _, there = await m.start_at()
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert await m.produce(producer_id=7, producer_epoch=0, base_sequence=0) == first
        assert await m.produce(producer_id=7, producer_epoch=0, base_sequence=2) == 2


async def test_leader_epochs_move_along(tmp_path, loop):
    """Also those of leaders that never wrote anything."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(3)
        partition = m.node.broker._replicas.get("orders", 0)
        partition.log.assign_leader_epoch(partition.leader_epoch + 5, 3)
        before = partition.log.encoded_epochs()
        _, there = await m.start_at()
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert partition.log.encoded_epochs() == before


@pytest.mark.parametrize("records", [0, 3])
async def test_an_idle_or_empty_replica_moves(tmp_path, loop, records):
    """Whether or not there is anything to copy, and though nobody has opened its log since the start."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(records)
    async with moving(tmp_path) as m:
        _, there = await m.start_at()
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert await m.read() == list(range(records))
        m.written = [b""] * records
        assert await m.produce() == records


async def test_a_full_disk_stops_the_move_and_nothing_else(tmp_path, loop, monkeypatch):
    """The replica stays where it is, and its copy goes."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(5, 10_000)
        here, there = await m.start_at()
        from barnabas.log.future_log import FutureLog

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(FutureLog, "copy_some", full)
            assert await m.move(there) == 0
            await m.has_moved(here)
        await m.until(lambda _: m.names(there) == [])
        assert await m.read() == list(range(5))
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert await m.read() == list(range(5))


async def test_after_a_crash_behind_the_switch_the_new_directory_counts(tmp_path, loop, monkeypatch):
    """Both directories have the partition's name then; the metadata names the new one."""
    from barnabas.log.log_directories import LogDirectories

    async def crash(*_):
        raise StorageError("the broker dies")

    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(3)
        here, there = await m.start_at()
        with monkeypatch.context() as patch:
            patch.setattr(LogDirectories, "discard_former", crash)
            assert await m.move(there) == 0
            await m.has_moved(there)
        await m.produce(2)
        assert m.names(here) == m.names(there) == ["orders-0"]
    async with moving(tmp_path) as m:
        assert [place[0] for place in await m.places()] == [there]
        assert await m.read() == list(range(5))
        assert "orders-0" not in m.names(here)


async def test_a_switch_that_fails_leaves_everything_as_it_was(tmp_path, loop, monkeypatch):
    """Whoever waits is answered, the metadata names the old directory again, and the next try succeeds."""
    from barnabas.log.log_directory import LogDirectory

    def fail(*_):
        raise OSError(5, "Input/output error")

    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(3)
        here, there = await m.start_at()
        with monkeypatch.context() as patch:
            patch.setattr(LogDirectory, "take_in", fail)
            assert await m.move(there) == 0
            end = time.monotonic() + DEADLINE_S
            while m.node.broker.log_directories.futures:
                await m.produce()
                assert time.monotonic() < end
        await m.produce()
        await m.until(lambda _: m.metadata_place() == here)
        assert await m.read() == list(range(len(m.written)))
        assert await m.move(there) == ErrorCode.KAFKA_STORAGE_ERROR  # a disk that fails a rename is offline


async def test_no_move_is_told_while_too_many_changes_wait_for_the_metadata_log(tmp_path, loop, monkeypatch):
    """The replica stays, which the metadata says too; the next try succeeds."""
    from barnabas.controller import controller

    async with moving(tmp_path) as m:
        await m.create()
        here, there = await m.start_at()
        await m.until(lambda _: m.metadata_place() == here)
        before = m.node.broker._controller.image
        with monkeypatch.context() as patch:
            patch.setattr(controller, "CHANGES_WAITING_MAX", 0)
            assert await m.move(there) == 0
            await eventually(lambda: not m.node.broker.log_directories.futures)
        assert m.node.broker._controller.image is before
        assert m.metadata_place() == here
        assert await m.move(there) == 0
        await m.until(lambda _: m.metadata_place() == there)


async def test_a_copy_of_a_deleted_topic_says_nothing_of_a_new_one(tmp_path, loop):
    """It was left by a crash, and the topic of the same name is another one: it is not moved, and it is served."""
    async with moving(tmp_path) as m:
        await m.create()
        here, there = await m.start_at()
    left = tmp_path / there / f"orders-0.{'0' * 32}-future"
    left.mkdir()
    (left / "partition.metadata").write_text("version: 0\ntopic_id: AAAAAAAAQACAAAAAAAAAAA\n")
    async with moving(tmp_path) as m:
        assert [place[0] for place in await m.places()] == [here]
        await m.until(lambda _: m.names(there) == [])
        assert [place[0] for place in await m.places()] == [here]
        await m.produce(2)
        assert await m.read() == [0, 1]


async def test_a_topic_deleted_behind_the_switch_leaves_nothing(tmp_path, loop, monkeypatch):
    """Also the directory that it has just left goes at once: nobody would know its topic after a crash."""
    from barnabas.log.log_directories import LogDirectories

    discard = LogDirectories.discard_former
    may_go_on = asyncio.Event()

    async def late(*arguments):
        await may_go_on.wait()
        await discard(*arguments)

    async with moving(tmp_path) as m:
        await m.create()
        here, there = await m.start_at()
        monkeypatch.setattr(LogDirectories, "discard_former", late)
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert m.names(here) == m.names(there) == ["orders-0"]
        await m.node.call(requests.delete_topics(["orders"]), requests.DELETE)
        assert "orders-0" not in m.names(here) + m.names(there)
        may_go_on.set()
        await m.until(lambda _: m.names(here) + m.names(there) == [])


async def test_a_log_that_is_truncated_while_it_moves_stays(tmp_path, loop):
    """A new leader may have a follower drop records: a copy made before may hold them, and does not take its place."""
    async with moving(tmp_path) as m:
        await m.create()
        await m.produce(20, 10_000)
        here, there = await m.start_at()
        await m.throttle(20_000)
        assert await m.move(there) == 0
        await m.until(lambda places: any(place[3] and place[1] > 0 for place in places))
        log = m.node.broker._replicas.get("orders", 0).log
        assert log.truncate_to(1)
        del m.written[1:]
        await m.produce(20, 9_999)
        await m.throttle(None)
        places = await m.until(lambda places: len(places) == 1)
        assert places[0][0] == here
        assert await m.move(there) == 0
        await m.has_moved(there)
        assert await m.read() == list(range(21))

"""A disk that is not there at the start: what lies on it waits for it, and never begins anew by itself."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest

from barnabas.errors import ConfigError, ErrorCode
from barnabas.replication.directory_assignments import DirectoryAssignments
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.primitives import uuid_to_text
from tests import topic_requests as requests
from tests.handlers import node

STORAGE = ErrorCode.KAFKA_STORAGE_ERROR
PARTITIONS = 4


def create(name):
    return requests.create_topics([name], PARTITIONS)


async def produce(one, topic, partition, value=b"v"):
    answer = await one.call(requests.produce(topic, partition, value), requests.PRODUCE)
    return requests.produced(answer).error_code


async def read(one, topic, partition):
    """The values of a partition, or the error code."""
    answer = await one.call(requests.fetch(topic, partition, 0), requests.FETCH)
    return requests.offset_and_values(answer, 0)[1]


async def read_all(one, topic="t"):
    return [await read(one, topic, partition) for partition in range(PARTITIONS)]


def gauge_of(one, name):
    (samples,) = [samples for metric, samples, _ in one.broker.metrics.collect() if metric.name == name]
    return samples[0].value


class Disks:
    """A broker's two disks; the first one has the metadata."""

    def __init__(self, root):
        self.root = root
        self.first, self.second = root / "first", root / "second"
        self.away = root / "away"

    def running(self, *directories, **settings):
        directories = directories or (self.first, self.second)
        return node.running(self.root, log_dirs=",".join(map(str, directories)), **settings)

    def partitions_on(self, disk, topic="t"):
        return sorted(int(path.name.rpartition("-")[2]) for path in disk.glob(f"{topic}-[0-9]"))

    async def fill(self):
        """Some acknowledged records in each partition; gives those on the second disk."""
        async with self.running() as one:
            await one.call(create("t"), 5)
            for partition in range(PARTITIONS):
                assert await produce(one, "t", partition, b"%d" % partition) == 0
        return self.partitions_on(self.second)

    def unmount(self):
        """The second disk is not mounted: its mount point is empty."""
        self.second.rename(self.away)
        self.second.mkdir()

    def mount(self):
        shutil.rmtree(self.second, ignore_errors=True)
        self.away.rename(self.second)


@pytest.fixture
def disks(tmp_path):
    return Disks(tmp_path)


def scenario(function):
    def test(disks, caplog):
        asyncio.run(function(disks, caplog))

    test.__doc__ = function.__doc__
    return test


def values(lost=()):
    return [STORAGE if partition in lost else [b"%d" % partition] for partition in range(PARTITIONS)]


@pytest.mark.parametrize("mount_point", ["empty", "absent", "not in log.dirs"])
def test_what_lies_on_a_missing_disk_waits_for_it(disks, caplog, mount_point):
    """Its partitions answer KAFKA_STORAGE_ERROR, the others and new ones are served; with the disk everything is back."""

    async def run():
        there = await disks.fill()
        assert len(there) == 2
        disks.unmount()
        if mount_point == "absent":
            disks.second.rmdir()
        directories = [disks.first] if mount_point == "not in log.dirs" else [disks.first, disks.second]
        for _ in range(2):
            caplog.clear()
            async with disks.running(*directories) as one:
                assert await read_all(one) == values(lost=there)
                assert await produce(one, "t", there[0]) == STORAGE
                name = f"new{_}"
                await one.call(create(name), 5)
                for partition in range(PARTITIONS):
                    assert await produce(one, name, partition) == 0
                gauge = gauge_of(one, "kafka_server_replicamanager_offlinereplicacount")
                assert gauge == len(there)
            assert "log directory is missing" in caplog.text
            assert "barnabas.lost.log.dirs=" in caplog.text
            assert not disks.partitions_on(disks.second)
            assert not (disks.second / "meta.properties").exists()
        disks.mount()
        async with disks.running() as one:
            assert await read_all(one) == values()
            assert await produce(one, "t", there[0]) == 0
            assert await read_all(one, "new0") == [[b"v"]] * PARTITIONS

    asyncio.run(run())


@pytest.mark.parametrize("replacement", ["an empty disk", "none"])
def test_a_lost_disk_is_given_up_on_purpose(disks, caplog, replacement):
    """Named in barnabas.lost.log.dirs, its partitions begin anew with another leader epoch; the name may stay or go."""

    async def epochs(one):
        topic = (await one.call(MetadataRequest(topics=None), 9)).topics[0]
        return {partition.partition_index: partition.leader_epoch for partition in topic.partitions}

    async def run():
        there = await disks.fill()
        async with disks.running() as one:
            before = await epochs(one)
        disks.unmount()
        directories = [disks.first, disks.second] if replacement == "an empty disk" else [disks.first]
        async with disks.running(*directories) as one:
            assert await read_all(one) == values(lost=there)
        lost = re.search(r"barnabas\.lost\.log\.dirs=(\S+)", caplog.text)[1]
        for settings in ({"barnabas_lost_log_dirs": lost}, {"barnabas_lost_log_dirs": lost}, {}):
            async with disks.running(*directories, **settings) as one:
                anew = settings and before is not None
                if anew:
                    for partition in there:
                        assert await read(one, "t", partition) == []
                        assert await produce(one, "t", partition, b"%d" % partition) == 0
                    after = await epochs(one)
                    assert all(after[partition] > before[partition] for partition in there)
                    before = None
                assert await read_all(one) == values()
        assert "begin anew, empty" in caplog.text

    asyncio.run(run())


@scenario
async def test_an_unfinished_copy_of_what_a_lost_disk_had_takes_its_place(disks, caplog):
    """It had not moved yet when the disk was lost: what the copy has of it is better than nothing."""
    there = await disks.fill()
    async with disks.running() as one:
        for partition in there:
            for number in range(3):
                assert await produce(one, "t", partition, b"more %d" % number) == 0
        for number, partition in enumerate(there):
            copy = disks.first / f"t-{partition}.{'0' * 31}{number}-future"
            shutil.copytree(disks.second / f"t-{partition}", copy)
            log = copy / f"{0:020d}.log"
            log.write_bytes(log.read_bytes()[: -10 if number else None])
            lesser = disks.first / f"t-{partition}.{'f' * 32}-future"
            shutil.copytree(copy, lesser)
            (lesser / log.name).write_bytes(b"")
    disks.unmount()
    async with disks.running() as one:
        assert await read_all(one) == values(lost=there)
    lost = re.search(r"barnabas\.lost\.log\.dirs=(\S+)", caplog.text)[1]
    expected = values()
    expected[there[0]] += [b"more 0", b"more 1", b"more 2"]
    expected[there[1]] += [b"more 0", b"more 1"]
    for settings in ({"barnabas_lost_log_dirs": lost}, {}):
        async with disks.running(**settings) as one:
            assert await read_all(one) == expected
            for partition in there:
                assert await produce(one, "t", partition, b"after") == 0
                expected[partition].append(b"after")
            assert await read_all(one) == expected
    assert "an unfinished copy is all that is left of a log" in caplog.text
    assert not list(disks.first.glob("*-future"))


@scenario
async def test_metadata_from_before_it_knew_directories_is_enough(disks, caplog):
    """Partitions that were never assigned to a directory are not begun anew either while a registered one is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectoryAssignments, "note", lambda *_: None)
        there = await disks.fill()
    disks.unmount()
    for _ in range(2):
        async with disks.running() as one:
            assert await read_all(one) == values(lost=there)
    disks.mount()
    async with disks.running() as one:
        assert await read_all(one) == values()


@scenario
async def test_without_the_metadata_log_there_is_no_start(disks, caplog):
    """A broker whose metadata is on the missing disk does not begin new metadata, and sets no partition aside."""
    await disks.fill()
    disks.first.rename(disks.away)
    before = sorted(path.name for path in disks.second.iterdir())
    with pytest.raises(ConfigError, match=r"first has no metadata log .*mount its disk"):
        async with disks.running():
            pass
    assert sorted(path.name for path in disks.second.iterdir()) == before
    shutil.rmtree(disks.first)
    disks.away.rename(disks.first)
    async with disks.running() as one:
        assert await read_all(one) == values()


@scenario
async def test_the_only_data_disk_is_missing(disks, caplog):
    """With the metadata elsewhere, a broker whose only data directory is empty refuses to start, and says how to go on."""
    async with disks.running(disks.second, metadata_log_dir=disks.first) as one:
        await one.call(create("t"), 5)
        assert await produce(one, "t", 0, b"0") == 0
    disks.unmount()
    with pytest.raises(
        ConfigError, match=r"second is empty, and the log directory \S+ \(with t-0, .*is missing"
    ):
        async with disks.running(disks.second, metadata_log_dir=disks.first):
            pass
    disks.mount()
    async with disks.running(disks.second, metadata_log_dir=disks.first) as one:
        assert await read(one, "t", 0) == [b"0"]


@scenario
async def test_new_directories_may_be_forbidden(disks, caplog):
    """With barnabas.accept.new.log.dirs=false an empty directory is no log directory, not even the first and only one."""
    with pytest.raises(ConfigError, match=r"first is empty, and barnabas.accept.new.log.dirs is false"):
        async with disks.running(disks.first, barnabas_accept_new_log_dirs="false"):
            pass
    async with disks.running(disks.first) as one:
        await one.call(create("t"), 5)
    async with disks.running(barnabas_accept_new_log_dirs="false") as one:
        assert await read_all(one) == [[]] * PARTITIONS
        assert [directory.path for directory in one.broker.log_directories.online] == [disks.first]
    async with disks.running() as one:
        assert len(one.broker.log_directories.online) == 2


@scenario
async def test_a_lost_meta_properties_gets_its_id_back(disks, caplog):
    """A directory with partitions and without meta.properties is no missing one: the metadata knows its id."""
    await disks.fill()
    path = disks.second / "meta.properties"
    before = path.read_bytes()
    path.unlink()
    async with disks.running() as one:
        assert await read_all(one) == values()
    assert path.read_bytes() == before


@scenario
async def test_a_partition_may_be_carried_to_another_disk(disks, caplog):
    """A partition's directory that was moved while the broker was stopped is found, and the metadata learns of it."""
    there = await disks.fill()
    shutil.move(disks.second / f"t-{there[0]}", disks.first / f"t-{there[0]}")
    async with disks.running() as one:
        assert await read_all(one) == values()
    disks.unmount()
    async with disks.running() as one:
        assert await read_all(one) == values(lost=there[1:])


@scenario
async def test_a_disk_that_was_given_up_may_come_back(disks, caplog):
    """Its partitions have begun anew elsewhere by then: those count, and what the disk held is set aside, not deleted."""
    there = await disks.fill()
    async with disks.running() as one:
        lost = one.broker.log_directories.directory_ids[1]
    disks.unmount()
    async with disks.running(disks.first, barnabas_lost_log_dirs=uuid_to_text(lost)) as one:
        for partition in there:
            assert await produce(one, "t", partition, b"%d" % partition) == 0
    disks.mount()
    async with disks.running() as one:
        assert await read_all(one) == values()
    assert len(list(disks.second.glob("t*-stray"))) == len(there)


@scenario
async def test_a_topic_on_a_missing_disk_can_be_deleted(disks, caplog):
    """Deleted and created again it is another topic, which is served; what comes back with the disk is set aside."""
    there = await disks.fill()
    disks.unmount()
    async with disks.running() as one:
        await one.call(DeleteTopicsRequest(topic_names=["t"], timeout_ms=10_000), 5)
        await one.call(create("t"), 5)
        for partition in range(PARTITIONS):
            assert await produce(one, "t", partition, b"again") == 0
    disks.mount()
    async with disks.running() as one:
        assert await read_all(one) == [[b"again"]] * PARTITIONS
    assert len(list(disks.second.glob("t*-stray"))) == len(there)


@scenario
async def test_a_typing_error_in_the_lost_directories_is_named(disks, caplog):
    """What is no id is refused in one sentence."""
    with pytest.raises(ConfigError, match=r"barnabas.lost.log.dirs has 'second', which is no id"):
        async with disks.running(barnabas_lost_log_dirs="second"):
            pass

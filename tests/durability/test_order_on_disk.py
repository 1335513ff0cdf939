"""In which order things reach the disk, so that no power failure leaves what a start cannot make sense of."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from unittest import mock

import pytest

from barnabas.controller.store.batches import decode_snapshot
from barnabas.errors import StorageError
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from tests import topic_requests as requests
from tests.durability.failing_power import Disk, FailingPowerFiles
from tests.handlers import node

METADATA = "__cluster_metadata-0"


@asynccontextmanager
async def watching(root, check, **settings):
    """A broker with the directories `a` and `b` on a disk; `check(disk)` is called before and after each change there."""
    root.mkdir(exist_ok=True)
    disk = Disk(root)
    found = []

    def on_moment():
        if (wrong := check(disk)) is not None:
            found.append(wrong)

    disk.on_moment = on_moment
    settings.setdefault("log_dirs", f"{root}/a,{root}/b")
    with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(disk)):
        async with node.running(root, **settings) as one:
            yield one
    assert not found


async def create(one, name="orders"):
    answer = await one.call(requests.create_topics([name]), requests.CREATE)
    assert answer.topics[0].error_code == 0


async def delete(one, name="orders"):
    answer = await one.call(requests.delete_topics([name]), requests.DELETE)
    assert answer.responses[0].error_code == 0


def names(disk, place):
    """The entries of a log directory, and those of them that a power failure would leave for certain."""
    directory = disk.tree.current.get(place)
    return (set(), set()) if directory is None else (set(directory.current), set(directory.safe))


async def test_a_copy_is_begun_only_when_its_log_is_on_the_disk(tmp_path, loop):
    """Else a power failure may leave the copy alone, of a partition that was begun a moment ago."""
    copies = set()

    def check(disk):
        for here, there in (("a", "b"), ("b", "a")):
            new = {name for name in names(disk, there)[0] if name.endswith("-future")} - copies
            copies.update(new)
            if new and "orders-0" not in names(disk, here)[1]:
                return new
        return None

    async with watching(tmp_path / "disk", check) as one:
        await create(one)
        for place in "ab":
            request = requests.move_replica("orders", 0, tmp_path / "disk" / place)
            answer = await one.call(request, requests.ALTER_REPLICA_LOG_DIRS)
            assert answer.results[0].partitions[0].error_code == 0
            async with asyncio.timeout(20):
                while one.broker.log_directories.hosted_log("orders", 0).directory.path.name != place:
                    await asyncio.sleep(0.001)
    assert copies


async def test_a_snapshot_forgets_a_deleted_topic_only_when_its_directory_is_out_of_use_for_good(
    tmp_path, loop
):
    """Else a power failure may bring the directory back when nothing tells any more that it was deleted."""
    seen = set()

    def check(disk):
        for place in "ab":
            directory = disk.root / place / METADATA
            newest = max(directory.glob("*.checkpoint"), default=None)
            if newest is None or newest in seen:
                continue
            seen.add(newest)
            kept = {
                record.name
                for record in decode_snapshot(newest.read_bytes(), {})
                if isinstance(record, TopicRecord)
            }
            created.update(kept)
            back = {name for name in names(disk, "a")[1] | names(disk, "b")[1] if name.startswith("orders")}
            back = {name for name in back if name.rpartition("-")[0] in created - kept}
            if back:
                return newest.name, back
        return None

    created = set()
    settings = {"metadata_log_max_record_bytes_between_snapshots": 1}
    async with watching(tmp_path / "disk", check, **settings) as one:
        for number in range(5):
            name = f"orders{number}"
            await create(one, name)
            hosted = None
            async with asyncio.timeout(20):
                while hosted is None:
                    await asyncio.sleep(0.001)
                    hosted = one.broker.log_directories.hosted_log(name, 0)
            one.broker.log_directories.entry_sync(hosted)()
            await delete(one, name)
    assert created


async def test_a_directory_that_came_back_does_not_stand_in_the_way_of_a_start(tmp_path, loop):
    """Its topic is known to be deleted, though its own file does not tell its id any more, and the log's end is torn."""
    async with node.running(tmp_path) as one:
        await create(one)
    data = tmp_path / "data"
    shutil.copytree(data / "orders-0", tmp_path / "former")
    async with node.running(tmp_path) as one:
        await delete(one)
    shutil.copytree(tmp_path / "former", data / "orders-0")
    (data / "orders-0" / "partition.metadata").write_bytes(b"")
    newest = max((data / METADATA).glob("*.log"))
    newest.write_bytes(newest.read_bytes() + b"torn")
    async with node.running(tmp_path) as one:
        assert "orders" not in one.image.topics
        await create(one)


@pytest.mark.parametrize("was_deleted", [True, False])
async def test_records_of_a_deleted_topic_do_not_come_back_in_the_next_one_of_its_name(
    tmp_path, loop, was_deleted
):
    """When the power failed the old directory had its old name still, and neither topic's id had reached the disk."""
    async with node.running(tmp_path) as one:
        await create(one)
        answer = await one.call(requests.produce("orders", 0, b"former", acks=1), requests.PRODUCE)
        assert requests.produced(answer).error_code == 0
        if was_deleted:
            shutil.copytree(tmp_path / "data" / "orders-0", tmp_path / "former")
            await delete(one)
            await create(one)
        else:
            shutil.copytree(tmp_path / "data", tmp_path / "killed")
    data = tmp_path / "data"
    if was_deleted:
        shutil.rmtree(data / "orders-0")
        shutil.copytree(tmp_path / "former", data / "orders-0")
        (data / ".kafka_cleanshutdown").unlink()
    else:
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "killed", data)
    (data / "orders-0" / "partition.metadata").write_bytes(b"")
    async with node.running(tmp_path) as one:
        answer = await one.call(requests.fetch("orders", 0, 0), requests.FETCH)
        _, values = requests.offset_and_values(answer, 0)
        assert values == ([] if was_deleted else [b"former"])
        assert len(list(data.glob("orders-0.*-stray"))) == was_deleted
        answer = await one.call(requests.produce("orders", 0, b"new"), requests.PRODUCE)
        assert requests.produced(answer).base_offset == len(values)


async def test_a_start_that_is_refused_forgets_nothing(tmp_path, loop):
    """Which topics were deleted is still known to the next one, when whoever looks after it has moved away what was wrong."""
    settings = {"metadata_log_max_record_bytes_between_snapshots": 1}
    async with node.running(tmp_path) as one:
        await create(one, "former")
    data = tmp_path / "data"
    shutil.copytree(data / "former-0", tmp_path / "former")
    async with node.running(tmp_path) as one:
        await delete(one, "former")
    shutil.copytree(tmp_path / "former", data / "former-0")
    unknown = data / "unknown-0"
    unknown.mkdir()
    newest = max((data / METADATA).glob("*.log"))
    newest.write_bytes(newest.read_bytes() + b"torn")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"topics of 1 logs are not in it any more \(unknown-0\)"):
            async with node.running(tmp_path, **settings):
                pass
    unknown.rmdir()
    async with node.running(tmp_path, **settings) as one:
        assert not one.image.topics


class Worst:
    """The chance of a power failure that takes whatever it can."""

    def choice(self, options):
        return options[0]

    def randint(self, least, _most):
        return least

    def randrange(self, _count):
        return 0


@pytest.mark.parametrize(
    "settings", [{"log_dirs": "a"}, {"log_dirs": "a,b", "metadata_log_dir": "m"}], ids=["one", "several"]
)
async def test_directories_that_a_kill_left_unsynced_are_synced(tmp_path, loop, settings):
    """The very first start may be killed when it has just made them: the second one cannot rely on them."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    moments = []

    def on_moment():
        if disk.tree.current.keys() - disk.tree.safe.keys():
            moments.append(disk.copy(tmp_path / f"killed-{len(moments)}"))

    disk.on_moment = on_moment

    def placed(root):
        return {
            name: ",".join(str(root / each) for each in value.split(",")) for name, value in settings.items()
        }

    with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(disk)):
        async with node.running(root, **placed(root)):
            pass
    assert moments
    for number, killed in enumerate(moments):
        with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(killed)):
            async with node.running(killed.root, **placed(killed.root)) as one:
                await create(one)
                failed = tmp_path / f"failed-{number}"
                killed.image(failed, Worst())
        async with node.running(failed, **placed(failed)) as one:
            assert set(one.image.topics) == {"orders"}


async def test_metadata_that_a_kill_left_unsynced_is_synced_before_more_follows(tmp_path, loop):
    """Segments that were begun, and closed, by a process that died: what the next one adds would be lost with them."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    moments = []

    def on_moment():
        directory = disk.node(root / "data" / METADATA)
        if directory is None:
            return
        last = max((name for name in directory.current if name.endswith(".log")), default=None)
        if last is not None and last not in directory.safe and directory.current[last].synced == b"":
            moments.append(disk.copy(tmp_path / f"killed-{len(moments)}"))

    disk.on_moment = on_moment
    settings = {"metadata_log_max_record_bytes_between_snapshots": 1}
    with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(disk)):
        async with node.running(root, **settings) as one:
            await create(one, "first")
            await create(one, "second")
            disk.on_moment = lambda: None
    assert moments
    for number, killed in enumerate(moments):
        with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(killed)):
            async with node.running(killed.root) as one:
                await create(one)
                known = set(one.image.topics)
                failed = tmp_path / f"failed-{number}"
                killed.image(failed, Worst())
        async with node.running(failed) as one:
            assert set(one.image.topics) == known


async def test_the_id_of_a_log_that_was_empty_at_a_stop_goes_before_its_first_records(tmp_path, loop):
    """The stop has not synced it; a log whose id a power failure takes may be put aside, with what was acknowledged."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    for is_first in (True, False):
        with mock.patch("barnabas.broker.Files", return_value=FailingPowerFiles(disk)):
            async with node.running(root, log_dirs=f"{root}/a") as one:
                if is_first:
                    await create(one)
                    continue
                answer = await one.call(requests.produce("orders", 0, b"value"), requests.PRODUCE)
                assert requests.produced(answer).error_code == 0
                path = root / "a" / "orders-0" / "partition.metadata"
                assert disk.node(path).synced == path.read_bytes()

import asyncio
import random

import pytest

from barnabas.controller.store.metadata_log import METADATA_DIRECTORY
from barnabas.errors import StorageError
from barnabas.log.files import Files
from barnabas.metadata.deltas import apply
from barnabas.metadata.image import MetadataImage
from barnabas.wire.messages.metadata.begin_transaction_record import BeginTransactionRecord
from barnabas.wire.messages.metadata.config_record import ConfigRecord
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord
from tests.controller.one_node import embedded_store
from tests.event_loops import eventually


class Follower:
    """Remembers what a store tells, and makes an image of it."""

    def __init__(self):
        self.image = MetadataImage("cluster")
        self.told = []

    def on_snapshot(self, records, offset, epoch):
        self.told.append(("snapshot", offset))
        self.image, _ = apply(MetadataImage("cluster"), records, offset=offset, epoch=epoch)

    def on_commit(self, records, offset, epoch):
        self.told.append(("commit", offset))
        self.image, _ = apply(self.image, records, offset=offset, epoch=epoch)

    def on_leadership(self, leader_id, epoch):
        self.told.append(("leader", leader_id, epoch))


class CountingFiles(Files):
    """Counts syncs, and fails them when it is told to."""

    def __init__(self):
        super().__init__()
        self.sync_count = 0
        self.error = None

    def sync(self, file):
        self.sync_count += 1
        if self.error is not None:
            raise self.error
        super().sync(file)


def setting(number, value="v"):
    return ConfigRecord(resource_type=2, resource_name="t", name=f"key-{number}", value=value)


async def opened(directory, **options):
    store, follower = embedded_store(directory, **options), Follower()
    await store.open(follower)
    return store, follower


def log_file(directory):
    (path,) = (directory / METADATA_DIRECTORY).glob("*.log")
    return path


async def test_what_was_appended_is_there_after_a_restart(tmp_path, loop):
    """Offsets follow one another, each start leads in a new epoch, nothing is lost or doubled."""
    store, follower = await opened(tmp_path)
    assert await store.append([setting(1), setting(2)]) == 2
    assert await store.append([setting(3)]) == 3
    assert follower.told == [("leader", 1, 1), ("commit", 2), ("commit", 3)]
    await store.close()
    store, again = await opened(tmp_path)
    assert again.told == [("commit", 3), ("leader", 1, 2)]
    assert again.image == follower.image
    assert await store.append([setting(4)]) == 5
    await store.close()
    _, again = await opened(tmp_path)
    assert set(again.image.topic_config("t")) == {"key-1", "key-2", "key-3", "key-4"}


async def test_everybody_who_waits_shares_a_sync(tmp_path, loop):
    """A hundred appends at once take two rounds at most; whoever comes during a sync shares the next."""
    files = CountingFiles()
    store, _ = await opened(tmp_path, files=files)
    first = [store.append([setting(number)]) for number in range(50)]
    await asyncio.sleep(0)
    second = [store.append([setting(number)]) for number in range(50, 100)]
    assert await asyncio.gather(*first, *second) == list(range(1, 101))
    assert files.sync_count == 2
    await store.close()


async def test_nothing_is_told_before_it_is_on_the_disk(tmp_path, loop):
    """A commit is what survives a power failure."""
    files = CountingFiles()
    store, follower = await opened(tmp_path, files=files)
    before = log_file(tmp_path).stat().st_size
    future = store.append([setting(1)])
    assert not future.done()
    assert ("commit", 1) not in follower.told
    await future
    assert files.sync_count == 1
    assert log_file(tmp_path).stat().st_size > before
    await store.close()


async def test_a_failed_disk_refuses_all_that_comes_after(tmp_path, loop, caplog):
    """What was not acknowledged fails, and nothing is accepted any more: nobody knows what is on the disk."""
    files = CountingFiles()
    store, follower = await opened(tmp_path, files=files)
    await store.append([setting(1)])
    files.error = StorageError("the disk is on fire")
    failing = store.append([setting(2)])
    await asyncio.sleep(0)
    waiting = store.append([setting(3)])
    for future in (failing, waiting):
        with pytest.raises(StorageError, match=r"until a restart.*the disk is on fire"):
            await future
    files.error = None
    with pytest.raises(StorageError, match="until a restart"):
        await store.append([setting(4)])
    assert set(follower.image.topic_config("t")) == {"key-1"}
    assert "metadata log failed" in caplog.text
    await store.close()


async def test_a_torn_end_is_cut_off_and_kept(tmp_path, loop, caplog):
    """After a crash in the middle of a write the whole batches count; the rest is in another file, and is told of."""
    store, _ = await opened(tmp_path)
    await store.append([setting(1)])
    await store.append([setting(2)])
    await store.close()
    path = log_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    store, follower = await opened(tmp_path)
    assert set(follower.image.topic_config("t")) == {"key-1"}
    assert "torn end of the metadata log is cut off" in caplog.text
    (kept,) = path.parent.glob("*.truncated")
    assert path.read_bytes().startswith(content[: -5 - len(kept.read_bytes())])
    await store.append([setting(3)])
    await store.close()
    _, follower = await opened(tmp_path)
    assert set(follower.image.topic_config("t")) == {"key-1", "key-3"}


async def test_a_torn_end_of_zeros_is_just_cut_off(tmp_path, loop):
    """A file that grew before its content was written ends in zeros, which nobody needs."""
    store, _ = await opened(tmp_path)
    await store.append([setting(1)])
    await store.close()
    path = log_file(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(5000))
    _, follower = await opened(tmp_path)
    assert set(follower.image.topic_config("t")) == {"key-1"}
    assert not list(path.parent.glob("*.truncated"))


async def test_the_log_does_not_grow_without_bound(tmp_path, loop):
    """Snapshots take the place of old segments; a start reads a snapshot and the log since."""
    store, follower = await opened(tmp_path, snapshot_bytes=10_000)
    directory = tmp_path / METADATA_DIRECTORY
    for number in range(400):
        await store.append([setting(number % 10, str(number)) for _ in range(5)])
        store.snapshot_if_due(follower.image)
    await eventually(lambda: store._snapshot is None)
    snapshots = sorted(path.name for path in directory.glob("*.checkpoint"))
    assert len(snapshots) == 2
    segments = sorted(directory.glob("*.log"))
    assert sum(path.stat().st_size for path in segments) < 60_000
    # The older snapshot and the log since are whole too.
    assert int(segments[0].stem) <= int(snapshots[0].split("-")[0])
    await store.close()
    store, again = await opened(tmp_path)
    assert again.told[0] == ("snapshot", int(snapshots[1].split("-")[0]) - 1)
    assert again.image.configs == follower.image.configs
    await store.close()
    newest = directory / snapshots[1]
    newest.write_bytes(newest.read_bytes()[:-1])
    store, again = await opened(tmp_path)
    assert again.told[0] == ("snapshot", int(snapshots[0].split("-")[0]) - 1)
    assert again.image.configs == follower.image.configs
    assert (directory / f"{snapshots[1]}.damaged").exists()
    await store.close()


async def test_a_snapshot_that_cannot_be_written_is_tried_again(tmp_path, loop, caplog):
    """The log is whole without it."""

    class NoRoom(Files):
        has_room = False

        def replace_file(self, path, data, *, sync=True):
            if path.suffix == ".checkpoint" and not self.has_room:
                raise OSError(28, "No space left on device")
            super().replace_file(path, data, sync=sync)

    files = NoRoom()
    store, follower = await opened(tmp_path, files=files, snapshot_bytes=100)
    await store.append([setting(1)])
    store.snapshot_if_due(follower.image)
    await eventually(lambda: store._snapshot is None)
    assert "No space left on device" in caplog.text
    files.has_room = True
    store.snapshot_if_due(follower.image)
    await eventually(lambda: list((tmp_path / METADATA_DIRECTORY).glob("*.checkpoint")))
    await store.close()


async def test_segments_are_closed_at_their_size(tmp_path, loop):
    """Without any snapshot, all segments are read at the start."""
    store, follower = await opened(tmp_path, segment_bytes=200)
    for number in range(10):
        await store.append([setting(number)])
    await store.close()
    assert len(list((tmp_path / METADATA_DIRECTORY).glob("*.log"))) > 2
    _, again = await opened(tmp_path)
    assert again.image == follower.image


async def test_a_missing_part_stops_the_start(tmp_path, loop):
    """A gap in the log, or damage before its end, is not passed over: the message says what to do."""
    store, _ = await opened(tmp_path, segment_bytes=200)
    for number in range(10):
        await store.append([setting(number)])
    await store.close()
    segments = sorted((tmp_path / METADATA_DIRECTORY).glob("*.log"))
    middle = segments[1].read_bytes()
    segments[1].write_bytes(middle[:-1])
    with pytest.raises(StorageError, match=r"is damaged at byte .* restore the directory from a backup"):
        await opened(tmp_path)
    segments[1].unlink()
    with pytest.raises(StorageError, match=r"begins at offset \d+, but \d+\.log ends at"):
        await opened(tmp_path)
    segments[0].unlink()
    with pytest.raises(StorageError, match="has no usable snapshot"):
        await opened(tmp_path)


async def test_a_transaction_that_nobody_ended_is_aborted(tmp_path, loop):
    """What a dying Kafka controller left unfinished does not come to life with our records."""
    store, _ = await opened(tmp_path)
    await store.append([setting(1)])
    await store.append([BeginTransactionRecord(name="n"), setting(2)])
    await store.close()
    store, follower = await opened(tmp_path)
    assert set(follower.image.topic_config("t")) == {"key-1"}
    await store.append([setting(3)])
    await store.close()
    _, follower = await opened(tmp_path)
    assert set(follower.image.topic_config("t")) == {"key-1", "key-3"}


async def test_left_over_and_index_files_are_removed(tmp_path, loop):
    """Half-written files, and indexes that would no longer fit, are gone after the start."""
    store, _ = await opened(tmp_path)
    await store.append([FeatureLevelRecord(name="metadata.version", feature_level=30)])
    await store.close()
    directory = tmp_path / METADATA_DIRECTORY
    for name in (
        "x.checkpoint.tmp",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "a.part",
    ):
        (directory / name).write_bytes(b"x")
    await opened(tmp_path)
    assert {path.name for path in directory.iterdir()} == {
        ".lock",
        ".reserve",
        "00000000000000000000.log",
        "leader-epoch-checkpoint",
        "partition.metadata",
        "quorum-state",
    }


async def test_a_directory_that_cannot_be_read_is_named(tmp_path, loop):
    """The message says where the log was to be."""
    (tmp_path / METADATA_DIRECTORY).write_bytes(b"a file in the place of the directory")
    with pytest.raises(StorageError, match=METADATA_DIRECTORY):
        await opened(tmp_path)


async def test_two_brokers_do_not_share_a_log(tmp_path, loop):
    """The second one is refused with the remedy, and may have it when the first is gone."""
    store, _ = await opened(tmp_path / "new")
    await store.append([setting(1)])
    with pytest.raises(StorageError, match=r"in use by another broker.*metadata.log.dir"):
        await opened(tmp_path / "new")
    await store.close()
    with pytest.raises(StorageError, match="is closed"):
        await store.append([setting(2)])
    store, follower = await opened(tmp_path / "new")
    assert set(follower.image.topic_config("t")) == {"key-1"}
    await store.close()


async def test_wherever_a_crash_cuts_the_log_whole_operations_survive(tmp_path, loop):
    """Every change that fits before the cut is there as a whole; nothing of a later one is."""
    store, follower = await opened(tmp_path)
    path = log_file(tmp_path)
    states = [(0, {})]
    for number in range(12):
        await store.append([setting(number), setting(number + 100)] * (number % 3 + 1))
        states.append((path.stat().st_size, dict(follower.image.configs)))
    await store.close()
    content = path.read_bytes()
    chance = random.Random(7)
    for size in [*(end for end, _ in states), *(chance.randrange(len(content)) for _ in range(60))]:
        directory = tmp_path / f"cut-{size}"
        (directory / METADATA_DIRECTORY).mkdir(parents=True, exist_ok=True)
        (directory / METADATA_DIRECTORY / path.name).write_bytes(content[:size])
        store, follower = await opened(directory)
        assert follower.image.configs == [state for end, state in states if end <= size][-1]
        await store.close()

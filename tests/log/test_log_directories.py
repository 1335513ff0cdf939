from __future__ import annotations

import asyncio
import shutil
from unittest import mock

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import ConfigError, DiskFullError, StorageError
from barnabas.log.files import Files
from barnabas.log.orderly_stop import CLOSED_TOGETHER_MIN
from tests.log.stopping_and_starting import CONFIG, IDS, Broker, append, names, scenario, until


@scenario
async def test_a_clean_restart_brings_everything_back(tmp_path):
    """After an orderly stop the logs are there, with their offsets, and none is opened before it is asked for."""
    broker = Broker(tmp_path, 2)
    async with broker.running() as logs:
        assert not logs.was_clean
        for partition in range(4):
            log = logs.create("orders", partition, IDS[0], CONFIG)
            append(log, partition) if partition else None
        cluster_id = logs.cluster_id
        directory_ids = logs.directory_ids
        logs.get("orders", 3).high_watermark = 2
        logs.get("orders", 2).raise_log_start_offset(1)
    assert all((path / ".kafka_cleanshutdown").exists() for path in broker.paths)
    async with broker.running() as logs:
        assert logs.was_clean
        assert logs.cluster_id == cluster_id
        assert logs.directory_ids == directory_ids
        assert not any((path / ".kafka_cleanshutdown").exists() for path in broker.paths)
        assert len(logs) == 4
        assert list(logs.all()) == []
        assert logs.has("orders", 3)
        log = logs.create("orders", 3, IDS[0], CONFIG)
        assert (log.log_end_offset, log.high_watermark, log.topic_id) == (3, 2, IDS[0])
        assert logs.get("orders", 2).log_start_offset == 1
        assert len(list(logs.all())) == 2
        assert logs.get("orders", 9) is None


@scenario
async def test_new_logs_go_where_the_fewest_are(tmp_path):
    """Directories fill up evenly; a cordoned one gets no new logs."""
    broker = Broker(tmp_path, 3)
    broker.settings["cordoned.log.dirs"] = str(broker.paths[2])
    async with broker.running() as logs:
        for partition in range(6):
            logs.create("orders", partition, IDS[0], CONFIG)
        assert [len(directory.hosted) for directory in logs.directories] == [3, 3, 0]
        chosen = logs.create("orders", 6, IDS[0], CONFIG, directory_id=logs.directory_ids[2])
        assert chosen.directory.parent == broker.paths[2]


@scenario
async def test_many_logs_are_closed_with_few_syncs(tmp_path):
    """A stop with many partitions does not wait for the disk three times for each; what it leaves is the same."""
    broker = Broker(tmp_path)
    if not broker.files.can_sync_file_system:
        pytest.skip("the system cannot sync a file system and tell of failures")
    async with broker.running() as logs:
        for partition in range(CLOSED_TOGETHER_MIN):
            log = logs.create("orders", partition, IDS[0], CONFIG)
            append(log, 2) if partition < 3 else None
            log.assign_leader_epoch(4, log.log_end_offset)
        before = broker.files.directory_syncs
    assert broker.files.file_system_syncs == 2
    assert broker.files.directory_syncs - before < 20
    for path in broker.paths[0].glob("orders-*/leader-epoch-checkpoint"):
        assert path.read_text().splitlines()[-1].startswith("4 ")
    async with broker.running() as logs:
        assert logs.was_clean
        for partition in range(CLOSED_TOGETHER_MIN):
            end_offset = 2 if partition < 3 else 0
            log = logs.create("orders", partition, IDS[0], CONFIG)
            assert (log.log_end_offset, log.recovery_point) == (end_offset, end_offset)


@scenario
async def test_many_logs_with_new_records_are_closed_with_few_syncs(tmp_path):
    """Records that nobody has synced yet are brought to the disk with the rest, and their files are not all open for it."""
    broker = Broker(tmp_path)
    if not broker.files.can_sync_file_system:
        pytest.skip("the system cannot sync a file system and tell of failures")
    count = 3 * CLOSED_TOGETHER_MIN
    broker.files.max_open = 10
    async with broker.running() as logs:
        for partition in range(count):
            append(logs.create("orders", partition, IDS[0], CONFIG), 1 + partition % 3)
        waiting = logs.group_commit.request(logs.get("orders", 7), 2)
        await asyncio.sleep(0)
        broker.files.most_open = 0
    await waiting
    assert broker.files.file_syncs <= 1
    assert broker.files.most_open <= 20
    async with broker.running() as logs:
        assert logs.was_clean
        for partition in range(count):
            log = logs.create("orders", partition, IDS[0], CONFIG)
            assert log.log_end_offset == log.recovery_point == 1 + partition % 3
            assert log.read(0, 1000, up_to_offset=9).region.size == log.size_bytes


@scenario
async def test_many_logs_on_a_failing_disk_leave_no_marker(tmp_path):
    """A stop whose sync fails is no clean one."""
    broker = Broker(tmp_path)
    if not broker.files.can_sync_file_system:
        pytest.skip("the system cannot sync a file system and tell of failures")
    async with broker.running() as logs:
        for partition in range(CLOSED_TOGETHER_MIN):
            log = logs.create("orders", partition, IDS[0], CONFIG)
            log.assign_leader_epoch(4, 0)
        broker.files.failing_syncs = True
    assert broker.failed == [broker.paths[0]]
    assert not (broker.paths[0] / ".kafka_cleanshutdown").exists()
    broker.files.failing_syncs = False
    async with broker.running() as logs:
        assert not logs.was_clean
        assert len(logs) == CLOSED_TOGETHER_MIN


@scenario
async def test_a_crash_is_recovered_from(tmp_path):
    """Without the marker every log is recovered before the start is over: a torn tail is cut off."""
    broker = Broker(tmp_path)
    async with broker.running(clean=False) as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        append(log, 3, pid=7, sequence=0)
        await logs.group_commit.request(log, append(log, 2, pid=7, sequence=3))
        logs.create("empty", 0, IDS[1], CONFIG)
    segment = broker.paths[0] / "orders-0" / "00000000000000000000.log"
    with segment.open("ab") as file:
        file.write(b"torn")
    async with broker.running() as logs:
        assert not logs.was_clean
        log = logs.get("orders", 0)
        assert (log.log_end_offset, log.size_bytes) == (5, segment.stat().st_size)
        assert log.producer_state.entry(7).last_sequence == 4
        assert len(list(logs.all())) == 2


@scenario
async def test_two_brokers_cannot_share_a_directory(tmp_path):
    """The second one is told so in one sentence, and leaves everything as it is."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        logs.create("orders", 0, IDS[0], CONFIG)
        with pytest.raises(ConfigError, match="in use by another broker"):
            async with Broker(tmp_path).running():
                pass
        append(logs.get("orders", 0))


@scenario
async def test_the_directory_of_another_node_is_refused(tmp_path):
    """meta.properties keeps data with its owner: node and cluster."""
    async with Broker(tmp_path).running():
        pass
    stranger = Broker(tmp_path, **{"node.id": "5"})
    with pytest.raises(ConfigError, match=r"belongs to node 1, and this is node 5; start it with node.id=1"):
        async with stranger.running():
            pass
    with pytest.raises(ConfigError, match=r"belongs to cluster .*, and this broker to cluster elsewhere"):
        async with Broker(tmp_path).running(cluster_id="elsewhere"):
            pass
    async with Broker(tmp_path).running():
        pass


@scenario
async def test_a_new_directory_joins_the_cluster_of_the_others(tmp_path):
    """A directory that is added later gets the same owner and an id of its own; a copied one is noticed."""
    async with Broker(tmp_path, 1).running() as logs:
        cluster_id = logs.cluster_id
    async with Broker(tmp_path, 2).running() as logs:
        assert logs.cluster_id == cluster_id
        assert len(set(logs.directory_ids)) == 2
    shutil.copy(tmp_path / "data0" / "meta.properties", tmp_path / "data1" / "meta.properties")
    with pytest.raises(ConfigError, match="is a copy"):
        async with Broker(tmp_path, 2).running():
            pass


@scenario
async def test_an_unusable_directory_is_named(tmp_path):
    """If no directory can be used, the start ends with one sentence and a remedy."""
    broker = Broker(tmp_path)
    broker.paths[0].write_text("a file, not a directory")
    with pytest.raises(ConfigError, match=r"cannot be used .*; make it writable"):
        async with broker.running():
            pass


@scenario
async def test_one_broken_directory_does_not_stop_the_others(tmp_path):
    """A directory that fails at the start is offline; what may lie in it is not begun anew, new partitions are."""
    broker = Broker(tmp_path, 2)
    async with broker.running() as logs:
        for partition in range(2):
            append(logs.create("orders", partition, IDS[0], CONFIG))
    broker.files.failing.append(broker.paths[0])
    async with broker.running() as logs:
        assert broker.failed == [broker.paths[0]]
        assert [directory.path for directory in logs.online] == [broker.paths[1]]
        assert logs.create("orders", 1, IDS[0], CONFIG).log_end_offset == 1
        with pytest.raises(StorageError, match="may lie in"):
            logs.create("orders", 0, IDS[0], CONFIG)
        assert logs.create("new", 0, IDS[1], CONFIG, is_new=True).log_end_offset == 0
    assert (broker.paths[1] / ".kafka_cleanshutdown").exists()


@scenario
async def test_a_disk_that_fails_takes_its_directory_offline(tmp_path):
    """All logs of a failed directory are offline with it; the others serve on, and only they are clean afterwards."""
    broker = Broker(tmp_path, 2)
    async with broker.running() as logs:
        made = [logs.create("orders", partition, IDS[0], CONFIG) for partition in range(4)]
        bad = [log for log in made if log.directory.parent == broker.paths[0]]
        good = [log for log in made if log.directory.parent == broker.paths[1]]
        broker.files.failing.append(broker.paths[0])
        with pytest.raises(StorageError):
            await logs.group_commit.request(bad[0], append(bad[0]))
        await until(lambda: broker.failed)
        assert broker.failed == [broker.paths[0]]
        assert all(log.is_offline for log in bad)
        with pytest.raises(StorageError):
            logs.create("orders", bad[0].partition, IDS[0], CONFIG)
        with pytest.raises(StorageError):
            logs.delete("orders", bad[1].partition)
        await logs.group_commit.request(good[0], append(good[0]))
        fresh = logs.create("more", 0, IDS[1], CONFIG, is_new=True)
        assert fresh.directory.parent == broker.paths[1]
    assert not (broker.paths[0] / ".kafka_cleanshutdown").exists()
    assert (broker.paths[1] / ".kafka_cleanshutdown").exists()


@scenario
async def test_a_deleted_log_is_gone_at_once_and_its_files_later(tmp_path):
    """Deletion renames; a worker unlinks. The name is free for a topic of the same name at once."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], LogConfig(file_delete_delay_ms=50))
        append(log)
        logs.delete("orders", 0)
        assert not logs.has("orders", 0)
        assert [name for name in names(broker.paths[0]) if name.endswith("-delete")] != []
        again = logs.create("orders", 0, IDS[1], CONFIG)
        assert again.log_end_offset == 0
        await until(lambda: not any(name.endswith("-delete") for name in names(broker.paths[0])))
        append(again)
        logs.delete("orders", 5)


@scenario
async def test_the_names_of_deleted_logs_are_forgotten_once_they_are_on_the_disk(tmp_path):
    """Topics come and go for years; a sync for a new one serves all deletions before it."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        for number in range(8):
            log = logs.create(f"passing-{number}", 0, IDS[0], CONFIG)
            await logs.group_commit.request(log, append(log))
            logs.delete(f"passing-{number}", 0)
        (directory,) = logs.online
        assert len(directory._renamed) <= 2


@scenario
async def test_deletion_goes_on_after_a_restart(tmp_path):
    """A directory that waited for its deletion when the broker stopped is deleted by the next start."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        logs.create("orders", 0, IDS[0], LogConfig(file_delete_delay_ms=3_600_000))
        logs.delete("orders", 0)
    assert any(name.endswith("-delete") for name in names(broker.paths[0]))
    async with broker.running() as logs:
        assert len(logs) == 0
        await until(lambda: not any(name.endswith("-delete") for name in names(broker.paths[0])))


@scenario
async def test_a_topic_created_anew_does_not_inherit_the_old_log(tmp_path):
    """A log of another topic id is set aside, not served and not deleted."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
    async with broker.running() as logs:
        assert logs.create("orders", 0, IDS[1], CONFIG).log_end_offset == 0
        (stray,) = [name for name in names(broker.paths[0]) if name.endswith("-stray")]
        assert (broker.paths[0] / stray / "00000000000000000000.log").stat().st_size > 0
    async with broker.running() as logs:
        assert len(logs) == 1


@scenario
async def test_a_directory_without_a_topic_id_is_adopted(tmp_path):
    """A crash may leave out partition.metadata; it is written anew for the topic that owns the name."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
    metadata = broker.paths[0] / "orders-0" / "partition.metadata"
    metadata.write_bytes(b"")
    async with broker.running() as logs:
        assert logs.create("orders", 0, IDS[0], CONFIG).log_end_offset == 3
    assert metadata.read_bytes().startswith(b"version: 0\ntopic_id: ")


@scenario
async def test_strays_are_set_aside(tmp_path):
    """Logs that the cluster does not place here are kept under another name."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        for partition in range(2):
            logs.create("orders", partition, IDS[0], CONFIG)
    async with broker.running() as logs:
        logs.set_aside_strays(
            lambda topic, partition, topic_id: (topic, partition, topic_id) == ("orders", 1, IDS[0])
        )
        assert [(hosted.topic, hosted.partition) for hosted in logs.hosted()] == [("orders", 1)]
        assert sum(name.endswith("-stray") for name in names(broker.paths[0])) == 1


@scenario
async def test_other_directories_are_left_alone(tmp_path):
    """The metadata log, future copies and whatever else lies there are no logs of ours, and stay."""
    broker = Broker(tmp_path)
    others = ["__cluster_metadata-0", "lost+found", "orders-0.abc-future", "orders-1.abc-stray"]
    for name in others:
        (broker.paths[0] / name).mkdir(parents=True)
    async with broker.running() as logs:
        assert len(logs) == 0
    assert set(others) < set(names(broker.paths[0]))


@scenario
async def test_the_same_partition_twice_is_refused(tmp_path):
    """Two directories with the same partition: nobody can know which one counts."""
    broker = Broker(tmp_path, 2)
    async with broker.running() as logs:
        logs.create("orders", 0, IDS[0], CONFIG)
    shutil.copytree(broker.paths[0] / "orders-0", broker.paths[1] / "orders-0")
    with pytest.raises(ConfigError, match="are the same partition"):
        async with broker.running():
            pass


@scenario
async def test_damaged_checkpoints_only_cost_time(tmp_path):
    """A checkpoint file that cannot be read is not used."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
    for name in (
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
    ):
        (broker.paths[0] / name).write_bytes(b"\xff garbage")
    async with broker.running() as logs:
        log = logs.get("orders", 0)
        assert (log.log_end_offset, log.high_watermark) == (3, None)


@scenario
async def test_a_checkpoint_that_was_damaged_since_the_stop_is_not_believed(tmp_path):
    """A bit makes another digit of one, and the format has no checksum: the marker has it."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 7)
    path = broker.paths[0] / "recovery-point-offset-checkpoint"
    path.write_text(path.read_text().replace("orders 0 7", "orders 0 3"))
    for _ in range(2):  # an end that nobody has looked up is not written down either
        async with broker.running() as logs:
            assert logs.was_clean
            assert logs.hosted_log("orders", 0).closed_end_offset is None
    async with broker.running() as logs:
        log = logs.get("orders", 0)
        assert log.log_end_offset == 7
        append(log)
    async with broker.running() as logs:
        assert logs.hosted_log("orders", 0).closed_end_offset == 8


@scenario
async def test_a_directory_without_room_for_its_recovery_does_not_pass_for_clean(tmp_path):
    """What nobody asked for since is recovered at the next start."""
    broker = Broker(tmp_path)
    async with broker.running(clean=False) as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
    with (broker.paths[0] / "orders-0" / "00000000000000000000.log").open("ab") as file:
        file.write(b"torn")

    with mock.patch.object(Files, "truncate", side_effect=DiskFullError("no room")):
        async with broker.running():
            pass
    assert not (broker.paths[0] / ".kafka_cleanshutdown").exists()
    async with broker.running() as logs:
        assert not logs.was_clean
        assert logs.get("orders", 0).log_end_offset == 3


@scenario
async def test_a_new_partition_reaches_the_disk_before_its_first_acknowledgement(tmp_path):
    """The entry of its directory and its topic id are synced once, by one sync for all partitions made before."""
    broker = Broker(tmp_path)
    synced = []

    def spied(original):
        def spy(path):
            synced.append(path)
            original(path)

        return spy

    broker.files.sync_file = spied(broker.files.sync_file)
    broker.files.sync_directory = spied(broker.files.sync_directory)
    async with broker.running() as logs:
        made = [logs.create("orders", partition, IDS[0], CONFIG) for partition in range(5)]
        synced.clear()
        await asyncio.gather(*(logs.group_commit.request(log, append(log)) for log in made))
        assert synced.count(broker.paths[0]) <= 2
        for log in made:
            assert log.directory / "partition.metadata" in synced
            assert log.directory in synced
        synced.clear()
        await asyncio.gather(*(logs.group_commit.request(log, append(log)) for log in made))
        assert synced == []


@scenario
async def test_the_broker_epoch_of_the_last_stop_is_known(tmp_path):
    """The marker says under which broker epoch the broker stopped; after a crash nothing does."""
    broker = Broker(tmp_path, 2)
    async with broker.running(clean=False) as logs:
        assert {directory.broker_epoch for directory in logs.directories} == {-1}
        for partition in range(2):
            logs.create("orders", partition, IDS[0], CONFIG)
        await logs.close(clean=True, broker_epoch=17)
    async with broker.running(clean=False) as logs:
        assert {directory.broker_epoch for directory in logs.directories} == {17}
        logs.get("orders", 0)
        logs.get("orders", 1)
    async with broker.running() as logs:
        assert {directory.broker_epoch for directory in logs.directories} == {-1}


@scenario
async def test_a_start_that_fails_leaves_a_clean_directory_clean(tmp_path):
    """As long as no log was opened, giving up puts the marker back; the next start need not recover anything."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG))
    async with broker.running(clean=False) as logs:
        assert logs.was_clean
    async with broker.running(clean=False) as logs:
        assert logs.was_clean
        logs.get("orders", 0)
    async with broker.running() as logs:
        assert not logs.was_clean


@scenario
async def test_sizes_need_no_open_log(tmp_path):
    """The size of a log is known without opening it."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
        (hosted,) = logs.hosted()
        size = logs.size_bytes(hosted)
        assert size > 0
    async with broker.running() as logs:
        (hosted,) = logs.hosted()
        assert logs.size_bytes(hosted) == size
        assert list(logs.all()) == []

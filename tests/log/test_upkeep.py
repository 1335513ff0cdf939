from __future__ import annotations

import asyncio

import pytest

from barnabas.config.topic import LogConfig
from tests.log.stopping_and_starting import CONFIG, IDS, Broker, append, names, scenario, until

HOUR_MS = 3_600_000


@scenario
async def test_what_is_too_old_is_deleted(tmp_path):
    """Retention walks over open logs and those that nobody has opened since the start, and leaves these closed."""
    broker = Broker(tmp_path)
    broker.configs = {"orders": LogConfig(retention_ms=HOUR_MS, file_delete_delay_ms=0)}
    async with broker.running() as logs:
        for partition in range(2):
            log = logs.create("orders", partition, IDS[0], broker.configs["orders"])
            append(log, 3)
            log.roll()
            append(log, 2, time_ms=1_000_000 + HOUR_MS)
        append(logs.create("forever", 0, IDS[1], LogConfig(retention_ms=-1)), 3)
        logs.create("empty", 0, IDS[2], CONFIG)
    broker.clock.ms += HOUR_MS + 1
    async with broker.running() as logs:
        opened = logs.get("orders", 0)
        await logs._upkeep.apply_retention()
        assert opened.log_start_offset == 3
        assert list(logs.all()) == [opened]
        await until(lambda: not any(".deleted" in name for name in names(broker.paths[0] / "orders-1")))
        assert "00000000000000000000.log" not in names(broker.paths[0] / "orders-1")
        assert logs.get("orders", 1).log_start_offset == 3
        assert logs.get("orders", 1).log_end_offset == 5
        assert logs.get("forever", 0).log_start_offset == 0
    async with broker.running() as logs:
        assert logs.get("orders", 1).log_start_offset == 3


@scenario
async def test_retention_by_size_of_unopened_logs(tmp_path):
    """A log that is too large is opened for its retention even if no age limits it."""
    broker = Broker(tmp_path)
    broker.configs = {"orders": LogConfig(retention_ms=-1, retention_bytes=100, file_delete_delay_ms=0)}
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], broker.configs["orders"])
        append(log, 30)
        log.roll()
        append(log, 30)
    async with broker.running() as logs:
        await logs._upkeep.apply_retention()
        assert logs.get("orders", 0).log_start_offset == 30


@scenario
async def test_flush_ms(tmp_path):
    """What has not been synced for flush.ms is; a log without that setting is left to the page cache."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        eager = logs.create("eager", 0, IDS[0], LogConfig(flush_ms=500))
        lazy = logs.create("lazy", 0, IDS[1], CONFIG)
        append(eager)
        append(lazy)
        broker.clock.set_back_ms = 3_600_000  # which is none of its business
        broker.clock.ms += 499
        await logs._upkeep.flush_due()
        broker.clock.ms += 1
        assert eager.recovery_point == 0
        await logs._upkeep.flush_due()
        await until(lambda: eager.recovery_point == 1)
        assert lazy.recovery_point == 0


@scenario
async def test_flush_messages(tmp_path):
    """A log with as many unsynced records as flush.messages is synced."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("eager", 0, IDS[0], LogConfig(flush_messages=3))
        append(log, 2)
        await logs._upkeep.flush_due()
        append(log)
        await logs._upkeep.flush_due()
        await until(lambda: log.recovery_point == 3)
        assert logs.group_commit.sync_count == 1


@scenario
async def test_closed_segments_are_synced(tmp_path):
    """A segment that gets no more appends is synced in the background, so that recovery never reads it again."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        append(log, 3)
        log.roll()
        append(log, 2)
        await logs._upkeep.flush_due()
        await until(lambda: log.recovery_point == 3)


@scenario
async def test_checkpoints(tmp_path):
    """The three checkpoint files say what the logs say, those not opened included, and are written only when they change."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        append(logs.create("orders", 0, IDS[0], CONFIG), 3)
    root = broker.paths[0]
    async with broker.running(clean=False) as logs:
        log = logs.create("orders", 1, IDS[0], CONFIG)
        await logs.group_commit.request(log, append(log, 4))
        log.high_watermark = 2
        log.raise_log_start_offset(1)
        append(log)
        await logs._upkeep.write_recovery_points()
        await logs._upkeep.write_log_start_offsets()
        await logs._upkeep.write_high_watermarks()
        recovery = root / "recovery-point-offset-checkpoint"
        assert recovery.read_text() == "0\n2\norders 0 3\norders 1 4\n"
        assert (root / "log-start-offset-checkpoint").read_text() == "0\n1\norders 1 1\n"
        assert (root / "replication-offset-checkpoint").read_text() == "0\n1\norders 1 2\n"
        recovery.unlink()
        await logs._upkeep.write_recovery_points()
        assert not recovery.exists()


@scenario
async def test_a_truncation_lowers_the_recovery_point_on_the_disk(tmp_path):
    """Else a power failure would leave what is appended there unchecked. A write on its way does not put the old one back."""
    broker = Broker(tmp_path)
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        other = logs.create("orders", 1, IDS[0], CONFIG)
        await logs.group_commit.request(log, append(log, 1))
        await logs.group_commit.request(log, append(log, 2))
        await logs.group_commit.request(other, append(other, 5))
        await logs._upkeep.write_recovery_points()
        recovery = broker.paths[0] / "recovery-point-offset-checkpoint"
        assert recovery.read_text() == "0\n2\norders 0 3\norders 1 5\n"
        (directory,) = logs.directories
        on_its_way = directory.checkpoints.write(recovery.name, {("orders", 0): 3, ("orders", 1): 6})
        log.truncate_to(1)
        synced = asyncio.get_running_loop().create_future()
        logs.group_commit.call_when_cut_is_synced(log, synced.set_result)
        assert await synced is None
        assert not log.has_unsynced_cut
        on_its_way()
        assert recovery.read_text() == "0\n2\norders 0 1\norders 1 5\n"


@scenario
async def test_a_checkpoint_that_cannot_be_written_takes_the_directory_offline(tmp_path):
    """The other directory's checkpoint is written all the same."""
    broker = Broker(tmp_path, 2)
    async with broker.running() as logs:
        for partition in range(2):
            logs.create("orders", partition, IDS[0], CONFIG)
        broker.files.failing.append(broker.paths[0])
        await logs._upkeep.write_recovery_points()
        assert broker.failed == [broker.paths[0]]
        assert (broker.paths[1] / "recovery-point-offset-checkpoint").exists()


@scenario
async def test_idle_producers_are_forgotten(tmp_path):
    """producer.id.expiration.ms counts as it is set now."""
    broker = Broker(tmp_path, **{"producer.id.expiration.ms": "1000"})
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], CONFIG)
        append(log, pid=7, sequence=0)
        broker.clock.ms += 999
        await logs._upkeep.expire_producers()
        assert log.producer_state.producer_count == 1
        broker.clock.ms += 1
        await logs._upkeep.expire_producers()
        assert log.producer_state.producer_count == 0


@scenario
async def test_the_tasks_run_by_themselves(tmp_path):
    """Each task wakes up at its interval, survives a failure of its own, and ends with the broker."""
    broker = Broker(
        tmp_path,
        **{
            "replica.high.watermark.checkpoint.interval.ms": "10",
            "log.flush.offset.checkpoint.interval.ms": "10",
            "log.flush.scheduler.interval.ms": "10",
            "log.retention.check.interval.ms": "10",
        },
    )
    async with broker.running() as logs:
        log = logs.create("orders", 0, IDS[0], LogConfig(flush_ms=0))
        calls = []

        def broken(now_ms):
            calls.append(now_ms)
            raise RuntimeError("on purpose")

        logs.start_upkeep()
        append(log)
        log.high_watermark = 1
        await until(lambda: log.recovery_point == 1)
        for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
            await until(
                lambda name=name: (
                    (broker.paths[0] / name).exists() and "orders 0 1" in (broker.paths[0] / name).read_text()
                )
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(log), "apply_retention", lambda _log, now_ms: broken(now_ms))
            await until(lambda: len(calls) > 1)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("log upkeep")]

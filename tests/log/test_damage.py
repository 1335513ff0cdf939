"""Files of a log or of a log directory damaged at random: it opens, serves what was written or refuses, and goes on.

A killed log is read from its beginning, so that everything it serves afterwards is right. One that was closed is believed: a
reader's own checks find what is wrong, and the broker stands it. In a directory, logs whose own files are not damaged are whole. Many more of these: `python -m tests.log.test_damage 10000`, of each kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from barnabas.config.topic import LogConfig
from barnabas.errors import BarnabasError, ConfigError, DecodeError, KafkaError, StorageError
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.records.batch import check_crc, iterate_headers
from barnabas.records.control import build_end_marker
from barnabas.records.record import iterate_records
from tests.log.harness import START_MS, LogHarness, moved_batches
from tests.log.stopping_and_starting import IDS, Broker, append

SETTINGS = {"segment_bytes": 1500, "index_interval_bytes": 200, "file_delete_delay_ms": 3_600_000}
STEPS = 90
PARTITIONS = 3
PRODUCERS = (-1, 1, 2)
TRANSACTIONAL = (10, 11, 12, 13)
UNREADABLE = (DecodeError, KafkaError, StorageError)


class Written(NamedTuple):
    """What a log holds.

    Attributes:
        values: By offset; None for an end marker.
        aborted: By the offset of the marker, the producer and the first offset of each aborted transaction.
        recovery_point: Of the log when it was left.
    """

    values: dict[int, bytes | None]
    aborted: dict[int, tuple[int, int]]
    recovery_point: int

    @property
    def end(self):
        return max(self.values) + 1


def write(directory: Path, chance: random.Random, *, close: bool) -> Written:
    """Fills a log of several segments, with transactions, epochs and timestamps that go back."""
    harness = LogHarness(directory, **SETTINGS)
    written = Written({}, {}, 0)
    sequences, under_way, epoch = Counter(), {}, 0
    for step in range(STEPS):
        harness.clock.now += 10
        epoch += chance.random() < 0.05
        kind = chance.choices(["plain", "transactional", "marker"], [5, 3, 2])[0]
        if kind == "marker" and under_way:
            producer = chance.choice(sorted(under_way))
            is_commit = chance.random() < 0.5
            marker = build_end_marker(
                is_commit=is_commit,
                producer_id=producer,
                producer_epoch=0,
                coordinator_epoch=0,
                timestamp_ms=harness.clock.now,
            )
            at = harness.append_bytes(marker, leader_epoch=epoch, origin=Origin.COORDINATOR).last_offset
            written.values[at] = None
            first = under_way.pop(producer)
            if not is_commit:
                written.aborted[at] = (producer, first)
        else:
            is_transactional = kind == "transactional"
            producer = chance.choice(TRANSACTIONAL if is_transactional else PRODUCERS)
            values = [
                b"%d.%d " % (step, each) + bytes(chance.choice([0, 20, 100]))
                for each in range(chance.randint(1, 3))
            ]
            options = {}
            if producer >= 0:
                options = {
                    "producer_id": producer,
                    "producer_epoch": 0,
                    "base_sequence": sequences[producer],
                    "is_transactional": is_transactional,
                }
                sequences[producer] += len(values)
            time_ms = harness.clock.now + chance.randint(-50, 50)
            first = harness.append(*values, leader_epoch=epoch, time_ms=time_ms, **options).first_offset
            written.values.update(enumerate(values, first))
            if is_transactional:
                under_way.setdefault(producer, first)
        harness.log.on_high_watermark(harness.log.log_end_offset)
        if step == STEPS // 2:
            harness.log.flush(up_to=harness.log.log_end_offset)
    if close:
        harness.log.close()
    else:
        harness.log.retire()
    harness.files.close()
    return written._replace(recovery_point=harness.log.recovery_point)


def damage(directory: Path, chance: random.Random) -> dict[Path, str]:
    """Garbles one to three files; says what was done, by their paths below the directory."""
    done = {}
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for path in chance.sample(files, chance.choice([1, 1, 1, 2, 3])):
        content = bytearray(path.read_bytes())
        at = chance.randrange(len(content)) if content else 0
        how = chance.choice(["flip", "flip", "flip", "cut", "cut off", "grow", "garble", "zero", "delete"])
        done[path.relative_to(directory)] = f"{how} at {at}"
        if how == "delete":
            path.unlink()
            continue
        if how == "flip" and content:
            content[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del content[at:]
        elif how == "cut off":
            content[at:] = bytes(len(content) - at)
        elif how == "grow":
            content += chance.randbytes(chance.randrange(1, 200))
        elif how in {"garble", "zero"}:
            size = min(chance.randrange(1, 100), len(content) - at)
            content[at : at + size] = bytes(size) if how == "zero" else chance.randbytes(size)
        path.write_bytes(content)
    return done


def last_batch_moved(origin: Path, directory: Path) -> bool:
    """Whether the last batch says other offsets than it did: nothing can tell."""
    path = max(origin.glob("*.log"))
    damaged = directory / path.name
    return damaged.exists() and moved_batches(path.read_bytes(), damaged.read_bytes())[-1]


def try_damage(origin: Path, written: Written, seed: int, *, is_closed: bool) -> None:
    """One damage to a copy of a log, and everything that may be asked of it then."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "orders-0"
        shutil.copytree(origin, directory)
        done = damage(directory, chance)
        try:
            with contextlib.closing(Files()) as files:
                _look(files, origin, directory, written, chance, is_closed=is_closed)
        except BaseException as error:
            error.add_note(_story(seed, done, is_closed=is_closed))
            raise


def _story(seed: int, done: dict[Path, str], *, is_closed: bool) -> str:
    what = "; ".join(f"{how} of {path}" for path, how in done.items())
    return f"{'closed' if is_closed else 'killed'}, seed {seed}: {what}"


def _look(
    files: Files, origin: Path, directory: Path, written: Written, chance: random.Random, *, is_closed: bool
) -> None:
    from_beginning = not is_closed and chance.random() < 0.7
    believed = is_closed or last_batch_moved(origin, directory)
    recovery_point = 0 if from_beginning else written.recovery_point
    try:
        harness = LogHarness(
            directory, files=files, clean=is_closed, recovery_point=recovery_point, **SETTINGS
        )
    except StorageError as error:
        if str(directory) not in str(error):
            raise
        return
    log = harness.log
    is_checked = from_beginning and not believed
    if not believed:
        assert log.log_end_offset <= written.end
    log.on_high_watermark(log.log_end_offset)
    found = _read(log, written, is_checked=is_checked)
    for ask in (
        *(lambda ms=START_MS + ms: log.offset_for_timestamp(ms) for ms in range(-100, 1200, 97)),
        log.offset_of_max_timestamp,
        *(lambda offset=offset: log.epoch_for_offset(offset) for offset in range(0, written.end, 7)),
    ):
        try:
            ask()
        except UNREADABLE:
            assert not is_checked
    try:
        told = {(producer, first) for producer, first in log.aborted_transactions(0, log.log_end_offset)}
    except UNREADABLE:
        assert not is_checked
    else:
        if is_checked and found.issuperset(range(log.log_end_offset)):
            assert told == {each for marker, each in written.aborted.items() if marker < log.log_end_offset}
    # What is written after the damage is there after the next restart.
    end = harness.append(b"new", leader_epoch=1000).first_offset
    assert harness.records(end) == [(end, b"new")]
    log.flush(up_to=end + 1)
    if from_beginning and chance.random() < 0.5:
        harness.crash()
    else:
        harness.reopen()
    assert harness.records(end) == [(end, b"new")]
    assert harness.log.log_end_offset == end + 1


def _read(log, written: Written, *, is_checked: bool) -> set[int]:
    """The offsets that a reader gets from the beginning until it cannot go on."""
    offsets = set()
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        before = offset
        try:
            region = log.read(offset, 400, up_to_offset=log.log_end_offset).region
            if region is None:
                break
            data = region.read()
            region.release()
            for position, header in iterate_headers(data):
                batch = data[position : position + header.size_bytes]
                if len(batch) < header.size_bytes:
                    break
                if not check_crc(batch):
                    raise DecodeError("a reader's own check")
                if header.is_control:
                    offsets.add(header.base_offset)
                    assert not is_checked or written.values[header.base_offset] is None
                for record in iterate_records(batch):
                    if record.offset >= before:
                        offsets.add(record.offset)
                        assert not is_checked or written.values[record.offset] == record.value
                offset = header.next_offset
            if offset <= before:
                raise DecodeError("it does not get on")
        except BarnabasError:
            assert not is_checked
            break
    return offsets


def write_directory(root: Path, chance: random.Random, *, close: bool) -> dict[int, Written]:
    """Fills `data0` with the logs of a topic, as a broker leaves them; by partition."""
    broker = Broker(root)
    broker.configs["orders"] = LogConfig(**SETTINGS)
    written = {
        index: write(broker.paths[0] / f"orders-{index}", chance, close=True) for index in range(PARTITIONS)
    }

    async def live() -> None:
        async with broker.running(clean=close) as logs:
            for index, topic_id in zip(written, IDS, strict=False):
                logs.create("orders", index, topic_id, broker.configs["orders"])
            await logs._upkeep.write_recovery_points()

    asyncio.run(live())
    return written


def try_directory(origin: Path, written: dict[int, Written], seed: int, *, is_closed: bool) -> None:
    """One damage to a copy of a log directory, and a start, writes, a stop and another start."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        broker = Broker(Path(place))
        broker.configs["orders"] = LogConfig(**SETTINGS)
        shutil.copytree(origin / "data0", broker.paths[0])
        done = damage(broker.paths[0], chance)
        try:
            asyncio.run(_look_into_directory(broker, written, done))
        except BaseException as error:
            error.add_note(_story(seed, done, is_closed=is_closed))
            raise


async def _look_into_directory(broker: Broker, written: dict[int, Written], done: dict[Path, str]) -> None:
    damaged = {path.parts[0] for path in done}
    ends = {}
    try:
        async with broker.running() as logs:
            for index, expected in written.items():
                is_whole = f"orders-{index}" not in damaged
                end = logs.hosted_log("orders", index).closed_end_offset
                assert end in {None, expected.end}
                try:
                    log = logs.get("orders", index)
                except StorageError:
                    # One that is beyond repair takes its log directory offline, as with Apache Kafka.
                    assert not is_whole or logs.hosted_log("orders", index).directory.is_offline
                    continue
                log.on_high_watermark(log.log_end_offset)
                found = _read(log, expected, is_checked=is_whole)
                if is_whole:
                    assert found == expected.values.keys()
                    assert log.log_end_offset == expected.end
                ends[index] = append(log)
                await logs.group_commit.request(log, ends[index])
    except (ConfigError, StorageError) as error:
        if str(broker.paths[0]) not in str(error):
            raise
        return
    if broker.failed:
        return
    async with broker.running() as logs:
        assert logs.was_clean
        assert {index: logs.hosted_log("orders", index).closed_end_offset for index in ends} == ends
        assert {index: logs.get("orders", index).log_end_offset for index in ends} == ends


@pytest.mark.parametrize("is_closed", [False, True], ids=["killed", "closed"])
def test_damaged_logs_open_and_tell_no_lies(tmp_path, is_closed):
    """Whatever is damaged; other damage each time, the seeds are in the failure."""
    run(tmp_path, random.SystemRandom().randrange(2**32), 150, is_closed=is_closed)


@pytest.mark.parametrize("is_closed", [False, True], ids=["killed", "closed"])
def test_undamaged_logs_of_a_damaged_directory_are_whole(tmp_path, is_closed):
    """Checkpoints, markers and other logs may be anything."""
    run(tmp_path, random.SystemRandom().randrange(2**32), 40, is_closed=is_closed, of=DIRECTORY)


LOG = (write, try_damage)
DIRECTORY = (write_directory, try_directory)


def run(directory: Path, seed: int, count: int, *, is_closed: bool, of=LOG) -> None:
    """`count` damages to one log, or to one directory."""
    origin = directory / "origin"
    make, try_one = of
    written = make(origin, random.Random(seed), close=is_closed)
    for number in range(count):
        try:
            try_one(origin, written, seed + number, is_closed=is_closed)
        except BaseException as error:
            error.add_note(f"written with seed {seed}")
            raise


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for seed in range(int(sys.argv[2] if len(sys.argv) > 2 else 0), int(sys.argv[1]), 100):
        for is_closed, of in product((False, True), (LOG, DIRECTORY)):
            with tempfile.TemporaryDirectory() as place:
                run(Path(place), seed, 100, is_closed=is_closed, of=of)

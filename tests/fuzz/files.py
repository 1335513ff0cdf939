"""Random damage to the files of a stopped broker: what it serves after the next start is what was written, or nothing.

Each round damages one to three files, starts a broker on them, reads everything, writes something, stops it and starts it once
more. What must hold: a record is served as it was written or not at all; partitions without damage are whole; what is
acknowledged after the damage is there after the restart; a start that is refused says which file is the reason; no traceback.
"""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import BarnabasError
from barnabas.log.clean_shutdown import CLEAN_SHUTDOWN
from barnabas.records.batch import check_crc, iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import Record, iterate_records
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import BrokerProcess, DidNotStart, wait_until
from tests.fuzz.findings import PATIENCE_S, Finding, log_flaws, save
from tests.log.harness import moved_batches
from tests.oracle.building import build
from tests.transactional_producer import TransactionalProducer, call_until, read_on
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fuzz"]

TOPICS = ("one", "two")
PARTITIONS = 2
COMPACTED = "kept"
COMPACTED_BATCHES = 50
TRANSACTIONS = "sent"
TRANSACTION_COUNT = 20
BATCHES = 120
GROUP = "readers"
COMMITTED = 11
SETTINGS = {
    "log.segment.bytes": str(1 << 20),
    "offsets.topic.num.partitions": "1",
    "log.index.interval.bytes": "1024",
    "offsets.commit.timeout.ms": "60000",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "log.cleaner.backoff.ms": "100",
    "log.cleaner.min.cleanable.ratio": "0",
}
SAYS_NOTHING_OF_RECORDS = (
    *("recovery-point-offset-checkpoint", "replication-offset-checkpoint", "cleaner-offset-checkpoint"),
    *(CLEAN_SHUTDOWN, ".lock"),
)
"""Files at the top of a log directory whose loss costs no record of any partition."""


LOG_FILES = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")
HARMLESS = (".cleaned", ".deleted")
"""What bears such a name is not looked at, and goes."""
LEFT_OVER = (*HARMLESS, ".swap")


class Damage(NamedTuple):
    """A file, what was done to it, and the file that it became a copy of."""

    path: Path
    how: str
    copy_of: Path | None


class Partition(NamedTuple):
    topic: str
    index: int

    @property
    def directory(self) -> str:
        return f"{self.topic}-{self.index}"


class Model:
    """What was written: partition -> the values by offset.

    Attributes:
        values: Those; None where a transaction has its marker.
        committed: Those of transactions that were committed.
        aborted: Those of transactions that were aborted.
        foreign: Partitions of which a log file became the copy of another file, or a batch moved to another offset: no batch
            says whose it is, and no checksum covers its offset. Such a partition has to answer, and nothing more is asked of it.
    """

    def __init__(self) -> None:
        self.foreign: set[Partition] = set()
        self.values: dict[Partition, list[bytes | None]] = {
            Partition(topic, index): [] for topic in TOPICS for index in range(PARTITIONS)
        }
        self.values |= {Partition(COMPACTED, 0): [], Partition(TRANSACTIONS, 0): []}
        self.committed: list[bytes] = []
        self.aborted: list[bytes] = []

    def copy(self) -> Model:
        other = Model()
        other.values = {partition: list(values) for partition, values in self.values.items()}
        other.committed, other.aborted = self.committed, self.aborted
        return other

    def produce(self, client: WireClient, partition: Partition, chance: random.Random) -> int:
        """Writes some records; gives the error code. Takes down what was acknowledged, at the offset that was told."""
        values = self.values[partition]
        count = chance.randint(1, 3)
        size = chance.choice([10, 1000, 60_000])
        mark = b"%s-%d-%d-%d " % (
            partition.topic.encode(),
            partition.index,
            len(values),
            chance.randrange(10**6),
        )
        new = [mark + b"%d " % number + bytes(size) for number in range(count)]
        now_ms = int(time.time() * 1000)
        batch = build_batch(
            [
                Record(number, now_ms, b"%d" % chance.randrange(5), value, ())
                for number, value in enumerate(new)
            ],
            compression=chance.choice([0, 0, 0, 0, 3]),
        )
        answer = _produce(client, partition, bytes(batch))
        if answer.error_code == 0:
            if partition.topic == TRANSACTIONS and answer.base_offset == len(values) + 1:
                values.append(None)  # the open transaction has timed out
            # A log that lost its end goes on where it ends now.
            if answer.base_offset > len(values) and partition not in self.foreign:
                raise Finding(
                    f"{partition.directory} goes on at {answer.base_offset}, and ended at {len(values)}"
                )
            values[answer.base_offset :] = new
        return answer.error_code

    def transact(self, client: WireClient) -> None:
        """Commits some transactions, aborts others, and leaves one open, whose records are not decided."""
        producer = TransactionalProducer(client, "fuzz").start(timeout_ms=900_000)
        values = self.values[Partition(TRANSACTIONS, 0)]
        for number in range(TRANSACTION_COUNT):
            new = [b"%d of transaction %d " % (each, number) + bytes(100) for each in range(3)]
            first = producer.write(TRANSACTIONS, 0, *new).base_offset
            values += [None] * (first - len(values)) + new
            if number == TRANSACTION_COUNT - 1:
                return
            is_committed = number % 3 > 0
            (self.committed if is_committed else self.aborted).extend(new)
            call_until(
                lambda commit=is_committed: producer.end(commit=commit), lambda answer: answer.error_code
            )


def _produce(client: WireClient, partition: Partition, batch: bytes):
    part = {"index": partition.index, "records": batch}
    request = build(
        ProduceRequest,
        transactional_id=None,
        acks=-1,
        timeout_ms=60_000,
        topic_data=[{"name": partition.topic, "partition_data": [part]}],
    )
    return client.call(request, 9).responses[0].partition_responses[0]


def prepare(directory: Path, chance: random.Random) -> tuple[Model, dict[str, Path]]:
    """Data directories to damage: one of a clean stop, one of a kill."""
    model = Model()
    partitions = [partition for partition in model.values if partition.topic in TOPICS]
    with BrokerProcess(directory / "origin", settings=SETTINGS) as broker:
        with WireClient(broker.bootstrap_server, timeout_s=PATIENCE_S) as client:
            topics = [
                {"name": name, "num_partitions": PARTITIONS, "replication_factor": 1} for name in TOPICS
            ]
            topics += [{"name": TRANSACTIONS, "num_partitions": 1, "replication_factor": 1}]
            policy = [{"name": "cleanup.policy", "value": "compact"}]
            topics += [{"name": COMPACTED, "num_partitions": 1, "replication_factor": 1, "configs": policy}]
            client.call(build(CreateTopicsRequest, topics=topics, timeout_ms=60_000), 5)
            model.transact(client)
            compacted = broker.data_directory / f"{COMPACTED}-0"
            # Small batches may be too few for a second segment, and the first one is compacted only then.
            for number in itertools.count(1):
                assert model.produce(client, Partition(COMPACTED, 0), chance) == 0
                if number >= COMPACTED_BATCHES and len(list(compacted.glob("*.log"))) > 1:
                    break
            for number in range(BATCHES):
                partition = partitions[number] if number < len(partitions) else chance.choice(partitions)
                assert model.produce(client, partition, chance) == 0
            _commit(client)
            checkpoint = broker.data_directory / "cleaner-offset-checkpoint"
            wait_until(
                lambda: checkpoint.exists() and f"{COMPACTED} 0 " in checkpoint.read_text(),
                PATIENCE_S,
                "a compacted log",
            )
        # After kill -9 the disk is as it is now; after a stop it has all that a stop writes.
        broker.kill()
        copies = {"killed": directory / "killed", "stopped": directory / "stopped"}
        shutil.copytree(broker.data_directory, copies["killed"])
        broker.start()
        assert broker.stop() == 0
        shutil.copytree(broker.data_directory, copies["stopped"])
    return model, copies


def _commit(client: WireClient) -> None:
    wait_until(
        lambda: client.call(FindCoordinatorRequest(key=GROUP), 2).error_code == 0, PATIENCE_S, "a coordinator"
    )
    part = {"partition_index": 0, "committed_offset": COMMITTED, "committed_metadata": ""}
    request = build(OffsetCommitRequest, group_id=GROUP, topics=[{"name": "one", "partitions": [part]}])
    wait_until(
        lambda: client.call(request, 2).topics[0].partitions[0].error_code == 0,
        PATIENCE_S,
        "a committed offset",
    )


def leave_over(data: Path, files: list[Path], chance: random.Random) -> Damage:
    """A file as compaction or deletion leaves it behind when it is interrupted: whole, or the beginning of one."""
    source = chance.choice([path for path in files if path.suffix in LOG_FILES])
    suffix = chance.choice(LEFT_OVER)
    path = source.with_name(source.name + suffix)
    content = source.read_bytes()
    if chance.random() < 0.3:
        content = content[: chance.randrange(len(content) + 1)]
    path.write_bytes(content)
    is_copy = suffix == ".swap" and source.suffix == ".log"
    copy_of = source.relative_to(data) if is_copy else None
    return Damage(path.relative_to(data), f"left over, {len(content)} bytes", copy_of)


def damage(data: Path, chance: random.Random) -> list[Damage]:
    """Garbles some files; gives which, and what was done to each."""
    files = sorted(path for path in data.rglob("*") if path.is_file())
    done: list[Damage] = []
    if chance.random() < 0.2:
        done.append(leave_over(data, files, chance))
        if chance.random() < 0.5:
            return done
    for path in chance.sample(files, chance.choice([1, 1, 1, 2, 3])):
        content = bytearray(path.read_bytes())
        how = chance.choice(
            ["flip", "flip", "flip", "cut", "cut", "grow", "overwrite", "zero", "delete", "other"]
        )
        at = chance.randrange(len(content)) if content else 0
        source = None
        if how == "delete":
            path.unlink()
        elif how == "cut":
            del content[at:]
        elif how == "grow":
            content += chance.randbytes(chance.randrange(1, 200))
        elif how == "other":
            source = chance.choice(files)
            content[:] = source.read_bytes() if content else b""
            how = f"copy of {source.relative_to(data)}"
        elif content:
            _overwrite(content, at, how, chance)
        if how != "delete":
            path.write_bytes(content)
        copy_of = None if source is None else source.relative_to(data)
        done.append(Damage(path.relative_to(data), f"{how} at {at}, {len(content)} bytes", copy_of))
        files = [path for path in files if path.exists()]
    return done


def _overwrite(content: bytearray, at: int, how: str, chance: random.Random) -> None:
    size = 1 if how == "flip" else chance.randrange(1, 300)
    for position in range(at, min(len(content), at + size)):
        if how == "flip":
            content[position] ^= 1 << chance.randrange(8)
        else:
            content[position] = 0 if how == "zero" else chance.randrange(256)


def _is_moved(origin: Path, damaged: Path) -> bool:
    """Whether a batch that nobody looks at says another offset: any after a clean stop; after a kill the last, which nothing follows."""
    if not origin.exists() or not damaged.exists():
        return False
    moved = moved_batches(origin.read_bytes(), damaged.read_bytes())
    return any(moved if (origin.parent.parent / CLEAN_SHUTDOWN).exists() else moved[-1:])


def _whole(done: list[Damage]) -> set[str]:
    """Directories of partitions that the damage does not concern."""
    directories = {partition.directory for partition in Model().values}
    for path, _, _ in done:
        if path.suffix in HARMLESS:
            continue
        if len(path.parts) == 1 and path.name not in SAYS_NOTHING_OF_RECORDS:
            return set()  # such as where logs start, or whose directory it is
        if path.parts[0].startswith("__cluster_metadata"):
            return set()  # which partitions there are
        directories.discard(path.parts[0])
    return directories


def fuzz(directory: Path, *, seconds: float, seed: int, save_to: Path) -> dict[str, object]:
    """Rounds for that long; gives figures. Raises Finding, and keeps the damaged directory in `save_to`."""
    chance = random.Random(seed)
    model, copies = prepare(directory, chance)
    names = ("rounds", "refused_starts", "records_checked", "unreadable_batches", "refused_produces")
    figures = dict.fromkeys(names, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end or not figures["rounds"]:
        origin = chance.choice(sorted(copies))
        round_ = _Round(directory / "round", copies[origin], model, figures)
        round_.run(random.Random(chance.randrange(2**32)), save_to / f"files-{seed}-{figures['rounds']}")
        figures["rounds"] += 1
    return figures


class _Round:
    """One damaged directory."""

    def __init__(self, directory: Path, origin: Path, model: Model, figures: dict[str, int]) -> None:
        self._directory = directory
        self._origin = origin
        self._model = model.copy()
        self._figures = figures

    def run(self, chance: random.Random, keep_as: Path) -> None:
        data = self._directory / "data"
        shutil.rmtree(self._directory, ignore_errors=True)
        shutil.copytree(self._origin, data)
        done = damage(data, chance)
        self._model.foreign = {
            partition
            for path, _, copy_of in done
            for partition in self._model.values
            if path.parts[0] == partition.directory
            and ".log" in path.suffixes
            and (copy_of is not None or _is_moved(self._origin / path, data / path))
        }
        kept = self._directory / "as-damaged"
        shutil.copytree(data, kept)
        broker = BrokerProcess(self._directory, settings=SETTINGS)
        try:
            if self._start(broker):
                self._read_and_write(broker, _whole(done), chance)
                # What a damaged broker leaves behind is in order.
                broker.start()
                self._read(broker, _whole(done))
                broker.kill()
            flaw = log_flaws(broker.log_tail(1 << 20))
            if flaw is not None:
                raise Finding(f"the log says:\n{flaw}")
        except (AssertionError, BarnabasError, TimeoutError, ConnectionError) as error:
            if self._has_given_up(broker):
                self._figures["refused_starts"] += 1
                return
            shutil.copytree(kept, keep_as, dirs_exist_ok=True)
            what = [f"{how} of {path}" for path, how, _ in done]
            finding = f"{self._origin.name}, {'; '.join(what)}:\n{error!r}"
            save(keep_as.parent, keep_as.name, finding=finding, log=broker.log_tail(20_000))
            raise Finding(f"kept in {keep_as}: {finding}") from error
        finally:
            broker.kill()

    def _start(self, broker: BrokerProcess) -> bool:
        try:
            broker.start()
        except DidNotStart as error:
            if error.exit_status is None:
                raise
            log = broker.log_tail()
            if str(broker.data_directory) not in log:
                raise Finding(f"the broker does not start, and does not say why: {log}") from error
            self._figures["refused_starts"] += 1
            return False
        return True

    def _has_given_up(self, broker: BrokerProcess) -> bool:
        """Whether it has ended because a log of its only directory is beyond repair, as it turned out on first use."""
        if f"log directory is offline directory={broker.data_directory}" not in broker.log_tail():
            return False
        try:
            status = broker.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return False
        return (
            status == 1
            and f"every log directory is offline, at last {broker.data_directory}" in broker.log_tail()
        )

    def _read_and_write(self, broker: BrokerProcess, whole: set[str], chance: random.Random) -> None:
        self._read(broker, whole)
        with WireClient(broker.bootstrap_server, timeout_s=PATIENCE_S) as client:
            for partition in self._model.values:
                code = self._model.produce(client, partition, chance)
                self._figures["refused_produces"] += bool(code)
                if code and partition.directory in whole:
                    raise Finding(f"{partition.directory} has no damage and refuses records: {code}")
        self._read(broker, whole)
        status = broker.stop()
        if status != 0:
            raise Finding(f"exit status {status} after SIGTERM")

    def _read(self, broker: BrokerProcess, whole: set[str]) -> None:
        with WireClient(broker.bootstrap_server, timeout_s=PATIENCE_S) as client:
            for partition, values in self._model.values.items():
                end = self._read_partition(client, partition, values)
                # A transaction that was left open is aborted when its time is up.
                markers = 1 if partition.topic == TRANSACTIONS and end is not None else 0
                if partition.directory in whole and end not in (len(values), len(values) + markers):
                    raise Finding(f"{partition.directory} has no damage and ends at {end}, not {len(values)}")
            if f"{TRANSACTIONS}-0" in whole:
                self._read_transactions(client)
            self._read_committed(client)

    def _read_transactions(self, client: WireClient) -> None:
        found = set(read_on(client, TRANSACTIONS))
        if found.intersection(self._model.aborted) or not found.issuperset(self._model.committed):
            raise Finding(
                f"readers of committed records of {TRANSACTIONS} get {len(found)}, and not the right ones"
            )

    def _read_partition(
        self, client: WireClient, partition: Partition, values: list[bytes | None]
    ) -> int | None:
        """Reads all; every record is the one that was written at its offset. Gives the offset where it ends."""
        offset = _earliest(client, partition)
        while offset is not None:
            part = {
                "partition": partition.index,
                "fetch_offset": offset,
                "partition_max_bytes": 1 << 20,
            }
            request = build(
                FetchRequest,
                max_wait_ms=0,
                min_bytes=0,
                session_epoch=-1,
                topics=[{"topic": partition.topic, "partitions": [part]}],
            )
            answer = client.call(request, 11).responses[0].partitions[0]
            data = bytes(answer.records or b"")
            if answer.error_code:
                return None
            if not data:
                return offset
            offset = self._check(data, offset, partition, values)
        return None

    def _check(self, data: bytes, start: int, partition: Partition, values: list[bytes | None]) -> int | None:
        """The offset after these batches; None where a reader cannot go on."""
        offset = start
        for position, header in _headers(data):
            if header is None:
                self._figures["unreadable_batches"] += 1
                return None
            end = position + header.size_bytes
            if end > len(data):
                break
            batch = data[position:end]
            if not check_crc(batch):
                # A reader's own check finds this one, as it does with Kafka.
                self._figures["unreadable_batches"] += 1
                return None
            for record in iterate_records(batch):
                if record.offset < start:
                    continue
                self._figures["records_checked"] += 1
                if partition in self._model.foreign:
                    continue
                if record.offset >= len(values) or record.value != values[record.offset]:
                    value = (record.value or b"")[:20]
                    raise Finding(
                        f"{partition.directory} serves {value!r} at {record.offset}, asked for {start}"
                    )
            offset = header.next_offset
        if offset <= start:
            raise Finding(f"{partition.directory} does not get past offset {start} with {len(data)} bytes")
        return offset

    def _read_committed(self, client: WireClient) -> None:
        topics = [{"name": "one", "partition_indexes": [0]}]
        answer = client.call(build(OffsetFetchRequest, group_id=GROUP, topics=topics), 5)
        if answer.error_code or not answer.topics:
            return
        committed = answer.topics[0].partitions[0].committed_offset
        if committed not in (-1, COMMITTED):
            raise Finding(f"a committed offset turned into {committed}")


def _headers(data: bytes):
    """Positions and headers of batches; (position, None) where there is none that a reader could make sense of."""
    headers = iterate_headers(data)
    while True:
        try:
            yield next(headers)
        except StopIteration:
            return
        except BarnabasError:
            yield -1, None
            return


def _earliest(client: WireClient, partition: Partition) -> int | None:
    part = {"partition_index": partition.index, "timestamp": -2}
    request = build(
        ListOffsetsRequest, replica_id=-1, topics=[{"name": partition.topic, "partitions": [part]}]
    )
    answer = client.call(request, 2).topics[0].partitions[0]
    return None if answer.error_code else answer.offset

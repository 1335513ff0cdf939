"""One partition of an internal topic on a real log, and the smallest state machine to run on it."""

from __future__ import annotations

from contextlib import asynccontextmanager

from barnabas.clock import SystemClock
from barnabas.config.topic import LogConfig
from barnabas.coordinators.runtime import CoordinatorRuntime, RuntimeSettings
from barnabas.coordinators.shard import CoordinatorResult
from barnabas.errors import DecodeError
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.records.batch import iterate_headers
from barnabas.replication.partition import Durability, Partition

TOPIC = "__notes"
NODE_ID = 1


class Notes:
    """A shard that keeps a text under a name. It can be told to wait for a deadline, or to have nothing to do with a record."""

    def __init__(self):
        self.notes = {}
        self.offsets = []
        self.ended_transactions = []
        self.deadline_ms = None
        self.rings = 0
        self.loaded = 0
        self.waiters = []

    def replay(self, offset, producer_id, producer_epoch, key, value):
        if value == b"damaged":
            raise DecodeError("no note")
        if value == b"defect":
            raise RuntimeError("a defect in replay")
        self.offsets.append(offset)
        if value is None:
            self.notes.pop(key, None)
        else:
            self.notes[key] = value

    def replay_end_transaction_marker(self, producer_id, producer_epoch, *, committed):
        self.ended_transactions.append((producer_id, committed))

    def on_loaded(self, now):
        self.loaded += 1
        return []

    def on_unloaded(self):
        return [(waiter, "gone") for waiter in self.waiters]

    def next_deadline_ms(self):
        return self.deadline_ms

    def on_timer(self, now):
        if self.deadline_ms is not None and now.monotonic_ms >= self.deadline_ms:
            self.deadline_ms = None
            self.rings += 1
            yield CoordinatorResult(None, [(b"ring", str(self.rings).encode())])


def put(key, value, **options):
    """An operation that writes a note."""
    return lambda shard, now: CoordinatorResult(f"put {key}", [(key.encode(), value)], **options)


class InternalTopic:
    """A partition that this broker leads once `lead` is called, and a runtime that hosts its shard."""

    def __init__(
        self, directory, loop, *, durability=Durability.PAGE_CACHE, commit_timeout_ms=5_000, **log_settings
    ):
        directory.mkdir(parents=True, exist_ok=True)
        self.loop = loop
        self.clock = SystemClock()
        self.files = Files()
        self.log_settings = {"cleanup_policy": frozenset({"compact"})} | log_settings
        self.directory = directory
        self.group_commit = GroupCommit(loop, 1)
        self.durability = durability
        self.commit_timeout_ms = commit_timeout_ms
        self.epoch = 0
        self.partition = Partition(
            TOPIC,
            0,
            bytes(16),
            node_id=NODE_ID,
            open_log=self._open_log,
            group_commit=self.group_commit,
            durability=self.durability,
        )
        self.runtime = self.new_runtime()

    def _open_log(self, _topic, _index, _topic_id):
        return PartitionLog.open(
            self.directory,
            LogConfig(**self.log_settings),
            self.files,
            self.clock,
            topic=TOPIC,
            partition=0,
            clean=False,
        )

    def new_runtime(self, new_shard=Notes, topic=TOPIC):
        return CoordinatorRuntime(
            topic,
            new_shard=new_shard,
            partition_count=lambda: 1,
            settings=RuntimeSettings(commit_timeout_ms=self.commit_timeout_ms, load_chunk_bytes=4_096),
            clock=self.clock,
            loop=self.loop,
        )

    def set_leader(self, leader):
        """The controller decides who leads."""
        self.epoch += 1
        self.partition.apply(
            PartitionImage(
                index=0, leader=leader, leader_epoch=self.epoch, replicas=(NODE_ID, 2), isr=(NODE_ID,)
            )
        )
        self.runtime.on_leadership(self.partition)

    def lead(self):
        self.set_leader(NODE_ID)

    def resign(self):
        self.set_leader(2)

    @property
    def hosted(self):
        return self.runtime.shard(0)

    def batches(self):
        """(base offset, record count) of every batch in the log."""
        log = self.partition.log
        found = log.read(0, 1 << 24, up_to_offset=log.log_end_offset)
        if found.region is None:
            return []
        try:
            return [(h.base_offset, h.record_count) for _, h in iterate_headers(found.region.read())]
        finally:
            found.region.release()

    async def close(self):
        await self.runtime.close()
        self.group_commit.close()
        self.partition.log.close()


@asynccontextmanager
async def internal_topic(directory, loop, **options):
    """An `InternalTopic` that is closed at the end."""
    topic = InternalTopic(directory, loop, **options)
    try:
        yield topic
    finally:
        await topic.close()

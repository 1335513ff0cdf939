"""What must hold in a simulated cluster, at any time and in the end.

`Ledger` knows what was ever committed: a batch below the high watermark of some replica. Whoever says later that another batch has
its offset, or leads without it, has lost or changed something.
"""

from __future__ import annotations

from barnabas.metadata.deltas import apply
from barnabas.metadata.framing import decode_record
from barnabas.metadata.image import MetadataImage
from barnabas.records.batch import iterate_headers
from tests.simulation.clients import Reader, ViolationError
from tests.simulation.store import CLUSTER_ID

__all__ = ["Ledger", "check_history", "check_replicas"]


class _Committed:
    """The committed batches of one partition: base offset -> (next offset, checksum, leader epoch)."""

    def __init__(self):
        self.batches = {}
        self.end_offset = 0


class Ledger:
    """Looks at all replicas now and then."""

    def __init__(self, world, topics):
        self._world = world
        self._topics = topics
        self._partitions = {}
        self._verified = {}  # (host, life, topic, index) -> offset up to which it was compared
        self._image = MetadataImage(CLUSTER_ID)
        self._read = 0
        self._high_watermarks = {}  # (host, life, topic, index, epoch) -> the leader's

    def look(self):
        """Compares what each broker holds with what was committed."""
        newest = self._newest_epochs()
        for host in self._world.hosts.values():
            if not host.serves or host.node.is_paused:
                continue
            for topic, count in self._topics.items():
                for index in range(count):
                    replica = host.broker._replicas.get(topic, index)
                    if replica is not None and replica.is_open and not replica.log.is_offline:
                        self._look_at(host, topic, index, replica, newest.get((topic, index)))

    def _newest_epochs(self):
        """Leader and epoch of each partition, by the metadata log itself: brokers may not know of it yet."""
        entries = self._world.ensemble.entries
        for data, offset, epoch in entries[self._read :]:
            records = [decode_record(each) for each in data]
            self._image, _ = apply(self._image, records, offset=offset, epoch=epoch)
        self._read = len(entries)
        return {
            (topic.name, partition.index): (partition.leader_epoch, partition.leader)
            for topic in self._image.topics.values()
            for partition in topic.partitions
        }

    def _look_at(self, host, topic, index, replica, newest):
        name = f"{topic}-{index} on {host.name}"
        life = (host.node_id, host.life, topic, index)
        high_watermark, log = replica.high_watermark, replica.log
        committed = self._partitions.setdefault((topic, index), _Committed())
        if high_watermark > log.log_end_offset:
            raise ViolationError(f"{name}: high watermark {high_watermark} is beyond {log.log_end_offset}")
        if replica.is_leader:
            key = (*life, replica.leader_epoch)
            before = self._high_watermarks.get(key, 0)
            if high_watermark < before:
                raise ViolationError(
                    f"{name}: high watermark went from {before} to {high_watermark} in epoch {replica.leader_epoch}"
                )
            self._high_watermarks[key] = high_watermark
            if newest == (replica.leader_epoch, host.node_id) and log.log_end_offset < committed.end_offset:
                raise ViolationError(
                    f"{name}: leads in epoch {replica.leader_epoch} up to {log.log_end_offset}, "
                    f"though {committed.end_offset} was committed"
                )
        verified = self._verified.get(life, 0)
        if log.log_end_offset < verified:
            raise ViolationError(
                f"{name}: was truncated to {log.log_end_offset}, below its high watermark {verified}"
            )
        if high_watermark > verified:
            self._compare(name, log, verified, high_watermark, committed)
            self._verified[life] = high_watermark

    def _compare(self, name, log, start, end, committed):
        for batch in batches(log, start, end):
            base_offset, content = batch
            known = committed.batches.setdefault(base_offset, content)
            if known != content:
                raise ViolationError(f"{name}: batch at {base_offset} is {content}, committed was {known}")
            committed.end_offset = max(committed.end_offset, content[0])


def batches(log, start, end):
    """(base offset, (next offset, checksum, leader epoch)) of each batch of a log between two offsets."""
    offset = max(start, log.log_start_offset)
    while offset < end:
        region = log.read(offset, 1 << 20, up_to_offset=end, min_one_batch=True).region
        if region is None:
            return
        data = region.read()
        region.release()
        for _, header in iterate_headers(data):
            yield header.base_offset, (header.next_offset, header.crc, header.partition_leader_epoch)
            offset = header.next_offset


def check_replicas(world, topics):
    """In the end all replicas of a partition hold the same, to the batch."""
    for topic, count in topics.items():
        for index in range(count):
            found = {}
            for host in world.hosts.values():
                replica = host.broker._replicas.get(topic, index)
                if replica is not None:
                    found[host.name] = list(batches(replica.log, 0, replica.log.log_end_offset))
            first = next(iter(found.values()))
            for name, other in found.items():
                if other != first:
                    raise ViolationError(f"{topic}-{index}: {name} holds {other}, others {first}")


def check_history(world, topic, count, history):
    """What clients were told is so: each acknowledged value is there once, at its offset, and in order."""
    reader = Reader(world, "reader-at-the-end", topic, count, history)
    end_to_end(world, reader)
    values = {}
    for (name, index, offset), value in sorted(history.seen.items()):
        if name == topic:
            values.setdefault(index, []).append((offset, value))
    for index in range(count):
        found = values.get(index, [])
        places = {}
        for offset, value in found:
            if value in places:
                raise ViolationError(f"{topic}-{index}: {value} is at {places[value]} and at {offset}")
            places[value] = offset
        for (name, partition, value), offset in history.acknowledged.items():
            if (name, partition) == (topic, index):
                if value not in places:
                    raise ViolationError(f"{topic}-{index}: {value}, acknowledged at {offset}, is lost")
                if offset is not None and offset >= 0 and places[value] != offset:
                    raise ViolationError(
                        f"{topic}-{index}: {value} was acknowledged at {offset}, is at {places[value]}"
                    )
        for producer, sent in history.sent.get((topic, index), {}).items():
            order = [value for value in sent if value in places]
            if sorted(order, key=places.get) != order:
                raise ViolationError(f"{topic}-{index}: the values of {producer} are not in order")


def check_transactions(world, topic, count, history):
    """Of a transaction all is seen or nothing, and what was told is so."""
    seen = type(history)()
    end_to_end(world, Reader(world, "committed-reader", topic, count, seen, isolation_level=1))
    visible = {}
    for (_, index, offset), value in seen.seen.items():
        if (index, value) in visible:
            raise ViolationError(f"{topic}-{index}: {value} is at {visible[index, value]} and {offset}")
        visible[index, value] = offset
    for outcome, parts in history.transactions:
        there = [(index, value) in visible for _, index, value in parts]
        if any(there) and not all(there):
            raise ViolationError(f"{topic}: only a part of {parts} ({outcome}) is visible")
        if outcome == "committed" and not all(there):
            raise ViolationError(f"{topic}: {parts} was committed, and is not visible")
        if outcome == "aborted" and any(there):
            raise ViolationError(f"{topic}: {parts} was aborted, and is visible")


def end_to_end(world, reader):
    """Lets a reader read everything."""
    idle = 0

    async def read():
        nonlocal idle
        while idle < 3:
            progress = [await reader.read_some(index) for index in range(reader.partitions)]
            idle = 0 if any(progress) else idle + 1

    task = world.spawn(reader.node, read(), reader.name)
    world.run_until(task.done, 120, "reading to the end")
    world.raise_failures()

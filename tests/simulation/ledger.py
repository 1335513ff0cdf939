"""What was ever committed in a simulated cluster, and who has to hold it.

Committed is what lies below the high watermark of some replica, and what a producer was told to be safe. Of a partition whose metadata
say that a replica is in sync (or may be elected, KIP-966), that replica holds all of it, at any moment: whoever is elected then has it.
That is looked at on the brokers' disks, long before somebody is elected and a client misses something.
"""

from __future__ import annotations

from barnabas.metadata.deltas import apply
from barnabas.metadata.framing import decode_record
from barnabas.metadata.image import MetadataImage
from barnabas.records.batch import iterate_headers
from tests.simulation.clients import ViolationError
from tests.simulation.store import CLUSTER_ID

__all__ = ["Ledger", "batches"]


class _Committed:
    """The committed batches of one partition: base offset -> (next offset, checksum, leader epoch)."""

    def __init__(self):
        self.batches = {}
        self.end_offset = 0
        self.because = "nothing"

    def extend(self, end_offset, because):
        if end_offset > self.end_offset:
            self.end_offset = end_offset
            self.because = because


class Ledger:
    """Looks at all replicas again and again; ViolationError where one is not as it has to be.

    Attributes:
        image: The metadata as the log itself says, which brokers may not know yet.
        looks: How often it looked.
    """

    def __init__(self, world):
        self._world = world
        self._partitions = {}
        self._compared = {}  # (node id, topic, index) -> (replica, offset up to which it was compared)
        self._read = 0
        self._high_watermarks = {}  # (host, life, topic, index, epoch) -> the leader's
        self._leaders = {}  # (topic, index, epoch) -> node id, by the metadata log
        self._acting = {}  # (topic, index, epoch) -> (node id, life): who acted as leader
        self._crashed = {}  # node id -> metadata offset then, of those that have not registered since
        # (node id, topic, index): its disk lost something, and it has to be found out of sync.
        self._doubtful = set()
        self._unsure = (
            set()
        )  # the same, until it is in sync again: it may hold what it had cut off and not synced
        self.image = MetadataImage(CLUSTER_ID)
        self.looks = 0

    # ----- told by others

    def acknowledged(self, topic, index, end_offset, what):
        """A producer was told that everything before this offset is safe."""
        self._committed(topic, index).extend(end_offset, what)

    def before_crash(self, host, *, loses_power):
        """A process is about to end, perhaps with what its disk has not synced."""
        self.look()
        self._crashed[host.node_id] = self._world.ensemble.next_offset
        if loses_power and not self._world.temper.syncs_always:
            lost = {
                (host.node_id, topic.name, partition.index)
                for topic in self.image.topics.values()
                for partition in topic.partitions
                if host.node_id in partition.replicas
            }
            self._doubtful |= lost
            self._unsure |= lost

    @property
    def has_doubts(self):
        """Whether a replica that lost something may still pass for one in sync."""
        self._read_metadata()
        return bool(self._doubtful)

    def can_lose_power(self, node_id):
        """Whether everything that a broker holds is held by somebody else who has to have it, and keeps it.

        Not while another one is in disorder: the controller will not trust that one either when it registers. Where all is synced
        before it counts, nobody needs anybody else.
        """
        if self._world.temper.syncs_always:
            return True
        if self.has_doubts or self._crashed:
            return False
        for topic in self.image.topics.values():
            for partition in topic.partitions:
                if node_id in partition.replicas and not set(partition.isr) - {node_id}:
                    return False
        return True

    # ----- looking

    def on_advance(self, replica):
        """A leader has moved its high watermark: whoever is in sync by the metadata log has it all at this very moment."""
        self._read_metadata()
        topic, index = replica.topic, replica.index
        partition = self.image.partition(topic, index)
        if partition is None or replica.leader_epoch != partition.leader_epoch:
            return  # it knows less than the log, or was deleted: the next look tells
        committed = self._committed(topic, index)
        committed.extend(replica.high_watermark, f"the high watermark of n{partition.leader}")
        for node_id in (*partition.isr, *partition.elr):
            host = self._world.hosts[node_id]
            held = host.broker._replicas.get(topic, index) if host.serves else None
            if held is not None and held.is_open and not held.log.is_offline:
                self._look_at_end(host, topic, partition, held.log.log_end_offset, committed)

    def look(self):
        """Compares what each broker holds with what was committed."""
        self.looks += 1
        self._read_metadata()
        for host in self._world.hosts.values():
            if not host.serves:
                continue
            replicas = host.broker._replicas
            for topic in self.image.topics.values():
                for partition in topic.partitions:
                    replica = replicas.get(topic.name, partition.index)
                    if replica is not None and replica.is_open and not replica.log.is_offline:
                        self._look_at(host, topic.name, partition, replica)

    def _committed(self, topic, index):
        return self._partitions.setdefault((topic, index), _Committed())

    def _read_metadata(self):
        entries = self._world.ensemble.entries
        for data, offset, epoch in entries[self._read :]:
            records = [decode_record(each) for each in data]
            self.image, _ = apply(self.image, records, offset=offset, epoch=epoch)
            self._look_at_metadata(offset)
        self._read = len(entries)

    def _look_at_metadata(self, offset):
        for node_id, crashed_at in list(self._crashed.items()):
            broker = self.image.brokers.get(node_id)
            if broker is not None and broker.epoch >= crashed_at:
                del self._crashed[node_id]
        for topic in self.image.topics.values():
            for partition in topic.partitions:
                eligible = (*partition.isr, *partition.elr)
                if partition.leader >= 0:
                    key = (topic.name, partition.index, partition.leader_epoch)
                    known = self._leaders.setdefault(key, partition.leader)
                    if known != partition.leader:
                        raise ViolationError(
                            f"{topic.name}-{partition.index}: epoch {partition.leader_epoch} was given to n{known} and "
                            f"n{partition.leader} (metadata offset {offset})"
                        )
                    if partition.leader not in partition.isr:
                        raise ViolationError(
                            f"{topic.name}-{partition.index}: n{partition.leader} leads and is not in sync {partition.isr}"
                        )
                for node_id in partition.replicas:
                    place = (node_id, topic.name, partition.index)
                    if node_id not in eligible:
                        self._doubtful.discard(place)
                    elif place not in self._doubtful:
                        self._unsure.discard(place)

    def _look_at(self, host, topic, partition, replica):
        index = partition.index
        name = f"{topic}-{index} on {host.name}"
        high_watermark, log = replica.high_watermark, replica.log
        end_offset = log.log_end_offset
        committed = self._committed(topic, index)
        if high_watermark > end_offset:
            raise ViolationError(f"{name}: high watermark {high_watermark} is beyond {end_offset}")
        if replica.is_leader:
            self._look_at_leader(host, topic, index, replica, name)
        place = (host.node_id, topic, index)
        if place in self._unsure:
            return
        known, compared = self._compared.get(place, (None, 0))
        if known is not replica:
            compared = 0
        if end_offset < compared:
            raise ViolationError(
                f"{name}: was truncated to {end_offset}, below {compared}, which was committed"
            )
        committed.extend(high_watermark, f"the high watermark of {host.name}")
        until = high_watermark
        if host.node_id in (*partition.isr, *partition.elr) and place not in self._doubtful:
            until = committed.end_offset
            self._look_at_end(host, topic, partition, end_offset, committed)
        if until > compared:
            self._compare(name, log, compared, until, committed)
            self._compared[place] = (replica, until)

    def _look_at_end(self, host, topic, partition, end_offset, committed):
        if end_offset >= committed.end_offset or (host.node_id, topic, partition.index) in self._doubtful:
            return
        role = "leads" if partition.leader == host.node_id else "counts as in sync"
        raise ViolationError(
            f"{topic}-{partition.index} on {host.name}: {role} in epoch {partition.leader_epoch} and holds all before "
            f"{end_offset}, though all before {committed.end_offset} is committed ({committed.because})"
        )

    def _look_at_leader(self, host, topic, index, replica, name):
        epoch = replica.leader_epoch
        elected = self._leaders.get((topic, index, epoch))
        acting = self._acting.setdefault((topic, index, epoch), host.node_id)
        if host.node_id not in (elected, acting) or elected != acting:
            raise ViolationError(
                f"{name}: leads in epoch {epoch}, in which n{acting} has led and n{elected} was elected"
            )
        key = (host.node_id, host.life, topic, index, epoch)
        before = self._high_watermarks.get(key, 0)
        if replica.high_watermark < before:
            raise ViolationError(
                f"{name}: high watermark went from {before} to {replica.high_watermark} in epoch {epoch}"
            )
        self._high_watermarks[key] = replica.high_watermark

    def _compare(self, name, log, start, end, committed):
        for base_offset, content in batches(log, start, end):
            known = committed.batches.setdefault(base_offset, content)
            if known != content:
                raise ViolationError(f"{name}: batch at {base_offset} is {content}, committed was {known}")


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

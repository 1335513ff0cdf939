"""One partition on a few brokers of one process: real logs, leaders, followers and fetchers, on simulated time and network.

The controller is a model: it decides as Kafka's would, and its decisions reach each broker with a delay of their own.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from types import SimpleNamespace

from barnabas.config.topic import LogConfig
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers import fetch, list_offsets
from barnabas.log.files import Files
from barnabas.log.partition_log import PartitionLog
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.network.disk_readers import DiskReaders
from barnabas.records.batch import iterate_headers
from barnabas.records.builder import build_batch
from barnabas.records.record import iterate_records
from barnabas.replication.isr_changes import IsrChanges
from barnabas.replication.leader_duties import LeaderDuties
from barnabas.replication.partition import ACKS_ALL, Partition
from barnabas.replication.replica_fetchers import ReplicaFetchers
from barnabas.replication.sessions import FetchSessions
from barnabas.replication.waiting import Waiting
from barnabas.wire.messages.alter_partition import AlterPartitionResponse
from barnabas.wire.messages.fetch import FetchRequest, FetchResponse
from tests.replication.simulated_loop import SimulatedClock, SimulatedLoop

TOPIC = "orders"
TOPIC_ID = bytes(range(16))
LAG_TIME_MAX_MS = 2_000.0
SETTINGS = {
    "num.replica.fetchers": 1,
    "replica.fetch.max.bytes": 1_000,
    "replica.fetch.response.max.bytes": 10_000,
    "replica.fetch.min.bytes": 1,
    "replica.fetch.wait.max.ms": 200,
    "replica.fetch.backoff.ms": 300,
    "replica.socket.timeout.ms": 1_000,
}
FETCH_VERSION = 17


class ModelGroupCommit:
    """A disk that takes a while."""

    def __init__(self, cluster):
        self._cluster = cluster

    def call_when_synced(self, log, offset, on_synced, is_over=None):
        if offset <= log.recovery_point:
            return False
        self._cluster.later(self._sync, log, on_synced, on_disk=True)
        return True

    def flush(self, log, offset=None):
        del offset
        self._cluster.later(self._sync, log, lambda _: None, on_disk=True)

    def call_when_cut_is_synced(self, log, on_synced):
        self._cluster.later(self._sync_cut, log, on_synced, on_disk=True)

    def sync_now(self, log):
        flush = log.start_flush()
        if flush is not None:
            flush.confirm()
            log.finish_flush(flush)

    def _sync_cut(self, log, on_synced):
        if not log.is_offline:
            self.sync_now(log)
        on_synced(None)

    @staticmethod
    def _sync(log, on_synced):
        if not log.is_offline:
            log.recovery_point = log.log_end_offset
        on_synced(None)


class Link:
    """A connection from a follower to its leader; each direction keeps its order."""

    def __init__(self, cluster, follower, leader):
        self.cluster, self.follower, self.leader = cluster, follower, leader
        self.incarnations = (follower.epoch, leader.epoch)
        self.is_open = True
        self.waiting = []
        self.ready_at = [0.0, 0.0]
        cluster.links.append(self)

    def send(self, request, *, timeout_ms=None):
        loop = self.cluster.loop
        future = loop.create_future()
        if not self.is_open:
            future.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION, "closed"))
            return future
        self.waiting.append(future)
        loop.call_later(timeout_ms / 1000, self._time_out, future)
        self._carry(0, self._arrive, request, future)
        return future

    def _carry(self, direction, call, *arguments):
        """After the messages that were sent before."""
        loop = self.cluster.loop
        at = max(self.ready_at[direction], loop.time() + self.cluster.delay_s())
        self.ready_at[direction] = at
        loop.call_at(at, call, *arguments)

    def _time_out(self, future):
        if not future.done():
            self.fail()

    def _is_cut(self, first, second):
        return (first.id, second.id) in self.cluster.cut

    def _arrive(self, request, future):
        if not self.is_open or not self.leader.is_up or self._is_cut(self.follower, self.leader):
            return
        answer = self.leader.answer(request)
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(
                lambda done: None if done.cancelled() else self._reply(done.result(), future)
            )
        else:
            self._reply(answer, future)

    def _reply(self, answer, future):
        if isinstance(answer, FetchResponse):
            for topic in answer.responses:
                for data in topic.partitions:
                    records = data.records
                    if records and not isinstance(records, bytes):
                        data.records = records.read()
                        records.release()
                    if records:
                        data.records = memoryview(bytearray(data.records))
        self._carry(1, self._deliver, answer, future)

    def _deliver(self, answer, future):
        if self.is_open and not self._is_cut(self.leader, self.follower) and not future.done():
            future.set_result(answer)

    def fail(self):
        self.is_open = False
        for future in self.waiting:
            if not future.done():
                future.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION, "lost"))
        self.waiting = []

    def close(self):
        self.fail()
        if self in self.cluster.links:
            self.cluster.links.remove(self)


class Node:
    """A broker, as far as one partition goes; its log outlives its crashes."""

    def __init__(self, cluster, node_id, directory):
        self.cluster, self.id, self.directory = cluster, node_id, directory
        directory.mkdir(parents=True)
        self.files = Files()
        self.epoch = -1
        self.is_up = False
        self.high_watermark = 0
        self.partition = None

    def start(self, epoch):
        cluster = self.cluster
        loop, clock = cluster.loop, cluster.clock
        self.epoch = epoch
        self.is_up = True
        self.brokers = {}
        self.applied = -1
        log = PartitionLog.open(
            self.directory, cluster.config, self.files, clock, topic=TOPIC, partition=0, clean=False
        )
        log.high_watermark = max(log.log_start_offset, min(self.high_watermark, log.log_end_offset))
        log.recovery_point = log.log_end_offset
        self.log = log
        self.isr_changes = IsrChanges(
            node_id=self.id, broker_epoch=lambda: epoch, alter_partition=self._alter, loop=loop
        )
        self.duties = LeaderDuties(
            node_id=self.id,
            clock=clock,
            loop=loop,
            lag_time_max_ms=LAG_TIME_MAX_MS,
            epoch_of=self._epoch_of,
            propose=self.isr_changes.submit,
        )
        self.partition = Partition(
            TOPIC,
            0,
            TOPIC_ID,
            node_id=self.id,
            open_log=lambda *_: log,
            group_commit=cluster.group_commit,
            durability="fsync-when-alone",
            duties=self.duties,
        )
        self.fetchers = ReplicaFetchers(
            node_id=self.id,
            config=SETTINGS,
            broker_epoch=lambda: epoch,
            connect=self._connect,
            clock=clock,
            loop=loop,
        )
        self.disk_readers = DiskReaders(loop)
        self.waiting = Waiting(loop, clock, self.disk_readers)
        self.services = SimpleNamespace(
            clock=clock,
            loop=loop,
            disk_readers=self.disk_readers,
            waiting=self.waiting,
            replicas=self,
            fetch_sessions=FetchSessions(clock, max_sessions=10, eviction_ms=120_000),
            fetch_max_bytes=100_000,
            leader_quota=None,
            log_refusal=lambda *_: None,
        )

    def _epoch_of(self, node_id):
        return self.brokers.get(node_id)

    def leader(self, topic, index, current_leader_epoch=-1):
        assert (topic, index) == (TOPIC, 0)
        return self.leader_by_id(TOPIC_ID, 0, current_leader_epoch)

    def leader_by_id(self, topic_id, index, current_leader_epoch=-1):
        assert (topic_id, index) == (TOPIC_ID, 0)
        if not self.is_up:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.partition.check_epoch(current_leader_epoch)
        if not self.partition.is_leader:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return self.partition

    def answer(self, request):
        if isinstance(request, FetchRequest):
            context = SimpleNamespace(api_version=FETCH_VERSION)
            return fetch.handle(self.services, context, request)
        return list_offsets.handle(self.services, SimpleNamespace(api_version=10), request)

    async def _connect(self, node_id):
        cluster = self.cluster
        await asyncio.sleep(cluster.delay_s())
        leader = cluster.nodes[node_id]
        if not leader.is_up or (self.id, node_id) in cluster.cut or (node_id, self.id) in cluster.cut:
            raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "not reached")
        return Link(cluster, self, leader)

    def _alter(self, request):
        cluster = self.cluster
        future = cluster.loop.create_future()

        def lose():
            if not future.done():
                future.set_exception(KafkaError(ErrorCode.REQUEST_TIMED_OUT, "lost"))

        def arrive():
            if self.id in cluster.out_of_touch:
                return
            answer = cluster.controller.alter(request)
            if cluster.chance.random() < 0.9:
                cluster.later(lambda: None if future.done() else future.set_result(answer), far=True)

        cluster.later(arrive)
        cluster.loop.call_later(1.5, lose)
        return future

    def apply(self, version, state, brokers, epoch):
        """Metadata arrives."""
        if not self.is_up or epoch != self.epoch or version <= self.applied:
            return
        if self.id in self.cluster.out_of_touch:
            self.cluster.loop.call_later(0.1, self.apply, version, state, brokers, epoch)
            return
        self.applied = version
        self.brokers = dict(brokers)
        partition = self.partition
        before = (partition.leader_id, partition.leader_epoch)
        partition.apply(state)
        if before != (partition.leader_id, partition.leader_epoch):
            self.fetchers.on_leadership(partition)
        self.duties.look_for_joiners()

    def crash(self, *, power):
        """The process is gone; without power, so is some of what the disk had not got yet."""
        self.is_up = False
        if self.cluster.chance.random() < 0.5:
            self.high_watermark = self.partition.high_watermark
        self.partition.leader_id = -1
        if self.partition.leading is not None:
            self.partition.leading.resign()
        self.duties.close()
        self.isr_changes.close()
        self.waiting.close()
        self.cluster.spawn(self.fetchers.close())
        for link in list(self.cluster.links):
            if self in (link.follower, link.leader):
                link.fail()
        log = self.log
        if power and log.recovery_point < log.log_end_offset:
            log.truncate_to(self.cluster.chance.randint(log.recovery_point, log.log_end_offset))
        log.close(sync=False)

    def records(self, up_to=None):
        """Offset, epoch and value of each record."""
        log = self.log
        found = []
        offset = log.log_start_offset
        end = log.log_end_offset if up_to is None else up_to
        while offset < end:
            region = log.read(offset, 1 << 20, up_to_offset=end).region
            if region is None:
                break
            data = region.read()
            region.release()
            for position, header in iterate_headers(data):
                batch = data[position : position + header.size_bytes]
                found += [
                    (record.offset, header.partition_leader_epoch, bytes(record.value))
                    for record in iterate_records(batch)
                    if offset <= record.offset < end
                ]
                offset = max(offset, header.next_offset)
        return found


class ModelController:
    """Decides who leads and who is in sync."""

    def __init__(self, cluster, node_ids):
        self.cluster = cluster
        self.live = {}
        self.history = []
        self.state = PartitionImage(0, node_ids[0], 0, tuple(node_ids), tuple(node_ids), 0)
        self.leaders = {}

    def change(self, **changes):
        state = replace(self.state, **changes, partition_epoch=self.state.partition_epoch + 1)
        if state.leader != self.state.leader:
            state = replace(state, leader_epoch=self.state.leader_epoch + 1)
        self.state = state
        self.publish()

    def publish(self):
        version = len(self.history)
        self.history.append(self.state)
        for node in self.cluster.nodes.values():
            if node.is_up:
                self.cluster.later(node.apply, version, self.state, dict(self.live), node.epoch, far=True)

    def register(self, node):
        epoch = self.cluster.next_epoch()
        self.live[node.id] = epoch
        node.start(epoch)
        state = self.state
        if node.id in state.isr and len(state.isr) > 1 and state.leader != node.id:
            self.change(isr=tuple(each for each in state.isr if each != node.id))
        elif state.leader == -1 and node.id in state.isr:
            self.change(leader=node.id)
        else:
            self.publish()

    def vanished(self, node_id):
        self.live.pop(node_id, None)
        state = self.state
        isr = tuple(each for each in state.isr if each != node_id) or state.isr
        leader = state.leader
        if leader == node_id:
            leader = next((each for each in state.replicas if each in isr and each in self.live), -1)
        if (isr, leader) != (state.isr, state.leader):
            self.change(isr=isr, leader=leader)
        else:
            self.publish()

    def elect(self, node_id):
        if node_id in self.state.isr and node_id in self.live and node_id != self.state.leader:
            self.change(leader=node_id)

    def alter(self, request):
        asked = request.topics[0].partitions[0]
        state = self.state
        code = ErrorCode.NONE
        isr = tuple(each.broker_id for each in asked.new_isr_with_epochs)
        if self.live.get(request.broker_id) != request.broker_epoch:
            return AlterPartitionResponse(error_code=ErrorCode.STALE_BROKER_EPOCH, topics=[])
        if asked.leader_epoch < state.leader_epoch:
            code = ErrorCode.FENCED_LEADER_EPOCH
        elif asked.partition_epoch < state.partition_epoch:
            code = ErrorCode.INVALID_UPDATE_VERSION
        elif any(self.live.get(each.broker_id) != each.broker_epoch for each in asked.new_isr_with_epochs):
            code = ErrorCode.INELIGIBLE_REPLICA
        else:
            self.change(isr=isr)
        state = self.state
        return AlterPartitionResponse(
            error_code=0,
            topics=[
                AlterPartitionResponse.TopicData(
                    topic_id=TOPIC_ID,
                    partitions=[
                        AlterPartitionResponse.PartitionData(
                            partition_index=0,
                            error_code=code,
                            leader_id=state.leader,
                            leader_epoch=state.leader_epoch,
                            isr=list(state.isr),
                            partition_epoch=state.partition_epoch,
                        )
                    ],
                )
            ],
        )


class ThreeBrokers:
    """See the module. Everything that happens by chance is drawn from one seed."""

    def __init__(self, directory, seed, *, count=3, min_insync_replicas=2):
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        self.config = LogConfig(min_insync_replicas=min_insync_replicas, segment_bytes=2_000)
        self.group_commit = ModelGroupCommit(self)
        self.links = []
        self.cut = set()
        self.out_of_touch = set()
        self.tasks = set()
        self.acknowledged = {}
        self.refused = 0
        self.produced = 0
        self.leader_high_watermarks = {}
        self.high_watermarks = {}
        self._epoch = 0
        self.nodes = {
            node_id: Node(self, node_id, directory / f"node-{node_id}") for node_id in range(1, count + 1)
        }
        self.controller = ModelController(self, list(self.nodes))
        for node in self.nodes.values():
            epoch = self.next_epoch()
            self.controller.live[node.id] = epoch
            node.start(epoch)
        self.controller.publish()

    def next_epoch(self):
        self._epoch += 1
        return self._epoch

    def delay_s(self):
        return self.chance.choice((0.0, 0.001, 0.001, 0.002, 0.01, 0.1))

    def later(self, call, *arguments, far=False, on_disk=False):
        delay_s = self.delay_s() * (5 if far else 1) + (0.003 if on_disk else 0)
        self.loop.call_later(delay_s, call, *arguments)

    def spawn(self, coroutine):
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def run(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))
        assert not self.loop.failures, self.loop.failures

    def close(self):
        for node in self.nodes.values():
            if node.is_up:
                node.crash(power=False)
            node.files.close()
        self.run(1)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    # ----- a client

    def produce(self, node, count=1, acks=ACKS_ALL):
        """One batch; what is acknowledged must never be lost."""
        if not node.is_up or not node.partition.is_leader:
            return
        values = []
        for _ in range(count):
            self.produced += 1
            values.append(b"%d" % self.produced)
        batch = build_batch([(0, self.clock.now_ms(), None, value, ()) for value in values])
        try:
            result = node.partition.append(memoryview(bytearray(batch)), acks, now_ms=self.clock.now_ms())
        except KafkaError:
            self.refused += 1
            return
        if acks != ACKS_ALL:
            return
        epoch = node.partition.leader_epoch

        def settle(error):
            if error is None:
                for number, value in enumerate(values):
                    self.acknowledged[result.first_offset + number] = (epoch, value)
            else:
                self.refused += 1

        if node.partition.has_to_wait(acks):
            if not node.partition.call_when_committed(result.last_offset, acks, settle, lambda: False):
                settle(None)
        else:
            settle(None)

    # ----- what has to be true at any time

    def check(self):
        committed = []
        for node in self.nodes.values():
            if not node.is_up:
                continue
            partition = node.partition
            high_watermark = partition.high_watermark
            if not partition.is_open:
                continue
            assert high_watermark <= partition.log_end_offset, node.id
            process = (node.id, node.epoch)
            assert self.high_watermarks.get(process, 0) <= high_watermark, f"node {node.id} went back"
            self.high_watermarks[process] = high_watermark
            committed.append((node.id, node.records(high_watermark)))
        for first, mine in committed:
            for second, theirs in committed:
                common = min(len(mine), len(theirs))
                assert mine[:common] == theirs[:common], f"{first} and {second} differ in what is committed"
        longest = max((records for _, records in committed), key=len, default=[])
        for offset, (epoch, value) in self.acknowledged.items():
            if offset < len(longest):
                assert longest[offset] == (offset, epoch, value), f"offset {offset} is another record"

    def check_nothing_is_lost(self):
        for node in self.nodes.values():
            held = {offset: (epoch, value) for offset, epoch, value in node.records()}
            lost = {offset for offset, record in self.acknowledged.items() if held.get(offset) != record}
            assert not lost, f"node {node.id} lacks {sorted(lost)[:5]} of {len(self.acknowledged)}"

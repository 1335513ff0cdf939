"""What a leader counts before it calls a record committed."""

from __future__ import annotations

import asyncio

import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.replication.isr_changes import Verdict
from barnabas.replication.leader_duties import LeaderDuties
from barnabas.replication.leading import ABANDONED_MAX
from barnabas.replication.partition import ACKS_ALL, Partition
from tests.log.harness import LogHarness, batch
from tests.replication.simulated_loop import SimulatedClock, SimulatedLoop

LAG_MS = 1_000.0


class Leader:
    """Broker 1 leads a partition with followers 2 and 3."""

    def __init__(self, directory, isr=(1, 2, 3), min_insync_replicas=1):
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        self.harness = LogHarness(directory / "log", min_insync_replicas=min_insync_replicas)
        self.log = self.harness.log
        self.proposals = []
        self.alive = {1: 1, 2: 1, 3: 1}
        self.duties = LeaderDuties(
            node_id=1,
            clock=self.clock,
            loop=self.loop,
            lag_time_max_ms=LAG_MS,
            epoch_of=self.alive.get,
            propose=lambda proposal, decided: self.proposals.append((proposal, decided)),
        )
        self.partition = Partition(
            "orders",
            0,
            bytes(16),
            node_id=1,
            open_log=lambda *_: self.log,
            group_commit=None,
            durability="page-cache",
            duties=self.duties,
        )
        self.lead(isr)

    def lead(self, isr, *, epoch=1, partition_epoch=0, leader=1):
        self.partition.apply(PartitionImage(0, leader, epoch, (1, 2, 3), isr, partition_epoch))
        return self.partition.log

    def append(self):
        return self.partition.append(
            memoryview(bytearray(batch(b"v"))), ACKS_ALL, now_ms=self.clock.now_ms()
        ).last_offset

    def fetch(self, node_id, offset, broker_epoch=1, log_start_offset=0):
        leading = self.partition.leading
        leading.on_fetch(
            leading.follower(node_id),
            self.log,
            fetch_offset=offset,
            log_start_offset=log_start_offset,
            broker_epoch=broker_epoch,
            now_ms=self.clock.monotonic_ms(),
        )

    def decide(self, code=ErrorCode.NONE, partition_epoch=1):
        """The controller's word on the last proposal."""
        proposal, decided = self.proposals.pop()
        isr = [node_id for node_id, _ in proposal.isr]
        decided(
            Verdict(
                partition_index=0,
                error_code=code,
                leader_id=1,
                leader_epoch=proposal.leader_epoch,
                isr=isr,
                partition_epoch=partition_epoch,
            )
        )

    def run(self, seconds=0.0):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @property
    def high_watermark(self):
        return self.partition.high_watermark


@pytest.fixture
def leader(tmp_path):
    """Makes leaders, and lets go of what they hold."""
    made = []

    def make(**options):
        made.append(Leader(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.duties.close()
        each.log.close(sync=False)
        each.harness.files.close()
        each.loop.close()


def test_a_record_is_committed_when_all_in_sync_have_it(leader):
    """Not when most have."""
    one = leader()
    one.append()
    one.fetch(2, 1)
    assert one.high_watermark == 0
    one.fetch(3, 0)
    assert one.high_watermark == 0
    one.fetch(3, 1)
    assert one.high_watermark == 1


def test_who_is_about_to_join_counts_from_the_proposal_on(leader):
    """The controller may have agreed already, and may elect it next."""
    one = leader(isr=(1, 2))
    one.append()
    one.fetch(2, 1)
    one.fetch(3, 1)
    assert one.high_watermark == 1
    assert [node_id for node_id, _ in one.proposals[-1][0].isr] == [1, 2, 3]
    one.run(10 * LAG_MS / 1000)  # not that it was caught up lately, but that it is proposed is what counts
    one.append()
    one.fetch(2, 2)
    assert one.high_watermark == 1
    one.decide()
    assert one.partition.isr == {1, 2, 3}
    assert one.high_watermark == 1
    one.fetch(3, 2)
    assert one.high_watermark == 2


def test_who_may_not_join_does_not_count(leader):
    """The controller has refused for good: the others go on without."""
    one = leader(isr=(1, 2))
    one.append()
    one.fetch(2, 1)
    one.fetch(3, 1)
    one.run(10 * LAG_MS / 1000)
    one.append()
    one.fetch(2, 2)
    assert one.high_watermark == 1
    del one.alive[3]
    one.decide(ErrorCode.INELIGIBLE_REPLICA)
    assert one.high_watermark == 2


def test_who_is_to_be_dropped_counts_until_the_controller_agrees(leader):
    """Until then it may be elected."""
    one = leader()
    for node_id in (2, 3):
        one.fetch(node_id, 0)
    one.append()
    one.fetch(2, 1)
    one.run(1.5)
    one.fetch(2, 1)
    one.duties.last_shrink_look_ms = 0.0
    one.duties.look()
    assert [node_id for node_id, _ in one.proposals[-1][0].isr] == [1, 2]
    assert one.high_watermark == 0
    one.decide()
    assert one.high_watermark == 1


def test_nothing_is_committed_while_too_few_are_in_sync(leader):
    """The high watermark stands still below min.insync.replicas (KIP-966)."""
    one = leader(isr=(1,), min_insync_replicas=2)
    with pytest.raises(KafkaError) as refusal:
        one.append()
    assert refusal.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
    one.partition.append(memoryview(bytearray(batch(b"v"))), 1, now_ms=one.clock.now_ms())
    assert one.high_watermark == 0
    one.lead((1, 2), partition_epoch=1)
    one.fetch(2, 1)
    assert one.high_watermark == 1


def test_a_replaced_process_may_not_speak(leader):
    """A fetch in an older broker epoch than before is of a process that is gone."""
    one = leader()
    one.fetch(2, 0, broker_epoch=5)
    with pytest.raises(KafkaError) as refusal:
        one.fetch(2, 0, broker_epoch=4)
    assert refusal.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_who_waits_hears_of_the_commit_or_of_the_next_leader(leader):
    """In the order of the offsets; a leader that is elected again keeps them."""
    one = leader()
    heard = []
    for _ in range(3):
        offset = one.append()
        assert one.partition.call_when_committed(
            offset,
            ACKS_ALL,
            lambda error, offset=offset: heard.append((offset, error and error.code)),
            lambda: False,
        )
    for node_id in (2, 3):
        one.fetch(node_id, 1)
    one.run()
    assert heard == [(0, None)]
    one.lead((1, 2, 3), epoch=2, partition_epoch=1)
    one.run()
    assert heard == [(0, None)]
    for node_id in (2, 3):
        one.fetch(node_id, 2)
    one.run()
    assert heard == [(0, None), (1, None)]
    one.lead((1, 2, 3), epoch=3, partition_epoch=2, leader=2)
    one.run()
    assert heard == [(0, None), (1, None), (2, ErrorCode.NOT_LEADER_OR_FOLLOWER)]


def test_who_gave_up_is_forgotten_while_nothing_is_committed(leader):
    """A dead follower may stay in sync for as long as there is no controller, and producers come again and again."""
    one = leader()
    heard = []
    leading = one.partition.leading
    for number in range(10 * ABANDONED_MAX):
        waits = number % 100 == 0
        assert leading.call_when_committed(
            one.append() if waits else 0,
            lambda error, number=number: heard.append((number, error)),
            lambda waits=waits: not waits,
        )
        assert len(leading._waiters) <= ABANDONED_MAX
    for node_id in (2, 3):
        one.fetch(node_id, one.log.log_end_offset)
    one.run()
    assert [number for number, _ in heard if number % 100 == 0] == list(range(0, 10 * ABANDONED_MAX, 100))
    assert not leading._waiters


def test_who_gave_up_is_forgotten_while_a_follower_deletes_nothing(leader):
    """DeleteRecords waits for all that are alive, but not longer than its client."""
    one = leader()
    heard = []
    one.append()
    for node_id in (2, 3):
        one.fetch(node_id, 1)
    one.partition.delete_records(1)
    leading = one.partition.leading
    for waits in (False, True):
        assert leading.call_when_deleted(
            1, lambda _, waits=waits: heard.append(waits), lambda waits=waits: not waits
        )
    leading.look_for_laggards(one.clock.monotonic_ms())
    assert len(leading._start_waiters) == 1
    for node_id in (2, 3):
        one.fetch(node_id, 1, log_start_offset=1)
    one.run()
    assert heard == [True]

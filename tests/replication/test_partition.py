"""What a partition says of its replicas."""

from __future__ import annotations

import pytest

from barnabas.config.topic import LogConfig
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.records.batch import iterate_headers
from barnabas.replication.partition import Partition
from tests.log.harness import LogHarness


@pytest.mark.parametrize(
    ("replicas", "isr", "min_insync_replicas", "missing"),
    [
        ((1,), (1,), 1, 0),
        ((1,), (1,), 2, 0),  # one replica cannot do more
        ((1, 2, 3), (1, 2, 3), 2, -1),
        ((1, 2, 3), (1, 2), 2, 0),
        ((1, 2, 3), (1,), 2, 1),
        ((1, 2), (1,), 3, 1),
    ],
)
def test_in_sync_replicas_that_are_missing(replicas, isr, min_insync_replicas, missing):
    """min.insync.replicas counts, but never more than there are replicas (KIP-966)."""
    partition = Partition(
        "t",
        0,
        bytes(16),
        node_id=9,
        open_log=lambda _topic, _index, _topic_id: None,
        group_commit=None,
        durability="page-cache",
    )
    partition.apply(PartitionImage(0, 1, 0, replicas, isr, 0, ()))
    config = LogConfig(min_insync_replicas=min_insync_replicas)
    assert partition.missing_in_sync(lambda _: config) == missing


@pytest.mark.parametrize("closed_at", [3, 9])
def test_an_end_that_turns_out_to_be_another(tmp_path, closed_at):
    """Readers get all that is there and no more, and its producers go on, whatever the checkpoint had said."""
    harness = LogHarness(tmp_path / "orders-0")
    for sequence in range(7):
        harness.append(b"v", producer_id=4, producer_epoch=0, base_sequence=sequence)
    harness.log.close()
    harness.log = harness.open(clean=True, recovery_point=closed_at)
    partition = Partition(
        "orders",
        0,
        bytes(16),
        node_id=1,
        open_log=lambda _topic, _index, _topic_id: harness.log,
        group_commit=None,
        durability="page-cache",
    )
    partition.apply(PartitionImage(0, 1, 0, (1,), (1,), 0, ()))
    assert partition.log.log_end_offset == closed_at
    partition.read(0, 1 << 20, isolation_level=1, min_one_batch=True)
    assert (partition.log.log_end_offset, partition.high_watermark) == (7, 7)
    data = partition.read(0, 1 << 20, isolation_level=1, min_one_batch=True).region.read()
    assert [header.base_offset for _, header in iterate_headers(data)] == list(range(7))
    assert harness.append(b"v", producer_id=4, producer_epoch=0, base_sequence=7).first_offset == 7

"""What a partition says of its replicas."""

from __future__ import annotations

import pytest

from barnabas.config.topic import LogConfig
from barnabas.metadata.image import Partition as PartitionImage
from barnabas.replication.partition import Partition


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

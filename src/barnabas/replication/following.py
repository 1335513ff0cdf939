"""What a follower does to its log: takes what its leader sends, and drops what its leader does not have.

Two logs agree up to the end of the last leader epoch that both know (KIP-101, KIP-279, KIP-595). A follower names the epoch of its last
record whenever it fetches; a leader that knows better answers with an epoch and where that ends, and the follower drops what goes
beyond. This is repeated until they agree.

Source: `AbstractFetcherThread` and `ReplicaFetcherThread` of Kafka 4.3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barnabas.log.partition_log import PartitionLog
    from barnabas.replication.partition import Partition

__all__ = ["agreed_offset", "follow_offsets", "prepare", "restart_at", "truncate", "truncate_to_agreement"]

logger = logging.getLogger(__name__)

UNKNOWN_EPOCH = -1
UNKNOWN_OFFSET = -1


def agreed_offset(
    leader_epoch: int, leader_end_offset: int, own_epoch: int, own_end_offset: int, log_end_offset: int
) -> int:
    """Up to where a follower's log may agree with its leader's.

    Args:
        leader_epoch: The largest epoch, up to the follower's last one, that the leader knows.
        leader_end_offset: Where that ends in the leader's log.
        own_epoch: The largest epoch up to `leader_epoch` that the follower knows, -1 if it knows none.
        own_end_offset: Where that ends in the follower's log.
        log_end_offset: Where the follower's log ends.
    """
    if UNKNOWN_EPOCH in (own_epoch, leader_epoch):
        return min(leader_end_offset, log_end_offset)
    if own_epoch != leader_epoch:
        # The leader's epoch is not known here: all after the one before it is in doubt. The next fetch tells more.
        return min(own_end_offset, log_end_offset)
    return min(own_end_offset, leader_end_offset, log_end_offset)


def prepare(partition: Partition) -> None:
    """A follower begins: a log without epochs cannot be compared, and is cut to what is certain.

    Raises:
        StorageError: the log cannot be read or written.
    """
    log = partition.log
    if log.latest_epoch == UNKNOWN_EPOCH and log.log_end_offset > partition.high_watermark:
        truncate(partition, partition.high_watermark)


def truncate_to_agreement(partition: Partition, leader_epoch: int, leader_end_offset: int) -> None:
    """The leader says that our log parts from its own after this epoch and offset.

    Raises:
        StorageError: the log cannot be read or written.
    """
    log = partition.log
    if leader_end_offset == UNKNOWN_OFFSET:
        truncate(partition, partition.high_watermark)
        return
    own_epoch, own_end_offset = log.epoch_end_offset(leader_epoch)
    truncate(
        partition,
        agreed_offset(leader_epoch, leader_end_offset, own_epoch, own_end_offset, log.log_end_offset),
    )


def truncate(partition: Partition, offset: int) -> None:
    """Drops everything from `offset` on; raises StorageError."""
    log = partition.log
    if offset < partition.high_watermark:
        logger.warning(
            "records that were committed are dropped, their leader has not got them partition=%s-%d offset=%d high_watermark=%d",
            partition.topic,
            partition.index,
            offset,
            partition.high_watermark,
        )
    before = log.log_end_offset
    log.truncate_to(offset)
    if log.log_end_offset != before:
        logger.info(
            "log is truncated partition=%s-%d from=%d to=%d epoch=%d",
            partition.topic,
            partition.index,
            before,
            log.log_end_offset,
            partition.leader_epoch,
        )
    _lower_high_watermark(partition, log)


def restart_at(partition: Partition, offset: int) -> None:
    """The leader's log begins only at `offset`, behind the end of ours: nothing here is of use. Raises StorageError."""
    log = partition.log
    logger.info(
        "log starts over where its leader's begins partition=%s-%d offset=%d end=%d",
        partition.topic,
        partition.index,
        offset,
        log.log_end_offset,
    )
    log.truncate_fully_and_start_at(offset)
    partition.high_watermark = offset
    log.on_high_watermark(offset)


def _lower_high_watermark(partition: Partition, log: PartitionLog) -> None:
    if partition.high_watermark > log.log_end_offset:
        partition.high_watermark = log.log_end_offset
        log.on_high_watermark(log.log_end_offset)


def follow_offsets(partition: Partition, high_watermark: int, log_start_offset: int) -> None:
    """Takes over high watermark and log start offset as far as our log goes.

    The high watermark does not move back: what was committed is, also while a new leader does not know yet.

    Raises:
        StorageError: the log cannot be written.
    """
    log = partition.log
    committed = min(high_watermark, log.log_end_offset)
    if committed > partition.high_watermark:
        partition.high_watermark = committed
        log.on_high_watermark(committed)
        if partition.parked_fetches:
            partition.wake_parked()
    if log_start_offset > log.log_start_offset:
        log.delete_records(min(log_start_offset, partition.high_watermark))

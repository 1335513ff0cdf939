"""A coordinator's records as the batches that its partition takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.records.builder import BatchBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from barnabas.coordinators.shard import CoordinatorRecord
    from barnabas.log.producer_entry import VerificationGuard

__all__ = ["NO_TRANSACTION", "TransactionalWriter", "build_batches"]

_RECORD_OVERHEAD_BYTES = 32  # lengths, attributes, deltas: at most so much comes to key and value


class TransactionalWriter(NamedTuple):
    """On behalf of which producer records are written within its transaction.

    `guard` is what `Partition.begin_verification` gave before the transaction's coordinator agreed.
    """

    producer_id: int
    producer_epoch: int
    guard: VerificationGuard | None = None


NO_TRANSACTION = TransactionalWriter(-1, -1)


def build_batches(
    records: Sequence[CoordinatorRecord],
    *,
    now_ms: int,
    limit_bytes: int,
    compression: int,
    atomic: bool,
    writer: TransactionalWriter,
) -> Iterator[tuple[bytearray, Sequence[CoordinatorRecord]]]:
    """Each batch, and the records in it.

    Args:
        records: What is to be written.
        now_ms: The wall clock, their timestamp.
        limit_bytes: A batch ends before it would be larger, uncompressed; a record that is larger by itself has one of its own.
        compression: The codec.
        atomic: Whether all go into one batch, however large.
        writer: Whose transaction they belong to.
    """
    first = 0
    builder = _builder(compression, writer)
    for index, (key, value) in enumerate(records):
        size = builder.size_bytes + len(key) + (0 if value is None else len(value)) + _RECORD_OVERHEAD_BYTES
        if size > limit_bytes and builder.record_count and not atomic:
            yield builder.build(), records[first:index]
            first = index
            builder = _builder(compression, writer)
        builder.append(now_ms, key, value)
    yield builder.build(), records[first:]


def _builder(compression: int, writer: TransactionalWriter) -> BatchBuilder:
    if writer is NO_TRANSACTION:
        return BatchBuilder(compression=compression)
    return BatchBuilder(
        compression=compression,
        producer_id=writer.producer_id,
        producer_epoch=writer.producer_epoch,
        base_sequence=0,
        is_transactional=True,
    )

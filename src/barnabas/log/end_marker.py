"""The end marker of a transaction, as the log needs it: read out of a control batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.records.control import decode_end_marker
from barnabas.records.record import iterate_batch

if TYPE_CHECKING:
    from barnabas.records.batch import BatchHeader

__all__ = ["EndMarker", "read_end_marker"]


class EndMarker(NamedTuple):
    """How a transaction ended, which epoch of its coordinator says so, and the record's time in milliseconds."""

    is_abort: bool
    coordinator_epoch: int
    timestamp_ms: int


def read_end_marker(header: BatchHeader, batch: bytes | bytearray | memoryview) -> EndMarker | None:
    """The marker in a control batch; None if compaction emptied the batch, or it controls something else.

    Raises:
        DecodeError: the batch is malformed.
    """
    for record in iterate_batch(batch, 0, header):
        marker = decode_end_marker(record.key, record.value)
        if marker is None:
            return None
        return EndMarker(not marker.is_commit, marker.coordinator_epoch, record.timestamp)
    return None

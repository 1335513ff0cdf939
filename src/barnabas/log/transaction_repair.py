"""Rebuilds a damaged transaction index from the batches of its segment.

Which transactions were open where the segment begins is in the snapshot of the producers at its base offset; without it, the
segments before are walked, too. Only headers are read, and control batches.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from barnabas.errors import DecodeError, DiskFullError
from barnabas.log.end_marker import read_end_marker
from barnabas.log.open_transactions import OpenTransactions
from barnabas.log.producer_snapshot import decode_snapshot
from barnabas.log.transaction_index import AbortedTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from barnabas.log.segment import Segment

__all__ = ["rebuild_transaction_index"]

logger = logging.getLogger(__name__)


def rebuild_transaction_index(segment: Segment, earlier: Iterable[Segment], snapshot: Path) -> None:
    """Makes the transaction index of a segment anew.

    Args:
        segment: whose index is damaged.
        earlier: the segments before it, in order; walked if there is no snapshot.
        snapshot: the producers where the segment begins, if there is such a file.

    Raises:
        StorageError: a file cannot be read or written.
    """
    logger.warning(
        "%s is damaged: rebuilt from the batches of its segment", segment.transaction_index.file.path
    )
    open_transactions = OpenTransactions()
    first_offsets: dict[int, int] = {}
    walked = [segment]
    try:
        entries = decode_snapshot(segment.files.read_file(snapshot))
    except (DecodeError, FileNotFoundError):
        walked = [*earlier, segment]
    else:
        first_offsets = {
            entry.producer_id: entry.transaction_first_offset
            for entry in entries
            if entry.transaction_first_offset >= 0
        }
        open_transactions.load((first, producer_id) for producer_id, first in first_offsets.items())
    segment.transaction_index.clear()
    for each in walked:
        try:
            for aborted in _walk(each, open_transactions, first_offsets):
                if each is segment:
                    segment.transaction_index.append(aborted)
        except DecodeError as error:
            logger.warning("%s is damaged, too: %s", each.file.path, error)
    # At once: no flush comes by an old segment, and what is left of an index after a power failure need not look damaged.
    with contextlib.suppress(DiskFullError):
        segment.transaction_index.sync()


def _walk(
    segment: Segment, open_transactions: OpenTransactions, first_offsets: dict[int, int]
) -> Iterable[AbortedTransaction]:
    for position, header in segment.headers():
        if header.is_control:
            batch = segment.files.read_at(segment.file, position, header.size_bytes)
            marker = read_end_marker(header, batch)
            first_offset = None if marker is None else first_offsets.pop(header.producer_id, None)
            if marker is None or first_offset is None:
                continue
            last_stable_offset = open_transactions.end(first_offset, header.last_offset)
            if marker.is_abort:
                yield AbortedTransaction(
                    header.producer_id, first_offset, header.last_offset, last_stable_offset
                )
        elif header.is_transactional and header.producer_id not in first_offsets:
            first_offsets[header.producer_id] = header.base_offset
            open_transactions.begin(header.base_offset, header.producer_id)

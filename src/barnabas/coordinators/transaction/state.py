"""The states of a transactional id.

    Empty ───────────> Ongoing ───> PrepareCommit ───> CompleteCommit
      │ ^                │ ^ │                            │
      │ └─ a new epoch ──┼─┼─┼─────────────────────── Empty, Ongoing or (abort of nothing) PrepareAbort
      │                  │ └ more partitions              │
      └────────────────> └────> PrepareAbort ───> CompleteAbort

The decision is durable with Prepare: from then on markers are written until every partition has one, also after a restart.
Source: Kafka's `TransactionState`; the numbers stand in records, the labels in answers.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EXPIRABLE", "PREPARED", "TransactionState"]


class TransactionState(IntEnum):
    """A state, with its number in records."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def label(self) -> str:
        """The name that clients know it by."""
        return "".join(word.capitalize() for word in self.name.split("_"))


PREPARED = frozenset((TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT))
"""Decided, and not all markers are known to be written."""

EXPIRABLE = frozenset(
    (TransactionState.EMPTY, TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)
)
"""States in which an id that nobody uses is forgotten."""

"""Who appends: how much of a batch is checked depends on it.

Source: `org.apache.kafka.storage.internals.log.AppendOrigin`.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Origin"]


class Origin(Enum):
    """The origin of an append."""

    CLIENT = "client"
    """A Produce request: epochs, sequence numbers and duplicates are checked."""

    COORDINATOR = "coordinator"
    """A coordinator of this broker: no sequence numbers; epochs are checked."""

    REPLICATION = "replication"
    """The leader, or our own log during recovery: checked once already, so taken as it is."""

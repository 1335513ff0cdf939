"""What assignors are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MemberSpec", "Topics"]


class MemberSpec(NamedTuple):
    """A member as assignors see it.

    Attributes:
        topic_ids: What it subscribes to; all of them exist.
        assigned: What it was to have so far: topic id -> partitions.
        instance_id: Its name over restarts, if it has one.
        rack_id: Where it runs, if it said so.
    """

    topic_ids: frozenset[bytes]
    assigned: Mapping[bytes, frozenset[int]]
    instance_id: str | None = None
    rack_id: str | None = None


class Topics(Protocol):
    """What there is to assign."""

    def partition_count(self, topic_id: bytes) -> int:
        """How many partitions a topic has."""
        ...

    def racks(self, topic_id: bytes, partition: int) -> list[str]:
        """Where the replicas of a partition lie."""
        ...

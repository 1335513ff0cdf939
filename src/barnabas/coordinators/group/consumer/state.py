"""The states of a consumer group and of its members.

    group    Empty         no members
             Assigning     the group epoch is newer than the target assignment
             Reconciling   some member has not reached the target
             Stable        every member has

    member   STABLE                 has its target
             UNREVOKED_PARTITIONS   must give up partitions first, and stays in its epoch until it has said that it did
             UNRELEASED_PARTITIONS  has reached the epoch, and waits for partitions that others have not given up yet
             UNKNOWN                a state that a later version wrote: the member has to begin anew

A group's state follows from epochs and members and is never stored. Source: KIP-848; Kafka's `ConsumerGroupState`, `MemberState`.
"""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["ConsumerGroupState", "MemberState"]


class ConsumerGroupState(Enum):
    """A state, by the name that clients see."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class MemberState(IntEnum):
    """A member's state, by its number in records."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127

    @classmethod
    def of(cls, number: int) -> MemberState:
        """The state that a record names."""
        try:
            return cls(number)
        except ValueError:
            return cls.UNKNOWN

"""The states of a classic group, and which may follow which.

    Empty                 no members; offsets may exist until they expire
      | a member joins
    PreparingRebalance    members are asked to rejoin; JoinGroups are parked
      | all have joined, or the rebalance timeout is over      -> without members left: Empty
    CompletingRebalance   everyone has the generation; SyncGroups wait for the leader's assignment
      | the assignment is committed                            -> a member joins or goes: PreparingRebalance
    Stable                everyone has an assignment           -> a member joins or goes: PreparingRebalance

    Dead                  from any state: this broker no longer coordinates the group

Source: Kafka's `ClassicGroupState`, whose names clients see in DescribeGroups and ListGroups.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["GroupState", "can_follow"]


class GroupState(Enum):
    """A state, by the name that clients see."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_PREVIOUS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.EMPTY: frozenset({GroupState.PREPARING_REBALANCE}),
    GroupState.PREPARING_REBALANCE: frozenset(
        {GroupState.EMPTY, GroupState.STABLE, GroupState.COMPLETING_REBALANCE}
    ),
    GroupState.COMPLETING_REBALANCE: frozenset({GroupState.PREPARING_REBALANCE}),
    GroupState.STABLE: frozenset({GroupState.COMPLETING_REBALANCE}),
    GroupState.DEAD: frozenset(GroupState),
}


def can_follow(state: GroupState, previous: GroupState) -> bool:
    """Whether a group in `previous` may go to `state`."""
    return previous in _PREVIOUS[state]

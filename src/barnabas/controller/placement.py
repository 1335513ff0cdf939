"""Which brokers hold a new partition. Pure, given a source of randomness.

Goals, the first before the second: the replicas of a partition stand in as many racks as possible; leaders and replicas are
spread evenly over the brokers. Replicas go to fenced brokers only when there are no others, leaders never do. Racks take
turns, and within a rack its brokers do; each partition starts one further than the one before, the first at random.

The goals and the refusals are those of Kafka's `StripedReplicaPlacer`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from barnabas.metadata.image import Broker

__all__ = ["place"]


class _Rack:
    """The brokers of one rack, in the order in which they take their turns."""

    __slots__ = ("fenced", "usable")

    def __init__(self) -> None:
        self.usable: deque[int] = deque()
        self.fenced: deque[int] = deque()

    def shuffle(self, chance: random.Random) -> None:
        chance.shuffle(self.usable)
        chance.shuffle(self.fenced)

    def rotate(self) -> None:
        self.usable.rotate(-1)
        self.fenced.rotate(-1)


def place(
    brokers: Iterable[Broker], *, partition_count: int, replication_factor: int, chance: random.Random
) -> list[tuple[int, ...]]:
    """The replicas of `partition_count` new partitions, the leader of each first.

    Raises:
        KafkaError: INVALID_REPLICATION_FACTOR, and why it cannot be reached.
    """
    racks: dict[str, _Rack] = {}
    broker_count = usable_count = 0
    for broker in sorted(brokers, key=lambda broker: broker.id):
        rack = racks.setdefault(broker.rack or "", _Rack())
        broker_count += 1
        if broker.is_active:
            usable_count += 1
            rack.usable.append(broker.id)
        else:
            rack.fenced.append(broker.id)
    if replication_factor <= 0:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Invalid replication factor {replication_factor}: the replication factor must be positive.",
        )
    if usable_count == 0:
        raise KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, "All brokers are currently fenced.")
    if replication_factor > broker_count:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The target replication factor of {replication_factor} cannot be reached because only {broker_count} "
            "broker(s) are registered or some brokers have all their log directories cordoned.",
        )
    turns = deque(rack for _, rack in sorted(racks.items()))
    turns.rotate(-chance.randrange(len(turns)))
    for rack in turns:
        for line in (rack.usable, rack.fenced):
            if line:
                line.rotate(-chance.randrange(len(line)))
    placed = []
    for count in range(partition_count):
        if count and count % usable_count == 0:
            # All brokers have led once; in the same order again, the same brokers would always share their partitions.
            _shuffle(turns, chance)
        placed.append(_place_one(turns, replication_factor))
        turns.rotate(-1)
        for rack in turns:
            rack.rotate()
    return placed


def _shuffle(turns: deque[_Rack], chance: random.Random) -> None:
    chance.shuffle(turns)
    for rack in turns:
        rack.shuffle(chance)


def _place_one(turns: deque[_Rack], replication_factor: int) -> tuple[int, ...]:
    lines = [deque((*rack.usable, *rack.fenced)) for rack in turns]
    first = next(number for number, rack in enumerate(turns) if rack.usable)
    replicas = [lines[first].popleft()]
    # The first round leaves the leader's rack out: it had its turn.
    round_of = [number for number in range(len(lines)) if number != first]
    while len(replicas) < replication_factor:
        for number in round_of:
            if lines[number] and len(replicas) < replication_factor:
                replicas.append(lines[number].popleft())
        round_of = list(range(len(lines)))
    return tuple(replicas)

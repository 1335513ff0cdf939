"""The uniform assignor for members that subscribe to different topics.

What members have and still subscribe to stays. What nobody has goes to the subscriber with the fewest partitions, topics
with many partitions for few subscribers first. Then, topic by topic, partitions go from those with the most to those with
the fewest until no move makes it more even, or after a number of rounds. A tie goes to a member in the partition's rack.

Source: Kafka's `UniformHeterogeneousAssignmentBuilder`.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec, Topics

__all__ = ["assign_mixed"]

_ROUNDS_MAX = 16


def assign_mixed(members: Mapping[str, MemberSpec], topics: Topics) -> dict[str, dict[bytes, frozenset[int]]]:
    """See `Assignor`."""
    return _Mixed(members, topics).assign()


class _Mixed:
    __slots__ = ("_given", "_loads", "_members", "_order", "_subscribers", "_topics")

    def __init__(self, members: Mapping[str, MemberSpec], topics: Topics) -> None:
        self._members = members
        self._topics = topics
        self._subscribers: dict[bytes, list[str]] = {}
        for member_id, member in members.items():
            for topic_id in member.topic_ids:
                self._subscribers.setdefault(topic_id, []).append(member_id)
        self._order = sorted(self._subscribers, key=self._rank)
        self._loads = dict.fromkeys(members, 0)
        self._given: dict[str, dict[bytes, set[int]]] = {member_id: {} for member_id in members}

    def _rank(self, topic_id: bytes) -> tuple[float, int, bytes]:
        count = len(self._subscribers[topic_id])
        return -self._topics.partition_count(topic_id) / count, count, topic_id

    def assign(self) -> dict[str, dict[bytes, frozenset[int]]]:
        left = {topic_id: self._keep(topic_id) for topic_id in self._order}
        for topic_id in self._order:
            self._fill(topic_id, left[topic_id])
        shared = [topic_id for topic_id in self._order if len(self._subscribers[topic_id]) > 1]
        for _ in range(_ROUNDS_MAX):
            # Every topic has its turn in each round; `any` would stop at the first that moves something.
            if not sum([self._balance(topic_id) for topic_id in shared]):
                break
        return {
            member_id: {topic_id: frozenset(given) for topic_id, given in of_member.items() if given}
            for member_id, of_member in self._given.items()
        }

    def _keep(self, topic_id: bytes) -> list[int]:
        """Leaves members what they have; gives what nobody has."""
        left = dict.fromkeys(range(self._topics.partition_count(topic_id)))
        for member_id in self._subscribers[topic_id]:
            for partition in sorted(self._members[member_id].assigned.get(topic_id, ())):
                if partition in left:
                    del left[partition]
                    self._give(member_id, topic_id, partition)
        return list(left)

    def _fill(self, topic_id: bytes, left: list[int]) -> None:
        subscribers = self._subscribers[topic_id]
        heap = [(self._loads[member_id], index) for index, member_id in enumerate(subscribers)]
        heapq.heapify(heap)
        for partition in left:
            load, index = self._nearest(heap, subscribers, topic_id, partition)
            self._give(subscribers[index], topic_id, partition)
            heapq.heappush(heap, (load + 1, index))

    def _nearest(
        self, heap: list[tuple[int, int]], subscribers: list[str], topic_id: bytes, partition: int
    ) -> tuple[int, int]:
        """Takes one with the lowest load off the heap, from the partition's rack if there is one."""
        first = heapq.heappop(heap)
        if self._is_near(subscribers[first[1]], topic_id, partition):
            return first
        passed = []
        found = first
        while heap and heap[0][0] == first[0]:
            candidate = heapq.heappop(heap)
            if self._is_near(subscribers[candidate[1]], topic_id, partition):
                found = candidate
                passed.append(first)
                break
            passed.append(candidate)
        for each in passed:
            heapq.heappush(heap, each)
        return found

    def _is_near(self, member_id: str, topic_id: bytes, partition: int) -> bool:
        """True for a member without a rack, too: nothing is to be gained by looking further."""
        rack = self._members[member_id].rack_id
        return rack is None or rack in self._topics.racks(topic_id, partition)

    def _give(self, member_id: str, topic_id: bytes, partition: int) -> None:
        self._given[member_id].setdefault(topic_id, set()).add(partition)
        self._loads[member_id] += 1

    def _balance(self, topic_id: bytes) -> int:
        """Moves partitions of one topic; says how many."""
        subscribers = self._subscribers[topic_id]
        loads = self._loads
        lightest = [(loads[member_id], index) for index, member_id in enumerate(subscribers)]
        heaviest = [
            (-loads[member_id], index)
            for index, member_id in enumerate(subscribers)
            if self._given[member_id].get(topic_id)
        ]
        heapq.heapify(lightest)
        heapq.heapify(heaviest)
        moved = 0
        while heaviest:
            load, index = heaviest[0]
            giver = subscribers[index]
            if -load != loads[giver]:
                heapq.heapreplace(heaviest, (-loads[giver], index))
                continue
            low, low_index = lightest[0]
            taker = subscribers[low_index]
            if low != loads[taker]:
                heapq.heapreplace(lightest, (loads[taker], low_index))
                continue
            if -load - low <= 1:
                break
            partition = max(self._given[giver][topic_id])
            self._given[giver][topic_id].remove(partition)
            loads[giver] -= 1
            self._give(taker, topic_id, partition)
            moved += 1
            if self._given[giver][topic_id]:
                heapq.heapreplace(heaviest, (-loads[giver], index))
            else:
                heapq.heappop(heaviest)
            heapq.heapreplace(lightest, (loads[taker], low_index))
            if len(self._given[taker][topic_id]) == 1:
                heapq.heappush(heaviest, (-loads[taker], low_index))
        return moved

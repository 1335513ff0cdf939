"""Judges what clients saw of a cluster that was hurt: pure functions over what they wrote down.

Each producer numbers its records, and writes each number to one partition only. What must hold, whatever happened meanwhile:

- Every acknowledged record is in the log when all is over (else it is *lost*), at the offset that was told (else it *moved*).
- No record is in the log twice (*duplicated*: the producers are idempotent), and none before an earlier one of its producer (*reordered*).
- What the group read at an offset stands there in the end (else it *vanished*: it was shown before it was committed), and the group
  got every record of the log (else it was *skipped*). Getting one twice is allowed: after a failover a group goes on from its commit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Acknowledged", "History", "Place", "Seen", "Silence", "Verdict", "judge", "silence"]

UNKNOWN_OFFSET = -1
"""What a client says that was told only that the record is there already."""

_EXAMPLES = 5


class Place(NamedTuple):
    topic: str
    partition: int


class Acknowledged(NamedTuple):
    """A record that a producer was told is safe."""

    place: Place
    producer: str
    number: int
    offset: int
    at_s: float


class Seen(NamedTuple):
    """A record that a consumer got."""

    place: Place
    offset: int
    producer: str
    number: int
    at_s: float


@dataclass
class History:
    """What all clients wrote down.

    Attributes:
        acknowledged: By the producers.
        consumed: By the group, in the order in which it came.
        log: By a reader of everything, when all was over.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    consumed: list[Seen] = field(default_factory=list)
    log: list[Seen] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """How many records met which fate, with a few examples of the bad ones."""

    acknowledged: int
    lost: int
    moved: int
    duplicated: int
    reordered: int
    vanished: int
    skipped: int
    redelivered: int
    examples: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.lost + self.moved + self.duplicated + self.reordered + self.vanished + self.skipped)


def judge(history: History) -> Verdict:
    """What became of the records."""
    examples: list[str] = []

    def show(fate: str, things: Sequence[object]) -> int:
        examples.extend(f"{fate}: {thing}" for thing in things[:_EXAMPLES])
        return len(things)

    at = {(seen.place, seen.offset): (seen.producer, seen.number) for seen in history.log}
    offsets: defaultdict[tuple[Place, str, int], set[int]] = defaultdict(set)
    for seen in history.log:
        offsets[seen.place, seen.producer, seen.number].add(seen.offset)
    lost, moved = [], []
    for record in history.acknowledged:
        found = offsets.get((record.place, record.producer, record.number))
        if not found:
            lost.append(record)
        elif record.offset != UNKNOWN_OFFSET and record.offset not in found:
            moved.append((record, sorted(found)))
    duplicated = [(record, sorted(found)) for record, found in offsets.items() if len(found) > 1]
    vanished = [
        seen for seen in history.consumed if at.get((seen.place, seen.offset)) != (seen.producer, seen.number)
    ]
    delivered = Counter((seen.place, seen.offset) for seen in history.consumed)
    skipped = [(*place, *at[place]) for place in sorted(at) if place not in delivered]
    return Verdict(
        acknowledged=len(history.acknowledged),
        lost=show("lost", lost),
        moved=show("moved", moved),
        duplicated=show("duplicated", duplicated),
        reordered=show("reordered", _reordered(at)),
        vanished=show("vanished", vanished),
        skipped=show("skipped", skipped),
        redelivered=sum(count - 1 for count in delivered.values()),
        examples=tuple(examples),
    )


def _reordered(at: Mapping[tuple[Place, int], tuple[str, int]]) -> list[str]:
    """The records behind a later one of their producer; the second copy of a record counts as duplicated only."""
    latest: dict[tuple[Place, str], int] = {}
    known: set[tuple[Place, str, int]] = set()
    found = []
    for (place, offset), (producer, number) in sorted(at.items()):
        if (place, producer, number) in known:
            continue
        known.add((place, producer, number))
        before = latest.get((place, producer), -1)
        if number < before:
            found.append(f"{producer}-{number} at {place} {offset}, behind {before}")
        else:
            latest[place, producer] = number
    return found


class Silence(NamedTuple):
    """The longest time without an event, of the partition that fared worst, and the median of those of the others; seconds."""

    longest_s: float
    place: Place | None
    others_s: float


def silence(
    events: Iterable[tuple[Place, float]], places: Iterable[Place], start_s: float, end_s: float
) -> Silence:
    """The longest gaps between the events of each partition from `start_s` to `end_s`.

    The gaps up to the first event and behind the last one count: a partition without any was silent all the time.
    """
    times: dict[Place, list[float]] = {place: [] for place in places}
    for place, at_s in events:
        if start_s < at_s < end_s:
            times[place].append(at_s)
    if not times:
        return Silence(0.0, None, 0.0)
    gaps = {
        place: max(later - earlier for earlier, later in pairwise([start_s, *sorted(found), end_s]))
        for place, found in times.items()
    }
    worst = max(gaps, key=lambda place: gaps[place])
    others = [gap for place, gap in gaps.items() if place != worst]
    return Silence(gaps[worst], worst, median(others) if others else gaps[worst])

"""Collects what one step of a consumer group wants to happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from barnabas.coordinators.shard import CoordinatorResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.group.consumer.group import ConsumerGroup
    from barnabas.coordinators.group.consumer.topics import TopicCatalog
    from barnabas.coordinators.group.counters import GroupCounters
    from barnabas.coordinators.group.group import ClassicGroup
    from barnabas.coordinators.group.settings import GroupSettings
    from barnabas.coordinators.shard import Answer, Background, Completion, CoordinatorRecord, Now

__all__ = ["Step"]

R = TypeVar("R")


class Step:
    """One step of one group.

    Attributes:
        group: As it stands; the records of the step are not in it yet. It may be a draft that no record knows so far.
        now: The time.
        settings: What the group obeys.
        topics: What there is to subscribe to.
        counters: What is counted.
        records: To be written and replayed, in this order.
        answers: To parked requests.
        later: Run on the group once the records are replayed: deadlines.
        successor: The classic group that this one becomes.
        start: Run once the successor has taken its place.
        completion: Told what became of the records.
        background: To be computed elsewhere.
    """

    __slots__ = (
        "answers",
        "background",
        "completion",
        "counters",
        "group",
        "later",
        "now",
        "records",
        "settings",
        "start",
        "successor",
        "topics",
    )

    def __init__(
        self,
        group: ConsumerGroup,
        now: Now,
        *,
        settings: GroupSettings,
        topics: TopicCatalog,
        counters: GroupCounters,
    ) -> None:
        self.group = group
        self.now = now
        self.settings = settings
        self.topics = topics
        self.counters = counters
        self.records: list[CoordinatorRecord] = []
        self.answers: list[Answer] = []
        self.later: list[Callable[[ConsumerGroup], None]] = []
        self.successor: ClassicGroup | None = None
        self.start: Callable[[Now], None] | None = None
        self.completion: Completion | None = None
        self.background: list[Background] = []

    def answer(self, waiter: Any, response: Any) -> None:
        """Gives a parked request its response."""
        self.answers.append((waiter, response))

    def install(self, successor: ClassicGroup, start: Callable[[Now], None]) -> None:
        """Once the records are written, the classic group takes the place of this one."""
        self.successor = successor
        self.start = start

    def result(self, response: R, appended: Callable[[Now], None]) -> CoordinatorResult[R]:
        """The step as a result."""
        return CoordinatorResult(
            response,
            self.records,
            answers=self.answers,
            completion=self.completion,
            appended=appended,
            background=self.background,
        )

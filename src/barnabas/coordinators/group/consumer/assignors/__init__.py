"""Who reads what: pure functions from subscriptions and the assignment before to a new one.

`uniform` spreads all partitions evenly over the members, `range` each topic by itself, in order. Both move as little as they can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from barnabas.coordinators.group.consumer.assignors.range import assign_range
from barnabas.coordinators.group.consumer.assignors.uniform import assign_uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.coordinators.group.consumer.assignors.spec import MemberSpec, Topics

__all__ = ["ASSIGNORS", "Assignor"]


class Assignor(Protocol):
    """Gives each member its partitions: member id -> topic id -> partitions."""

    def __call__(
        self, members: Mapping[str, MemberSpec], topics: Topics
    ) -> dict[str, dict[bytes, frozenset[int]]]:
        """All partitions of the subscribed topics go to exactly one member each, a subscriber."""
        ...


ASSIGNORS: dict[str, Assignor] = {"uniform": assign_uniform, "range": assign_range}
"""The assignors by the names that clients and `group.consumer.assignors` give them."""

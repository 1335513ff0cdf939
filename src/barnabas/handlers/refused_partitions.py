"""Partitions that were refused before a request reached its group, in the group's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["add_refused"]


class _Topic(Protocol):
    """A topic as it stands in the answer."""

    name: str
    partitions: list[Any]


Topic = TypeVar("Topic", bound=_Topic)


def add_refused(topics: list[Topic], refused: Iterable[Topic]) -> None:
    """Adds refusals to the topics of an answer; a name stands there once."""
    known = {topic.name: topic for topic in topics}
    for topic in refused:
        if topic.name in known:
            known[topic.name].partitions += topic.partitions
        else:
            topics.append(topic)

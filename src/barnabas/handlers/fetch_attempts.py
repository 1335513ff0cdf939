"""How a fetch is answered, whoever sends it: at once, after what it needs was read from the disk, or when there is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from barnabas.log.files import ColdRead
from barnabas.replication import waiting
from barnabas.wire.messages.fetch import FetchResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Iterable

    from barnabas.handlers.services import BrokerServices
    from barnabas.replication.sessions import FetchContext, FetchedPartition
    from barnabas.wire.chunks import FileRegion
    from barnabas.wire.messages.fetch import FetchRequest

__all__ = ["Attempt", "answer_or_park", "by_topic", "release"]


class Attempt(waiting.Attempt[FetchResponse], Protocol):
    """Reads the partitions of one fetch."""

    def on_parked(self, future: asyncio.Future[FetchResponse]) -> None:
        """Its answer is not there yet, and comes in `future`."""
        ...


def answer_or_park(
    broker: BrokerServices, attempt: Attempt, request: FetchRequest, fetch: FetchContext
) -> FetchResponse | Awaitable[FetchResponse]:
    """Answers at once where there is enough to read, or something to say; parks the request otherwise."""
    force = request.max_wait_ms <= 0 or request.min_bytes <= 0 or len(fetch) == 0
    try:
        response = attempt(force, may_block=False)
        if response is not None:
            return response
        future = broker.waiting.park_fetch(attempt, request.max_wait_ms)
    except ColdRead as cold:
        future = broker.waiting.park_fetch(attempt, request.max_wait_ms, cold, force=force)
    attempt.on_parked(future)
    return future


def by_topic(
    answers: Iterable[tuple[FetchedPartition, FetchResponse.PartitionData]],
) -> list[FetchResponse.FetchableTopicResponse]:
    """Partitions' answers as they stand in the response: those of one topic that follow each other together."""
    topics: list[FetchResponse.FetchableTopicResponse] = []
    current: FetchResponse.FetchableTopicResponse | None = None
    for fetched, answer in answers:
        if current is None or current.topic != fetched.topic or current.topic_id != fetched.topic_id:
            current = FetchResponse.FetchableTopicResponse(
                topic=fetched.topic, topic_id=fetched.topic_id, partitions=[]
            )
            topics.append(current)
        current.partitions.append(answer)
    return topics


def release(regions: Iterable[FileRegion]) -> None:
    """What was read is not sent after all."""
    for region in regions:
        region.release()

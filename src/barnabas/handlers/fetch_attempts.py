"""How a fetch is answered, whoever sends it: at once, after what it needs was read from the disk, or when there is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from barnabas.log.files import ColdRead
from barnabas.wire.messages.fetch import FetchResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Iterable

    from barnabas.handlers.services import BrokerServices
    from barnabas.replication.sessions import FetchContext, FetchedPartition
    from barnabas.wire.chunks import FileRegion
    from barnabas.wire.messages.fetch import FetchRequest

__all__ = ["Attempt", "answer_or_park", "by_topic", "release"]

_WARM_ROUNDS_MAX = 16


class Attempt(Protocol):
    """Reads the partitions of one fetch; called again whenever one of them may have more."""

    def __call__(self, force: bool, *, may_block: bool = True) -> FetchResponse | None:
        """The answer, or None while there is too little and `force` is false.

        Raises:
            ColdRead: `may_block` is False, and the search needs something that is not in the page cache.
        """
        ...

    def park(self) -> asyncio.Future[FetchResponse]:
        """Waits for more, or for the end of the request's time."""
        ...


def answer_or_park(
    broker: BrokerServices, attempt: Attempt, request: FetchRequest, fetch: FetchContext
) -> FetchResponse | Awaitable[FetchResponse]:
    """Answers at once where there is enough to read, or something to say; parks the request otherwise."""
    force = request.max_wait_ms <= 0 or request.min_bytes <= 0 or len(fetch) == 0
    try:
        response = attempt(force, may_block=False)
    except ColdRead as cold:
        return _when_warm(broker, attempt, cold, force=force)
    return attempt.park() if response is None else response


async def _when_warm(
    broker: BrokerServices, attempt: Attempt, cold: ColdRead, *, force: bool
) -> FetchResponse:
    """Goes on once a worker thread has read what the search needs from the disk, so that the loop never waits for it."""
    for round_number in range(_WARM_ROUNDS_MAX):
        await broker.loop.run_in_executor(None, cold.warm)
        try:
            # Whatever the page cache drops again at once is not worth another round.
            response = attempt(force, may_block=round_number == _WARM_ROUNDS_MAX - 1)
        except ColdRead as another:
            cold = another
            continue
        if response is not None:
            return response
        break
    return await attempt.park()


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

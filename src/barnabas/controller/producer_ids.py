"""Producer ids: brokers get them from the controller in blocks, so that no id is given twice, whatever happens.

Source: KIP-730; `ProducerIdControlManager` and `ProducerIdsBlock` of Apache Kafka.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.metadata.producer_ids_record import ProducerIdsRecord

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.metadata.image import MetadataImage

__all__ = ["BLOCK_SIZE", "WAITING_MAX", "ProducerIdBlock", "ProducerIdSource", "allocate_producer_ids"]

BLOCK_SIZE = 1000
WAITING_MAX = 10_000
"""Requests that may wait for an id, while the controller is asked for a block."""

_PRODUCER_ID_MAX = 2**63 - 1


class ProducerIdBlock(NamedTuple):
    """The ids from `first` up to, not including, `end`."""

    first: int
    end: int


def allocate_producer_ids(
    image: MetadataImage, broker_id: int, broker_epoch: int
) -> tuple[list[Any], ProducerIdBlock]:
    """The record that takes the next block out of circulation, and the block.

    Raises:
        KafkaError: STALE_BROKER_EPOCH when the broker has registered anew since; UNKNOWN_SERVER_ERROR after the last id.
    """
    broker = image.brokers.get(broker_id)
    if broker is None or broker.epoch != broker_epoch:
        raise KafkaError(
            ErrorCode.STALE_BROKER_EPOCH, f"Broker {broker_id} is not registered with epoch {broker_epoch}."
        )
    first = image.next_producer_id
    end = first + BLOCK_SIZE
    if end > _PRODUCER_ID_MAX:
        raise KafkaError(
            ErrorCode.UNKNOWN_SERVER_ERROR, "Exhausted all producerIds as the next block would exceed."
        )
    return (
        [ProducerIdsRecord(broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=end)],
        ProducerIdBlock(first, end),
    )


class ProducerIdSource:
    """Gives out the ids of one broker, from its block; the next block is asked for before the last id is gone.

    Args:
        allocate: Asks the controller for a block.
        loop: Where futures are resolved.
    """

    __slots__ = ("_allocate", "_asked", "_blocks", "_loop", "_waiting")

    def __init__(
        self, allocate: Callable[[], asyncio.Future[ProducerIdBlock]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._allocate = allocate
        self._loop = loop
        self._blocks: deque[ProducerIdBlock] = deque()
        self._asked = False
        self._waiting: deque[asyncio.Future[int]] = deque()

    def next(self) -> asyncio.Future[int]:
        """An id that nobody else ever gets; KafkaError when the controller cannot give any.

        Raises:
            KafkaError: REQUEST_TIMED_OUT when too many wait for one already.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise KafkaError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"{len(self._waiting)} requests wait for a producer id already. Try again later.",
            )
        future: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(future)
        self._serve()
        return future

    def _serve(self) -> None:
        blocks, waiting = self._blocks, self._waiting
        while blocks and waiting:
            first, end = blocks[0]
            if first + 1 == end:
                blocks.popleft()
            else:
                blocks[0] = ProducerIdBlock(first + 1, end)
            future = waiting.popleft()
            if not future.done():
                future.set_result(first)
        left = sum(end - first for first, end in blocks)
        if left <= BLOCK_SIZE // 10 and not self._asked:
            self._ask(is_urgent=bool(waiting))

    def _ask(self, *, is_urgent: bool) -> None:
        try:
            asked = self._allocate()
        except KafkaError as error:
            if is_urgent:
                self._refuse(error)
            return
        self._asked = True
        asked.add_done_callback(self._answered)

    def _answered(self, done: asyncio.Future[ProducerIdBlock]) -> None:
        self._asked = False
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            if not isinstance(error, KafkaError):
                error = KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "No producer ids are to be had.")
            self._refuse(error)
            return
        self._blocks.append(done.result())
        self._serve()

    def _refuse(self, error: KafkaError) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

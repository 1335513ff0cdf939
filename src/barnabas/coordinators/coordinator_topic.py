"""An internal topic whose partitions have a coordinator each: how many there are, and which broker a key belongs to.

The topic comes into being when the first client looks for a coordinator.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.partitioning import partition_for
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from barnabas.controller.controller import Controller
    from barnabas.metadata.image import MetadataImage

__all__ = ["CoordinatorTopic"]

logger = logging.getLogger(__name__)

CREATION_TIMEOUT_S = 5.0


class CoordinatorTopic:
    """See the module.

    Args:
        name: The topic.
        controller: Creates it, and knows the image.
        partition_count: How many partitions it will have when it is created.
        loop: The event loop.

    Attributes:
        partition_count: How many it has, or will have.
    """

    __slots__ = ("_controller", "_loop", "name", "partition_count")

    def __init__(
        self, name: str, *, controller: Controller, partition_count: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name = name
        self.partition_count = partition_count
        self._controller = controller
        self._loop = loop
        self.follow(controller.image)

    def follow(self, image: MetadataImage) -> None:
        """Metadata has changed."""
        topic = image.topics.get(self.name)
        if topic is not None:
            self.partition_count = len(topic.partitions)

    def partition_for(self, key: str) -> int:
        """The partition that holds a key's state."""
        return partition_for(key, self.partition_count)

    def coordinator_of(self, key: str) -> int | asyncio.Future[int]:
        """The broker that coordinates a key; creates the topic if there is none yet.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, also in the future.
        """
        if self.name in self._controller.image.topics:
            return self._leader_of(key)
        return self._created(key)

    def leader_of(self, key: str) -> int | None:
        """The broker that leads a key's partition; None while nobody does, or there is no topic."""
        partition = self._controller.image.partition(self.name, self.partition_for(key))
        return None if partition is None or partition.leader < 0 else partition.leader

    def _leader_of(self, key: str) -> int:
        image = self._controller.image
        self.follow(image)
        index = self.partition_for(key)
        partition = image.partition(self.name, index)
        if partition is None or not image.is_active(partition.leader):
            raise KafkaError(
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
                f"no broker leads {self.name}-{index}, where {key} belongs",
            )
        return partition.leader

    def _created(self, key: str) -> asyncio.Future[int]:
        found: asyncio.Future[int] = self._loop.create_future()
        timeout = self._loop.call_later(CREATION_TIMEOUT_S, lambda: finish(None))

        def finish(created: asyncio.Future[dict[str, KafkaError | None]] | None) -> None:
            timeout.cancel()
            if found.done():
                if created is not None and not created.cancelled():
                    created.exception()  # too late for whoever waited
                return
            try:
                if created is None:
                    raise KafkaError(ErrorCode.REQUEST_TIMED_OUT)
                error = created.result()[self.name]
                if error is not None:
                    raise error
                found.set_result(self._leader_of(key))
            except (KafkaError, asyncio.CancelledError) as error:
                logger.warning("topic can not be created topic=%s reason=%s", self.name, error)
                found.set_exception(
                    KafkaError(
                        ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{self.name} can not be created: {error}"
                    )
                )

        try:
            self._controller.create_missing_topics([self.name]).add_done_callback(finish)
        except KafkaError as error:
            timeout.cancel()
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, str(error)) from error
        return found

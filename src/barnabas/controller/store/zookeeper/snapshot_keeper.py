"""When the metadata is kept as a snapshot: when the log has grown enough since the last one, and this node writes it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.controller.store.batches import encode_snapshot
from barnabas.controller.store.zookeeper.snapshots import trim, write_snapshot
from barnabas.metadata.snapshot import image_records

if TYPE_CHECKING:
    from barnabas.clock import Clock
    from barnabas.controller.store.zookeeper.election import Reign
    from barnabas.controller.store.zookeeper.znodes import ZNodes
    from barnabas.metadata.image import MetadataImage

__all__ = ["SNAPSHOT_CHUNKS", "SnapshotKeeper"]

logger = logging.getLogger(__name__)

_LEAST_BYTES = 1 << 19
SNAPSHOT_CHUNKS = 1_000
"""Nodes of the log after which a snapshot is due, however small they are: a start reads each of them."""


class SnapshotKeeper:
    """See the module.

    Args:
        nodes: ZooKeeper.
        clock: For the time of the records.
        loop: Where everything happens.
        bytes_max: Log after which a snapshot is due at the latest.
        chunks_max: Nodes of the log after which it is due at the latest.
    """

    __slots__ = (
        "_bytes_max",
        "_bytes_since",
        "_chunks_max",
        "_chunks_since",
        "_clock",
        "_loop",
        "_nodes",
        "_size_bytes",
        "task",
    )

    def __init__(
        self,
        nodes: ZNodes,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        bytes_max: int,
        chunks_max: int,
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._loop = loop
        self._bytes_max = bytes_max
        self._chunks_max = chunks_max
        self._size_bytes = 0
        self._bytes_since = 0
        self._chunks_since = 0
        self.task: asyncio.Task[None] | None = None

    def on_batch(self, size_bytes: int) -> None:
        """The log has grown."""
        self._bytes_since += size_bytes
        self._chunks_since += 1

    def on_restored(self, size_bytes: int) -> None:
        """A snapshot of this size was taken over."""
        self._size_bytes, self._bytes_since = size_bytes, 0

    def on_reign(self, *, chunks: int, size_bytes: int) -> None:
        """This node writes from now on: so many nodes has the log, and so large is the newest snapshot."""
        self._chunks_since = chunks
        self._size_bytes = size_bytes

    def keep_if_due(self, image: MetadataImage, reign: Reign | None) -> None:
        """Keeps the image when this node leads, and the log has grown enough since the last one."""
        due_bytes = min(self._bytes_max, max(_LEAST_BYTES, self._size_bytes))
        if (
            reign is None
            or self.task is not None
            or (self._bytes_since < due_bytes and self._chunks_since < self._chunks_max)
        ):
            return
        self._bytes_since = self._chunks_since = 0
        self.task = self._loop.create_task(self._keep(image, reign), name="metadata-snapshot")
        self.task.add_done_callback(self._end)

    async def _keep(self, image: MetadataImage, reign: Reign) -> None:
        content = await asyncio.to_thread(_content, image, self._clock.now_ms())
        pointer = await write_snapshot(
            self._nodes, reign, content, next_offset=image.offset + 1, epoch=image.epoch
        )
        self._size_bytes = pointer.size_bytes
        trimmed = await trim(self._nodes, pointer)
        logger.info(
            "metadata snapshot is written offset=%d bytes=%d trimmed=%d",
            image.offset,
            pointer.size_bytes,
            trimmed,
        )

    def _end(self, done: asyncio.Task[None]) -> None:
        self.task = None
        error = None if done.cancelled() else done.exception()
        if error is not None:
            # The log is whole without it; the next controller, or the next growth, tries again.
            logger.warning("metadata snapshot is not written reason=%s", error)


def _content(image: MetadataImage, now_ms: int) -> bytes:
    batches = encode_snapshot(
        image_records(image), epoch=image.epoch, last_timestamp_ms=now_ms, timestamp_ms=now_ms
    )
    return b"".join(batches)

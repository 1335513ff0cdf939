"""Brings the markers of decided transactions into their partitions, however long that takes, and then completes them.

A partition that is gone needs none. What fails for now is tried again after a moment, and what a newer epoch has overtaken is left
alone: another coordinator goes on with that transaction, or has ended it.

Source: Kafka's `TransactionMarkerChannelManager` and `TransactionMarkerRequestCompletionHandler`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from barnabas.coordinators.markers import TransactionMarker
from barnabas.errors import BarnabasError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.coordinators.hosted_shard import HostedShard
    from barnabas.coordinators.markers import MarkerOutcome, MarkerWriter
    from barnabas.coordinators.transaction.shard import TransactionShard
    from barnabas.coordinators.transaction.transaction import EndMarkers, TopicPartition
    from barnabas.metadata.image import MetadataImage

__all__ = ["MarkerSender"]

logger = logging.getLogger(__name__)

RETRY_S = 0.1
_OVERTAKEN = frozenset((ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED))
_NOT_NEEDED = frozenset(
    (ErrorCode.NONE, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, ErrorCode.UNSUPPORTED_VERSION)
)


class _Delivery:
    """One transaction's markers, and the partitions that do not have theirs.

    It ends with the shard that posted it. Whatever is loaded after that posts its own, and a second delivery could come late: when the
    transaction is complete, and its producer has begun the next one. For the same reason a marker that is on its way is not sent a second
    time when another broker's part of the delivery is.
    """

    __slots__ = ("is_done", "is_queued", "markers", "missing", "sent", "shard", "tries")

    def __init__(self, markers: EndMarkers, shard: HostedShard[TransactionShard] | None) -> None:
        self.markers = markers
        self.shard = shard
        self.missing: set[TopicPartition] = set(markers.partitions)
        # Of these, those whose marker is on its way.
        self.sent: set[TopicPartition] = set()
        self.tries = 0
        self.is_queued = False
        self.is_done = False


class MarkerSender:
    """See the module.

    Args:
        shard_for: The shard that holds a transactional id; KafkaError where that is not here.
        writer_for: The broker of a node id, None while it can not be reached.
        image: The cluster as it is now.
        loop: The event loop.
    """

    __slots__ = (
        "_image",
        "_is_closed",
        "_is_scheduled",
        "_loop",
        "_new",
        "_retries",
        "_shard_for",
        "_writer_for",
        "under_way",
    )

    def __init__(
        self,
        *,
        shard_for: Callable[[str], HostedShard[TransactionShard]],
        writer_for: Callable[[int], MarkerWriter | None],
        image: Callable[[], MetadataImage],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._shard_for = shard_for
        self._writer_for = writer_for
        self._image = image
        self._loop = loop
        self._new: list[_Delivery] = []
        self._retries: set[asyncio.TimerHandle] = set()
        self._is_scheduled = False
        self._is_closed = False
        self.under_way = 0

    @property
    def retry_count(self) -> int:
        """How many groups of markers wait for another try."""
        return len(self._retries)

    def post(self, markers: EndMarkers) -> None:
        """Takes the markers of a transaction; they are sent with those of others of this turn of the loop."""
        self.under_way += 1
        self._add(_Delivery(markers, self._shard(markers)))

    def _shard(self, markers: EndMarkers) -> HostedShard[TransactionShard] | None:
        try:
            return self._shard_for(markers.transactional_id)
        except KafkaError:
            return None

    def close(self) -> None:
        """Sends nothing any more; the next coordinator does."""
        self._is_closed = True
        for handle in self._retries:
            handle.cancel()
        self._retries.clear()
        self._new.clear()

    def _add(self, delivery: _Delivery) -> None:
        if delivery.is_queued or delivery.is_done:
            return
        delivery.is_queued = True
        self._new.append(delivery)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        deliveries, self._new = self._new, []
        if self._is_closed:
            return
        image = self._image()
        by_node: dict[int, list[tuple[_Delivery, TransactionMarker]]] = {}
        for delivery in deliveries:
            delivery.is_queued = False
            shard = self._shard(delivery.markers)
            if shard is None or shard is not delivery.shard:
                self._forget(delivery)
                continue
            epoch = shard.partition.leader_epoch
            if not delivery.missing:
                self._complete(delivery)
                continue
            waits = self._sort(delivery, epoch, image, by_node)
            if not delivery.missing:
                self._complete(delivery)
            elif waits:
                self._retry([delivery])
        for node, entries in by_node.items():
            self._write(node, entries)

    def _sort(
        self,
        delivery: _Delivery,
        coordinator_epoch: int,
        image: MetadataImage,
        by_node: dict[int, list[tuple[_Delivery, TransactionMarker]]],
    ) -> bool:
        """Adds what is to be sent of a delivery to the brokers that lead its partitions; True if one can not be reached for now."""
        waits = False
        leaders: dict[int, list[TopicPartition]] = {}
        for partition in sorted(delivery.missing - delivery.sent):
            state = image.partition(*partition)
            if state is None:
                logger.info(
                    "partition of a transaction is gone transactional_id=%s partition=%s-%d",
                    delivery.markers.transactional_id,
                    *partition,
                )
                delivery.missing.discard(partition)
            elif self._writer_for(state.leader) is None:
                waits = True
            else:
                leaders.setdefault(state.leader, []).append(partition)
        markers = delivery.markers
        for node, partitions in leaders.items():
            marker = TransactionMarker(
                markers.producer_id,
                markers.producer_epoch,
                coordinator_epoch,
                markers.committed,
                markers.version,
                partitions,
            )
            by_node.setdefault(node, []).append((delivery, marker))
        return waits

    def _write(self, node: int, entries: list[tuple[_Delivery, TransactionMarker]]) -> None:
        writer = self._writer_for(node)
        if writer is None:
            self._retry([delivery for delivery, _ in entries])
            return
        for delivery, marker in entries:
            delivery.sent.update(marker.partitions)
        written = writer.write([marker for _, marker in entries])
        if written.done():
            self._written(entries, written)
        else:
            written.add_done_callback(lambda done: self._written(entries, done))

    def _written(
        self,
        entries: list[tuple[_Delivery, TransactionMarker]],
        written: asyncio.Future[list[MarkerOutcome]],
    ) -> None:
        failure = asyncio.CancelledError() if written.cancelled() else written.exception()
        for delivery, marker in entries:
            delivery.sent.difference_update(marker.partitions)
        if self._is_closed:
            return
        if failure is not None:
            logger.warning("markers are not written, they are sent again reason=%s", failure)
            self._retry([delivery for delivery, _ in entries])
            return
        again = []
        for (delivery, marker), outcome in zip(entries, written.result(), strict=True):
            codes = {partition: outcome.get(partition) for partition in marker.partitions}
            overtaken = [partition for partition, code in codes.items() if code in _OVERTAKEN]
            if overtaken and not delivery.is_done:
                logger.warning(
                    "markers of a transaction are refused for a newer epoch transactional_id=%s producer_id=%d epoch=%d "
                    "partition=%s-%d",
                    delivery.markers.transactional_id,
                    delivery.markers.producer_id,
                    delivery.markers.producer_epoch,
                    *overtaken[0],
                )
                self._forget(delivery)
                continue
            delivery.missing -= {partition for partition, code in codes.items() if code in _NOT_NEEDED}
            if not delivery.missing:
                self._complete(delivery)
            elif any(code not in _NOT_NEEDED for code in codes.values()):
                again.append(delivery)
        if again:
            self._retry(again)

    def _complete(self, delivery: _Delivery) -> None:
        if delivery.is_done:
            return
        delivery.is_done = True
        markers = delivery.markers
        hosted = self._shard(markers)
        if hosted is None or hosted is not delivery.shard:
            self._completed(delivery, KafkaError(ErrorCode.NOT_COORDINATOR))
            return
        try:
            outcome = hosted.write(lambda shard, now: shard.complete(markers, now))
        except BarnabasError as error:
            self._completed(delivery, error)
            return
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(
                lambda done: self._completed(
                    delivery, asyncio.CancelledError() if done.cancelled() else done.exception()
                )
            )
        else:
            self._completed(delivery, None)

    def _completed(self, delivery: _Delivery, error: BaseException | None) -> None:
        if error is None or (isinstance(error, KafkaError) and error.code is ErrorCode.NOT_COORDINATOR):
            self._forget(delivery)
        elif not self._is_closed:
            logger.warning(
                "end of a transaction is not written, it is tried again transactional_id=%s reason=%s",
                delivery.markers.transactional_id,
                error,
            )
            delivery.is_done = False
            self._retry([delivery])

    def _forget(self, delivery: _Delivery) -> None:
        delivery.is_done = True
        self.under_way -= 1

    def _retry(self, deliveries: list[_Delivery]) -> None:
        def again() -> None:
            self._retries.discard(handle)
            for delivery in deliveries:
                self._add(delivery)

        for delivery in deliveries:
            delivery.tries += 1
        handle = self._loop.call_later(RETRY_S * min(max(each.tries for each in deliveries), 10), again)
        self._retries.add(handle)

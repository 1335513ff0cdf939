"""This broker's way into the cluster and out of it, as the controller sees it.

    join        registers (fenced), once the metadata log is replayed
    serve       asks to be unfenced, once the logs are loaded; asks again whenever the image says that it is fenced
    (meanwhile) stops leading when the controller says that the broker is fenced, and the image does not say so
    leave       hands over what it leads (controlled shutdown), waits until all others know, then says that it is gone

Liveness is the store's business; heartbeats are sent when there is something to say, and now and then to be sure
(`broker.heartbeat.interval.ms`). They are also how a broker that only the store does not reach any more learns that others lead in its
place; until then it would let clients wait for followers that have gone. So they are sent more often while the store is out of reach, and when
the controller does not answer, which may be another by then, or this broker itself have been it, other brokers are asked who is (`hearsay`).

Source: `BrokerLifecycleManager` of Apache Kafka, whose heartbeats are the liveness too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from barnabas.wire.messages.metadata import MetadataRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from barnabas.client.controller_channel import ControllerChannel
    from barnabas.client.peers import Peers
    from barnabas.controller.brokers import BrokerRegistration
    from barnabas.controller.controller import Controller
    from barnabas.controller.hearsay import Hearsay
    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import Broker, MetadataImage
    from barnabas.wire.messages.broker_heartbeat import BrokerHeartbeatResponse

__all__ = ["BrokerLifecycle"]

logger = logging.getLogger(__name__)

_AGAIN_S = 0.05
_OUT_OF_TOUCH_S = 0.25
HAND_OVER_S = 30.0
"""So long a broker that stops waits for others to take over at most."""
KNOWN_S = 2.0
"""And so long for all of them to know who has."""


class BrokerLifecycle:
    """See the module.

    Args:
        node_id: This broker.
        controller: The metadata as this node sees it.
        channel: The way to the controller.
        loop: The event loop.
        interval_ms: `broker.heartbeat.interval.ms`.
        offline_log_dirs: The ids of log directories that cannot be written.
        on_fenced: Called when this broker leads nothing any more, whatever its image says.

    Attributes:
        epoch: Of this broker's registration, -1 before.
        peers: The ways to the other brokers, where there can be any.
        hearsay: What they say of who is the controller.
    """

    __slots__ = (
        "_channel",
        "_controller",
        "_interval_s",
        "_is_in_touch",
        "_is_sending",
        "_loop",
        "_node_id",
        "_offline_log_dirs",
        "_on_fenced",
        "_resigned_as",
        "_timer",
        "_wants_to_serve",
        "epoch",
        "hearsay",
        "peers",
    )

    def __init__(
        self,
        *,
        node_id: int,
        controller: Controller,
        channel: ControllerChannel,
        loop: asyncio.AbstractEventLoop,
        interval_ms: int,
        offline_log_dirs: Callable[[], Collection[bytes]] = tuple,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        self._node_id = node_id
        self._controller = controller
        self._channel = channel
        self._loop = loop
        self._interval_s = interval_ms / 1000
        self._offline_log_dirs = offline_log_dirs
        self._on_fenced = on_fenced
        self._wants_to_serve = False
        self._is_sending = False
        self._is_in_touch = True
        self._resigned_as: Broker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.epoch = -1
        self.peers: Peers | None = None
        self.hearsay: Hearsay | None = None

    async def join(self, registration: BrokerRegistration) -> None:
        """Registers; KafkaError as `Controller.register`."""
        self.epoch = await self._controller.register(registration)

    async def serve(self, *, timeout_ms: int) -> None:
        """Asks to serve, and waits until the image says so.

        Raises:
            KafkaError: REQUEST_TIMED_OUT, or why it may not.
        """
        deadline_s = self._loop.time() + timeout_ms / 1000
        while True:
            left_ms = max(1, int((deadline_s - self._loop.time()) * 1000))
            response = await self._channel.send(self._heartbeat(), timeout_ms=left_ms)
            # It may have registered anew just now, which the next image says.
            if response.error_code not in (ErrorCode.NONE, ErrorCode.STALE_BROKER_EPOCH):
                raise KafkaError(
                    ErrorCode(response.error_code), "the controller does not let this broker serve"
                )
            if not (response.error_code or response.is_fenced) or self._loop.time() >= deadline_s:
                break
            await asyncio.sleep(_AGAIN_S)
        self._wants_to_serve = True
        async with asyncio.timeout_at(deadline_s):
            await self._controller.wait_for(lambda image: self._is_fenced(image) is False or None)
        self._schedule()

    def _is_fenced(self, image: MetadataImage) -> bool | None:
        broker = image.brokers.get(self._node_id)
        return None if broker is None else broker.fenced

    def follow(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """A metadata change: the broker was fenced, and says that it is there."""
        if self._node_id not in delta.changed_brokers:
            return
        if self._wants_to_serve and self._is_fenced(image):
            self.tell()
        elif self._resigned_as is not None and self._is_fenced(image) is False:
            self._resigned_as = None
            logger.warning("this broker is not fenced any more, and may lead again")

    def is_left_behind(self) -> bool:
        """Whether others lead in this broker's place, and its image does not know: the controller has said so, and the store nothing since."""
        resigned = self._resigned_as
        return resigned is not None and resigned is self._controller.image.brokers.get(self._node_id)

    def on_contact(self, is_in_touch: bool) -> None:
        """The store is out of reach, so that only the controller's answers say what becomes of this broker; or it is back."""
        self._is_in_touch = is_in_touch
        if is_in_touch:
            if self.hearsay is not None:
                self.hearsay.forget()
        elif self._wants_to_serve:
            self._schedule()

    def tell(self) -> None:
        """Sends a heartbeat, unless one is on its way: something has changed."""
        if self._is_sending or not self._wants_to_serve:
            return
        self._is_sending = True
        timeout_ms = max(1000, int(self._interval_s * 1000))
        known = self._controller.image.brokers.get(self._node_id)
        self._channel.send(self._heartbeat(), timeout_ms=timeout_ms).add_done_callback(
            lambda done: self._answered(done, known)
        )
        if not self._is_in_touch:
            self._schedule()

    def _answered(self, done: asyncio.Future[Any], known: Broker | None) -> None:
        self._is_sending = False
        error = None if done.cancelled() else done.exception()
        if error is not None:
            logger.debug("heartbeat is not answered reason=%s", error)
        elif not done.cancelled() and done.result().is_fenced and not done.result().error_code:
            # If the image has the same of this broker as before the controller spoke, what it spoke of is still to come.
            broker = self._controller.image.brokers.get(self._node_id)
            if (
                broker is not None
                and broker is known
                and broker is not self._resigned_as
                and not broker.fenced
            ):
                self._resigned_as = broker
                logger.warning(
                    "the controller says that this broker is fenced, and the store does not: it leads no more"
                )
                self._on_fenced()
        if self._wants_to_serve:
            self._schedule(_AGAIN_S if self._is_fenced(self._controller.image) else None)

    def _schedule(self, after_s: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s is None:
            if self._controller.is_leader and not self._offline_log_dirs():
                return  # nobody has to hear of it again
            after_s = self._interval_s if self._is_in_touch else min(self._interval_s, _OUT_OF_TOUCH_S)
        self._timer = self._loop.call_later(after_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_sending:
            self.tell()
        elif not self._is_in_touch and self.hearsay is not None:
            self.hearsay.ask()
            self._schedule()

    def _heartbeat(self, **wishes: bool) -> BrokerHeartbeatRequest:
        image = self._controller.image
        broker = image.brokers.get(self._node_id)
        return BrokerHeartbeatRequest(
            broker_id=self._node_id,
            broker_epoch=self.epoch if broker is None else broker.epoch,
            current_metadata_offset=image.offset,
            want_fence=wishes.get("want_fence", False),
            want_shut_down=wishes.get("want_shut_down", False),
            offline_log_dirs=list(self._offline_log_dirs()),
        )

    async def leave(self, *, hand_over: bool) -> None:
        """Stops serving: others lead what this broker leads, if there are others, then everybody knows that it is gone."""
        self._wants_to_serve = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        image = self._controller.image
        if hand_over and any(
            broker.is_active and broker.id != self._node_id for broker in image.brokers.values()
        ):
            try:
                async with asyncio.timeout(HAND_OVER_S):
                    await self._hand_over()
            except (TimeoutError, KafkaError) as error:
                logger.warning("leadership is not handed over reason=%s", error or "it took too long")
        await self._controller.unregister()

    async def _hand_over(self) -> None:
        while True:
            response: BrokerHeartbeatResponse = await self._channel.send(
                self._heartbeat(want_shut_down=True), timeout_ms=int(HAND_OVER_S * 1000)
            )
            if response.error_code:
                return
            if response.should_shut_down:
                break
            await asyncio.sleep(_AGAIN_S)
        try:
            async with asyncio.timeout(KNOWN_S):
                await self._until_known()
        except TimeoutError:
            logger.info("not all brokers know that this one stops")

    async def _until_known(self) -> None:
        """Waits until no other broker names this one to clients; so none is sent to a listener that is closed."""
        peers = self.peers
        if peers is None:
            return
        others = [
            broker.id
            for broker in self._controller.image.brokers.values()
            if broker.is_active and broker.id != self._node_id
        ]
        await asyncio.gather(*(self._until_known_to(peers, other) for other in others))

    async def _until_known_to(self, peers: Peers, other: int) -> None:
        while True:
            try:
                answer = await peers.send(other, MetadataRequest(topics=[]), timeout_ms=int(KNOWN_S * 1000))
            except KafkaError:
                return  # nobody is sent anywhere by a broker that cannot be reached
            # This one is left out from the moment that it was fenced, and others lead since before that.
            if all(broker.node_id != self._node_id for broker in answer.brokers):
                return
            await asyncio.sleep(_AGAIN_S)

"""Who leads the metadata log, by what other brokers say, while this broker's own store is out of reach and cannot tell.

One broker after the other is asked, as a client would ask (Metadata); what the last one said is believed. Wherever that is wrong, whoever is taken
for the controller says so itself, and the next one is asked. What this broker does not hear from its store it does not need to know of
elections; it needs somebody who tells it that it is fenced (`lifecycle`), and who does what its clients want.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.client.controller_channel import ControllerAddress
from barnabas.wire.messages.metadata import MetadataRequest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.client.peers import Peers
    from barnabas.metadata.image import MetadataImage

__all__ = ["Hearsay"]

logger = logging.getLogger(__name__)

_TIMEOUT_MS = 1_000


class Hearsay:
    """See the module.

    Args:
        node_id: This broker.
        image: Gives the cluster as this broker knew it last.
        peers: The ways to the other brokers.
        on_change: Called when another address counts.

    Attributes:
        address: Where the controller is said to be; None while nobody was asked, or nobody knew.
    """

    __slots__ = ("_image", "_is_wanted", "_node_id", "_on_change", "_peers", "_turn", "_under_way", "address")

    def __init__(
        self,
        *,
        node_id: int,
        image: Callable[[], MetadataImage],
        peers: Peers,
        on_change: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._image = image
        self._peers = peers
        self._on_change = on_change
        self._turn = 0
        self._under_way: set[int] = set()
        self._is_wanted = False
        self.address: ControllerAddress | None = None

    def ask(self) -> None:
        """Asks the next broker that has answered what it was asked before."""
        self._is_wanted = True
        others = [
            broker.id
            for broker in self._image().brokers.values()
            if not broker.fenced and broker.id != self._node_id and broker.id not in self._under_way
        ]
        if not others:
            return
        self._turn += 1
        other = others[self._turn % len(others)]
        self._under_way.add(other)
        answer = self._peers.send(other, MetadataRequest(topics=[]), timeout_ms=_TIMEOUT_MS)
        answer.add_done_callback(lambda done: self._heard(other, done))

    def forget(self) -> None:
        """The store tells again."""
        self._is_wanted = False
        if self.address is not None:
            self.address = None
            self._on_change()

    def _heard(self, other: int, done: asyncio.Future[Any]) -> None:
        self._under_way.discard(other)
        if done.cancelled() or done.exception() is not None or not self._is_wanted:
            return
        answer = done.result()
        for broker in answer.brokers:
            if broker.node_id == answer.controller_id and broker.node_id != self._node_id:
                address = ControllerAddress(broker.node_id, (broker.host, broker.port))
                if address != self.address:
                    logger.info(
                        "metadata leader is known by hearsay leader=%d said_by=%d", broker.node_id, other
                    )
                    self.address = address
                    self._on_change()

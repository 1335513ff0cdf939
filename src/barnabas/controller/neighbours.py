"""Notices at once that another broker's process has ended, where the store would notice only when its session times out.

The kernel closes the sockets of a process that ends, however it ends. So whoever leads the metadata log keeps a connection to each
broker that serves, and everybody else keeps one to whoever leads. It is not used for anything, but when it ends the same address
is asked for another one:

    refused                  nobody listens there any more: the process is gone, which is reported to the store
    accepted                 the connection was idle for too long, or cut: it is watched as before
    anything else, silence   nothing is known, and the session decides

A broker that is stopped, cut off or without power says nothing, so it keeps its place until its session is over. One that stops in
order has said so before it closes its sockets. One that has just started may not listen yet: only an address where this process was
reached is believed.

To be wrong costs time and loses nothing, as with a session that times out: leaders change by the controller's word only. Whatever stands
between two brokers may refuse for a process that lives; it registers again, and is not reported by this one a second time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from barnabas.client.broker_connection import ClientLimits, connect
from barnabas.errors import BarnabasError, KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from barnabas.metadata.deltas import MetadataDelta
    from barnabas.metadata.image import MetadataImage

__all__ = ["Neighbours"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.01
_PAUSE_MAX_S = 1.0
_LIMITS = ClientLimits(connect_timeout_ms=5_000)


class _Process(NamedTuple):
    """A broker that serves, as it registered."""

    broker_id: int
    incarnation_id: bytes
    endpoint: tuple[str, int]


class Neighbours:
    """See the module.

    Args:
        node_id: This broker.
        listener: The listener over which brokers talk to each other.
        image: Gives the cluster as it is now.
        report_gone: Tells the store (`MetadataStore.report_gone`).
        loop: The event loop.
    """

    __slots__ = ("_image", "_listener", "_loop", "_node_id", "_report_gone", "_reported", "_watches")

    def __init__(
        self,
        *,
        node_id: int,
        listener: str,
        image: Callable[[], MetadataImage],
        report_gone: Callable[[int, bytes], Awaitable[None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._node_id = node_id
        self._listener = listener
        self._image = image
        self._report_gone = report_gone
        self._loop = loop
        self._watches: dict[_Process, asyncio.Task[None]] = {}
        self._reported: set[bytes] = set()

    def on_metadata(self, image: MetadataImage, delta: MetadataDelta) -> None:
        """A metadata change: brokers may have come or gone."""
        del image
        if delta.changed_brokers:
            self.look()

    def look(self) -> None:
        """Watches whoever is to be watched now, and nobody else."""
        image = self._image()
        leads = image.controller_id == self._node_id
        self._reported &= {broker.incarnation_id for broker in image.brokers.values()}
        wanted = set()
        for broker in image.brokers.values():
            endpoint = broker.endpoints.get(self._listener)
            if (
                endpoint is not None
                and not broker.fenced
                and broker.id != self._node_id
                and (leads or broker.id == image.controller_id)
                and broker.incarnation_id not in self._reported
            ):
                wanted.add(_Process(broker.id, broker.incarnation_id, endpoint))
        for process in self._watches.keys() - wanted:
            self._watches.pop(process).cancel()
        for process in sorted(wanted - self._watches.keys()):
            self._watches[process] = self._loop.create_task(
                self._watch(process), name=f"watch over broker {process.broker_id}"
            )

    async def close(self) -> None:
        """Watches nobody any more."""
        watches, self._watches = list(self._watches.values()), {}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, process: _Process) -> None:
        address: tuple[str, int] | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            began_s = self._loop.time()
            try:
                connection = await connect(
                    *(address or process.endpoint), client_id=f"broker-{self._node_id}-watch", limits=_LIMITS
                )
            except KafkaError as error:
                if address is not None and isinstance(error.__cause__, ConnectionRefusedError):
                    break
            else:
                address = connection.address
                try:
                    await connection.wait_closed()
                finally:
                    connection.close()
                if self._loop.time() - began_s > _PAUSE_MAX_S:
                    pause_s = _FIRST_PAUSE_S
                    continue
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        await self._report(process)

    async def _report(self, process: _Process) -> None:
        logger.warning(
            "a broker's process has ended, and its address refuses connections broker=%d address=%s:%d",
            process.broker_id,
            *process.endpoint,
        )
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._report_gone(process.broker_id, process.incarnation_id)
            except BarnabasError as error:
                logger.debug(
                    "the store is not told that broker %d is gone reason=%s", process.broker_id, error
                )
            else:
                self._reported.add(process.incarnation_id)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

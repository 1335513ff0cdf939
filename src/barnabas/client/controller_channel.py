"""Requests to the controller: whichever broker leads the metadata log now, this one included.

    answer = await channel.send(AlterPartitionRequest(...), timeout_ms=30_000)

Where this broker leads itself, its handler is called at once. Else the request goes over one connection that all share.
While there is no controller, while its connection fails, or when it says NOT_CONTROLLER, the request waits and is sent again,
until its time is up. A request whose answer was lost is sent again too: senders must not mind (Kafka's
`NodeToControllerChannelManager` is the same).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from barnabas.client.broker_connection import BrokerConnection
    from barnabas.wire.message import Message

__all__ = ["ControllerAddress", "ControllerChannel"]

_CONNECT_TIMEOUT_MS = 5_000
_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 1.0


class ControllerAddress(NamedTuple):
    """Which node leads; `endpoint` is None where it is this one."""

    node_id: int
    endpoint: tuple[str, int] | None


class ControllerChannel:
    """See the module.

    Args:
        loop: The event loop.
        controller: Says which node leads, None while nobody does.
        call_here: Calls this broker's own handler.
        client_id: What this broker calls itself.
        waiting_max: Requests that may wait at once.
    """

    __slots__ = (
        "_call_here",
        "_changed",
        "_client_id",
        "_connecting",
        "_connection",
        "_controller",
        "_is_closed",
        "_loop",
        "_peer",
        "_tasks",
        "_waiting_max",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        controller: Callable[[], ControllerAddress | None],
        call_here: Callable[[Message], Awaitable[Any]],
        client_id: str,
        waiting_max: int = 10_000,
    ) -> None:
        self._loop = loop
        self._controller = controller
        self._call_here = call_here
        self._client_id = client_id
        self._waiting_max = waiting_max
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._connection: BrokerConnection | None = None
        self._peer: ControllerAddress | None = None
        self._connecting = asyncio.Lock()
        self._is_closed = False

    def send(self, request: Message, *, timeout_ms: int) -> asyncio.Future[Any]:
        """The controller's answer.

        The future fails with KafkaError REQUEST_TIMED_OUT when there was none in time, and with NETWORK_EXCEPTION when too
        many requests wait already, or when this broker stops.
        """
        if self._is_closed or len(self._tasks) >= self._waiting_max:
            refused: asyncio.Future[Any] = self._loop.create_future()
            refused.set_exception(
                KafkaError(ErrorCode.NETWORK_EXCEPTION, "no more requests to the controller are taken")
            )
            return refused
        task: asyncio.Task[Any] = self._loop.create_task(
            self._deliver(request, timeout_ms), name=f"{type(request).__name__} to the controller"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A future of its own: whoever gives up waiting must not take back what others hear of.
        answer: asyncio.Future[Any] = self._loop.create_future()
        task.add_done_callback(lambda done: _pass_on(done, answer))
        return answer

    def on_change(self) -> None:
        """Another node leads now, or it has another address."""
        self._changed.set()
        if self._connection is not None and self._peer != self._controller():
            self._connection.close()
            self._connection = None

    async def close(self) -> None:
        """Gives up what waits, and closes the connection."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._connection is not None:
            self._connection.close()
            await self._connection.wait_closed()
            self._connection = None

    async def _deliver(self, request: Message, timeout_ms: int) -> Any:
        deadline_s = self._loop.time() + timeout_ms / 1000
        backoff_s = _BACKOFF_S
        reason = "nobody leads the metadata log"
        while (left_s := deadline_s - self._loop.time()) > 0:
            self._changed.clear()
            controller = self._controller()
            if controller is not None:
                try:
                    response = await self._ask(controller, request, left_s)
                except KafkaError as error:
                    if error.code not in _TRANSIENT:
                        raise
                    reason = str(error)
                else:
                    if getattr(response, "error_code", 0) != ErrorCode.NOT_CONTROLLER:
                        return response
                    reason = f"node {controller.node_id} does not lead the metadata log any more"
            try:
                async with asyncio.timeout(min(backoff_s, max(deadline_s - self._loop.time(), 0))):
                    await self._changed.wait()
            except TimeoutError:
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
        raise KafkaError(
            ErrorCode.REQUEST_TIMED_OUT, f"the controller did not answer within {timeout_ms} ms: {reason}"
        )

    async def _ask(self, controller: ControllerAddress, request: Message, left_s: float) -> Any:
        if controller.endpoint is None:
            return await self._call_here(request)
        connection = await self._connected(controller)
        return await connection.send(request, timeout_ms=max(1, int(left_s * 1000)))

    async def _connected(self, controller: ControllerAddress) -> BrokerConnection:
        async with self._connecting:
            connection = self._connection
            if connection is not None and connection.is_open and self._peer == controller:
                return connection
            if connection is not None:
                connection.close()
                self._connection = None
            # A single node never gets here: it starts without this module.
            from barnabas.client.broker_connection import ClientLimits, connect

            assert controller.endpoint is not None
            limits = ClientLimits(connect_timeout_ms=_CONNECT_TIMEOUT_MS)
            host, port = controller.endpoint
            self._connection = await connect(host, port, client_id=self._client_id, limits=limits)
            self._peer = controller
            return self._connection


_TRANSIENT = frozenset((ErrorCode.NETWORK_EXCEPTION, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_CONTROLLER))


def _pass_on(done: asyncio.Task[Any], answer: asyncio.Future[Any]) -> None:
    error = None if done.cancelled() else done.exception()
    if answer.done():
        return
    if done.cancelled():
        answer.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION, "this broker stops"))
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())

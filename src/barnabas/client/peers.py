"""Requests to other brokers of the cluster, by their ids: one connection to each, made when it is first needed.

Nothing is tried again here: a request that was lost fails, and whoever sent it knows whether to repeat it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.client.broker_connection import BrokerConnection
    from barnabas.wire.message import Message

__all__ = ["Peers"]

_CONNECT_TIMEOUT_MS = 5_000


class Peers:
    """See the module.

    Args:
        loop: The event loop.
        endpoint: Host and port of a broker, None while it has none.
        client_id: What this broker calls itself.
        waiting_max: Requests that may wait at once.
    """

    __slots__ = (
        "_client_id",
        "_connecting",
        "_connections",
        "_endpoint",
        "_is_closed",
        "_loop",
        "_tasks",
        "_waiting_max",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        endpoint: Callable[[int], tuple[str, int] | None],
        client_id: str,
        waiting_max: int = 10_000,
    ) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._client_id = client_id
        self._waiting_max = waiting_max
        self._connections: dict[int, tuple[tuple[str, int], BrokerConnection]] = {}
        self._connecting: dict[int, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def send(self, node_id: int, request: Message, *, timeout_ms: int) -> asyncio.Future[Any]:
        """A broker's answer; the future fails with KafkaError when it can not be reached, or does not answer in time."""
        if self._is_closed or len(self._tasks) >= self._waiting_max:
            refused: asyncio.Future[Any] = self._loop.create_future()
            refused.set_exception(
                KafkaError(ErrorCode.NETWORK_EXCEPTION, f"no more requests to broker {node_id} are taken")
            )
            return refused
        task: asyncio.Task[Any] = self._loop.create_task(
            self._ask(node_id, request, timeout_ms), name=f"{type(request).__name__} to {node_id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Gives up what is under way."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, connection in self._connections.values():
            connection.close()
            await connection.wait_closed()
        self._connections.clear()

    async def _ask(self, node_id: int, request: Message, timeout_ms: int) -> Any:
        connection = await self._connected(node_id)
        return await connection.send(request, timeout_ms=timeout_ms)

    async def _connected(self, node_id: int) -> BrokerConnection:
        async with self._connecting.setdefault(node_id, asyncio.Lock()):
            endpoint = self._endpoint(node_id)
            if endpoint is None:
                raise KafkaError(ErrorCode.NETWORK_EXCEPTION, f"broker {node_id} is not known to be anywhere")
            known = self._connections.get(node_id)
            if known is not None:
                if known[1].is_open and known[0] == endpoint:
                    return known[1]
                known[1].close()
                del self._connections[node_id]
            # A single node never gets here: it starts without this module.
            from barnabas.client.broker_connection import ClientLimits, connect

            connection = await connect(
                *endpoint,
                client_id=self._client_id,
                limits=ClientLimits(connect_timeout_ms=_CONNECT_TIMEOUT_MS),
            )
            self._connections[node_id] = endpoint, connection
            return connection

"""`GET /metrics` for Prometheus: as much HTTP/1.1 (RFC 9112) as a scraper needs, on the broker's own loop.

The loop's thread only copies the numbers, so that nothing else ever touches them; the text is made in a worker thread.
prometheus_client's own server would run everything in threads of its own, in the middle of our changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError
from barnabas.metrics import expose
from barnabas.network.context import format_address

if TYPE_CHECKING:
    from barnabas.metrics import Registry
    from barnabas.network.context import Address

__all__ = ["MetricsEndpoint"]

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 16 * 1024
SCRAPE_S_MAX = 10.0
"""From connect to the last byte; a scraper that takes longer is disconnected."""

CONNECTIONS_MAX = 16
"""Scrapers at a time; more are disconnected."""


class MetricsEndpoint:
    """Serves the numbers of `registry` as text.

        endpoint = MetricsEndpoint(registry)
        await endpoint.start("localhost", 9090)
        await endpoint.stop()

    Attributes:
        address: The host as given and the actual port.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._server: asyncio.Server | None = None
        self._scrapes: set[asyncio.Task[None]] = set()
        self.address: Address = ("", 0)

    async def start(self, host: str, port: int) -> None:
        """Listen on `host` (empty: all addresses) and `port` (0: any free one).

        Raises:
            ConfigError: the address cannot be had.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host or None, port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            where = format_address((host or "*", port))
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"barnabas.metrics.port: another program listens on {where}; choose another port."
                ) from None
            raise ConfigError(
                f"barnabas.metrics.host: cannot listen on {where} ({error.strerror}); name an address of this machine."
            ) from None
        self.address = (host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop scrapes under way."""
        if self._server is not None:
            self._server.close()
            for scrape in self._scrapes:
                scrape.cancel()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._scrapes) >= CONNECTIONS_MAX:
            writer.close()
            return
        task.set_name("metrics scrape")
        self._scrapes.add(task)
        try:
            async with asyncio.timeout(SCRAPE_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError) as error:
            logger.debug("A scrape of the metrics failed: %r", error)
        except asyncio.CancelledError:
            # Only stop() cancels; asyncio.streams logs a cancelled handler as an error.
            logger.debug("A scrape of the metrics was dropped")
        finally:
            self._scrapes.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        """The response to a request with this head; the connection closes after it."""
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "text/plain", b"Only GET.\n", method)
        if path != b"/metrics":
            return _response("404 Not Found", "text/plain", b"The metrics are at /metrics.\n", method)
        families = self._registry.collect()
        loop = asyncio.get_running_loop()
        content_type, body = await loop.run_in_executor(None, expose, families)
        return _response("200 OK", content_type, body, method)


def _response(status: str, content_type: str, body: bytes, method: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    return head if method == b"HEAD" else head + body

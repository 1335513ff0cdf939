"""A connection to another broker: requests out, answers back in order.

    async with await connect("broker-2", 9092, client_id="broker-1-fetcher-0") as connection:
        response = await connection.send(FetchRequest(...))

Requests are encoded in the highest version that both sides know; the other side's versions are asked for (ApiVersions) when
connecting. Answers come in the order of the requests (Kafka protocol guide, Network), so that many may be under way at
once. A connection that fails in any way is closed, and what was under way fails with it; whoever owns the connection makes
another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from barnabas import __version__
from barnabas.client.versions import ApiVersions
from barnabas.errors import DecodeError, ErrorCode, KafkaError
from barnabas.wire.api import BROKER_SOFTWARE
from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_response_header, encode_request_header
from barnabas.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

if TYPE_CHECKING:
    from barnabas.wire.message import Message

__all__ = ["BrokerConnection", "ClientLimits", "connect"]

LENGTH = Struct(">i")
_INPUT_BYTES = 16 * 1024
"""Of each connection; longer answers have a buffer of their own from their first bytes on."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How much and how long to wait for.

    Attributes:
        requests_in_flight_max: Requests that wait for their answers at once.
        response_bytes_max: Longest answer accepted.
        connect_timeout_ms: For the TCP connection and the answer to ApiVersions together.
        request_timeout_ms: For each answer, unless the request is sent with a time of its own.
    """

    requests_in_flight_max: int = 100
    response_bytes_max: int = 256 * 1024 * 1024
    connect_timeout_ms: int = 10_000
    request_timeout_ms: int = 30_000


class _InFlight(NamedTuple):
    """A request whose answer has not come yet."""

    api_key: int
    version: int
    correlation_id: int
    future: asyncio.Future[Any]
    timer: asyncio.TimerHandle


async def connect(
    host: str, port: int, *, client_id: str, limits: ClientLimits | None = None
) -> BrokerConnection:
    """Connect to the broker at `host` and `port` and ask for its versions.

    Raises:
        KafkaError: NETWORK_EXCEPTION if it cannot be reached in time or ends the connection, UNSUPPORTED_VERSION if there is
            no version of ApiVersions that both know.
    """
    limits = limits or ClientLimits()
    loop = asyncio.get_running_loop()
    connection = BrokerConnection(loop, f"{host}:{port}", client_id, limits)
    try:
        async with asyncio.timeout(limits.connect_timeout_ms / 1000):
            await loop.create_connection(lambda: connection, host, port)
            await connection.ask_versions()
    except TimeoutError:
        connection.close()
        raise KafkaError(
            ErrorCode.NETWORK_EXCEPTION,
            f"{host}:{port} did not answer within {limits.connect_timeout_ms} ms",
        ) from None
    except OSError as error:
        connection.close()
        raise KafkaError(ErrorCode.NETWORK_EXCEPTION, f"cannot connect to {host}:{port}: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


class BrokerConnection(asyncio.BufferedProtocol):
    """See the module; made by `connect`.

    Each answer is in a buffer of its own, so that the records in it (memoryviews) stay valid as long as somebody holds them. Big ones are
    received into it; small ones are copied there from the input, which takes a whole answer, or several, by one call to the kernel.

    Attributes:
        peer: `host:port` of the other side, for messages.
        versions: What the other side serves.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peer: str, client_id: str, limits: ClientLimits
    ) -> None:
        self.peer = peer
        self.versions = ApiVersions.of_our_own()
        self._loop = loop
        self._client_id = client_id
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._in_flight: deque[_InFlight] = deque()
        self._next_correlation_id = 0
        self._failure: KafkaError | None = None
        self._input = memoryview(bytearray(_INPUT_BYTES))
        self._input_end = 0
        self._big: memoryview | None = None
        self._big_end = 0
        self._closed = loop.create_future()

    # --- for the owner

    @property
    def is_open(self) -> bool:
        """Requests can be sent."""
        return self._transport is not None and self._failure is None

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the other side was reached: the host as a number, and the port."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return None if peer is None else (peer[0], peer[1])

    @property
    def in_flight_count(self) -> int:
        """Requests that wait for their answers."""
        return len(self._in_flight)

    def send(
        self, request: Message, *, version: int | None = None, timeout_ms: int | None = None
    ) -> asyncio.Future[Any]:
        """Send `request`; the future is the response, decoded.

        Written at once and in the order of calls; what the socket does not take yet is kept, so that the sum of unsent
        bytes is bounded by `requests_in_flight_max`.

        Args:
            request: Any request with an answer.
            version: The version to encode it in, if not the highest that both sides know.
            timeout_ms: How long to wait for the answer, if not `request_timeout_ms`. When the time is up the connection
                is closed, as its later answers would be late as well.

        Raises:
            KafkaError: UNSUPPORTED_VERSION if the other side does not serve the API or the version, NETWORK_EXCEPTION if
                the connection is closed or too many requests are in flight. The future fails with KafkaError, too:
                REQUEST_TIMED_OUT, or NETWORK_EXCEPTION for what was under way when the connection failed.
            EncodeError: the request does not fit the version.
        """
        if self._failure is not None or self._transport is None:
            raise KafkaError(
                ErrorCode.NETWORK_EXCEPTION, f"the connection to {self.peer} is closed: {self._failure}"
            )
        if len(self._in_flight) >= self._limits.requests_in_flight_max:
            raise KafkaError(
                ErrorCode.NETWORK_EXCEPTION,
                f"{len(self._in_flight)} requests to {self.peer} wait for their answers already",
            )
        if version is None:
            version = self.versions.highest_common(request.API_KEY)
        else:
            self.versions.check(request.API_KEY, version)
        correlation_id = self._next_correlation_id
        header = encode_request_header(
            RequestHeader(request.API_KEY, version, correlation_id, self._client_id)
        )
        body = request.encode(version)
        self._next_correlation_id = (correlation_id + 1) & 0x7FFF_FFFF
        future: asyncio.Future[Any] = self._loop.create_future()
        if timeout_ms is None:
            timeout_ms = self._limits.request_timeout_ms
        timer = self._loop.call_later(timeout_ms / 1000, self._on_timeout, correlation_id, timeout_ms)
        self._in_flight.append(_InFlight(request.API_KEY, version, correlation_id, future, timer))
        self._transport.writelines((LENGTH.pack(len(header) + len(body)), header, body))
        return future

    def close(self) -> None:
        """Close at once; what is under way fails with NETWORK_EXCEPTION."""
        self._fail(KafkaError(ErrorCode.NETWORK_EXCEPTION, f"the connection to {self.peer} was closed"))

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, by whichever side."""
        await asyncio.shield(self._closed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    # --- connecting

    async def ask_versions(self) -> None:
        """Learn which versions the other side serves."""
        request = ApiVersionsRequest(
            client_software_name=BROKER_SOFTWARE, client_software_version=__version__
        )
        response = await self.send(request)
        if response.error_code == ErrorCode.UNSUPPORTED_VERSION:
            # KIP-511: the answer is version 0 and says which versions of ApiVersions there are.
            served = ApiVersions.from_response(response)
            response = await self.send(request, version=served.highest_common(request.API_KEY))
        if response.error_code:
            raise KafkaError(ErrorCode(response.error_code), f"{self.peer} refused to tell its versions")
        self.versions = ApiVersions.from_response(response)

    # --- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is not derived from it
        if self._failure is not None:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes belong: the rest of a big answer, or what all small ones are received into."""
        if self._big is not None:
            return self._big[self._big_end :]
        return self._input[self._input_end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were written to the beginning of what `get_buffer` gave."""
        if self._failure is not None:
            return
        if self._big is not None:
            self._big_end += nbytes
            if self._big_end == len(self._big):
                answer, self._big = self._big, None
                self._on_answer(answer)
            return
        self._input_end += nbytes
        self._take_input()

    def _take_input(self) -> None:
        """Takes the answers out of the input, and leaves there what is only the beginning of a small one."""
        data, end = self._input, self._input_end
        start = 0
        while end - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data, start)
            if not 0 < size <= self._limits.response_bytes_max:
                self._fail_on_nonsense(f"an answer cannot be {size} bytes long")
                return
            first = start + LENGTH.size
            if end - first >= size:
                start = first + size
                self._on_answer(memoryview(bytearray(data[first:start])))
                if self._failure is not None:
                    return
            elif LENGTH.size + size > len(data):
                self._big = memoryview(bytearray(size))
                self._big_end = end - first
                self._big[: end - first] = data[first:end]
                start = end
            else:
                break
        if start:
            rest = end - start
            data[:rest] = data[start:end]
            self._input_end = rest

    def eof_received(self) -> bool:
        """The other side has ended the connection."""
        self._fail(KafkaError(ErrorCode.NETWORK_EXCEPTION, f"{self.peer} ended the connection"))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._fail(
            KafkaError(ErrorCode.NETWORK_EXCEPTION, f"the connection to {self.peer} was lost: {error}")
        )
        if not self._closed.done():
            self._closed.set_result(None)

    # --- answers

    def _on_answer(self, buffer: memoryview) -> None:
        if not self._in_flight:
            self._fail_on_nonsense("an answer came to a request that was not sent")
            return
        first = self._in_flight[0]
        try:
            correlation_id, position = decode_response_header(buffer, first.api_key, first.version)
            if correlation_id != first.correlation_id:
                self._fail_on_nonsense(
                    f"the answer to request {correlation_id} came in place of that to {first.correlation_id}"
                )
                return
            response = _decode(first, buffer, position)
        except DecodeError as error:
            self._fail_on_nonsense(str(error))
            return
        self._in_flight.popleft()
        first.timer.cancel()
        if not first.future.done():
            first.future.set_result(response)

    def _on_timeout(self, correlation_id: int, timeout_ms: int) -> None:
        for request in self._in_flight:
            if request.correlation_id == correlation_id and not request.future.done():
                request.future.set_exception(
                    KafkaError(
                        ErrorCode.REQUEST_TIMED_OUT,
                        f"{self.peer} did not answer {APIS[request.api_key].name} within {timeout_ms} ms",
                    )
                )
        self._fail(KafkaError(ErrorCode.NETWORK_EXCEPTION, f"an answer of {self.peer} did not come in time"))

    def _fail_on_nonsense(self, reason: str) -> None:
        self._fail(KafkaError(ErrorCode.NETWORK_EXCEPTION, f"{self.peer} sent nonsense: {reason}"))

    def _fail(self, error: KafkaError) -> None:
        """End the connection, unless it has ended already."""
        if self._failure is not None:
            return
        self._failure = error
        in_flight, self._in_flight = self._in_flight, deque()
        for request in in_flight:
            request.timer.cancel()
            if not request.future.done():
                request.future.set_exception(KafkaError(error.code, error.message))
        if self._transport is not None:
            self._transport.abort()
        elif not self._closed.done():
            self._closed.set_result(None)


def _decode(request: _InFlight, buffer: memoryview, position: int) -> Any:
    """The response at `position`."""
    if request.api_key == ApiVersionsRequest.API_KEY:
        # Whatever version was asked for, the error UNSUPPORTED_VERSION comes in version 0 (KIP-511); the error code stands
        # first in all versions.
        code = int.from_bytes(buffer[position : position + 2], "big", signed=True)
        version = 0 if code == ErrorCode.UNSUPPORTED_VERSION else request.version
        return ApiVersionsResponse.decode(buffer, version, position)
    return APIS[request.api_key].response_class.decode(buffer, request.version, position)

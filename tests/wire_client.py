"""A client that says exactly what a test wants said: one request, one version, the answer as a message."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Self

from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_response_header, encode_request_header

if TYPE_CHECKING:
    from barnabas.wire.message import Message

__all__ = ["WireClient"]


class WireClient:
    """A blocking connection; answers are read in the order of the requests."""

    def __init__(self, address: str, *, client_id: str | None = "test", timeout_s: float = 30) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.client_id = client_id
        self._correlation_id = 0
        self._expected: list[tuple[int, int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def call(self, request: Message, version: int) -> Any:
        """Sends a request and gives its answer."""
        self.send(request, version)
        return self.receive()

    def send(self, request: Message, version: int, *, is_answered: bool = True) -> int:
        """Sends a request; gives its correlation id."""
        return self.send_raw(type(request).API_KEY, version, request.encode(version), is_answered=is_answered)

    def send_raw(self, api_key: int, version: int, body: bytes, *, is_answered: bool = True) -> int:
        """Sends a header and whatever is said to be the body."""
        self._correlation_id += 1
        header = encode_request_header(RequestHeader(api_key, version, self._correlation_id, self.client_id))
        self.socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        if is_answered:
            self._expected.append((api_key, version, self._correlation_id))
        return self._correlation_id

    def receive(self) -> Any:
        """The answer to the oldest request that is not answered yet."""
        api_key, version, correlation_id = self._expected.pop(0)
        frame = self.receive_frame()
        found, position = decode_response_header(frame, api_key, version)
        assert found == correlation_id, f"answer {found} in place of {correlation_id}"
        return APIS[api_key].response_class.decode(frame, version, position)

    def receive_frame(self) -> bytes:
        """One answer as it comes, without its length."""
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def is_closed_by_peer(self) -> bool:
        """Whether the broker hangs up; waits for it up to the time-out."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError(f"the broker closed the connection after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

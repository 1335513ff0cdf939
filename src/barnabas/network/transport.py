"""What moves the bytes of one connection; plain TCP here, TLS behind the same interface."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from barnabas.network.connection import Connection
    from barnabas.wire.chunks import FileRegion

__all__ = ["PlaintextTransport", "Transport"]

MSG_MORE: int = getattr(socket, "MSG_MORE", 0)
"""Linux: do not send a short packet yet, more follows at once (tcp(7), TCP_CORK)."""


class Transport(Protocol):
    """Moves bytes between a connection and its peer; never waits: BlockingIOError instead, OSError if it is over."""

    fd: int

    @property
    def takes_regions(self) -> bool:
        """Whether `send_region` works; otherwise regions are read and sent as bytes."""
        ...

    def receive(self, connection: Connection, shared: memoryview, only_unfinished: bool = False) -> int:
        """Give `connection` what has arrived, by way of `shared` where it does not go to its place directly.

        Args:
            connection: Takes the bytes.
            shared: The loop's receive buffer; nothing in it outlives the call.
            only_unfinished: Receive no byte beyond the connection's unfinished frame.

        Returns:
            How many bytes came from the network; 0 at the end of the stream.
        """
        ...

    def send(self, data: bytes | bytearray | memoryview, more: bool = False) -> int:
        """Send the beginning of `data`; `more` will follow at once. Returns how many bytes were taken."""
        ...

    def send_region(self, region: FileRegion, offset: int, count: int) -> int:
        """Send up to `count` bytes of `region` from `offset` on. Returns how many bytes were taken."""
        ...

    def end(self) -> None:
        """Send the end of the stream behind all that was sent; what arrives can still be received."""
        ...

    def discard(self, shared: memoryview) -> int:
        """Receive what has arrived by way of `shared` and drop it. Returns its size; 0 at the end of the stream."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


class PlaintextTransport:
    """A non-blocking TCP socket."""

    __slots__ = ("_socket", "fd")

    takes_regions = hasattr(os, "sendfile")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.fd = sock.fileno()

    def receive(self, connection: Connection, shared: memoryview, only_unfinished: bool = False) -> int:
        """See `Transport.receive`."""
        if connection.unfinished is None:
            count = self._socket.recv_into(shared)
            if count:
                connection.receive(shared[:count])
            return count
        space = connection.space()
        if only_unfinished or not HAS_SCATTER:
            count = self._socket.recv_into(space)
            if count:
                connection.filled(count)
            return count
        # The rest of the frame goes to its place, and what follows it to the shared buffer, in one call.
        room = len(space)
        count = self._socket.recvmsg_into((space, shared))[0]
        if count > room:
            connection.filled(room)
            connection.receive(shared[: count - room])
        elif count:
            connection.filled(count)
        return count

    def send(self, data: bytes | bytearray | memoryview, more: bool = False) -> int:
        """See `Transport.send`."""
        return self._socket.send(data, MSG_MORE) if more else self._socket.send(data)

    def send_region(self, region: FileRegion, offset: int, count: int) -> int:
        """See `Transport.send_region`."""
        return region.send_to(self.fd, offset, count)

    def end(self) -> None:
        """See `Transport.end`."""
        self._socket.shutdown(socket.SHUT_WR)

    def discard(self, shared: memoryview) -> int:
        """See `Transport.discard`."""
        return self._socket.recv_into(shared)

    def close(self) -> None:
        """See `Transport.close`."""
        self._socket.close()


HAS_SCATTER = hasattr(socket.socket, "recvmsg_into")

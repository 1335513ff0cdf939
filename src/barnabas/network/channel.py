"""A connection on a socket in the event loop: when to read, when to write, when to wait."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from barnabas.network.connection import Connection, State
from barnabas.network.context import format_address
from barnabas.network.warming import as_warmable

if TYPE_CHECKING:
    import asyncio

    from barnabas.network.connection import Dispatch
    from barnabas.network.context import ConnectionContext
    from barnabas.network.listener import Listener
    from barnabas.network.socket_server import SocketServer
    from barnabas.network.transport import Transport
    from barnabas.wire.chunks import FileRegion

__all__ = ["Channel"]

logger = logging.getLogger(__name__)

REGION_WINDOW_BYTES = 1024 * 1024
"""File bytes sent (and read ahead, if they are cold) in one go."""

_OPEN = State.OPEN  # looked up as a global: an enum's members are looked up by its metaclass

SENT_PER_TURN_BYTES_MAX = 4 * 1024 * 1024
"""What one connection may send in one turn of the loop; a fast reader would otherwise keep the loop for itself."""

RECEIVES_AT_END_MAX = 1024
"""What the kernel holds for one socket is less than so many times the receive buffer."""

LINGER_MS_MAX = 500
"""How long a stopping server waits for a client to read its last answers and close."""


class Channel:
    """Drives one `Connection` by the readiness of one socket.

    The reader stays registered while the connection does not want bytes, until bytes come: a connection that pauses
    between the requests of an orderly client costs no system call.

    Attributes:
        connection: The protocol side.
        is_lingering: All answers were sent; the client's end of the connection is waited for.
        listener: Who accepted it.
        last_active_ms: When it was last found active, on the server's monotonic clock.
        was_active: Something moved since then. (A look at the clock for each request would cost more than it tells.)
    """

    __slots__ = (
        "_has_writer",
        "_is_reading",
        "_is_scheduled",
        "_is_stopping",
        "_is_writing",
        "_metrics",
        "_region_read",
        "_server",
        "_transport",
        "_warmed_to",
        "connection",
        "is_lingering",
        "last_active_ms",
        "listener",
        "was_active",
    )

    def __init__(
        self,
        server: SocketServer,
        listener: Listener,
        transport: Transport,
        context: ConnectionContext,
        dispatch: Dispatch,
    ) -> None:
        self.listener = listener
        self._metrics = listener.metrics
        self.connection = Connection(context, dispatch, server.limits, server.memory, self.schedule)
        self.last_active_ms = server.clock.monotonic_ms()
        self.was_active = False
        self._server = server
        self._transport = transport
        self._is_reading = False
        self._is_writing = False
        self._has_writer = False
        self._is_scheduled = False
        self._is_stopping = False
        self.is_lingering = False
        # How far the first region of `outgoing` may be sent: the end of what was found or made warm.
        self._warmed_to = 0
        # The read from the disk that it waits for.
        self._region_read: asyncio.Future[None] | None = None

    @property
    def is_closed(self) -> bool:
        """The socket is closed."""
        return self.connection.state is State.CLOSED

    def start(self) -> None:
        """Begin to read."""
        self._resume_reading()

    # --- reading

    def _resume_reading(self) -> None:
        if not self._is_reading and self.connection.wants_bytes():
            self._is_reading = True
            self._server.loop.add_reader(self._transport.fd, self._on_readable)

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._server.loop.remove_reader(self._transport.fd)

    def _on_readable(self) -> None:
        connection = self.connection
        server = self._server
        if not connection.wants_bytes():
            self._pause_reading()
            return
        memory = server.memory
        is_scarce = 0 < memory.limit_bytes <= memory.used_bytes
        if is_scarce and not connection.is_within_frame:
            self._pause_reading()
            memory.call_when_free(self._resume_reading)
            return
        requests_before = connection.request_count
        self.was_active = True
        try:
            count = self._transport.receive(connection, server.shared_buffer, is_scarce)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._on_lost(error)
            return
        except Exception as error:  # noqa: BLE001 - a bug must not leave the socket readable: the loop would spin
            self._on_bug(error)
            return
        if count:
            metrics = self._metrics
            metrics.incoming_bytes.value += count
            metrics.requests.value += connection.request_count - requests_before
            if server.is_debugging:
                # Whoever kept a view of a request beyond its dispatch shall notice.
                server.shared_buffer[:] = server.scribble
        else:
            connection.receive_end()
            self._pause_reading()
        if not self._is_scheduled and (connection.outgoing.pending_bytes or connection.state is not _OPEN):
            # After all that is readable now has been read: the first answer that leaves wakes its client, and the
            # others then find it awake, which costs a third less for 32 busy clients.
            self._is_scheduled = True
            server.schedule(self)

    @property
    def fd(self) -> int:
        """The socket's file descriptor."""
        return self._transport.fd

    def notice_end(self, *, is_broken: bool) -> None:
        """The client has ended its side, perhaps behind requests that were not received yet, or the socket is broken."""
        connection = self.connection
        if is_broken:
            # uvloop tells of an error once. If requests stood before it, nothing ever calls us again.
            for _ in range(RECEIVES_AT_END_MAX):
                if not connection.wants_bytes():
                    break
                self._on_readable()
        if connection.awaits_us and not connection.wants_bytes():
            connection.hasten()
            self.schedule()

    # --- writing

    def schedule(self) -> None:
        """Flush in the next turn of the loop, once for all that gets ready in this one."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._server.schedule(self)

    def flush_scheduled(self) -> bool:
        """What `schedule` asked for; whether it was a little that has left at once, so that the client may go on."""
        self._is_scheduled = False
        try:
            if not self._is_writing and self._send_small():
                return True
            self._flush()
        except Exception as error:  # noqa: BLE001 - as in `flush`
            self._on_bug(error)
        return False

    def _send_small(self) -> bool:
        """Sends little, to a client that reads its answers; whether that was all that was to be done."""
        connection = self.connection
        outgoing = connection.outgoing
        data = outgoing.small()
        if data is None:
            return False
        try:
            count = self._transport.send(data)
        except (BlockingIOError, InterruptedError):
            self._wait_for_writable()
            return False
        except OSError as error:
            self._on_lost(error)
            return True
        self._metrics.outgoing_bytes.value += count
        self.was_active = True
        if count < len(data):
            outgoing.advance(count)
            self._wait_for_writable()
            return False
        outgoing.clear_small()
        return self._is_reading and connection.is_settled()

    def _on_writable(self) -> None:
        try:
            if self._send_on():
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._on_lost(error)
            return
        except Exception as error:  # noqa: BLE001 - as in `flush`
            self._on_bug(error)
            return
        self._is_writing = False
        self.flush()
        if not self._is_writing:
            self._forget_writer()

    def _wait_for_writable(self) -> None:
        self._is_writing = True
        if not self._has_writer:
            # It stays until there is nothing to wait for: a big answer leaves in hundreds of portions.
            self._has_writer = True
            self._server.loop.add_writer(self._transport.fd, self._on_writable)

    def _forget_writer(self) -> None:
        if self._has_writer:
            self._has_writer = False
            self._server.loop.remove_writer(self._transport.fd)

    def flush(self) -> None:
        """Send what can be sent, go on with what had to wait for that, end the connection if it is finished."""
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001 - a bug must not keep the answers of others from leaving
            self._on_bug(error)

    def _flush(self) -> None:
        connection = self.connection
        if connection.state is State.CLOSED:
            return
        if connection.outgoing and not self._is_writing and connection.outgoing.held is None:
            before = connection.outgoing.pending_bytes
            try:
                self._send(before - SENT_PER_TURN_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                self._wait_for_writable()
            except OSError as error:
                self._on_lost(error)
                return
            sent = before - connection.outgoing.pending_bytes
            if sent:
                self.was_active = True
                self._metrics.outgoing_bytes.value += sent
        connection.advance()
        if connection.outgoing and not self._is_writing and connection.outgoing.held is None:
            self.schedule()
        if connection.is_finished:
            if not self._is_stopping:
                self.close()
            elif not self.is_lingering:
                self._linger()
        elif connection.state is State.OPEN:
            if not self._is_reading:
                self._resume_reading()
        else:
            self._pause_reading()
            self._server.expect_end(self)

    def _send(self, leave_bytes: int) -> None:
        """Send until no more than `leave_bytes` are left, or something is in the way."""
        outgoing = self.connection.outgoing
        transport = self._transport
        while outgoing and outgoing.pending_bytes > leave_bytes:
            region = outgoing.region()
            if region is None:
                data, more = outgoing.gather()
                count = transport.send(data, more)
                outgoing.advance(count)
                if count < len(data):
                    raise BlockingIOError
                continue
            offset = outgoing.region_offset
            if offset >= self._warmed_to and not self._is_warm(region, offset):
                return
            if not transport.takes_regions:
                outgoing.inline_region()
                self._warmed_to = 0
                continue
            if not self._send_portion(region, offset):
                # The socket is full. To fill up what its reader frees meanwhile would wake it for little each time.
                raise BlockingIOError

    def _send_on(self) -> bool:
        """Sends more of the region that is being sent; whether the socket is full again before its warm part has left.

        A big answer leaves in thousands of such portions, so this is the short way through `flush`.
        """
        outgoing = self.connection.outgoing
        offset = outgoing.region_offset
        if not 0 < offset < self._warmed_to or outgoing.held is not None:
            return False
        region = outgoing.region()
        assert region is not None
        before = outgoing.pending_bytes
        has_left = self._send_portion(region, offset)
        self._metrics.outgoing_bytes.value += before - outgoing.pending_bytes
        self.was_active = True
        return not has_left

    def _send_portion(self, region: FileRegion, offset: int) -> bool:
        """Sends what is warm of the region at the front, as far as the socket takes it; whether it took all."""
        outgoing = self.connection.outgoing
        wanted = self._warmed_to - offset
        count = self._transport.send_region(region, offset, wanted)
        if count == 0:
            raise OSError(f"{region!r} ended at {offset} of {region.size} bytes")
        if count < wanted:
            outgoing.skip(count)
            return False
        if self._warmed_to == region.size:
            self._warmed_to = 0
        outgoing.advance(count)
        return True

    def _is_warm(self, region: FileRegion, offset: int) -> bool:
        """Whether the next window of `region` can be sent; otherwise a worker thread sees to it."""
        is_whole = not self._transport.takes_regions
        count = region.size - offset if is_whole else min(REGION_WINDOW_BYTES, region.size - offset)
        warmable = as_warmable(region)
        if warmable is None or warmable.is_cached(offset, count):
            self._warmed_to = offset + count
            return True
        self.connection.outgoing.held = region
        self._region_read = self._server.disk_readers.read(functools.partial(warmable.warm, offset, count))
        self._region_read.add_done_callback(functools.partial(self._on_warm, region, offset + count))
        return False

    def _on_warm(self, region: FileRegion, warmed_to: int, reading: asyncio.Future[None]) -> None:
        self._region_read = None
        self.connection.outgoing.held = None
        error = None if reading.cancelled() else reading.exception()
        if self.is_closed:
            region.release()
        elif error is not None:
            self._on_lost(error)
        else:
            self._warmed_to = warmed_to
            self.flush()

    # --- the end

    def _on_lost(self, error: BaseException) -> None:
        """The socket, or the file that was being sent, failed."""
        is_usual = isinstance(error, (ConnectionError, TimeoutError))
        logger.log(
            logging.DEBUG if is_usual else logging.WARNING,
            "Closing the connection from %s (%s): %s",
            format_address(self.connection.context.client_address),
            self.connection.context.connection_id,
            error,
        )
        self.close()

    def _on_bug(self, error: Exception) -> None:
        logger.error(
            "Closing the connection from %s (%s): internal error",
            format_address(self.connection.context.client_address),
            self.connection.context.connection_id,
            exc_info=error,
        )
        self.close()

    def drain(self) -> None:
        """Take no more requests, finish the answers to what was accepted, then close when the client has read them."""
        self._is_stopping = True
        self.connection.drain()
        self.flush()

    def _linger(self) -> None:
        """End our side, and drop what still comes until the client ends its side.

        A socket that is closed with bytes unread resets the connection. A client that sends meanwhile then loses the
        answers that it has not read yet, and sends again what was accepted: after the restart, an idempotent producer
        cannot be told that all but its last batch are duplicates.
        """
        self.is_lingering = True
        self._pause_reading()
        try:
            self._transport.end()
        except OSError as error:
            self._on_lost(error)
            return
        self._is_reading = True
        self._server.loop.add_reader(self._transport.fd, self._on_late_bytes)
        self._server.expect_end(self, LINGER_MS_MAX)

    def _on_late_bytes(self) -> None:
        try:
            count = self._transport.discard(self._server.shared_buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._on_lost(error)
            return
        if count == 0:
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self.is_closed:
            return
        self._pause_reading()
        self._is_writing = False
        self._forget_writer()
        self._server.memory.forget(self._resume_reading)
        self.connection.close()
        if self._region_read is not None:
            self._server.disk_readers.forgo(self._region_read)
        self._transport.close()
        self._server.forget(self)

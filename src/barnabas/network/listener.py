"""A listening address: binds, accepts, refuses."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError
from barnabas.network.channel import Channel
from barnabas.network.context import ConnectionContext, format_address
from barnabas.network.transport import PlaintextTransport

if TYPE_CHECKING:
    from barnabas.metrics import Registry
    from barnabas.network.context import Address
    from barnabas.network.endpoints import Endpoint
    from barnabas.network.limits import NetworkLimits
    from barnabas.network.socket_server import SocketServer

__all__ = ["Listener", "ListenerMetrics", "bind"]

logger = logging.getLogger(__name__)

ACCEPTS_PER_TURN_MAX = 64
"""Connections accepted in one turn of the loop, so that a flood of them does not keep others waiting."""

RETRY_ACCEPT_S = 1.0
"""How long to accept nothing when the process or the machine has no more files or memory to give."""

LOCAL_CONGESTION_CONTROL = b"reno"
"""For connections within this machine; every Linux has it and allows it to everybody."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ListenerMetrics:
    """What a listener and its connections count."""

    __slots__ = ("closed", "created", "incoming_bytes", "open", "outgoing_bytes", "requests")

    def __init__(self, registry: Registry, listener_name: str) -> None:
        prefix = "kafka_server_socket_server_metrics_"
        # One loop is one network processor.
        labels = {"listener": listener_name, "networkProcessor": "0"}
        self.open = registry.gauge(prefix + "connection_count", **labels)
        self.created = registry.counter(prefix + "connection_creation_total", **labels)
        self.closed = registry.counter(prefix + "connection_close_total", **labels)
        self.incoming_bytes = registry.counter(prefix + "incoming_byte_total", **labels)
        self.outgoing_bytes = registry.counter(prefix + "outgoing_byte_total", **labels)
        self.requests = registry.counter(prefix + "request_total", **labels)


class Listener:
    """Accepts the connections of one endpoint, on all addresses of its host.

    Attributes:
        endpoint: As configured.
        address: The host as configured and the actual port.
        metrics: Counters that the connections share.
    """

    def __init__(self, server: SocketServer, endpoint: Endpoint) -> None:
        """Bind and listen.

        Raises:
            ConfigError: the port is in use, may not be used, the host is not one of this machine, or the security
                protocol is not supported.
        """
        if endpoint.security_protocol != "PLAINTEXT":
            raise ConfigError(
                f"Listener {endpoint.name} asks for {endpoint.security_protocol}, which this version does not "
                f"support; map it to PLAINTEXT in listener.security.protocol.map or leave it out."
            )
        self.endpoint = endpoint
        self.metrics = ListenerMetrics(server.metrics, endpoint.name)
        self._server = server
        self._sockets = bind(endpoint, server.limits)
        self.address: Address = (endpoint.host, self._sockets[0].getsockname()[1])
        self._is_started = False
        self._is_accepting = False
        self._is_exhausted = False
        self._accepted_count = 0
        self._last_local_address: Address = ("", 0)

    def start(self) -> None:
        """Begin to accept."""
        self._is_started = True
        self.resume()

    def resume(self) -> None:
        """Accept again if nothing speaks against it."""
        if (
            self._is_started
            and not self._is_accepting
            and not self._is_exhausted
            and not self._server.quotas.is_full
        ):
            self._is_accepting = True
            for sock in self._sockets:
                self._server.loop.add_reader(sock.fileno(), self._on_acceptable, sock)

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self._sockets:
                self._server.loop.remove_reader(sock.fileno())

    def close(self) -> None:
        """Stop listening; connections stay."""
        self._pause()
        self._is_started = False
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def on_closed(self) -> None:
        """A connection of this listener has closed."""
        self.metrics.open.value -= 1
        self.metrics.closed.value += 1

    def _on_acceptable(self, listening: socket.socket) -> None:
        quotas = self._server.quotas
        for _ in range(ACCEPTS_PER_TURN_MAX):
            if quotas.is_full:
                logger.warning(
                    "Listener %s accepts no more connections: there are %d, as many as max.connections allows",
                    self.endpoint.name,
                    quotas.total,
                )
                self._pause()
                return
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._on_exhausted(error)
                else:
                    logger.warning("Listener %s could not accept a connection: %s", self.endpoint.name, error)
                return
            try:
                self._accept(sock, peer)
            except OSError as error:
                # It has gone again before it was set up.
                logger.debug("A connection to listener %s ended at once: %s", self.endpoint.name, error)
                sock.close()

    def _on_exhausted(self, error: OSError) -> None:
        """Without a pause the loop would spin: the connection waits in the backlog and stays readable."""
        logger.error(
            "Listener %s cannot accept connections: %s; trying again in %g s. Raise the limit of open files (ulimit -n).",
            self.endpoint.name,
            error.strerror,
            RETRY_ACCEPT_S,
        )
        self._is_exhausted = True
        self._pause()
        self._server.loop.call_later(RETRY_ACCEPT_S, self._retry)

    def _retry(self) -> None:
        self._is_exhausted = False
        self.resume()

    def _same(self, local_address: Address) -> Address:
        """The same object for all who come by the same address: thousands may be idle, and each counts."""
        if local_address != self._last_local_address:
            self._last_local_address = local_address
        return self._last_local_address

    def _accept(self, sock: socket.socket, peer: tuple[object, ...]) -> None:
        server = self._server
        client_address = _plain_address(peer)
        quotas = server.quotas
        if not quotas.open(client_address[0]):
            logger.info(
                "Refusing a connection from %s: it has %d, as many as max.connections.per.ip allows",
                format_address(client_address),
                quotas.allowed_from(client_address[0]),
            )
            sock.close()
            return
        try:
            set_up(sock, server.limits)
            local_address = self._same(_plain_address(sock.getsockname()))
            if client_address[0] == local_address[0]:
                send_unpaced(sock)
        except OSError:
            quotas.close(client_address[0])
            raise
        self._accepted_count += 1
        context = ConnectionContext(
            connection_id=(
                f"{format_address(local_address)}-{format_address(client_address)}-{self.endpoint.name}-{self._accepted_count}"
            ),
            client_address=client_address,
            local_address=local_address,
            listener_name=self.endpoint.name,
        )
        self.metrics.open.value += 1
        self.metrics.created.value += 1
        server.add(Channel(server, self, PlaintextTransport(sock), context, server.dispatch))


def _plain_address(address: tuple[object, ...]) -> Address:
    """Host and port, an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) as the IPv4 address that it is."""
    host, port = address[0], address[1]
    assert isinstance(host, str)
    assert isinstance(port, int)
    if host.startswith("::ffff:") and "." in host:
        host = host[len("::ffff:") :]
    return sys.intern(host), port


def set_up(sock: socket.socket, limits: NetworkLimits) -> None:
    """Set an accepted socket's options."""
    sock.setblocking(False)
    # Answers leave in one piece already; Nagle's algorithm would only hold the last segment back.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if limits.send_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
    if limits.receive_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer_bytes)


def send_unpaced(sock: socket.socket) -> None:
    """Let what is sent to a client on this machine leave at once.

    Where the system's congestion control is BBR, it measures how fast the reader is and spreads the segments over time by
    timers, which there can be no use for without a network: it halved the MB/s of a fetch and doubled its CPU.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # forbidden by net.ipv4.tcp_allowed_congestion_control
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, LOCAL_CONGESTION_CONTROL)


def bind(endpoint: Endpoint, limits: NetworkLimits) -> list[socket.socket]:
    """Listen on every address of the endpoint's host, all on one port; an empty host means all addresses.

    Raises:
        ConfigError: the port is in use, may not be used, or the host is not one of this machine.
    """
    host = endpoint.host or None
    try:
        found = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(
            f"Listener {endpoint.name}: the host {endpoint.host!r} is unknown ({error.strerror}); "
            f"name an address of this machine in listeners."
        ) from None
    sockets: list[socket.socket] = []
    port = endpoint.port
    failure: OSError | None = None
    # IPv4 first: it is the one that must work, and the one that picks the port if that is left to the system.
    for family, kind, protocol, _, address in sorted(
        set(found), key=lambda entry: entry[0] != socket.AF_INET
    ):
        try:
            sockets.append(_bind_one(family, kind, protocol, (address[0], port, *address[2:]), limits))
        except OSError as error:
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # a machine without IPv6 may well resolve names to IPv6 addresses
            failure = failure or error
            if error.errno == errno.EADDRINUSE:
                break
            continue
        port = sockets[0].getsockname()[1]
    if failure is not None and (not sockets or failure.errno == errno.EADDRINUSE):
        for sock in sockets:
            sock.close()
        raise _bind_error(endpoint, failure)
    return sockets


def _bind_one(
    family: int, kind: int, protocol: int, address: tuple[object, ...], limits: NetworkLimits
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if os.name == "posix":
            # A port whose last connections are in TIME_WAIT can be used again. (On Windows it would be shared.)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if limits.receive_buffer_bytes > 0:
            # Before listen, so that the window scale of accepted connections fits it (tcp(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer_bytes)
        sock.bind(address)
        sock.listen(limits.listen_backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_error(endpoint: Endpoint, error: OSError) -> ConfigError:
    where = format_address((endpoint.host or "0.0.0.0", endpoint.port))  # noqa: S104 - said, not bound
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Listener {endpoint.name}: another program listens on {where}; stop it, or choose another port in listeners."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(
            f"Listener {endpoint.name}: this user may not listen on {where}; choose a port above 1023 in listeners."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"Listener {endpoint.name}: {endpoint.host} is not an address of this machine; name one in listeners, "
            f"and the address that clients shall use in advertised.listeners."
        )
    return ConfigError(
        f"Listener {endpoint.name}: cannot listen on {where} ({error.strerror}); choose another address in listeners."
    )

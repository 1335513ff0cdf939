"""How much a client may ask of the network layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from barnabas.config.addresses import limits_by_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NetworkLimits", "Settings"]

NO_LIMIT = 2**31 - 1


class Settings(Protocol):
    """Typed configuration values by Kafka's key, as `config.broker.BrokerConfig` gives them."""

    def __getitem__(self, key: str, /) -> Any:
        """The value of `key`."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """The limits of connections; each attribute names its configuration key.

    Attributes:
        request_bytes_max: Longest request accepted (`socket.request.max.bytes`).
        queued_request_bytes_max: Bytes of requests received but not yet handled, over all connections; a
            number below 1 means no limit (`queued.max.request.bytes`).
        pipelined_requests_max: Requests of one connection that wait for their answer; more are not read
            (`barnabas.pipelined.requests.per.connection`).
        outgoing_bytes_max: Answers of one connection that wait for the client to read them; no more of its
            requests are handled meanwhile (`barnabas.outgoing.bytes.per.connection`).
        connections_max: Connections in all; more are left waiting in the listen backlog (`max.connections`).
        connections_per_ip_max: Connections from one address; more are closed (`max.connections.per.ip`).
        connections_per_ip_overrides: The same for single addresses (`max.connections.per.ip.overrides`).
        idle_ms_max: A connection on which nothing moves for so long is closed; a negative number means never
            (`connections.max.idle.ms`).
        send_buffer_bytes: SO_SNDBUF, -1 for the system's choice (`socket.send.buffer.bytes`).
        receive_buffer_bytes: SO_RCVBUF, -1 for the system's choice (`socket.receive.buffer.bytes`).
        listen_backlog: Connections that the kernel completes ahead of us (`socket.listen.backlog.size`).
        poll_us: Microseconds for which the loop looks for the next request before it sleeps (`barnabas.poll.us`).
    """

    request_bytes_max: int = 104_857_600
    queued_request_bytes_max: int = -1
    pipelined_requests_max: int = 100
    outgoing_bytes_max: int = 16 * 1024 * 1024
    connections_max: int = NO_LIMIT
    connections_per_ip_max: int = NO_LIMIT
    connections_per_ip_overrides: Mapping[str, int] = field(default_factory=dict)
    idle_ms_max: int = 600_000
    send_buffer_bytes: int = 614_400
    receive_buffer_bytes: int = -1
    listen_backlog: int = 1024
    poll_us: int = 50

    @classmethod
    def from_config(cls, config: Settings) -> NetworkLimits:
        """The limits that the broker's configuration sets."""
        return cls(
            request_bytes_max=config["socket.request.max.bytes"],
            queued_request_bytes_max=config["queued.max.request.bytes"],
            pipelined_requests_max=config["barnabas.pipelined.requests.per.connection"],
            outgoing_bytes_max=config["barnabas.outgoing.bytes.per.connection"],
            connections_max=config["max.connections"],
            connections_per_ip_max=config["max.connections.per.ip"],
            connections_per_ip_overrides=limits_by_address(config["max.connections.per.ip.overrides"]),
            idle_ms_max=config["connections.max.idle.ms"],
            send_buffer_bytes=config["socket.send.buffer.bytes"],
            receive_buffer_bytes=config["socket.receive.buffer.bytes"],
            listen_backlog=config["socket.listen.backlog.size"],
            poll_us=config["barnabas.poll.us"],
        )

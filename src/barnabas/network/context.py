"""What the broker knows about a connection, apart from its bytes."""

from __future__ import annotations

from typing import Any

__all__ = ["ANONYMOUS", "Address", "ConnectionContext", "format_address"]

Address = tuple[str, int]
"""Host (an IP address as text, IPv4-mapped IPv6 addresses as IPv4) and port."""

ANONYMOUS = "User:ANONYMOUS"
"""The principal of a connection that has not said who it is (Kafka's `KafkaPrincipal.ANONYMOUS`)."""


class ConnectionContext:
    """One connection as handlers see it.

    Attributes:
        connection_id: Unique while the broker runs; local and remote address and a number, as in Kafka's logs.
        client_address: Where the client comes from.
        local_address: The address and port by which the client reached this broker, after any forwarding.
        listener_name: The listener that accepted the connection.
        principal: Who the client is; `ANONYMOUS` until an authentication says otherwise.
        client_software_name: From ApiVersions 3 and later (KIP-511), else "unknown".
        client_software_version: Likewise.
        is_closed: Whether it has ended.
        held_bytes: Of its requests, what handlers keep until they are done; counts as answers do that wait for the client.
        repeated_produces: What the handlers remember of its produce requests, to answer their like sooner; nothing here
            looks into it.
    """

    __slots__ = (
        "client_address",
        "client_software_name",
        "client_software_version",
        "connection_id",
        "held_bytes",
        "is_closed",
        "listener_name",
        "local_address",
        "principal",
        "repeated_produces",
    )

    def __init__(
        self,
        *,
        connection_id: str,
        client_address: Address,
        local_address: Address,
        listener_name: str,
        principal: str = ANONYMOUS,
    ) -> None:
        self.connection_id = connection_id
        self.client_address = client_address
        self.local_address = local_address
        self.listener_name = listener_name
        self.principal = principal
        self.client_software_name = "unknown"
        self.client_software_version = "unknown"
        self.is_closed = False
        self.held_bytes = 0
        self.repeated_produces: Any = None

    def __repr__(self) -> str:
        return f"<ConnectionContext {self.connection_id} on {self.listener_name}>"


def format_address(address: Address) -> str:
    """`host:port`, with an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

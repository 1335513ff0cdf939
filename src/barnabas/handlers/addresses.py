"""By which address clients are told to reach a broker.

A listener with an advertised name has that. Where none is set, the client is told the address by which it reached this
broker, so that containers, SSH tunnels and other networks work without being configured: whoever got here once gets here
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.metadata.image import Broker
    from barnabas.network.context import ConnectionContext

__all__ = ["address_by_id", "address_of"]


def address_of(broker: Broker, connection: ConnectionContext) -> tuple[str, int] | None:
    """Host and port of `broker` for a client on this connection; `None` if it has no listener of that name."""
    endpoint = broker.endpoints.get(connection.listener_name)
    if endpoint is None:
        return None
    host, port = endpoint
    if host:
        return host, port
    return connection.local_address


def address_by_id(
    brokers: Mapping[int, Broker], node_id: int, connection: ConnectionContext
) -> tuple[str, int] | None:
    """The same for the broker with this id; `None` also if there is none."""
    broker = brokers.get(node_id)
    return None if broker is None else address_of(broker, connection)

"""Broker keys: listeners, connections, sockets."""

from __future__ import annotations

from barnabas.config.addresses import limits_by_address
from barnabas.config.definition import (
    CLUSTER_WIDE,
    HIGH,
    INT,
    INT_MAX,
    LIST,
    LONG,
    LOW,
    MEDIUM,
    STRING,
    ConfigKey,
    Validator,
    at_least,
    list_of,
)
from barnabas.errors import ConfigError

__all__ = ["KEYS"]


def _addresses() -> Validator:
    """`address:number,address:number`."""

    def complaint(name: str, value: str) -> str | None:
        del name
        try:
            limits_by_address(value)
        except ConfigError as error:
            return str(error)
        return None

    return Validator("address:number,...", complaint)


# fmt: off
KEYS = (
    ConfigKey("socket.connection.setup.timeout.ms", LONG, 10_000, MEDIUM,
      "Time in which a connection to another node must stand at first.",
      effective=False),
    ConfigKey("socket.connection.setup.timeout.max.ms", LONG, 30_000, MEDIUM,
      "Time in which a connection to another node must stand after many failures.",
      effective=False),
    ConfigKey("listeners", LIST, ("PLAINTEXT://localhost:9092",), HIGH,
      "Addresses on which clients are served, as NAME://host:port; no host means every interface.",
      list_of(), kafka_default=("PLAINTEXT://:9092",),
      differs="Kafka listens on every interface; without authentication that should be a decision. Kafka also changes listeners while it runs; here they are opened at the start."),
    ConfigKey("advertised.listeners", LIST, None, HIGH,
      "Addresses that clients are told to use, by listener.",
      list_of(),
      differs="Unset, a client is answered with the address by which it reached the broker, so containers, tunnels and LANs work unasked; Kafka answers with the host name."),
    ConfigKey("listener.security.protocol.map", STRING, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", LOW,
      "Security protocol of each listener name.",
      differs="Kafka also changes it while it runs; here it is read at the start."),
    ConfigKey("socket.send.buffer.bytes", INT, 614_400, HIGH,
      "Size of a connection's send buffer; -1 leaves it to the system.",
      kafka_default=102_400,
      differs="A reader that is sent little at a time is woken for each portion: six times as much gives up to twice as many MB/s."),
    ConfigKey("socket.receive.buffer.bytes", INT, -1, HIGH,
      "Size of a connection's receive buffer; -1 leaves it to the system.",
      kafka_default=102_400,
      differs="A fixed size turns off the system's own choice, which grows the buffer with what a connection carries; a fixed 100 kB slow down big produce requests and long distances."),
    ConfigKey("socket.request.max.bytes", INT, 104_857_600, HIGH,
      "Size of one request at most; a connection that announces more is closed.",
      at_least(1)),
    ConfigKey("socket.listen.backlog.size", INT, 1024, MEDIUM,
      "Connections that may wait to be accepted.",
      at_least(1), kafka_default=50,
      differs="Of a hundred clients that come at once, those for whom there is no room try again after a second; connections that wait cost the kernel little."),
    ConfigKey("max.connections.per.ip", INT, INT_MAX, MEDIUM,
      "Connections from one address at most.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("max.connections.per.ip.overrides", STRING, "", MEDIUM,
      "Addresses with a limit of their own, as address:number,address:number.",
      _addresses(), CLUSTER_WIDE,
      differs="Kafka also takes host names and looks them up; here they are IP addresses, so that a name server that does not answer stops nobody."),
    ConfigKey("max.connections", INT, INT_MAX, MEDIUM,
      "Connections at most, over all listeners.",
      at_least(0), CLUSTER_WIDE),
    ConfigKey("max.connection.creation.rate", INT, INT_MAX, MEDIUM,
      "Connections accepted per second at most.",
      at_least(0), CLUSTER_WIDE, effective=False),
    ConfigKey("connections.max.idle.ms", LONG, 600_000, MEDIUM,
      "Time after which an idle connection is closed."),
    ConfigKey("connection.failed.authentication.delay.ms", INT, 100, LOW,
      "Wait before a connection that failed to authenticate is closed.",
      at_least(0), effective=False),
    ConfigKey("queued.max.requests", INT, 500, HIGH,
      "Requests that may wait for a thread.",
      at_least(1), effective=False),
    ConfigKey("queued.max.request.bytes", LONG, -1, MEDIUM,
      "Bytes of requests received and not yet handled at which reading pauses; -1 sets no limit."),
    ConfigKey("num.network.threads", INT, 3, HIGH,
      "Threads that read requests and write answers.",
      at_least(1), CLUSTER_WIDE, effective=False),
)
# fmt: on

"""The addresses that a broker serves and the ones that it tells clients: `listeners`, `advertised.listeners`.

A listener is `NAME://host:port`. The name is a security protocol, or mapped to one by `listener.security.protocol.map`;
no host means every interface, `localhost` both loopback addresses, port 0 any free port. IPv6 addresses stand in brackets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ListenerAddress", "advertised_listeners", "bind_addresses", "client_listeners", "parse_listener"]

_SERVED_PROTOCOLS = frozenset({"PLAINTEXT"})


class ListenerAddress(NamedTuple):
    """One listener: its name in capitals, the host (empty: every interface) and the port."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


def parse_listener(text: str, key: str = "listeners") -> ListenerAddress:
    """The listener that `text` describes; `key` is named in the refusal.

    Raises:
        ConfigError: It is not of the form NAME://host:port.
    """
    name, separator, address = text.partition("://")
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    well_formed = separator and colon and name and port.isdecimal() and (bracketed or ":" not in host)
    if not well_formed or not all(character.isalnum() or character in "._-" for character in name):
        raise ConfigError(f"{key} has {text!r}, which is not of the form NAME://host:port.")
    if int(port) > 65_535:
        raise ConfigError(f"{key} has {text!r}, whose port is not one of 0 to 65535.")
    return ListenerAddress(name.upper(), host[1:-1] if bracketed else host, int(port))


def client_listeners(values: Mapping[str, Any]) -> list[ListenerAddress]:
    """The listeners to open: those of `listeners` without the controller's.

    Raises:
        ConfigError: One is malformed, given twice, without protocol or of a protocol that is not served; or none is left.
    """
    protocols = _protocols(values["listener.security.protocol.map"])
    controllers = {name.upper() for name in values["controller.listener.names"]}
    found: list[ListenerAddress] = []
    for text in values["listeners"]:
        listener = parse_listener(text)
        if listener.name in controllers:
            continue
        protocol = protocols.get(listener.name)
        if protocol is None:
            raise ConfigError(
                f"The listener {listener.name} has no security protocol: "
                f"add {listener.name}:PLAINTEXT to listener.security.protocol.map."
            )
        if protocol not in _SERVED_PROTOCOLS:
            raise ConfigError(
                f"The listener {listener} asks for {protocol}, which is not served yet: use PLAINTEXT."
            )
        for other in found:
            if other.name == listener.name:
                raise ConfigError(
                    f"listeners has two listeners named {listener.name}: give each a name of its own."
                )
            if other.port == listener.port != 0 and (
                other.host == listener.host or "" in {other.host, listener.host}
            ):
                raise ConfigError(
                    f"The listeners {other} and {listener} want the same port: give each its own."
                )
        found.append(listener)
    if not found:
        raise ConfigError("listeners has no listener for clients: add PLAINTEXT://localhost:9092.")
    return found


def advertised_listeners(
    values: Mapping[str, Any], listeners: Sequence[ListenerAddress]
) -> dict[str, ListenerAddress]:
    """What clients are told, by listener name; a listener that is missing answers with the address that the client used.

    Raises:
        ConfigError: One is malformed, of a name that no listener has, or without a host that clients could use.
    """
    names = {listener.name for listener in listeners}
    controllers = {name.upper() for name in values["controller.listener.names"]}
    advertised: dict[str, ListenerAddress] = {}
    for text in values["advertised.listeners"] or ():
        address = parse_listener(text, "advertised.listeners")
        if address.name in controllers:
            continue
        if address.name not in names:
            raise ConfigError(
                f"advertised.listeners names {address.name}, which is not in listeners: add it there or remove it here."
            )
        if address.host in {"", "0.0.0.0", "::"}:  # noqa: S104 - refused, not bound
            raise ConfigError(
                f"advertised.listeners has {text!r}, which clients cannot connect to: give a host name or address, or "
                "leave the key unset to answer with the address that the client used."
            )
        advertised[address.name] = address
    return advertised


def bind_addresses(host: str) -> tuple[str, ...]:
    """The addresses to bind for a listener's host.

    `localhost` is bound as 127.0.0.1 and ::1, since clients try either first; no host is bound as ::, which takes IPv4
    connections too, and as 0.0.0.0 where there is no IPv6.
    """
    if host == "localhost":
        return ("127.0.0.1", "::1")
    return (host,) if host else ("::", "0.0.0.0")  # noqa: S104 - the operator asked for every interface


def _protocols(text: str) -> dict[str, str]:
    protocols = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, colon, protocol = pair.partition(":")
        if not colon or not name or not protocol:
            raise ConfigError(
                f"listener.security.protocol.map has {pair!r}, which is not of the form NAME:PROTOCOL."
            )
        protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols

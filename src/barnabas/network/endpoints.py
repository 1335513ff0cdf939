"""`listeners`, `advertised.listeners` and `listener.security.protocol.map`: parsed and checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from barnabas.network.context import Address

__all__ = [
    "SECURITY_PROTOCOLS",
    "Endpoint",
    "parse_advertised_listeners",
    "parse_listeners",
    "parse_security_protocol_map",
]

SECURITY_PROTOCOLS = frozenset({"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"})

# NAME://host:port, where the host may be empty or an IPv6 address in brackets.
_ENDPOINT = re.compile(
    r"(?P<name>[A-Za-z][\w.-]*)://(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/]*)):(?P<port>\d{1,5})"
)

_META_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to refuse them


class Endpoint(NamedTuple):
    """An address under a listener's name; an empty host means all addresses, port 0 any free port."""

    name: str
    host: str
    port: int
    security_protocol: str


def _split(value: str | Iterable[str]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


def parse_security_protocol_map(value: str | Iterable[str]) -> dict[str, str]:
    """Read `NAME:PROTOCOL,...`: listener names in upper case to security protocols.

    Raises:
        ConfigError: an entry does not parse, or names a protocol that Kafka does not have.
    """
    protocols: dict[str, str] = {}
    for entry in _split(value):
        name, colon, protocol = entry.rpartition(":")
        name, protocol = name.strip().upper(), protocol.strip().upper()
        if not colon or not name or protocol not in SECURITY_PROTOCOLS:
            raise ConfigError(
                f"listener.security.protocol.map: {entry!r} is not a listener's name and one of "
                f"{', '.join(sorted(SECURITY_PROTOCOLS))}; write for example INTERNAL:PLAINTEXT."
            )
        if name in protocols:
            raise ConfigError(f"listener.security.protocol.map names {name} twice; leave one of them out.")
        protocols[name] = protocol
    return protocols


def _parse(key: str, value: str | Iterable[str], protocols: Mapping[str, str]) -> list[Endpoint]:
    endpoints: list[Endpoint] = []
    for entry in _split(value):
        match = _ENDPOINT.fullmatch(entry)
        if match is None or int(match["port"]) > 65_535:
            raise ConfigError(
                f"{key}: {entry!r} is not an address; write for example PLAINTEXT://localhost:9092."
            )
        name = match["name"].upper()
        if name not in protocols:
            raise ConfigError(
                f"{key}: listener.security.protocol.map does not say which protocol {name} has; "
                f"add {name}:PLAINTEXT to it, or use one of {', '.join(sorted(protocols))}."
            )
        if any(other.name == name for other in endpoints):
            raise ConfigError(f"{key} names {name} twice; give one of them another name.")
        endpoints.append(
            Endpoint(name, match["v6"] or match["host"] or "", int(match["port"]), protocols[name])
        )
    return endpoints


def parse_listeners(value: str | Iterable[str], protocols: Mapping[str, str]) -> list[Endpoint]:
    """Read `listeners`: where to accept connections.

    Two listeners may share a port only on different hosts.

    Args:
        value: `NAME://host:port,...` or the entries of it.
        protocols: From `parse_security_protocol_map`.

    Raises:
        ConfigError: one sentence that says what is wrong and what to write.
    """
    endpoints = _parse("listeners", value, protocols)
    if not endpoints:
        raise ConfigError("listeners is empty; write for example PLAINTEXT://localhost:9092.")
    seen: dict[tuple[str, int], str] = {}
    for endpoint in endpoints:
        other = seen.setdefault((endpoint.host, endpoint.port), endpoint.name)
        if endpoint.port and other != endpoint.name:
            raise ConfigError(
                f"listeners: {other} and {endpoint.name} have the same address; give each a port of its own."
            )
    return endpoints


def parse_advertised_listeners(
    value: str | Iterable[str], listeners: Sequence[Endpoint], protocols: Mapping[str, str]
) -> dict[str, Address]:
    """Read `advertised.listeners`: the addresses that clients are told, by listener; the others have none.

    Raises:
        ConfigError: one sentence that says what is wrong and what to write.
    """
    advertised: dict[str, Address] = {}
    names = {endpoint.name for endpoint in listeners}
    for name, host, port, _ in _parse("advertised.listeners", value, protocols):
        if name not in names:
            raise ConfigError(
                f"advertised.listeners: there is no listener {name}; name one of {', '.join(sorted(names))}."
            )
        if host in _META_ADDRESSES or not host:
            raise ConfigError(
                f"advertised.listeners: clients cannot connect to {host or 'an empty host'!r}; "
                f"name the host that they know, or leave {name} out."
            )
        if not port:
            raise ConfigError(
                f"advertised.listeners: clients cannot connect to port 0 of {name}; name a port."
            )
        advertised[name] = (host, port)
    return advertised

"""Listener settings."""

from __future__ import annotations

import pytest

from barnabas.errors import ConfigError
from barnabas.network.endpoints import (
    Endpoint,
    parse_advertised_listeners,
    parse_listeners,
    parse_security_protocol_map,
)

PROTOCOLS = parse_security_protocol_map("PLAINTEXT:PLAINTEXT,SSL:SSL,INTERNAL:PLAINTEXT")


def test_a_protocol_map():
    """Names and protocols are taken without regard to case and blanks."""
    assert parse_security_protocol_map(" internal:plaintext, OUT:SASL_SSL,") == {
        "INTERNAL": "PLAINTEXT",
        "OUT": "SASL_SSL",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("INTERNAL", "'INTERNAL' is not a listener's name and one of"),
        ("INTERNAL:TLS", "'INTERNAL:TLS' is not a listener's name and one of"),
        (":SSL", "':SSL' is not a listener's name"),
        ("A:SSL,a:PLAINTEXT", "names A twice"),
    ],
)
def test_a_wrong_protocol_map_is_explained(value, message):
    """An entry that does not parse is named, with an example."""
    with pytest.raises(ConfigError, match=f"listener.security.protocol.map.*{message}"):
        parse_security_protocol_map(value)


def test_listeners():
    """Each entry is a name, a host that may be empty or IPv6 in brackets, and a port."""
    assert parse_listeners(
        "PLAINTEXT://:9092, internal://[::1]:0,SSL://my-host.example:65535", PROTOCOLS
    ) == [
        Endpoint("PLAINTEXT", "", 9092, "PLAINTEXT"),
        Endpoint("INTERNAL", "::1", 0, "PLAINTEXT"),
        Endpoint("SSL", "my-host.example", 65_535, "SSL"),
    ]
    assert parse_listeners(("PLAINTEXT://a:1", "INTERNAL://b:1"), PROTOCOLS) == [
        Endpoint("PLAINTEXT", "a", 1, "PLAINTEXT"),
        Endpoint("INTERNAL", "b", 1, "PLAINTEXT"),
    ]
    assert len(parse_listeners("PLAINTEXT://:0,INTERNAL://:0", PROTOCOLS)) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "listeners is empty"),
        ("localhost:9092", "'localhost:9092' is not an address; write for example"),
        ("PLAINTEXT://localhost", "is not an address"),
        ("PLAINTEXT://::1:9092", "is not an address"),
        ("PLAINTEXT://localhost:99999", "is not an address"),
        ("PLAINTEXT://localhost:-1", "is not an address"),
        ("OTHER://localhost:9092", "does not say which protocol OTHER has; add OTHER:PLAINTEXT to it"),
        ("PLAINTEXT://a:1,plaintext://b:2", "names PLAINTEXT twice"),
        ("PLAINTEXT://a:1,INTERNAL://a:1", "PLAINTEXT and INTERNAL have the same address"),
    ],
)
def test_wrong_listeners_are_explained(value, message):
    """What does not parse, is unknown or clashes is named in one sentence with the remedy."""
    with pytest.raises(ConfigError, match=message):
        parse_listeners(value, PROTOCOLS)


LISTENERS = parse_listeners("PLAINTEXT://:9092,INTERNAL://:9093", PROTOCOLS)


def test_what_is_advertised_is_known_by_listener():
    """A listener that is left out has no address of its own."""
    advertised = parse_advertised_listeners("INTERNAL://broker.example:19093", LISTENERS, PROTOCOLS)
    assert advertised == {"INTERNAL": ("broker.example", 19_093)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("SSL://host:1", "there is no listener SSL; name one of INTERNAL, PLAINTEXT"),
        ("PLAINTEXT://0.0.0.0:9092", r"clients cannot connect to '0\.0\.0\.0'"),
        ("PLAINTEXT://:9092", "clients cannot connect to 'an empty host'"),
        ("PLAINTEXT://host:0", "clients cannot connect to port 0"),
        ("nonsense", "advertised.listeners: 'nonsense' is not an address"),
    ],
)
def test_wrong_advertised_listeners_are_explained(value, message):
    """Addresses that no client could use are refused in one sentence with the remedy."""
    with pytest.raises(ConfigError, match=message):
        parse_advertised_listeners(value, LISTENERS, PROTOCOLS)

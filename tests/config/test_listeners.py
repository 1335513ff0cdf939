from __future__ import annotations

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.consistency import connections_per_ip
from barnabas.config.listeners import (
    ListenerAddress,
    advertised_listeners,
    bind_addresses,
    client_listeners,
    parse_listener,
)
from barnabas.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PLAINTEXT://:9092", ("PLAINTEXT", "", 9092)),
        ("plaintext://localhost:0", ("PLAINTEXT", "localhost", 0)),
        ("IN-SIDE_1://[::1]:9092", ("IN-SIDE_1", "::1", 9092)),
        ("PLAINTEXT://10.0.0.1:65535", ("PLAINTEXT", "10.0.0.1", 65535)),
    ],
)
def test_a_listener_is_a_name_a_host_and_a_port(text, expected):
    """Every form that Kafka writes is read, and written again as it was."""
    listener = parse_listener(text)
    assert listener == expected
    assert parse_listener(str(listener)) == listener


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:9092",
        "PLAINTEXT://localhost",
        "PLAINTEXT://::1:9092",
        "A B://:1",
        "X://:65536",
        "X://h:-1",
    ],
)
def test_a_malformed_listener_is_refused(text):
    """What is not NAME://host:port is quoted in the refusal."""
    with pytest.raises(ConfigError, match="listeners has"):
        parse_listener(text)


def test_the_controllers_listeners_are_not_opened():
    """Of Kafka's usual pair only the clients' listener is served."""
    config = BrokerConfig({"listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"})
    assert client_listeners(config) == [ListenerAddress("PLAINTEXT", "", 9092)]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"listeners": "SSL://:9092"}, "asks for SSL, which is not served yet"),
        ({"listeners": "INSIDE://:9092"}, "add INSIDE:PLAINTEXT to listener.security.protocol.map"),
        ({"listeners": "CONTROLLER://:9093"}, "no listener for clients"),
        ({"listeners": "PLAINTEXT://a:1,PLAINTEXT://b:2"}, "two listeners named PLAINTEXT"),
        (
            {
                "listeners": "PLAINTEXT://:1,B://b:1",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,B:PLAINTEXT",
            },
            "want the same port",
        ),
        ({"listener.security.protocol.map": "PLAINTEXT"}, "NAME:PROTOCOL"),
        ({"advertised.listeners": "OUTSIDE://a:1"}, "which is not in listeners"),
        ({"advertised.listeners": "PLAINTEXT://0.0.0.0:9092"}, "clients cannot connect to"),
        ({"advertised.listeners": "PLAINTEXT://:9092"}, "clients cannot connect to"),
    ],
)
def test_listeners_that_cannot_work_are_refused(settings, complaint):
    """A listener nobody could use stops the start with the remedy."""
    with pytest.raises(ConfigError, match=complaint):
        BrokerConfig(settings)


def test_advertised_names_are_by_listener():
    """Each listener may have a name that its clients are told; the others have none."""
    settings = {
        "listeners": "A://:1,B://:2,C://:0,D://:0",
        "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT,C:PLAINTEXT,D:PLAINTEXT",
        "advertised.listeners": "b://outside:77",
    }
    config = BrokerConfig(settings)
    assert advertised_listeners(config, client_listeners(config)) == {
        "B": ListenerAddress("B", "outside", 77)
    }


def test_localhost_is_both_loopback_addresses():
    """Clients that try IPv6 first and clients that try IPv4 first both find the broker."""
    assert bind_addresses("localhost") == ("127.0.0.1", "::1")
    assert bind_addresses("10.1.2.3") == ("10.1.2.3",)
    assert set(bind_addresses("")) == {"0.0.0.0", "::"}


def test_limits_by_address_are_read():
    """Hosts with limits of their own are read, IPv6 addresses in brackets too."""
    assert connections_per_ip("10.0.0.7:100, [::1]:5,") == {"10.0.0.7": 100, "::1": 5}
    assert connections_per_ip("") == {}
    with pytest.raises(ConfigError, match="host:number"):
        connections_per_ip("a:b")

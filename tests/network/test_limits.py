"""Limits and their counting."""

from __future__ import annotations

from barnabas.config.broker import BrokerConfig
from barnabas.network.connection_quotas import ConnectionQuotas
from barnabas.network.limits import NetworkLimits


def test_defaults_are_those_of_the_configuration():
    """An untouched configuration gives the limits that the class has by default."""
    assert NetworkLimits.from_config(BrokerConfig()) == NetworkLimits()


def test_every_limit_comes_from_its_key():
    """Each attribute follows the key that its documentation names."""
    settings = {
        "socket.request.max.bytes": 1,
        "queued.max.request.bytes": 2,
        "barnabas.pipelined.requests.per.connection": 3,
        "barnabas.outgoing.bytes.per.connection": 70_000,
        "max.connections": 5,
        "max.connections.per.ip": 6,
        "connections.max.idle.ms": 7,
        "socket.send.buffer.bytes": 8,
        "socket.receive.buffer.bytes": 9,
        "socket.listen.backlog.size": 10,
    }
    config = BrokerConfig(
        {**{key: str(value) for key, value in settings.items()}, "max.connections.per.ip.overrides": "::1:4"}
    )
    assert NetworkLimits.from_config(config) == NetworkLimits(1, 2, 3, 70_000, 5, 6, {"::1": 4}, 7, 8, 9, 10)


def test_quotas_count():
    """A host gets as many connections as it may have, and its place back when one ends."""
    quotas = ConnectionQuotas(
        NetworkLimits(connections_max=3, connections_per_ip_max=2, connections_per_ip_overrides={"b": 0})
    )
    assert [quotas.open("a") for _ in range(3)] == [True, True, False]
    assert not quotas.open("b")
    assert not quotas.is_full
    assert quotas.open("c")
    assert quotas.is_full
    quotas.close("a")
    assert not quotas.is_full
    assert quotas.open("a")
    for host in ("a", "a", "c"):
        quotas.close(host)
    assert quotas.total == 0
    assert quotas._by_host == {}

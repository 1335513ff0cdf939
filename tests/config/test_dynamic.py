from __future__ import annotations

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.dynamic import validate_broker_configs
from barnabas.errors import ErrorCode, KafkaError


@pytest.mark.parametrize(
    ("configs", "per_broker", "complaint"),
    [
        (
            {"log.dirs": "/x", "log.retention.hours": "5"},
            True,
            r"dynamically: \[log\.dirs, log\.retention\.hours\]$",
        ),
        (
            {"ssl.keystore.location": "x"},
            True,
            r"only per-listener using the listener prefix: \[ssl\.keystore\.location\]$",
        ),
        (
            {"log.retention.ms": "5x"},
            True,
            "^INVALID_REQUEST: Invalid value 5x for configuration log.retention.ms: Not a",
        ),
        (
            {"cordoned.log.dirs": "/x"},
            False,
            r"default cluster level, broker id must be specified: \[cordoned\.log\.dirs\]$",
        ),
        ({"listener.name.x.ssl.keystore.type": "PEM"}, False, "broker id must be specified"),
        ({"log.roll.ms": "0"}, True, "log.roll.ms must be greater than or equal to 1"),
        ({"log.roll.ms": "0"}, False, "log.roll.ms must be greater than or equal to 1"),
        ({"max.connections.per.ip": "0"}, False, "set to zero only if max.connections.per.ip.overrides"),
        ({"max.connections.per.ip.overrides": "a:b"}, True, "IP address and a number"),
        ({"log.local.retention.ms": "5"}, True, "set log.retention.ms instead"),
        ({"log.local.retention.bytes": "5"}, False, "set log.retention.bytes instead"),
    ],
)
def test_what_may_not_change_is_refused_with_kafkas_words(configs, per_broker, complaint):
    """Static keys, keys without their listener, keys of one broker for all, and bad values are INVALID_REQUEST."""
    with pytest.raises(KafkaError, match=complaint) as caught:
        validate_broker_configs(BrokerConfig(), configs, per_broker=per_broker)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("configs", "per_broker"),
    [
        ({"log.retention.ms": "-7", "plug.in.key": "x"}, True),
        ({"log.retention.ms": "5"}, False),
        ({"cordoned.log.dirs": "/x"}, True),
        ({"listener.name.x.ssl.keystore.location": "x"}, True),
        ({"listener.name.x.max.connections": "1"}, False),
        ({"leader.replication.throttled.rate": "5"}, False),
        ({"log.local.retention.ms": "-2", "log.local.retention.bytes": "-2"}, False),
        ({}, True),
    ],
)
def test_what_may_change_is_taken(configs, per_broker):
    """Dynamic keys of the right scope, and keys that only plug-ins know, pass."""
    validate_broker_configs(BrokerConfig(), configs, per_broker=per_broker)

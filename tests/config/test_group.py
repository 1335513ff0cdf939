from __future__ import annotations

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.group import group_config, validate_group_configs
from barnabas.errors import ErrorCode, KafkaError


def test_a_groups_own_value_beats_the_brokers():
    """Override, broker's synonym, default: in this order."""
    broker = BrokerConfig({"group.consumer.heartbeat.interval.ms": "7000"})
    values = group_config(broker, {"consumer.session.timeout.ms": "50000"})
    assert values["consumer.session.timeout.ms"] == 50_000
    assert values["consumer.heartbeat.interval.ms"] == 7000
    assert values["share.auto.offset.reset"] == "latest"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"nothing": "1"}, "Unknown group config name: nothing"),
        ({"consumer.session.timeout.ms": None}, "Null value not supported for group configs"),
        ({"consumer.session.timeout.ms": "x"}, "Not a number of type INT"),
        (
            {"consumer.session.timeout.ms": "5"},
            "greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            {"consumer.session.timeout.ms": "60001"},
            "less than or equal to group.consumer.max.session.timeout.ms",
        ),
        ({"streams.num.standby.replicas": "3"}, "less than or equal to group.streams.max.standby.replicas"),
    ],
)
def test_bounds_are_the_brokers(overrides, complaint):
    """A group may only ask for what the broker allows."""
    with pytest.raises(KafkaError, match=complaint) as caught:
        validate_group_configs(BrokerConfig(), overrides)
    assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_the_session_outlives_the_heartbeat():
    """A session that ends before the next heartbeat is refused."""
    broker = BrokerConfig(
        {"group.share.min.session.timeout.ms": "1", "group.share.max.heartbeat.interval.ms": "99999"}
    )
    with pytest.raises(KafkaError, match=r"share\.session\.timeout\.ms must be greater than"):
        validate_group_configs(broker, {"share.session.timeout.ms": "4000"})

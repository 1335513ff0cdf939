from __future__ import annotations

import dataclasses

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.topic import (
    TOPIC_KEYS,
    LogConfig,
    LogConfigs,
    log_config,
    validate_topic_config,
    validate_topic_configs,
)
from barnabas.errors import ErrorCode, KafkaError


def test_the_defaults_are_those_of_the_keys():
    """A topic without settings on a broker without settings is LogConfig() itself."""
    assert log_config(BrokerConfig(), {}) == LogConfig()


def test_attributes_are_the_keys_in_snake_case():
    """Every topic key has its attribute, and every attribute its key."""
    names = {name.replace(".", "_") for name in TOPIC_KEYS} - {"internal_segment_bytes"}
    assert {field.name for field in dataclasses.fields(LogConfig) if field.init} == names


def test_a_topics_own_value_beats_the_brokers():
    """Override, broker's synonym, default: in this order."""
    broker = BrokerConfig(
        {"log.retention.hours": "1", "log.segment.bytes": "2097152", "message.max.bytes": "77"}
    )
    config = log_config(broker, {"retention.ms": "5", "cleanup.policy": "compact,delete", "unknown.key": "x"})
    assert config.retention_ms == 5
    assert config.segment_bytes == 2_097_152
    assert config.max_message_bytes == 77
    assert config.cleanup_policy == {"compact", "delete"}
    assert config.is_compacted
    assert config.deletes_by_retention
    broker.update({"log.retention.ms": "6"})
    assert log_config(broker, {}).retention_ms == 6


def test_topics_with_the_same_overrides_share_their_settings():
    """As long as the broker's settings are what they were; what is asked for anew is what `log_config` gives."""
    broker = BrokerConfig()
    configs = LogConfigs(broker)
    plain, compacted = configs.get({}), configs.get({"cleanup.policy": "compact"})
    assert configs.get({}) is plain
    assert configs.get({"cleanup.policy": "compact"}) is compacted
    assert compacted.is_compacted
    assert not plain.is_compacted
    broker.update({"log.retention.ms": "6"})
    assert configs.get({}).retention_ms == configs.get({"cleanup.policy": "compact"}).retention_ms == 6
    broker.update({})
    assert configs.get({}) == plain
    for number in range(3000):
        assert configs.get({"retention.ms": str(number)}).retention_ms == number


def test_small_segments_for_tests():
    """internal.segment.bytes goes below the least segment.bytes."""
    assert log_config(BrokerConfig(), {"internal.segment.bytes": "100"}).segment_bytes == 100


def test_it_cannot_be_changed():
    """A log's configuration is replaced, never altered."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        LogConfig().retention_ms = 5
    assert not hasattr(LogConfig(), "__dict__")


def test_one_value_is_validated_with_kafkas_words():
    """Unknown names and bad values are INVALID_CONFIG."""
    assert validate_topic_config("segment.ms", "5") == 5
    with pytest.raises(KafkaError, match=r"Unknown topic config name: segment\.mss") as caught:
        validate_topic_config("segment.mss", "5")
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    with pytest.raises(
        KafkaError, match=r"Invalid value 0 for configuration segment\.ms: Value must be at least 1"
    ):
        validate_topic_config("segment.ms", "0")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"retention.ms": None}, "Null value not supported for topic configs: retention.ms"),
        (
            {"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8"},
            r"\(9\) > max.compaction.lag.ms \(8\)",
        ),
        ({"remote.storage.enable": "true"}, "Tiered Storage functionality is disabled"),
        ({"segment.bytes": "1"}, "Value must be at least 1048576"),
        ({"local.retention.ms": "-3"}, "Value must be at least -2"),
        ({"local.retention.ms": "-1"}, "set retention.ms instead, and leave local.retention.ms at -2"),
        (
            {"local.retention.bytes": "5"},
            "set retention.bytes instead, and leave local.retention.bytes at -2",
        ),
    ],
)
def test_settings_are_validated_together(overrides, complaint):
    """What does not fit, alone or together, is INVALID_CONFIG."""
    with pytest.raises(KafkaError, match=complaint) as caught:
        validate_topic_configs(BrokerConfig(), overrides)
    assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_local_retention_may_have_its_default_or_stay_what_it_was():
    """Tools copy all settings of a topic, and a data directory of Apache Kafka may bring others along."""
    assert validate_topic_configs(BrokerConfig(), {"local.retention.ms": " -2 "}).local_retention_ms == -2
    kept = {"local.retention.bytes": "5"}
    assert validate_topic_configs(BrokerConfig(), {**kept, "retention.ms": "6"}, kept=kept).retention_ms == 6
    with pytest.raises(KafkaError, match="remote storage, and this broker has none"):
        validate_topic_configs(BrokerConfig(), {"local.retention.bytes": "6"}, kept=kept)

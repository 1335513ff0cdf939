"""Changing broker keys while the broker runs: what `IncrementalAlterConfigs` may do to a broker resource.

The rules and words of refusal are those of Kafka's `DynamicBrokerConfig`; all refusals are INVALID_REQUEST there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.config.broker import apply_synonyms, overlaid
from barnabas.config.consistency import contradiction
from barnabas.config.definition import PER_BROKER, READ_ONLY
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.keys.tiered import local_retention_complaint
from barnabas.config.names import broker_key
from barnabas.errors import ConfigError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.config.broker import BrokerConfig
    from barnabas.config.definition import ConfigKey

__all__ = ["validate_broker_configs"]

# Kafka takes these only with a listener prefix: listener.name.internal.ssl.keystore.location.
_LISTENER_ONLY = frozenset(
    {
        "ssl.key.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
    }
)

# Of the keys of one listener only these may be set for all brokers.
_LISTENER_AND_CLUSTER = frozenset({"max.connection.creation.rate", "max.connections", "num.network.threads"})


def validate_broker_configs(broker: BrokerConfig, configs: Mapping[str, str], *, per_broker: bool) -> None:
    """Whether these may be all the dynamic settings of one broker (`per_broker`), or of all of them.

    Names that no table has are let through, as in Kafka: plug-ins read them.

    Raises:
        KafkaError: INVALID_REQUEST, for the first rule that is broken.
    """
    keys = {name: broker_key(name) for name in configs}
    _refuse(
        "Cannot update these configs dynamically",
        (
            name
            for name, key in keys.items()
            if key is not None and key.scope == READ_ONLY and key.name == name
        ),
    )
    _refuse(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        (name for name in configs if name in _LISTENER_ONLY),
    )
    try:
        for name, key in keys.items():
            if key is not None:
                key.parse(configs[name])
        if not per_broker:
            _refuse(
                "Cannot update these configs at default cluster level, broker id must be specified",
                (name for name, key in keys.items() if key is not None and not _fits_all(name, key)),
            )
        layers = (
            (broker.static, broker.dynamic_default, configs)
            if per_broker
            else (broker.static, configs, broker.dynamic)
        )
        values = overlaid(*layers)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from None
    sentence = _local_retention_complaint(configs, broker.dynamic if per_broker else broker.dynamic_default)
    if sentence is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, sentence)
    apply_synonyms(values)
    sentence = contradiction(values)
    if sentence is not None:
        raise KafkaError(ErrorCode.INVALID_REQUEST, sentence)


def _local_retention_complaint(configs: Mapping[str, str], kept: Mapping[str, str]) -> str | None:
    for name in ("log.local.retention.ms", "log.local.retention.bytes"):
        if name in configs and configs[name] != kept.get(name):
            complaint = local_retention_complaint(name, BROKER_KEYS[name].parse(configs[name]))
            if complaint is not None:
                return complaint
    return None


def _fits_all(name: str, key: ConfigKey) -> bool:
    if name.startswith("listener.name."):
        return key.name in _LISTENER_AND_CLUSTER
    return key.scope != PER_BROKER


def _refuse(rule: str, names: Iterable[str]) -> None:
    broken = sorted(names)
    if broken:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{rule}: [{', '.join(broken)}]")

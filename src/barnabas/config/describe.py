"""What `DescribeConfigs` says about topics, brokers and groups: pure functions from settings to entries.

Each entry has the value in force, where it comes from, and the chain of names and layers that it was chosen from, the one
that won first. Which entries there are, their order of precedence and what is hidden: `ConfigHelper` of Apache Kafka 4.3.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.config.broker import FAMILIES
from barnabas.config.definition import READ_ONLY, ConfigKey, ConfigType, to_text
from barnabas.config.group import GROUP_KEYS, GROUP_SYNONYMS, group_config
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.names import broker_key
from barnabas.config.topic import TOPIC_KEYS, TOPIC_SYNONYMS, typed_topic_configs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from barnabas.config.broker import BrokerConfig

__all__ = [
    "ConfigEntry",
    "ConfigSource",
    "ConfigSynonym",
    "describe_broker",
    "describe_cluster_default",
    "describe_group",
    "describe_topic",
]


class ConfigSource(IntEnum):
    """Where a value comes from; the numbers are those of `DescribeConfigs`."""

    UNKNOWN = 0
    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_BROKER_LOGGER_CONFIG = 6
    CLIENT_METRICS_CONFIG = 7
    GROUP_CONFIG = 8


class ConfigSynonym(NamedTuple):
    """One step of the chain: a name, its text in that layer (`None` when secret), the layer."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """One key of a resource: `value` is its canonical text, `None` when unset or secret."""

    name: str
    value: str | None
    read_only: bool
    source: ConfigSource
    sensitive: bool
    synonyms: tuple[ConfigSynonym, ...]
    type: ConfigType
    documentation: str | None


# These three exist as dynamic settings only, and are described only while they are set.
_DYNAMIC_ONLY = frozenset(
    {
        "leader.replication.throttled.rate",
        "follower.replication.throttled.rate",
        "replica.alter.log.dirs.io.max.bytes.per.second",
    }
)

# The keys whose time may be given in several units: the chain of each has all of them.
_FAMILIES: dict[str, tuple[str, ...]] = {
    name: family for family in FAMILIES if family[0].endswith(".ms") for name in family
} | {"log.flush.interval.ms": ("log.flush.interval.ms", "log.flush.scheduler.interval.ms")}


def describe_topic(
    broker: BrokerConfig, overrides: Mapping[str, str], names: Collection[str] | None = None
) -> list[ConfigEntry]:
    """The entries of a topic with these overrides, of all keys or of those in `names` when there are any."""
    values = typed_topic_configs(broker, overrides)
    entries = []
    for key in _wanted(TOPIC_KEYS, names):
        value = values[key.name]
        if value is None:
            continue
        text = to_text(value)
        synonym = TOPIC_SYNONYMS.get(key.name)
        chain = _chain(broker, synonym[0]) if synonym else ()
        if key.name in overrides:
            chain = (ConfigSynonym(key.name, text, ConfigSource.DYNAMIC_TOPIC_CONFIG), *chain)
        entries.append(_entry(key, key.name, text, chain, read_only=False))
    return entries


def describe_broker(broker: BrokerConfig, names: Collection[str] | None = None) -> list[ConfigEntry]:
    """The entries of this broker, of all keys or of those in `names` when there are any."""
    entries = []
    for name, value in broker.raw.items():
        key = broker_key(name)
        if names and name not in names:
            continue
        if key is not None and key.internal and name not in broker.static:
            continue
        if name in _DYNAMIC_ONLY and name not in broker.dynamic and name not in broker.dynamic_default:
            continue
        entries.append(_broker_entry(broker, name, value))
    return entries


def describe_cluster_default(broker: BrokerConfig, names: Collection[str] | None = None) -> list[ConfigEntry]:
    """The entries of the empty broker name: only what was set for all brokers."""
    entries = []
    for name, text in broker.dynamic_default.items():
        if names and name not in names:
            continue
        entry = _broker_entry(broker, name, text)
        chain = tuple(
            step for step in entry.synonyms if step.source is ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG
        )
        value = None if entry.sensitive else text
        entries.append(
            entry._replace(value=value, synonyms=chain, source=ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG)
        )
    return entries


def describe_group(
    broker: BrokerConfig, overrides: Mapping[str, str], names: Collection[str] | None = None
) -> list[ConfigEntry]:
    """The entries of a group with these overrides, of all keys or of those in `names` when there are any."""
    values = group_config(broker, overrides)
    entries = []
    for key in _wanted(GROUP_KEYS, names):
        text = to_text(values[key.name])
        synonym = GROUP_SYNONYMS.get(key.name)
        chain = _chain(broker, synonym) if synonym else ()
        if key.name in overrides:
            chain = (ConfigSynonym(key.name, text, ConfigSource.GROUP_CONFIG), *chain)
        elif not chain:
            chain = (ConfigSynonym(key.name, text, ConfigSource.DEFAULT_CONFIG),)
        entries.append(_entry(key, key.name, text, chain, read_only=False))
    return entries


def _wanted(keys: Mapping[str, ConfigKey], names: Collection[str] | None) -> Iterable[ConfigKey]:
    return [key for key in keys.values() if not names or key.name in names]


def _broker_entry(broker: BrokerConfig, name: str, value: Any) -> ConfigEntry:
    key = broker_key(name)
    if key is None:
        # A plug-in's key: nobody knows its type, so it may be a secret.
        return ConfigEntry(
            name, None, True, _source(chain := _chain(broker, name)), True, chain, ConfigType.UNKNOWN, None
        )
    return _entry(key, name, to_text(value), _chain(broker, name), read_only=key.scope == READ_ONLY)


def _entry(
    key: ConfigKey, name: str, text: str | None, chain: tuple[ConfigSynonym, ...], *, read_only: bool
) -> ConfigEntry:
    value = None if key.is_sensitive else text
    return ConfigEntry(
        name, value, read_only, _source(chain), key.is_sensitive, chain, key.type, key.sentence
    )


def _source(chain: tuple[ConfigSynonym, ...]) -> ConfigSource:
    return chain[0].source if chain else ConfigSource.DEFAULT_CONFIG


def _chain(broker: BrokerConfig, name: str) -> tuple[ConfigSynonym, ...]:
    """Every layer that has `name` or a name of its family, the highest layer first.

    What stands before the first step of `name` itself is cut off, as Kafka does; a chain that never names it is empty.
    """
    key = broker_key(name)
    names: tuple[str, ...] = _FAMILIES.get(name, ())
    if not names:
        names = (name,) if key is None or key.name == name else (name, key.name)
    chain = [
        ConfigSynonym(each, None if _is_secret(each) else layer[each], source)
        for source, layer in (
            (ConfigSource.DYNAMIC_BROKER_CONFIG, broker.dynamic),
            (ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, broker.dynamic_default),
            (ConfigSource.STATIC_BROKER_CONFIG, broker.static),
        )
        for each in names
        if each in layer
    ]
    for each in names:
        key = BROKER_KEYS.get(each)
        default = None if key is None or each in _DYNAMIC_ONLY else to_text(key.default)
        if default is not None:
            chain.append(
                ConfigSynonym(each, None if _is_secret(each) else default, ConfigSource.DEFAULT_CONFIG)
            )
    for position, step in enumerate(chain):
        if step.name == name:
            return tuple(chain[position:])
    return ()


def _is_secret(name: str) -> bool:
    key = broker_key(name)
    return key is None or key.is_sensitive

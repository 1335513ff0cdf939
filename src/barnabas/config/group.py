"""Group keys: what one consumer, share or streams group goes by.

A group's value is its own, or the broker's value of the key's synonym, or the default. Names, types, ranges, bounds and
words of refusal: `GroupConfig` of Apache Kafka 4.3.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barnabas.config.definition import (
    BOOLEAN,
    INT,
    MEDIUM,
    STRING,
    ConfigKey,
    Validator,
    at_least,
    one_of,
)
from barnabas.errors import ConfigError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.config.broker import BrokerConfig

__all__ = ["GROUP_BOUNDS", "GROUP_KEYS", "GROUP_SYNONYMS", "group_config", "validate_group_configs"]


def _offset_reset() -> Validator:
    """`latest`, `earliest`, or `by_duration:` and an ISO 8601 duration."""

    def complaint(name: str, value: str) -> str | None:
        if value in {"latest", "earliest"} or (value.startswith("by_duration:P") and value[-1] in "DHMS"):
            return None
        return (
            f"Invalid value {value} for configuration {name}: Invalid value `{value}` for configuration {name}. "
            "The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        )

    return Validator("latest, earliest, or by_duration:PnDTnHnMn.nS", complaint)


# fmt: off
_KEYS = (
    ConfigKey("consumer.session.timeout.ms", INT, 45_000, MEDIUM,
      "Silence after which a member of a consumer group is removed.",
      at_least(1)),
    ConfigKey("consumer.heartbeat.interval.ms", INT, 5000, MEDIUM,
      "Time between heartbeats that members of a consumer group are told to keep.",
      at_least(1)),
    ConfigKey("consumer.assignment.interval.ms", INT, 1000, MEDIUM,
      "Time between two assignments of a consumer group at least.",
      at_least(0)),
    ConfigKey("share.session.timeout.ms", INT, 45_000, MEDIUM,
      "Silence after which a member of a share group is removed.",
      at_least(1), effective=False),
    ConfigKey("share.heartbeat.interval.ms", INT, 5000, MEDIUM,
      "Time between heartbeats that members of a share group are told to keep.",
      at_least(1), effective=False),
    ConfigKey("share.record.lock.duration.ms", INT, 30_000, MEDIUM,
      "Time for which a record belongs to the share consumer that took it.",
      at_least(1000), effective=False),
    ConfigKey("share.delivery.count.limit", INT, 5, MEDIUM,
      "Times that a record is delivered to a share group before it is given up.",
      at_least(2), effective=False),
    ConfigKey("share.partition.max.record.locks", INT, 2000, MEDIUM,
      "Records of one partition that a share group may hold at once.",
      at_least(100), effective=False),
    ConfigKey("share.auto.offset.reset", STRING, "latest", MEDIUM,
      "Where a new share group begins: at the end (latest), at the start (earliest), or some time ago (by_duration:...).",
      _offset_reset(), effective=False),
    ConfigKey("share.isolation.level", STRING, "read_uncommitted", MEDIUM,
      "Whether a share group sees records of open and aborted transactions.",
      one_of("read_committed", "read_uncommitted"), effective=False),
    ConfigKey("share.renew.acknowledge.enable", BOOLEAN, True, MEDIUM,
      "Whether members of a share group may prolong their hold on a record.",
      effective=False),
    ConfigKey("share.assignment.interval.ms", INT, 1000, MEDIUM,
      "Time between two assignments of a share group at least.",
      at_least(0), effective=False),
    ConfigKey("streams.session.timeout.ms", INT, 45_000, MEDIUM,
      "Silence after which a member of a streams group is removed.",
      at_least(1), effective=False),
    ConfigKey("streams.heartbeat.interval.ms", INT, 5000, MEDIUM,
      "Time between heartbeats that members of a streams group are told to keep.",
      at_least(1), effective=False),
    ConfigKey("streams.num.standby.replicas", INT, 0, MEDIUM,
      "Standby copies of each task of a streams group.",
      at_least(0), effective=False),
    ConfigKey("streams.initial.rebalance.delay.ms", INT, 3000, MEDIUM,
      "Time for which a new streams group waits for more members before its first assignment.",
      at_least(0), effective=False),
    ConfigKey("streams.assignment.interval.ms", INT, 1000, MEDIUM,
      "Time between two assignments of a streams group at least.",
      at_least(0), effective=False),
)
# fmt: on

GROUP_KEYS: dict[str, ConfigKey] = {key.name: key for key in _KEYS}
"""Every group key by name."""

_WITHOUT_SYNONYM = frozenset(
    {"share.auto.offset.reset", "share.isolation.level", "share.renew.acknowledge.enable"}
)

GROUP_SYNONYMS: dict[str, str] = {
    name: f"group.{name}" for name in GROUP_KEYS if name not in _WITHOUT_SYNONYM
}
"""The broker key that a group key falls back on."""

# Key, and the broker keys that bound it from below and above.
GROUP_BOUNDS: tuple[tuple[str, str | None, str], ...] = (
    *(
        (
            f"{kind}.{rest}",
            f"group.{kind}.min.{rest}",
            f"group.{kind}.max.{rest}",
        )
        for kind, rest in (
            ("consumer", "heartbeat.interval.ms"),
            ("consumer", "session.timeout.ms"),
            ("consumer", "assignment.interval.ms"),
            ("share", "heartbeat.interval.ms"),
            ("share", "session.timeout.ms"),
            ("share", "record.lock.duration.ms"),
            ("share", "delivery.count.limit"),
            ("share", "partition.max.record.locks"),
            ("share", "assignment.interval.ms"),
            ("streams", "heartbeat.interval.ms"),
            ("streams", "session.timeout.ms"),
        )
    ),
    ("streams.num.standby.replicas", None, "group.streams.max.standby.replicas"),
    (
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
)


def group_config(broker: BrokerConfig, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The typed values of every group key for a group with these overrides on this broker.

    Raises:
        ConfigError: An override does not parse; unknown names are passed over.
    """
    values: dict[str, Any] = {}
    for name, key in GROUP_KEYS.items():
        text = overrides.get(name)
        if text is not None:
            values[name] = key.parse(text)
        else:
            values[name] = broker[GROUP_SYNONYMS[name]] if name in GROUP_SYNONYMS else key.default
    return values


def validate_group_configs(broker: BrokerConfig, overrides: Mapping[str, str | None]) -> dict[str, Any]:
    """The typed values of these overrides taken together, within the bounds that the broker sets.

    Raises:
        KafkaError: INVALID_CONFIG with Kafka's message, for the first thing that is wrong.
    """
    absent = [name for name, value in overrides.items() if value is None]
    if absent:
        raise _invalid(f"Null value not supported for group configs: {','.join(absent)}")
    for name in overrides:
        if name not in GROUP_KEYS:
            raise _invalid(f"Unknown group config name: {name}")
    try:
        values = group_config(broker, {name: value for name, value in overrides.items() if value is not None})
    except ConfigError as error:
        raise _invalid(str(error)) from None
    for name, least, greatest in GROUP_BOUNDS:
        if least is not None and values[name] < broker[least]:
            raise _invalid(f"{name} must be greater than or equal to {least}")
        if values[name] > broker[greatest]:
            raise _invalid(f"{name} must be less than or equal to {greatest}")
    for kind in ("consumer", "share", "streams"):
        if values[f"{kind}.session.timeout.ms"] <= values[f"{kind}.heartbeat.interval.ms"]:
            raise _invalid(f"{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms")
    return values


def _invalid(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_CONFIG, message)

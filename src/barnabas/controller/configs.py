"""Changing settings of topics, brokers, groups and client metrics subscriptions. Pure.

Rules and words of refusal: `ConfigAdminManager`, `ConfigurationControlManager` and `ControllerConfigurationValidator` of
Apache Kafka 4.3.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.config.definition import ConfigType, to_text
from barnabas.config.dynamic import validate_broker_configs
from barnabas.config.group import GROUP_KEYS, validate_group_configs
from barnabas.config.names import broker_key
from barnabas.config.topic import TOPIC_KEYS, validate_topic_configs
from barnabas.controller.client_metrics import validate_client_metrics
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.features import ELR_FEATURE, ELR_VERSION
from barnabas.metadata.identifiers import DEFAULT_BROKER, ResourceType
from barnabas.metadata.topic_names import validate_topic_name
from barnabas.wire.messages.metadata.clear_elr_record import ClearElrRecord
from barnabas.wire.messages.metadata.config_record import ConfigRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from barnabas.config.broker import BrokerConfig
    from barnabas.config.definition import ConfigKey
    from barnabas.metadata.image import MetadataImage

__all__ = [
    "ConfigChange",
    "ConfigOperation",
    "ConfigReplacement",
    "alter_configs",
    "check_broker_name",
    "cleared_elr",
    "incremental_alter_configs",
    "min_insync_replicas_for_elr",
    "names_another_broker",
]


_MIN_INSYNC_REPLICAS = "min.insync.replicas"


class ConfigOperation(IntEnum):
    """What becomes of one setting, by the numbers of `IncrementalAlterConfigs`."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigChange(NamedTuple):
    """Operations on the settings of one resource: (name, number of the operation, value)."""

    resource_type: int
    resource_name: str
    operations: Sequence[tuple[str, int, str | None]]


class ConfigReplacement(NamedTuple):
    """All settings that one resource is to have."""

    resource_type: int
    resource_name: str
    settings: Sequence[tuple[str, str | None]]


def incremental_alter_configs(
    image: MetadataImage, config: BrokerConfig, node_id: int | None, changes: Sequence[ConfigChange]
) -> tuple[list[Any], list[KafkaError | None]]:
    """The records that change these settings, and what is wrong with each change, if anything.

    A change is made as a whole or not at all. `node_id` is the broker that was asked, None where another one was and has
    judged already whether it may be.
    """
    plans = []
    for change in changes:
        names = [name for name, _, _ in change.operations]
        values = [
            (name, value) for name, number, value in change.operations if number != ConfigOperation.DELETE
        ]
        plans.append(_Plan(change.resource_type, change.resource_name, names, values, change.operations))
    return _alter(image, config, node_id, plans)


def alter_configs(
    image: MetadataImage, config: BrokerConfig, node_id: int | None, replacements: Sequence[ConfigReplacement]
) -> tuple[list[Any], list[KafkaError | None]]:
    """The records that give these resources exactly these settings, and what is wrong with each, if anything."""
    plans = []
    for replacement in replacements:
        names = [name for name, _ in replacement.settings]
        plans.append(
            _Plan(replacement.resource_type, replacement.resource_name, names, replacement.settings, None)
        )
    return _alter(image, config, node_id, plans)


class _Plan(NamedTuple):
    """What both APIs come to: without operations, the values take the place of all settings."""

    resource_type: int
    resource_name: str
    names: Sequence[str]
    values: Sequence[tuple[str, str | None]]
    operations: Sequence[tuple[str, int, str | None]] | None


def _alter(
    image: MetadataImage, config: BrokerConfig, node_id: int | None, plans: Sequence[_Plan]
) -> tuple[list[Any], list[KafkaError | None]]:
    records: list[Any] = []
    results: list[KafkaError | None] = []
    has_elr = image.features.get(ELR_FEATURE, 0) >= ELR_VERSION
    mentions = Counter((plan.resource_type, plan.resource_name) for plan in plans)
    for plan in plans:
        try:
            if mentions[plan.resource_type, plan.resource_name] > 1:
                raise _refusal("Each resource must appear at most once.")
            before = image.config(plan.resource_type, plan.resource_name)
            after = _settings_after(plan, before, node_id)
            if has_elr:
                _check_elr(plan, before, after)
            _validate(image, config, plan, before, after)
        except KafkaError as error:
            results.append(error)
        else:
            records += _records(plan, before, after)
            results.append(None)
    return records, results


def _refusal(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)


def _settings_after(plan: _Plan, before: Mapping[str, str], node_id: int | None) -> dict[str, str]:
    if len(set(plan.names)) < len(plan.names):
        raise _refusal("Error due to duplicate config keys")
    absent = [name for name, value in plan.values if value is None]
    if absent:
        raise _refusal(f"Null value not supported for : {', '.join(absent)}")
    if plan.resource_type == ResourceType.BROKER:
        if plan.resource_name != DEFAULT_BROKER and node_id is not None:
            check_broker_name(plan.resource_name, node_id)
    elif plan.resource_type not in _KEYS:
        raise _refusal(f"Unknown resource type {plan.resource_type}")
    if plan.operations is None:
        return {name: value for name, value in plan.values if value is not None}
    after = dict(before)
    for name, number, value in plan.operations:
        _operate(plan.resource_type, after, name, number, value)
    return after


def check_broker_name(name: str, node_id: int) -> None:
    """A broker's own settings are changed and described by that broker only.

    Raises:
        KafkaError: INVALID_REQUEST when `name` is not the id of this broker.
    """
    try:
        number = int(name)
    except ValueError:
        raise _refusal(f"Node id must be an integer, but it is: {name}") from None
    if number != node_id:
        raise _refusal(f"Unexpected broker id, expected {node_id}, but received {name}")


def names_another_broker(node_id: int, resource_type: int, name: str) -> bool:
    """Whether these are the settings of a broker that this one is not."""
    return resource_type == ResourceType.BROKER and name not in {DEFAULT_BROKER, str(node_id)}


_KEYS: dict[int, Mapping[str, ConfigKey]] = {
    ResourceType.TOPIC: TOPIC_KEYS,
    ResourceType.GROUP: GROUP_KEYS,
    # Kafka knows no types here, and so lets nothing be appended to a list of metrics.
    ResourceType.CLIENT_METRICS: {},
}


def _operate(resource_type: int, settings: dict[str, str], name: str, number: int, value: str | None) -> None:
    if number == ConfigOperation.DELETE:
        settings.pop(name, None)
        return
    assert value is not None
    if number == ConfigOperation.SET:
        settings[name] = value
        return
    try:
        operation = ConfigOperation(number)
    except ValueError:
        raise _refusal(f"Unknown operations type {number}") from None
    key = _list_key(resource_type, name, operation)
    current = settings.get(name, to_text(key.default) or "")
    members = [member for member in current.split(",") if member]
    if operation is ConfigOperation.APPEND:
        members += [member for member in dict.fromkeys(value.split(",")) if member not in members]
    else:
        for member in value.split(","):
            if member in members:
                members.remove(member)
    settings[name] = ",".join(members)


def _list_key(resource_type: int, name: str, operation: ConfigOperation) -> ConfigKey:
    if resource_type == ResourceType.BROKER:
        key = broker_key(name)
        if key is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown config name: {name}")
        complaint = f"Config value {operation.name.lower()} is not allowed for config key: {name}"
    else:
        key = _KEYS[resource_type].get(name)
        complaint = f"Can't {operation.name} to key {name} because its type is not LIST."
    if key is None or key.type is not ConfigType.LIST:
        raise KafkaError(ErrorCode.INVALID_CONFIG, complaint)
    return key


def _validate(
    image: MetadataImage,
    config: BrokerConfig,
    plan: _Plan,
    before: Mapping[str, str],
    settings: Mapping[str, str],
) -> None:
    name = plan.resource_name
    if plan.resource_type == ResourceType.BROKER:
        validate_broker_configs(config, settings, per_broker=name != DEFAULT_BROKER)
    elif plan.resource_type == ResourceType.TOPIC:
        if not name:
            raise _refusal("Default topic resources are not allowed.")
        validate_topic_name(name)
        validate_topic_configs(config, settings, kept=before)
        if name not in image.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
    elif plan.resource_type == ResourceType.GROUP:
        if not name:
            raise _refusal("Default group resources are not allowed.")
        validate_group_configs(config, settings)
    else:
        validate_client_metrics(name, settings)


def _records(plan: _Plan, before: Mapping[str, str], after: Mapping[str, str]) -> list[Any]:
    """The changes; for brokers also what stays the same but was set, because that means: load it again (KAFKA-14136)."""
    again = set(plan.names) if plan.resource_type == ResourceType.BROKER else set()
    return [
        ConfigRecord(
            resource_type=plan.resource_type,
            resource_name=plan.resource_name,
            name=name,
            value=after.get(name),
        )
        for name in (*after, *(name for name in before if name not in after))
        if before.get(name) != after.get(name) or name in again
    ]


def _check_elr(plan: _Plan, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """With eligible leader replicas all brokers, and the controller, have to go by the same `min.insync.replicas`."""
    name = _MIN_INSYNC_REPLICAS
    if plan.resource_type != ResourceType.BROKER or (
        name not in plan.names and (name not in before or name in after)
    ):
        return
    complaint = None
    if plan.resource_name != DEFAULT_BROKER:
        complaint = f"Broker-level {name} cannot be altered while ELR is enabled."
    elif name not in after:
        complaint = f"Cluster-level {name} cannot be removed while ELR is enabled."
    if complaint is not None:
        raise KafkaError(ErrorCode.INVALID_CONFIG, complaint)


def min_insync_replicas_for_elr(image: MetadataImage, config: BrokerConfig) -> list[ConfigRecord]:
    """The records that make `min.insync.replicas` the same for all brokers: a default of the cluster, and nothing else.

    Args:
        image: What is known.
        config: Where the default comes from if the cluster has none: what this node was started with.
    """
    name = _MIN_INSYNC_REPLICAS
    records = []
    if name not in image.config(ResourceType.BROKER, DEFAULT_BROKER):
        value = config.static.get(name, to_text(TOPIC_KEYS[name].default))
        records.append(_setting(DEFAULT_BROKER, value))
    records += [
        _setting(broker, None)
        for (kind, broker), settings in sorted(image.configs.items())
        if kind == ResourceType.BROKER and broker != DEFAULT_BROKER and name in settings
    ]
    return records


def _setting(broker: str, value: str | None) -> ConfigRecord:
    return ConfigRecord(
        resource_type=ResourceType.BROKER, resource_name=broker, name=_MIN_INSYNC_REPLICAS, value=value
    )


def cleared_elr(records: Sequence[Any]) -> list[ClearElrRecord]:
    """The records that forget eligible leader replicas where `min.insync.replicas` changes: they were judged by the old value."""
    topics = {
        record.resource_name if record.resource_type == ResourceType.TOPIC else ""
        for record in records
        if isinstance(record, ConfigRecord) and record.name == _MIN_INSYNC_REPLICAS
    }
    # The empty name means all topics.
    return [ClearElrRecord(topic_name=name) for name in ([""] if "" in topics else sorted(topics))]

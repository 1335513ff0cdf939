"""DescribeConfigs (32), versions 0-4: settings of topics, brokers, groups, client metrics subscriptions, and log levels.

    1   where a value comes from, synonyms      3   documentation, types
    4   flexible

Behaviour: a broker describes itself and, under the empty name, what was set for all brokers; secrets are left out. `keys`
narrows the answer; unknown keys are just not in it. A group or subscription that has no settings has its defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.config.definition import ConfigType, parse_text, to_text
from barnabas.config.describe import (
    ConfigEntry,
    ConfigSource,
    ConfigSynonym,
    describe_broker,
    describe_cluster_default,
    describe_group,
    describe_topic,
)
from barnabas.controller.client_metrics import CLIENT_METRICS_DEFAULTS
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.logger_levels import levels
from barnabas.handlers.replies import MALFORMED, codes
from barnabas.metadata.identifiers import DEFAULT_BROKER, ResourceType
from barnabas.metadata.topic_names import validate_topic_name
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 32


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    """Answers at once."""
    results = []
    for resource in request.resources:
        result = DescribeConfigsResponse.DescribeConfigsResult(
            resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        try:
            entries = _entries(
                broker, resource.resource_type, resource.resource_name, resource.configuration_keys or ()
            )
        except KafkaError as error:
            broker.log_refusal(context, resource.resource_name, error)
            result.error_code, message = codes(error)
            result.error_message = "" if error.message is None else message
        else:
            result.configs = [_config(context, request, resource.resource_type, entry) for entry in entries]
        results.append(result)
    return DescribeConfigsResponse(results=results)


def _entries(
    broker: BrokerServices, resource_type: int, name: str, keys: Collection[str]
) -> list[ConfigEntry]:
    image, config = broker.image, broker.config
    if resource_type == ResourceType.TOPIC:
        validate_topic_name(name)
        if name not in image.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return describe_topic(config, image.topic_config(name), keys)
    if resource_type == ResourceType.BROKER:
        if name == DEFAULT_BROKER:
            return describe_cluster_default(config, keys)
        _check_broker(name, broker.node_id, "expected {} or empty string, but received {}")
        return describe_broker(config, keys)
    if resource_type == ResourceType.BROKER_LOGGER:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
        _check_broker(name, broker.node_id, "expected {} but received {}")
        return [
            ConfigEntry(
                logger,
                level,
                False,
                ConfigSource.DYNAMIC_BROKER_LOGGER_CONFIG,
                False,
                (),
                ConfigType.UNKNOWN,
                "",
            )
            for logger, level in levels().items()
            if not keys or logger in keys
        ]
    if resource_type == ResourceType.GROUP:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
        return describe_group(config, image.config(ResourceType.GROUP, name), keys)
    if resource_type == ResourceType.CLIENT_METRICS:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty")
        return _client_metrics(broker, name, keys)
    raise KafkaError(ErrorCode.INVALID_REQUEST, MALFORMED)


def _check_broker(name: str, node_id: int, expectation: str) -> None:
    try:
        number = int(name)
    except ValueError:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}"
        ) from None
    if number != node_id:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Unexpected broker id, {expectation.format(node_id, name)}"
        )


def _client_metrics(broker: BrokerServices, name: str, keys: Collection[str]) -> list[ConfigEntry]:
    settings = broker.image.config(ResourceType.CLIENT_METRICS, name)
    entries = []
    for key, (default, kind, sentence) in CLIENT_METRICS_DEFAULTS.items():
        if keys and key not in keys:
            continue
        value, source = default, ConfigSource.DEFAULT_CONFIG
        chain: tuple[ConfigSynonym, ...] = ()
        if key in settings:
            value = to_text(parse_text(key, kind, settings[key])) or ""
            source = ConfigSource.CLIENT_METRICS_CONFIG
            chain = (ConfigSynonym(key, value, source),)
        entries.append(ConfigEntry(key, value, False, source, False, chain, kind, sentence))
    return entries


def _config(
    context: RequestContext, request: DescribeConfigsRequest, resource_type: int, entry: ConfigEntry
) -> DescribeConfigsResponse.DescribeConfigsResourceResult:
    result = DescribeConfigsResponse.DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        config_type=entry.type,
        documentation=entry.documentation if request.include_documentation else None,
    )
    if context.api_version == 0:
        # Version 0 does not know where a value comes from: only whether somebody chose it for this very resource.
        if resource_type == ResourceType.TOPIC:
            result.is_default = entry.source != ConfigSource.DYNAMIC_TOPIC_CONFIG
        else:
            result.is_default = entry.source == ConfigSource.DEFAULT_CONFIG
    if request.include_synonyms:
        result.synonyms = [
            DescribeConfigsResponse.DescribeConfigsSynonym(
                name=step.name, value=step.value, source=step.source
            )
            for step in entry.synonyms
        ]
    return result

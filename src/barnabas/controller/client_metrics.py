"""Settings of client metrics subscriptions (KIP-714): which metrics clients are asked to send. Pure.

`handlers.client_telemetry` asks clients accordingly. Refusals: Kafka's `ClientMetricsConfigs`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from barnabas.config.definition import INT, LIST, ConfigType, parse_text
from barnabas.errors import ConfigError, ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLIENT_METRICS_DEFAULTS", "validate_client_metrics"]

CLIENT_METRICS_DEFAULTS: dict[str, tuple[str, ConfigType, str]] = {
    "metrics": ("", LIST, "Prefixes of the names of the metrics that clients are asked for; * for all."),
    "interval.ms": ("300000", INT, "Time between two reports of a client."),
    "match": (
        "",
        LIST,
        "Which clients are asked: name=pattern for their ids, software and addresses; all when empty.",
    ),
}
"""Default, type and one sentence for each key."""

_MATCHED = frozenset(
    {
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    }
)
_INTERVAL_MS = range(100, 3_600_000 + 1)


def validate_client_metrics(name: str, settings: Mapping[str, str]) -> None:
    """Refuses a subscription that cannot be.

    Raises:
        KafkaError: INVALID_REQUEST or INVALID_CONFIG, as Kafka has it for each case.
    """
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Subscription name can't be empty")
    for key in settings:
        if key not in CLIENT_METRICS_DEFAULTS:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {key}")
    if "interval.ms" in settings:
        try:
            interval_ms = parse_text("interval.ms", INT, settings["interval.ms"])
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
        if interval_ms not in _INTERVAL_MS:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                f"Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 hour)",
            )
    for pattern in filter(None, settings.get("match", "").split(",")):
        if not _is_pattern(pattern.strip()):
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Illegal client matching pattern: {pattern.strip()}")


def _is_pattern(pattern: str) -> bool:
    parameter, equals, expression = pattern.partition("=")
    if not (equals and expression) or "=" in expression or parameter.strip() not in _MATCHED:
        return False
    try:
        re.compile(expression.strip())
    except re.error:
        return False
    return True

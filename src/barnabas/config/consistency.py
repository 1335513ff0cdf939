"""Settings that contradict each other, or that only make sense within bounds that their type does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["contradiction"]

_SMALLEST_SEGMENT_BYTES = 1_048_576
"""The least `segment.bytes` of a topic (KIP-1030)."""


def contradiction(values: Mapping[str, Any]) -> str | None:
    """One sentence on the first contradiction among these typed values, or `None`.

    The rules on logs and connections have the words of Kafka's `KafkaConfig`, because `AlterConfigs` answers with them. What `listeners`
    and its relatives say is checked where the addresses are read, in network/.
    """
    if values["log.roll.ms"] < 1:
        return "log.roll.ms must be greater than or equal to 1"
    if values["log.roll.jitter.ms"] < 0:
        return "log.roll.jitter.ms must be greater than or equal to 0"
    if values["log.retention.ms"] == 0:
        return "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"
    if values["max.connections.per.ip"] == 0 and not values["max.connections.per.ip.overrides"]:
        return "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set."
    if values["broker.id"] != values["node.id"]:
        return "broker.id is the old name of node.id; set one of them, or both to the same number."
    if values["group.min.session.timeout.ms"] > values["group.max.session.timeout.ms"]:
        return "group.min.session.timeout.ms must not be greater than group.max.session.timeout.ms."
    for name in ("offsets.topic.segment.bytes", "transaction.state.log.segment.bytes"):
        if values[name] < _SMALLEST_SEGMENT_BYTES:
            return (
                f"{name} must be at least {_SMALLEST_SEGMENT_BYTES}, since no topic can be created with smaller segments and "
                "its coordinator would never be available; raise it, or remove the key."
            )
    return None

"""The settings that consumer groups obey, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from barnabas.config.group import GROUP_BOUNDS, GROUP_KEYS, group_config
from barnabas.coordinators.group.consumer.assignors import ASSIGNORS
from barnabas.errors import ConfigError
from barnabas.metadata.identifiers import ResourceType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage

__all__ = ["ConsumerSettings", "Pace"]

_ASSIGNOR_CLASSES = {
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How often one group's members are heard, and how often they are given something new.

    Attributes:
        session_timeout_ms: Silence after which a member is removed.
        heartbeat_interval_ms: What members are told to keep between heartbeats.
        assignment_interval_ms: At least so long lies between two target assignments.
    """

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    assignment_interval_ms: int = 1_000


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """What holds for the consumer groups of a broker.

    Attributes:
        pace: For groups that have no settings of their own.
        pace_by_group: For those that do.
        max_size: Members that one group may have.
        assignors: By name; the first is the default.
        allows_upgrade: Whether a live classic group may become a consumer group.
        allows_downgrade: Whether a consumer group may become a classic group when its last member of the new protocol goes.
        waiting_heartbeat_interval_ms: What members are told to keep while they wait for partitions, 0 for nothing else.
        regex_refresh_interval_ms: How often patterns are matched anew though no topic was created.
    """

    pace: Pace = field(default_factory=Pace)
    pace_by_group: Mapping[str, Pace] = field(default_factory=dict)
    max_size: int = 2**31 - 1
    assignors: tuple[str, ...] = ("uniform", "range")
    allows_upgrade: bool = True
    allows_downgrade: bool = True
    waiting_heartbeat_interval_ms: int = 0
    regex_refresh_interval_ms: int = 600_000

    def pace_of(self, group_id: str) -> Pace:
        """What holds for one group."""
        return self.pace_by_group.get(group_id, self.pace)

    @classmethod
    def of(cls, config: BrokerConfig, image: MetadataImage) -> ConsumerSettings:
        """The settings that a broker's configuration and those of the groups give.

        Raises:
            ConfigError: An assignor is not one that this broker has.
        """
        policy = config["group.consumer.migration.policy"].lower()
        names = [_ASSIGNOR_CLASSES.get(name, name) for name in config["group.consumer.assignors"]]
        unknown = [name for name in names if name not in ASSIGNORS]
        if unknown:
            raise ConfigError(
                f"group.consumer.assignors: there is no {unknown[0]}, only {' and '.join(ASSIGNORS)}"
            )
        return cls(
            pace=_pace(config, {}),
            pace_by_group={
                name: _pace(config, overrides)
                for (resource_type, name), overrides in image.configs.items()
                if resource_type == ResourceType.GROUP
            },
            max_size=config["group.consumer.max.size"],
            assignors=tuple(dict.fromkeys(names)),
            allows_upgrade=policy in ("bidirectional", "upgrade"),
            allows_downgrade=policy in ("bidirectional", "downgrade"),
            waiting_heartbeat_interval_ms=config["barnabas.group.consumer.waiting.heartbeat.interval.ms"],
            regex_refresh_interval_ms=config["group.consumer.regex.refresh.interval.ms"],
        )


def _pace(config: BrokerConfig, overrides: Mapping[str, str]) -> Pace:
    """A group's own values lie within the broker's bounds, even if these were drawn later."""
    values = group_config(config, {name: text for name, text in overrides.items() if name in GROUP_KEYS})
    if overrides:
        for name, least, greatest in GROUP_BOUNDS:
            if name.startswith("consumer.") and least is not None:
                values[name] = min(max(values[name], config[least]), config[greatest])
    return Pace(
        session_timeout_ms=values["consumer.session.timeout.ms"],
        heartbeat_interval_ms=values["consumer.heartbeat.interval.ms"],
        assignment_interval_ms=values["consumer.assignment.interval.ms"],
    )

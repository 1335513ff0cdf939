"""The settings that group state machines obey, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from barnabas.coordinators.group.consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from barnabas.config.broker import BrokerConfig
    from barnabas.metadata.image import MetadataImage

__all__ = ["GroupSettings"]

_MS_PER_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Each attribute is the broker key of the same name, with a dot for the underscore.

    Attributes:
        group_max_size: Members that one classic group may have.
        group_min_session_timeout_ms: The shortest session timeout that a member may ask for.
        group_max_session_timeout_ms: The longest.
        group_initial_rebalance_delay_ms: How long an empty group waits for more members before its first assignment.
        group_new_member_join_timeout_ms: A member that does not know its id yet waits at most so long for its first
            assignment (Kafka has this as a constant).
        offset_metadata_max_bytes: The longest text that may come with a committed offset.
        offsets_retention_ms: How long offsets outlive their group (`offsets.retention.minutes`).
        offsets_retention_check_interval_ms: How often offsets are looked over.
        consumer: What holds for consumer groups.
        group_max_pending_members: Members of one group that were given an id and have not come back with it
            (`barnabas.pending.members.per.group`).
    """

    group_max_size: int = 2**31 - 1
    group_min_session_timeout_ms: int = 6_000
    group_max_session_timeout_ms: int = 1_800_000
    group_initial_rebalance_delay_ms: int = 0
    group_new_member_join_timeout_ms: int = 300_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 10_080 * _MS_PER_MINUTE
    offsets_retention_check_interval_ms: int = 600_000
    consumer: ConsumerSettings = field(default_factory=ConsumerSettings)
    group_max_pending_members: int = 10_000

    @classmethod
    def of(cls, config: BrokerConfig, image: MetadataImage) -> GroupSettings:
        """The settings that a broker's configuration gives, and those of the groups in the image."""
        return cls(
            consumer=ConsumerSettings.of(config, image),
            group_max_size=config["group.max.size"],
            group_max_pending_members=config["barnabas.pending.members.per.group"],
            group_min_session_timeout_ms=config["group.min.session.timeout.ms"],
            group_max_session_timeout_ms=config["group.max.session.timeout.ms"],
            group_initial_rebalance_delay_ms=config["group.initial.rebalance.delay.ms"],
            offset_metadata_max_bytes=config["offset.metadata.max.bytes"],
            offsets_retention_ms=config["offsets.retention.minutes"] * _MS_PER_MINUTE,
            offsets_retention_check_interval_ms=config["offsets.retention.check.interval.ms"],
        )

"""Which replica a consumer had better read from: one in its own rack (KIP-392).

The leader says so to consumers that tell their rack, where `replica.selector.class` names Kafka's RackAwareReplicaSelector. Replicas that
are not in sync are left out: a consumer would be sent to one that lags, and from there back, again and again.

Source: `ReplicaManager.findPreferredReadReplica` and `RackAwareReplicaSelector` of Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.metadata.image import MetadataImage
    from barnabas.replication.partition import Partition

__all__ = ["ReadReplicas", "is_by_rack"]

BY_RACK = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
LEADER_ALWAYS = "org.apache.kafka.common.replica.LeaderSelector"


def is_by_rack(selector: str | None) -> bool:
    """What `replica.selector.class` means. Raises ConfigError for a class that is not known here."""
    if selector not in (None, "", BY_RACK, LEADER_ALWAYS):
        raise ConfigError(
            f"replica.selector.class must be unset, {LEADER_ALWAYS} or {BY_RACK}, and not {selector}."
        )
    return selector == BY_RACK


class ReadReplicas:
    """See the module.

    Args:
        node_id: This broker.
        image: Gives the cluster as it is now.
    """

    __slots__ = ("_image", "_node_id")

    def __init__(self, node_id: int, image: Callable[[], MetadataImage]) -> None:
        self._node_id = node_id
        self._image = image

    def choose(self, partition: Partition, rack: str, fetch_offset: int) -> int | None:
        """The replica for a consumer in `rack` that reads at `fetch_offset`; None to read here."""
        leading = partition.leading
        if leading is None:
            return None
        brokers = self._image().brokers
        me = brokers.get(self._node_id)
        if me is None or me.rack == rack:
            return None
        near = [
            progress
            for progress in leading.followers.values()
            if progress.node_id in partition.isr
            and progress.log_start_offset <= fetch_offset <= progress.log_end_offset
            and (broker := brokers.get(progress.node_id)) is not None
            and broker.rack == rack
            and broker.is_active
        ]
        if not near:
            return None
        # The one that has most, and of several the one that had it last.
        return max(near, key=lambda progress: (progress.log_end_offset, progress.last_caught_up_ms)).node_id

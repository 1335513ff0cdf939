"""Features whose level a whole cluster agrees on (KIP-584): what this broker supports, and what a new cluster starts with.

A feature stands here once the broker does what the level promises: share groups and streams groups join when they are built. A cluster that has no level of such a feature gets its initial one when a version that knows it
starts. Numbers: `MetadataVersion` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "DEPENDENCIES",
    "ELR_FEATURE",
    "ELR_VERSION",
    "GROUP_VERSION",
    "GROUP_VERSION_FEATURE",
    "INITIAL_FEATURES",
    "METADATA_CHANGES",
    "METADATA_VERSION",
    "METADATA_VERSION_FEATURE",
    "METADATA_VERSION_OF_KAFKA_40",
    "SUPPORTED_FEATURES",
    "TRANSACTION_VERSION",
    "TRANSACTION_VERSION_FEATURE",
]

METADATA_VERSION_FEATURE: Final = "metadata.version"
METADATA_VERSION: Final = 30
"""4.3-IV0."""
METADATA_VERSION_OF_KAFKA_40: Final = 25
"""4.0-IV3."""

TRANSACTION_VERSION_FEATURE: Final = "transaction.version"
TRANSACTION_VERSION: Final = 2
"""Each transaction has an epoch of its own, and partitions join it with their first record (KIP-890)."""

GROUP_VERSION_FEATURE: Final = "group.version"
GROUP_VERSION: Final = 1
"""Consumer groups whose assignment the broker computes (KIP-848)."""

ELR_FEATURE: Final = "eligible.leader.replicas.version"
ELR_VERSION: Final = 1
"""Replicas that left the in-sync ones while too few were left to commit anything may still lead (KIP-966)."""

SUPPORTED_FEATURES: Final[dict[str, tuple[int, int]]] = {
    METADATA_VERSION_FEATURE: (7, METADATA_VERSION),
    TRANSACTION_VERSION_FEATURE: (0, TRANSACTION_VERSION),
    GROUP_VERSION_FEATURE: (0, GROUP_VERSION),
    ELR_FEATURE: (0, ELR_VERSION),
}
"""The lowest and the highest level of each feature that this broker can work at."""

INITIAL_FEATURES: Final[dict[str, int]] = {
    METADATA_VERSION_FEATURE: METADATA_VERSION,
    TRANSACTION_VERSION_FEATURE: TRANSACTION_VERSION,
    GROUP_VERSION_FEATURE: GROUP_VERSION,
    ELR_FEATURE: ELR_VERSION,
}
"""The levels of a new cluster, and of one that a version without the feature made.

Eligible leader replicas are for new clusters only: they change what `min.insync.replicas` of a broker means. `kafka-features upgrade` turns them on
in others.
"""

METADATA_CHANGES: Final = frozenset({7, 8, 11, 13, 14, 15, 17, 23, 30})
"""The levels of `metadata.version` that brought something that a lower level cannot say: there is no way back below them."""

DEPENDENCIES: Final[dict[tuple[str, int], dict[str, int]]] = {
    (ELR_FEATURE, ELR_VERSION): {METADATA_VERSION_FEATURE: 23},
}
"""What other features must have reached before a feature may have a level."""

"""Raising and lowering the levels that a cluster works at (KIP-584, KIP-1022). Pure.

Rules and words of refusal: `FeatureControlManager` and `QuorumFeatures` of Apache Kafka 4.3. Nothing here knows a feature by
name but `metadata.version`: the others are what `metadata.features` says of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.features import (
    DEPENDENCIES,
    METADATA_CHANGES,
    METADATA_VERSION_FEATURE,
    SUPPORTED_FEATURES,
)
from barnabas.wire.messages.metadata.feature_level_record import FeatureLevelRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from barnabas.metadata.image import MetadataImage

__all__ = ["FeatureUpdate", "UpgradeType", "update_features"]


class UpgradeType(IntEnum):
    """By the numbers of the protocol."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    """The level that a feature is to have; 0 takes it away."""

    name: str
    level: int
    upgrade_type: int


def update_features(
    image: MetadataImage, node_id: int, updates: Sequence[FeatureUpdate]
) -> list[FeatureLevelRecord]:
    """The records that change these levels. All of them change or none does.

    Raises:
        KafkaError: INVALID_UPDATE_VERSION, and why.
    """
    latest = {update.name: update for update in updates}
    proposed = {**image.features, **{name: update.level for name, update in latest.items()}}
    records = []
    for update in latest.values():
        _check(image, node_id, update, proposed)
        if image.features.get(update.name, 0) != update.level:
            records.append(FeatureLevelRecord(name=update.name, feature_level=update.level))
    return records


def _check(image: MetadataImage, node_id: int, update: FeatureUpdate, proposed: Mapping[str, int]) -> None:
    name, level, upgrade_type = update
    current = image.features.get(name, 0)
    complaint: str | None = None
    if upgrade_type not in UpgradeType.__members__.values():
        complaint = "The controller does not support the given upgrade type."
    elif level < 0:
        complaint = "A feature version cannot be less than 0."
    else:
        complaint = _unsupported(image, node_id, name, level)
    if complaint is None and level < current and upgrade_type == UpgradeType.UPGRADE:
        complaint = "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
    if complaint is None and level > current and upgrade_type != UpgradeType.UPGRADE:
        complaint = "Can't downgrade to a newer version."
    if complaint is None and name != METADATA_VERSION_FEATURE:
        if name not in SUPPORTED_FEATURES:
            complaint = f"Feature {name} not found."
        else:
            complaint = _missing_dependency(name, level, proposed)
    if complaint is not None:
        raise _refusal(f"Invalid update version {level} for feature {name}. {complaint}")
    if name == METADATA_VERSION_FEATURE and any(level < change <= current for change in METADATA_CHANGES):
        why = (
            "Unsafe metadata downgrade is not supported in this version."
            if upgrade_type == UpgradeType.UNSAFE_DOWNGRADE
            else "Refusing to perform the requested downgrade because it might delete metadata information."
        )
        raise _refusal(f"Unsupported metadata.version downgrade from {current} to {level}. {why}")


def _refusal(message: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_UPDATE_VERSION,
        f"The update failed for all features since the following feature had an error: {message}",
    )


def _unsupported(image: MetadataImage, node_id: int, name: str, level: int) -> str | None:
    """Why some node of the cluster cannot work at a level, if one cannot."""
    nodes = [(f"Local controller {node_id}", SUPPORTED_FEATURES.get(name, (0, 0)))]
    nodes += [
        (f"Broker {broker.id}", broker.features.get(name, (0, 0)))
        for _, broker in sorted(image.brokers.items())
    ]
    for node, (lowest, highest) in nodes:
        if not lowest <= level <= highest:
            if highest == 0:
                return f"{node} does not support this feature."
            return f"{node} only supports versions {lowest}-{highest}"
    return None


def _missing_dependency(name: str, level: int, proposed: Mapping[str, int]) -> str | None:
    for other, least in DEPENDENCIES.get((name, level), {}).items():
        if proposed.get(other, 0) < least:
            return f"{name} could not be set to {level} because it depends on {other} level {least}"
    return None

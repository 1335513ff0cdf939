"""Whose log directories these are: all of one node in one cluster, or the broker does not start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ConfigError
from barnabas.log.meta_properties import MetaProperties
from barnabas.wire.primitives import random_uuid, uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["settle_owner"]


def settle_owner(
    found: Mapping[Path, MetaProperties | None], *, node_id: int, cluster_id: str | None
) -> dict[Path, MetaProperties]:
    """What each directory's `meta.properties` has to say.

    Args:
        found: what they say now; None for a new directory.
        node_id: this broker's.
        cluster_id: the cluster's id where it is known from elsewhere; else that of the directories, or a new one.

    Raises:
        ConfigError: a directory belongs to another node or cluster, or is a copy of another one.
    """
    owners: dict[bytes, Path] = {}
    for path, properties in found.items():
        if properties is None:
            continue
        if properties.node_id != node_id:
            raise ConfigError(
                f"{path} belongs to node {properties.node_id}, and this is node {node_id}; start it with "
                f"node.id={properties.node_id}, or give it another data directory."
            )
        if properties.cluster_id and cluster_id and properties.cluster_id != cluster_id:
            raise ConfigError(
                f"{path} belongs to cluster {properties.cluster_id}, and this broker to cluster {cluster_id}; give it "
                "another data directory."
            )
        cluster_id = cluster_id or properties.cluster_id
        if properties.directory_id is not None:
            other = owners.setdefault(properties.directory_id, path)
            if other != path:
                raise ConfigError(
                    f"{other} and {path} have the same directory.id; one is a copy: move it away."
                )
    cluster_id = cluster_id or uuid_to_text(random_uuid())
    return {
        path: MetaProperties(cluster_id, node_id, (properties and properties.directory_id) or random_uuid())
        for path, properties in found.items()
    }

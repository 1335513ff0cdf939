"""Whose path this is: that of a cluster of ours, or of nobody yet, in which case it becomes ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.store.zookeeper.layout import CLUSTER, FORMAT, decode_cluster, skeleton
from barnabas.controller.store.zookeeper.znodes import Create, NodeExistsError, NoNodeError
from barnabas.errors import StorageError

if TYPE_CHECKING:
    from barnabas.controller.store.zookeeper.session import Session
    from barnabas.controller.store.zookeeper.znodes import ZNodes

__all__ = ["check_cluster", "settle_cluster"]


async def settle_cluster(session: Session, own: str, where: str) -> str:
    """The id of the cluster that lies here, which is `own` from now on if there was none.

    Args:
        session: ZooKeeper.
        own: The id of a new cluster.
        where: What the place is called in complaints.

    Raises:
        StorageError: Something else than a cluster of ours lies here.
        ZooKeeperError: As `ZNodes`.
        DecodeError: What lies here is damaged.
    """
    await session.ensure_root()
    while True:
        try:
            return await _read(session, where)
        except NoNodeError:
            pass
        try:
            await session.commit([Create(path, data) for path, data in skeleton(own)])
        except NodeExistsError as error:
            if await session.exists(CLUSTER):
                continue
            raise StorageError(
                f"{where} holds something else ({error}): give this cluster a path of its own in zookeeper.connect"
            ) from error


async def check_cluster(nodes: ZNodes, cluster_id: str, where: str) -> None:
    """A ZooKeeper that lost its data, or another one behind the same address, must not be followed.

    Raises:
        StorageError: It is not the cluster `cluster_id` any more that lies here.
        ZooKeeperError: As `ZNodes`.
        DecodeError: What lies here is damaged.
    """
    try:
        found = await _read(nodes, where)
    except NoNodeError:
        found = None
    if found != cluster_id:
        raise StorageError(
            f"{where} holds {'no cluster' if found is None else f'cluster {found}'} any more, "
            f"and this broker is of {cluster_id}: bring its data back"
        )


async def _read(nodes: ZNodes, where: str) -> str:
    node = await nodes.get(CLUSTER)
    if not node.data:
        raise StorageError(
            f"{where} belongs to an Apache Kafka: give this cluster a path of its own in zookeeper.connect"
        )
    cluster_id, version = decode_cluster(node.data)
    if version > FORMAT:
        raise StorageError(
            f"{where} has format {version}, and this version knows {FORMAT} at most: upgrade this broker"
        )
    return cluster_id

"""Who writes the log: whoever holds `/controller`, an ephemeral node, in the epoch that `/controller_epoch` counts.

Both are taken in one transaction, so that each epoch has one writer, and `/controller_epoch` gets a new version with every one.
That version is what fences: all that a controller writes is in transactions that check it, so that nothing of a controller
that lost its office, and does not know it yet, can come after anything of the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.controller.store.zookeeper.layout import (
    CONTROLLER,
    CONTROLLER_EPOCH,
    Leader,
    decode_leader,
    encode_leader,
)
from barnabas.controller.store.zookeeper.znodes import (
    Check,
    Create,
    Delete,
    NodeExistsError,
    NoNodeError,
    SetData,
    VersionConflictError,
)
from barnabas.errors import DecodeError

if TYPE_CHECKING:
    from barnabas.controller.store.zookeeper.znodes import Watch, ZNodes

__all__ = ["Reign", "find_leader", "office_of", "resign", "resign_for"]


class Reign(NamedTuple):
    """The right to write.

    Attributes:
        epoch: The controller epoch.
        version: That of the node that counts them; it is another as soon as somebody else reigns.
    """

    epoch: int
    version: int

    @property
    def fence(self) -> Check:
        """What every transaction of this reign begins with."""
        return Check(CONTROLLER_EPOCH, self.version)


async def find_leader(nodes: ZNodes, node_id: int, watch: Watch) -> tuple[Leader, Reign | None]:
    """Who leads; this node does, from now on, if nobody else did.

    Args:
        nodes: ZooKeeper.
        node_id: This node.
        watch: Called when the leader changes.

    Returns:
        The leader, which is nobody (-1) where it is a process that had this node's id before and whose session is not over
        yet; and the reign, if it is ours.
    """
    while True:
        try:
            node = await nodes.get(CONTROLLER, watch)
        except NoNodeError:
            await _claim(nodes, node_id)
            continue
        leader = decode_leader(node.data)
        if leader.node_id != node_id:
            return leader, None
        if node.owner != nodes.session_id:
            return Leader(-1, leader.epoch), None
        epoch = await nodes.get(CONTROLLER_EPOCH)
        # As long as the node is ours nobody else counts.
        if _decode_epoch(epoch.data) == leader.epoch:
            return leader, Reign(leader.epoch, epoch.version)


async def _claim(nodes: ZNodes, node_id: int) -> None:
    """Takes the office, if nobody is quicker."""
    node = await nodes.get(CONTROLLER_EPOCH)
    epoch = _decode_epoch(node.data) + 1
    try:
        await nodes.commit(
            [
                Create(CONTROLLER, encode_leader(Leader(node_id, epoch)), ephemeral=True),
                SetData(CONTROLLER_EPOCH, str(epoch).encode(), node.version),
            ]
        )
    except (NodeExistsError, VersionConflictError):
        return


async def resign(nodes: ZNodes) -> None:
    """Leaves the office to somebody else."""
    await resign_for(nodes, nodes.session_id)


async def resign_for(nodes: ZNodes, owner: int) -> None:
    """Takes the office from a session that is known to be of no use any more."""
    try:
        office = await office_of(nodes, owner)
        if office:
            await nodes.commit(office)
    except (NoNodeError, VersionConflictError):
        return


async def office_of(nodes: ZNodes, owner: int) -> list[Delete]:
    """What takes the office from this session, if it has it."""
    try:
        node = await nodes.get(CONTROLLER)
    except NoNodeError:
        return []
    return [Delete(CONTROLLER, node.version)] if node.owner == owner else []


def _decode_epoch(data: bytes) -> int:
    if not data.isdigit():
        raise DecodeError(f"{CONTROLLER_EPOCH} is no number: {data[:100]!r}")
    return int(data)

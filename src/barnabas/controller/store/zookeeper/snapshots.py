"""Snapshots of the metadata as znodes: written by the controller, fenced as all that it writes, and valid once the pointer names them.

The snapshot before the newest one is kept too, and the log from there on: whoever is reading one or the other can finish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barnabas.controller.store.batches import decode_snapshot
from barnabas.controller.store.zookeeper.layout import (
    LOG,
    SNAPSHOT,
    SnapshotPointer,
    chunk_offset,
    decode_pointer,
    decode_snapshot_name,
    encode_pointer,
    piece_path,
    snapshot_path,
)
from barnabas.controller.store.zookeeper.log import delete_quietly, pieces
from barnabas.controller.store.zookeeper.znodes import Create, NodeExistsError, NoNodeError, SetData

if TYPE_CHECKING:
    from barnabas.controller.store.zookeeper.election import Reign
    from barnabas.controller.store.zookeeper.znodes import ZNodes

__all__ = ["read_pointer", "read_snapshot", "trim", "write_snapshot"]


async def read_pointer(nodes: ZNodes) -> SnapshotPointer | None:
    """The newest whole snapshot, if there is any."""
    return decode_pointer((await nodes.get(SNAPSHOT)).data)


async def read_snapshot(nodes: ZNodes) -> tuple[SnapshotPointer, list[Any]] | None:
    """The newest snapshot and its records, if there is any.

    Raises:
        DecodeError: It is damaged.
    """
    seen = None
    while (pointer := await read_pointer(nodes)) is not None:
        path = snapshot_path(pointer.next_offset, pointer.epoch)
        try:
            parts = [(await nodes.get(piece_path(path, piece))).data for piece in range(pointer.pieces)]
        except NoNodeError:
            if pointer == seen:
                raise
            seen = pointer  # two newer ones were written while we read
            continue
        return pointer, decode_snapshot(b"".join(parts))
    return None


async def write_snapshot(
    nodes: ZNodes, reign: Reign, content: bytes, *, next_offset: int, epoch: int
) -> SnapshotPointer:
    """Makes these bytes the newest snapshot.

    Raises:
        VersionConflictError: The reign is over.
        ZooKeeperError: As `ZNodes`; then it does not count.
    """
    before = await read_pointer(nodes)
    if before is not None and (before.next_offset, before.epoch) == (next_offset, epoch):
        return before
    path = snapshot_path(next_offset, epoch)
    try:
        await nodes.commit([reign.fence, Create(path)])
    except NodeExistsError:  # an attempt that was not finished
        await delete_quietly(nodes, [f"{path}/{name}" for name in await nodes.children(path)])
    parts = pieces(content)
    for number, part in enumerate(parts):
        await nodes.commit([reign.fence, Create(piece_path(path, number), part)])
    previous = None if before is None else (before.next_offset, before.epoch)
    pointer = SnapshotPointer(next_offset, epoch, len(parts), len(content), previous)
    await nodes.commit([reign.fence, SetData(SNAPSHOT, encode_pointer(pointer))])
    return pointer


async def trim(nodes: ZNodes, pointer: SnapshotPointer) -> int:
    """Deletes what the snapshot before `pointer` made superfluous; gives the number of log nodes that are gone."""
    kept = min((pointer.next_offset, pointer.epoch), pointer.previous or (pointer.next_offset, pointer.epoch))
    for name in await nodes.children(SNAPSHOT):
        if decode_snapshot_name(name) < kept:
            path = f"{SNAPSHOT}/{name}"
            try:
                await delete_quietly(nodes, [f"{path}/{piece}" for piece in await nodes.children(path)])
            except NoNodeError:
                continue
            await delete_quietly(nodes, [path])
    if pointer.previous is None:
        return 0
    names = await nodes.children(LOG)
    bases = sorted({chunk_offset(name) for name in names})
    # A chunk is needed as long as the next one begins behind what is in the snapshot.
    needed = max((base for base in bases if base <= pointer.previous[0]), default=0)
    unneeded = [f"{LOG}/{name}" for name in names if chunk_offset(name) < needed]
    await delete_quietly(nodes, unneeded)
    return len(unneeded)

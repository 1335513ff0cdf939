"""The end of a session, as ZooKeeper brings it about for a node that it has not heard of."""

from __future__ import annotations

import asyncio

from kazoo.client import KazooClient


async def expire(node, server):
    """Ends a node's session on the server, behind its back."""
    theirs = node.store._session._client

    def end():
        again = KazooClient(hosts=server.address, client_id=theirs.client_id, timeout=2)
        again.start(10)
        again.stop()
        again.close()

    await asyncio.to_thread(end)

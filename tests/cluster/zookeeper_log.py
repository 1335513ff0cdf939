"""A metadata log in a real ZooKeeper, in the place of a `SharedLog`."""

from __future__ import annotations

from barnabas.controller.store.zookeeper.session import SessionSettings
from barnabas.controller.store.zookeeper.store import ZooKeeperStore


class ZooKeeperLog:
    """Makes the stores of a `Cluster`, and knows who leads."""

    def __init__(self, hosts, root, *, session_timeout_ms=4_000):
        self._settings = SessionSettings(hosts, root, session_timeout_ms=session_timeout_ms)
        self.stores = {}

    def store(self, config, clock, loop):
        """What `Broker(shared_store=...)` takes."""
        made = ZooKeeperStore(self._settings, node_id=config["node.id"], clock=clock, loop=loop)
        self.stores[config["node.id"]] = made
        return made

    @property
    def leader(self):
        """The node that leads the log and knows it, or -1."""
        return next(
            (node_id for node_id, store in self.stores.items() if store._writer.reign is not None), -1
        )

    def cut_off(self, node_id):
        """What is killed ends its session with its connection, as far as the others can see."""
        del self.stores[node_id]

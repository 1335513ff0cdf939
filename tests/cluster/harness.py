"""Several real brokers in one process, on real sockets, around one `SharedLog`.

async with Cluster(tmp_path, 3) as cluster:
    await cluster.create_topic("orders", 4, 3)
    leader = cluster.leader("orders", 0)
    await cluster.kill(leader)
    await cluster.start(leader)
"""

from __future__ import annotations

import asyncio

from barnabas.broker import Broker
from barnabas.config.broker import BrokerConfig
from tests.cluster.shared_store import SharedLog
from tests.event_loops import eventually
from tests.stream_client import StreamClient
from tests.topic_requests import create_topics

SETTINGS = {
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "broker.heartbeat.interval.ms": 100,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
}


class Cluster:
    """`count` brokers with the ids 1, 2, 3, …; see the module. Settings with underscores for dots.

    `log` is what makes their stores, if not a `SharedLog`; `disks` is how many log directories each has.
    """

    def __init__(self, directory, count=3, *, log=None, disks=1, **settings):
        self.directory = directory
        self.log = log or SharedLog()
        self.brokers = {}
        self.node_ids = range(1, count + 1)
        self._disks = disks
        self._settings = settings
        self._connections = {}

    async def __aenter__(self):
        for node_id in self.node_ids:
            await self.start(node_id)
        return self

    async def __aexit__(self, *_):
        for connection in self._connections.values():
            await connection.close()
        for node_id in list(self.brokers):
            await self.stop(node_id)

    def log_dirs(self, node_id):
        """Where a broker keeps its logs."""
        place = self.directory / f"broker-{node_id}"
        return [place] if self._disks == 1 else [place / f"disk-{number}" for number in range(self._disks)]

    def config(self, node_id, **settings):
        """The settings of one broker."""
        count = str(min(3, len(self.node_ids) or 3))
        own = {name.replace("_", "."): str(value) for name, value in (self._settings | settings).items()}
        return BrokerConfig(
            {
                **{name: str(value) for name, value in SETTINGS.items()},
                "offsets.topic.replication.factor": count,
                "transaction.state.log.replication.factor": count,
                "node.id": str(node_id),
                "log.dirs": ",".join(map(str, self.log_dirs(node_id))),
                **own,
            }
        )

    async def start(self, node_id, **settings):
        """Starts a broker, for the first time or again."""
        broker = Broker(self.config(node_id, **settings), shared_store=self.log.store)
        await broker.start()
        self.brokers[node_id] = broker
        return broker

    async def stop(self, node_id):
        """Stops a broker in order."""
        await self._forget(node_id)
        await self.brokers.pop(node_id).stop()

    async def kill(self, node_id):
        """A broker is gone at once, for the cluster: it says goodbye to nobody and hands nothing over."""
        await self._forget(node_id)
        self.log.cut_off(node_id)
        broker = self.brokers.pop(node_id)
        await broker.stop(in_order=False)

    async def _forget(self, node_id):
        connection = self._connections.pop(node_id, None)
        if connection is not None:
            await connection.close()

    # ----- looking

    def image(self, node_id=None):
        """What a broker knows; the one that leads the metadata log, if none is named."""
        if node_id is None:
            # Where an election is under way, any.
            node_id = self.log.leader if self.log.leader in self.brokers else next(iter(self.brokers))
        return self.brokers[node_id]._controller.image

    def partition(self, topic, index, node_id=None):
        """A partition as a broker knows it, or None."""
        return self.image(node_id).partition(topic, index)

    def leader(self, topic, index):
        """Who leads a partition."""
        return self.partition(topic, index).leader

    def replica(self, node_id, topic, index):
        """A partition as a broker hosts it (`replication.partition.Partition`), or None."""
        return self.brokers[node_id]._replicas.get(topic, index)

    async def agree(self, condition, what="the brokers' images"):
        """Waits until `condition(image)` holds on every broker."""
        await eventually(
            lambda: all(condition(broker._controller.image) for broker in self.brokers.values()), what=what
        )

    def bootstrap(self):
        """`host:port,…` for clients."""
        return ",".join("{}:{}".format(*broker.addresses["PLAINTEXT"]) for broker in self.brokers.values())

    # ----- asking

    async def call(self, node_id, request, version=None):
        """A broker's answer, over a connection that is kept."""
        if node_id not in self._connections:
            self._connections[node_id] = await self.connect(node_id)
        return await self._connections[node_id].call(request, version)

    async def connect(self, node_id):
        """A new connection; whoever asked for it closes it."""
        return StreamClient(*await asyncio.open_connection(*self.brokers[node_id].addresses["PLAINTEXT"]))

    async def create_topic(self, name, partitions=1, replicas=3, *, assignments=None, at=None, **configs):
        """Creates a topic, asking any broker, and waits until all know it."""
        request = create_topics([name], partitions, replicas, assignments=assignments, **configs)
        node_id = next(iter(self.brokers)) if at is None else at
        (created,) = (await self.call(node_id, request)).topics
        assert created.error_code == 0, (created.error_code, created.error_message)
        await self.agree(lambda image: name in image.topics, f"topic {name} on all brokers")

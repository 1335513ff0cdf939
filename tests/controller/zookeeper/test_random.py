"""Several stores around one ZooKeeper, and whatever may happen to them, in any order that a seed gives.

BARNABAS_ZOOKEEPER_SEED and BARNABAS_ZOOKEEPER_SEEDS say with which seed to begin, and how many to try.
"""

import asyncio
import os
import random
from contextlib import AsyncExitStack

import pytest

from barnabas.errors import ErrorCode, KafkaError
from tests.controller.zookeeper.expiry import expire
from tests.controller.zookeeper.nodes import Follower, Node, registration, setting
from tests.controller.zookeeper.wire import Wire
from tests.event_loops import eventually

NODES = (1, 2, 3)

ON_A_NODE = ("cut", "mute", "drop", "mend", "expire", "close", "open")


def steps(seed):
    """What happens, drawn from a seed: half of it appends."""
    chance = random.Random(seed)
    for _ in range(chance.randint(8, 25)):
        match chance.random():
            case share if share < 0.4:
                yield "append", chance.randint(1, 12)
            case share if share < 0.95:
                yield chance.choice(ON_A_NODE), chance.choice(NODES)
            case _:
                yield "settle", 0


class Watcher(Follower):
    """Also holds against each other what all nodes were told."""

    def __init__(self, history):
        super().__init__()
        self.history = history

    def on_commit(self, records, offset, epoch):
        super().on_commit(records, offset, epoch)
        for number, record in enumerate(records):
            at = offset - len(records) + 1 + number
            assert self.history.setdefault(at, record.name) == record.name, f"two records at offset {at}"

    def on_leadership(self, leader_id, epoch):
        if leader_id != -1:
            known = self.history.setdefault(("epoch", epoch), leader_id)
            assert known == leader_id, f"{known} and {leader_id} lead in epoch {epoch}"
        super().on_leadership(leader_id, epoch)


class Play:
    """Three nodes, each with a wire of its own."""

    def __init__(self, server, root, loop):
        self.server, self.root, self.loop = server, root, loop
        self.wires, self.nodes = {}, {}
        self.history = {}
        self.appends = []
        self.number = 0

    async def open(self, node_id):
        if node_id in self.nodes:
            return
        self.wires[node_id].mend()
        node = Node(
            node_id,
            hosts=self.wires[node_id].address,
            loop=self.loop,
            root=self.root,
            session_timeout_ms=1_500,
            append_timeout_ms=1_000,
            snapshot_chunks=6,
        )
        store = node.store
        node.follower = Watcher(self.history)
        node.follower.store = store
        self.nodes[node_id] = await node.open()
        await store.register(registration(node_id))

    async def step(self, what, argument):
        match what:
            case "append":
                leader = next((node for node in self.nodes.values() if node.leads), None)
                for _ in range(argument if leader else 0):
                    self.number += 1
                    records = [setting(f"{self.number}-{piece}") for piece in range(1 + self.number % 3)]
                    self.appends.append((records, leader.store.append(records)))
                await asyncio.sleep(0)
            case "cut" | "mute" | "drop" | "mend":
                getattr(self.wires[argument], what)()
            case "expire" if argument in self.nodes:
                await expire(self.nodes[argument], self.server)
            case "close" if argument in self.nodes:
                await self.nodes.pop(argument).store.close()
            case "open":
                await self.open(argument)
            case "settle":
                await self.settle()

    async def settle(self):
        """Everything works again: somebody leads, an append gets through, and all know the same."""
        for wire in self.wires.values():
            wire.mend()
        for node_id in NODES:
            await self.open(node_id)

        def leader():
            return next((node for node in self.nodes.values() if node.leads), None)

        while True:
            await eventually(leader, 30, "somebody leads")
            try:
                last = await leader().append(setting("settled"))
                break
            except KafkaError as error:
                if error.code not in (ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT):
                    raise
        for node in self.nodes.values():
            await node.until_it_knows(last)
            await node.until_it_sees(*NODES)
        first, *others = (node.settings for node in self.nodes.values())
        assert all(other == first for other in others)
        for records, future in self.appends:
            assert future.done()
            error = None if future.cancelled() else future.exception()
            if error is None:
                names = [self.history[future.result() - len(records) + 1 + n] for n in range(len(records))]
                assert names == [record.name for record in records], "what was acknowledged is somewhere else"
                assert all(record.name in first for record in records)
            else:
                assert isinstance(error, KafkaError)
                if error.code is ErrorCode.NOT_CONTROLLER:
                    written = {record.name for record in records}.intersection(self.history.values())
                    assert not written, "what was refused is in the log"
        placed = [name for at, name in self.history.items() if isinstance(at, int) and name != "key-settled"]
        assert len(placed) == len(set(placed)), "something was written twice"


async def play(server, root, steps, loop):
    async with AsyncExitStack() as stack:
        run = Play(server, root, loop)
        for node_id in NODES:
            run.wires[node_id] = await stack.enter_async_context(Wire(server.port))
        try:
            for node_id in NODES:
                await run.open(node_id)
            for what, argument in steps:
                await run.step(what, argument)
            await run.settle()
        finally:
            for node in run.nodes.values():
                await node.store.close()
            for _, future in run.appends:
                if future.done() and not future.cancelled():
                    future.exception()


SEED = int(os.environ.get("BARNABAS_ZOOKEEPER_SEED", "1"))
COUNT = int(os.environ.get("BARNABAS_ZOOKEEPER_SEEDS", "6"))


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
async def test_whatever_happens_all_nodes_tell_the_same(server, root, loop, seed):
    """One order of records, one leader in each epoch, nothing that was acknowledged is lost, nothing is there twice."""
    await play(server, root, list(steps(seed)), loop)

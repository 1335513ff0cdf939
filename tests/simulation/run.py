"""One run of a simulated cluster: brokers, clients and faults, all from one seed.

python -m tests.simulation SEED [SEED ...]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.update_features import UpdateFeaturesRequest
from tests.simulation.checks import check_history, check_replicas, check_transactions
from tests.simulation.clients import Client, Committer, History, Producer, Reader
from tests.simulation.faults import Faults
from tests.simulation.moving import Mover
from tests.simulation.transactions import TransactionalProducer
from tests.simulation.world import World

__all__ = ["Simulation", "simulate"]

TOPICS = {"orders": 3, "payments": 2, "notes": 1}
LOOK_S = 0.25


class Simulation:
    """See the module.

    Args:
        seed: Decides everything.
        directory: Where the disks are.
        seconds: Of simulated time, with faults.
    """

    def __init__(self, seed, directory, *, seconds=10.0, brokers=None):
        world = self.world = World(seed, directory, brokers=brokers or (3, 3, 3, 4, 5)[seed % 5])
        self.seconds = seconds
        history = self.history = History()
        self.committed = History()
        orders, payments, notes = TOPICS.values()
        self.clients = [
            Producer(world, "p1", "orders", orders, history),
            Producer(world, "p2", "orders", orders, history),
            Producer(world, "p3", "notes", notes, history),
            Reader(world, "r1", "orders", orders, history),
            Reader(world, "r2", "payments", payments, self.committed, isolation_level=1),
            Committer(world, "g1", "orders", history),
            Committer(world, "g2", "orders", history),
            TransactionalProducer(world, "t1", "payments", payments, history, transactional_id="t"),
            TransactionalProducer(world, "t2", "payments", payments, history, transactional_id="u"),
            TransactionalProducer(
                world, "t3", "payments", payments, history, transactional_id="t", rest_s=5.0
            ),
        ]
        self.mover = Mover(world, "m1", TOPICS)

    def run(self):
        """AssertionError if anything is not as it has to be."""
        world = self.world
        with world:
            for host in world.hosts.values():
                host.start()
            world.run_until(lambda: all(host.serves for host in world.hosts.values()), 60, "the start")
            admin = Client(world, "admin")
            world.run(self.create_topics(admin), admin.node)
            for client in (*self.clients, self.mover):
                client.start()
            watch = world.spawn(None, self.watch(), "the ledger")
            faults = self.faults = Faults(world, self.clients)
            world.run(faults.work(self.seconds))
            world.trace("----- everything is mended")
            faults.mend()
            self.mover.stops = True
            world.loop.call_later(16.0, faults.mend)
            world.loop.call_later(21.0, faults.mend)
            world.run_until(self.is_whole, 120, "all replicas being in sync again")
            world.whole_since_s = world.loop.time()
            world.run(asyncio.sleep(1))
            for client in self.clients:
                client.stops = True
            world.run_until(
                lambda: all(client.task.done() for client in self.clients), 120, "the clients' end"
            )
            world.run_until(self.is_whole, 60, "all replicas being in sync in the end")
            # What a client left open when it was stopped hides all that is behind it until its time is up.
            world.run_until(self.is_decided, 60, "the end of all transactions")
            watch.cancel()
            world.ledger.look()
            for topic, count in TOPICS.items():
                check_history(world, topic, count, self.history)
            check_transactions(world, "payments", TOPICS["payments"], self.history, self.committed)
            world.run_until(lambda: self.is_whole(same_end=True), 60, "all replicas having the same")
            check_replicas(world, TOPICS)
            world.raise_failures()

    async def create_topics(self, client):
        temper = self.world.temper
        update = UpdateFeaturesRequest.FeatureUpdateKey(
            feature="eligible.leader.replicas.version",
            max_version_level=int(temper.has_elr),
            upgrade_type=1 if temper.has_elr else 2,
        )
        answer = await client.ask(1, UpdateFeaturesRequest(feature_updates=[update]), 2, timeout_ms=20_000)
        assert not answer.error_code, answer
        in_sync = CreateTopicsRequest.CreatableTopicConfig(
            name="min.insync.replicas", value=str(temper.min_insync_replicas)
        )
        request = CreateTopicsRequest(
            topics=[
                CreateTopicsRequest.CreatableTopic(
                    name=name,
                    num_partitions=count,
                    replication_factor=3,
                    configs=[in_sync] if name == "notes" else [],
                )
                for name, count in TOPICS.items()
            ],
            timeout_ms=20_000,
        )
        answer = await client.ask(1, request, timeout_ms=20_000)
        assert not any(topic.error_code for topic in answer.topics), answer

    async def watch(self):
        while True:
            await asyncio.sleep(LOOK_S)
            self.world.ledger.look()

    def is_whole(self, *, same_end=False):
        """All brokers serve, all replicas are in sync, as all brokers know."""
        hosts = self.world.hosts.values()
        if not all(host.serves and not host.node.is_paused for host in hosts):
            return False
        for host in hosts:
            image = host.broker._controller.image
            for topic in image.topics.values():
                for partition in topic.partitions:
                    if len(partition.isr) < len(partition.replicas) or partition.leader < 0:
                        return False
                    if partition.adding_replicas or partition.removing_replicas:
                        return False
        if not same_end:
            return True
        for topic, count in TOPICS.items():
            for index in range(count):
                replicas = [host.broker._replicas.get(topic, index) for host in hosts]
                ends = {
                    (each.log.log_end_offset, each.high_watermark) for each in replicas if each is not None
                }
                if len(ends) > 1 or any(end != high_watermark for end, high_watermark in ends):
                    return False
        return True

    def is_decided(self):
        """No transaction is open anywhere."""
        replicas = (
            host.broker._replicas.get("payments", index)
            for host in self.world.hosts.values()
            for index in range(TOPICS["payments"])
        )
        return all(
            each.last_stable_offset == each.high_watermark
            for each in replicas
            if each is not None and each.is_leader
        )


def simulate(seed, *, seconds=10.0, lines=400):
    """Runs one seed; AssertionError with the end of the trace where something is not as it has to be."""
    # Coroutines of processes that crashed are collected some time, and can do nothing about it.
    sys.unraisablehook = lambda _: None
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        simulation = Simulation(seed, Path(directory), seconds=seconds)
        try:
            simulation.run()
        except BaseException as error:
            world = simulation.world
            trace = "\n".join(list(world.lines)[-lines:])
            raise AssertionError(
                f"seed {seed} at {world.loop.time():.3f}: {type(error).__name__}: {error}\n"
                f"{len(world.hosts)} brokers, {world.temper}\n{trace}"
            ) from error
        return simulation

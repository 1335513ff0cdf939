"""A whole cluster in one process: brokers on simulated disks, a simulated network, a simulated store, and clients.

    with World(seed, directory) as world:
        world.run(60.0)

Everything that happens is decided by the seed; `trace` tells what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import shutil
import traceback
from collections import deque
from unittest import mock

from barnabas.broker import Broker, Surroundings
from barnabas.config.broker import BrokerConfig
from barnabas.controller import controller as controller_module
from barnabas.errors import BarnabasError, DiskFullError
from barnabas.log.group_commit import GroupCommit
from barnabas.replication.leading import Leading
from tests.durability.failing_power import Disk, FailingPowerFiles
from tests.simulation.clients import ViolationError
from tests.simulation.ledger import Ledger
from tests.simulation.loop import NODE, Node, SimulatedLoop
from tests.simulation.network import Network, SimulatedServer
from tests.simulation.store import Ensemble
from tests.simulation.temper import Temper

__all__ = ["Host", "World"]

EPOCH_MS = 1_750_000_000_000
PORT = 9092

SETTINGS = {
    "broker.heartbeat.interval.ms": 500,
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "num.partitions": 3,
    "offsets.topic.num.partitions": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.num.partitions": 2,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "replica.socket.timeout.ms": 3000,
    "controller.socket.timeout.ms": 3000,
    "group.initial.rebalance.delay.ms": 0,
    "log.flush.offset.checkpoint.interval.ms": 1000,
    "log.cleaner.enable": "false",
}


class SimulatedClock:
    """A node's clocks; the wall clock can be wrong."""

    def __init__(self, loop):
        self._loop = loop
        self.skew_ms = 0

    def now_ms(self):
        return EPOCH_MS + int(self._loop.time() * 1000) + self.skew_ms

    def monotonic_ms(self):
        return self._loop.time() * 1000


class SimulatedGroupCommit(GroupCommit):
    """Syncs when simulated time says so, in place of threads."""

    def __init__(self, loop, threads):
        super().__init__(loop, threads)
        self._jobs = _Jobs(loop, self)

    def _start_threads(self):
        pass


class _Jobs:
    def __init__(self, loop, owner):
        self._loop = loop
        self._owner = owner
        self._queue = deque()
        self._has_given = False

    def put(self, job):
        self._queue.append(job)
        self._loop.call_later(self._loop.work_s(), self._owner._work)

    def get(self):
        """One job for each call of `_work`, which asks until there is none."""
        self._has_given = not self._has_given
        return self._queue.popleft() if self._has_given and self._queue else None


class SimulatedFiles(FailingPowerFiles):
    """Files on a disk that may be full."""

    def private(self):
        return SimulatedFiles(self.disk, 8)

    def write_at(self, file, position, data, size=None):
        if getattr(self.disk, "is_full", False):
            raise DiskFullError(errno.ENOSPC, f"cannot write to {file.path}: no space left on device")
        super().write_at(file, position, data, size)


class SimulatedSurroundings(Surroundings):
    """What a broker of a `World` touches."""

    def __init__(self, host, node):
        self._host = host
        self._node = node

    def open_files(self, max_open):
        self._host.files = SimulatedFiles(self._host.disk, max_open)
        return self._host.files

    def open_group_commit(self, loop, threads):
        return SimulatedGroupCommit(loop, threads)

    def open_server(self, loop, clock, limits, metrics):
        return SimulatedServer(self._host.world.network, self._node, limits)


class Host:
    """A machine with a disk, on which a broker runs, life after life."""

    def __init__(self, world, node_id):
        self.world = world
        self.node_id = node_id
        self.name = f"n{node_id}"
        self.life = 0
        self.node = None
        self.broker = None
        self.files = None
        self.task = None
        self.clock = SimulatedClock(world.loop)
        self.disk = self._new_disk()

    def _path(self):
        return self.world.directory / f"{self.name}-{self.life}"

    def _new_disk(self):
        path = self._path()
        path.mkdir(parents=True)
        return Disk(path)

    @property
    def is_up(self):
        """Its process runs, even if it is paused."""
        return self.node is not None

    @property
    def serves(self):
        return self.broker is not None and self.is_up

    def config(self):
        return BrokerConfig(
            {
                **{name: str(value) for name, value in (SETTINGS | self.world.temper.settings).items()},
                "node.id": str(self.node_id),
                "listeners": f"PLAINTEXT://{self.name}:{PORT}",
                "advertised.listeners": f"PLAINTEXT://{self.name}:{PORT}",
                "log.dirs": str(self._path() / "data"),
            }
        )

    def start(self):
        """A process begins; it is tried again until it serves."""
        assert not self.is_up
        self.node = Node(self.name)
        self.world.trace("%s starts", self.name)
        self.task = self.world.spawn(self.node, self._start(self.node), f"{self.name} runs")

    async def _start(self, node):
        for _ in range(100):
            broker = Broker(
                self.config(),
                clock=self.clock,
                shared_store=self.world.ensemble.store,
                surroundings=SimulatedSurroundings(self, node),
            )
            try:
                await broker.start()
            except BarnabasError as error:
                self.world.trace("%s cannot start: %s", self.name, error)
                await asyncio.sleep(0.5)
                continue
            self.broker = broker
            self.world.trace("%s serves", self.name)
            return
        raise AssertionError(f"{self.name} does not start")

    def crash(self, *, loses_power):
        """The process ends at once; with the power, what was not synced may go too."""
        self.world.ledger.before_crash(self, loses_power=loses_power)
        self.world.trace("%s %s", self.name, "loses its power" if loses_power else "is killed")
        node, self.node, self.broker = self.node, None, None
        self.world.loop.crash(node)
        self.world.network.crash(node)
        before = self._path()
        self.life += 1
        if loses_power:
            self.disk.image(self._path(), self.world.chance)
            self.disk = Disk(self._path())
        else:
            self.disk = self.disk.copy(self._path())
        self.files.close()
        shutil.rmtree(before)

    def stop(self):
        """SIGTERM: it hands over and goes."""
        self.world.trace("%s is told to stop", self.name)
        node, broker, self.broker = self.node, self.broker, None

        async def stop():
            await broker.stop()
            self.world.trace("%s has stopped", self.name)
            if self.node is node:
                self.node = None
                self.world.loop.crash(node)

        self.task = self.world.spawn(node, stop(), f"{self.name} stops")


class World:
    """See the module."""

    def __init__(self, seed, directory, *, brokers=3, keep_trace=20_000):
        self.seed = seed
        self.directory = directory
        self.chance = random.Random(seed)
        self.temper = Temper(self.chance, seed)
        self.lines = deque(maxlen=keep_trace)
        self.loop = SimulatedLoop(random.Random(self.chance.random()))
        self.network = Network(
            self.loop, random.Random(self.chance.random()), self.trace, self.temper.delay_s
        )
        self.loop.network = self.network
        self.ensemble = Ensemble(
            self.loop,
            self.network,
            random.Random(self.chance.random()),
            self.trace,
            session_s=self.temper.session_s,
        )
        self.ledger = Ledger(self)
        self.ensemble.on_entry = self.ledger.look
        self.hosts = {node_id: Host(self, node_id) for node_id in range(1, brokers + 1)}
        self._stack = contextlib.ExitStack()
        self._tasks = set()
        self.whole_since_s = None  # when everything was mended

    def __enter__(self):
        bytes_source = random.Random(self.chance.random())
        placing = mock.Mock(Random=lambda: random.Random(self.seed))
        self._stack.enter_context(mock.patch.object(os, "urandom", bytes_source.randbytes))
        self._stack.enter_context(mock.patch.object(controller_module, "random", placing))
        self._stack.enter_context(mock.patch.object(Leading, "advance", self._watched(Leading.advance)))
        self._handler = _TraceHandler(self)
        logger = logging.getLogger("barnabas")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)
        self._stack.callback(logger.removeHandler, self._handler)
        self._stack.callback(logger.setLevel, self._level)
        asyncio.set_event_loop(self.loop)
        self._stack.callback(asyncio.set_event_loop, None)
        return self

    def __exit__(self, *_):
        for host in self.hosts.values():
            if host.node is not None:
                self.loop.crash(host.node)
            if host.files is not None:
                host.files.close()
        # What was never finished is not to do anything when it is collected.
        for task in self.loop.tasks:
            task._log_destroy_pending = False
        self.loop.close()
        self._stack.close()

    def _watched(self, advance):
        def advance_and_look(leading, log, now_ms=None):
            before = leading._partition.high_watermark
            advance(leading, log, now_ms)
            if leading._partition.high_watermark != before:
                try:
                    self.ledger.on_advance(leading._partition)
                except ViolationError as error:
                    self.loop.failures.append((self.loop.time(), NODE.get(), "high watermark", error))

        return advance_and_look

    # ----- telling

    def trace(self, text, *arguments):
        """Notes what happened."""
        self.lines.append(f"{self.loop.time():10.4f} {text % arguments if arguments else text}")

    # ----- running

    def spawn(self, node, coroutine, name):
        """A task of a node (or of nobody); its failure is the world's."""
        context = None if node is None else node.context.copy()
        task = self.loop.create_task(coroutine, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.loop.failures.append((self.loop.time(), NODE.get(), task.get_name(), task.exception()))

    def run_until(self, condition, timeout_s, what):
        """Lets time pass until `condition()`; AssertionError after `timeout_s` of simulated time."""
        until_s = self.loop.time() + timeout_s

        async def wait():
            while not condition():
                assert self.loop.time() < until_s, f"{what}: not within {timeout_s} s"
                await asyncio.sleep(0.05)

        self.run(wait())

    def run(self, coroutine, node=None):
        """Runs until the coroutine ends; AssertionError for whatever failed in a broker meanwhile."""
        context = None if node is None else node.context.copy()
        main = self.loop.create_task(coroutine, context=context)

        def look():
            if self.loop.failures and not main.done():
                main.cancel()

        self.loop.on_turn = look
        try:
            result = self.loop.run_until_complete(main)
        except asyncio.CancelledError:
            result = None
        finally:
            self.loop.on_turn = lambda: None
        self.raise_failures()
        return result

    def raise_failures(self):
        if self.loop.failures:
            at_s, node, what, error = self.loop.failures[0]
            raise AssertionError(f"at {at_s:.4f} in {node}: {what}: {error!r}") from error


class _TraceHandler(logging.Handler):
    """What the brokers log goes into the trace."""

    def __init__(self, world):
        super().__init__()
        self._world = world

    def emit(self, record):
        node = NODE.get()
        text = record.getMessage()
        if record.exc_info:
            self._world.loop.failures.append(
                (self._world.loop.time(), node, text, record.exc_info[1])
            ) if record.levelno >= logging.ERROR else None
            text += f" ({record.exc_info[1]!r})"
            if record.levelno >= logging.ERROR:
                text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self._world.lines.append(f"{self._world.loop.time():10.4f} {node}: {record.levelname.lower()} {text}")

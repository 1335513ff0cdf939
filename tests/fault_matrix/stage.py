"""A cluster under load, and what can be done to it: a row of the matrix is what happens on one stage."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.fault_matrix.console import Console
from tests.fault_matrix.history import Silence, Verdict, judge, silence
from tests.fault_matrix.load import PARTITIONS, Load, topic_of, write_down
from tests.fault_matrix.systems import ensemble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from barnabas.cli.local_zookeeper import ZooKeeperServer
    from tests.fault_matrix.network import Net
    from tests.fault_matrix.systems import System

__all__ = ["Outcome", "Stage", "Times"]

CLIENTS_SITE = "clients"

_WARM_UP_RECORDS = 30
_WHOLE_DEADLINE_S = 150
_AFTERWARDS_S = 2.0


@dataclass(frozen=True)
class Times:
    """How long things take; the same for every system.

    Attributes:
        session_s: Until a broker that says nothing is taken for dead (zookeeper.session.timeout.ms).
        lag_s: Until a follower that lags is no longer in sync (replica.lag.time.max.ms).
        away_s: How long something is away that is killed, paused or cut off.
        tick_ms: ZooKeeper's unit of time.
    """

    session_s: float = 6.0
    lag_s: float = 10.0
    away_s: float = 12.0
    tick_ms: int = 500

    def settings(self) -> dict[str, str]:
        """Of every broker."""
        return {
            "zookeeper.session.timeout.ms": str(round(self.session_s * 1000)),
            "zookeeper.connection.timeout.ms": "60000",
            "replica.lag.time.max.ms": str(round(self.lag_s * 1000)),
            "min.insync.replicas": "2",
            "default.replication.factor": "3",
            "num.partitions": "3",
            "offsets.topic.replication.factor": "3",
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.num.partitions": "3",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "auto.leader.rebalance.enable": "false",
        }


@dataclass(frozen=True)
class Outcome:
    """What clients saw while something was done to the cluster.

    Attributes:
        verdict: What became of the records.
        produced: The longest time without an acknowledgement, from the first fault on.
        consumed: The longest time in which the group got no record.
        took_s: From the first fault until all was well again, for two seconds.
    """

    verdict: Verdict
    produced: Silence
    consumed: Silence
    took_s: float


class Stage:
    """Brokers, ZooKeeper and clients, from `with` on, until its end."""

    def __init__(
        self,
        directory: Path,
        net: Net,
        system: type[System],
        *,
        times: Times,
        clients: Sequence[str],
        zookeepers: int,
        jars: str,
        settings: dict[str, str],
        brokers: int = 3,
        disk_bytes: int = 0,
        controller_leads: bool = False,
    ) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.net = net
        self.times = times
        self.started_with = list(range(1, brokers + 1))
        self._disk_bytes = disk_bytes
        self._controller_leads = controller_leads
        self.zookeepers: dict[str, ZooKeeperServer] = ensemble(
            directory, net, zookeepers, jars=jars, tick_ms=times.tick_ms
        )
        hosts = ",".join(server.address for server in self.zookeepers.values())
        self.system = system(directory, net, (1, 2, 3), hosts, times.settings() | settings)
        self.console = Console(self.system)
        self._clients = clients
        self._site = net.site(CLIENTS_SITE)
        self._load: Load | None = None
        self._stack = ExitStack()
        self._began_s = 0.0

    @property
    def load(self) -> Load:
        assert self._load is not None
        return self._load

    @property
    def topics(self) -> list[str]:
        return [topic_of(client) for client in self._clients]

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.net.heal()
        if self._load is not None:
            self._load.kill()
        for node_id in self.system.sites:
            self.system.kill(node_id)
        for server in self.zookeepers.values():
            server.kill()
        self._stack.close()

    def _build(self) -> None:
        for server in self.zookeepers.values():
            server.launch()
        for server in self.zookeepers.values():
            server.wait()
        for node_id in self.system.sites:
            self.system.data_directory(node_id).parent.mkdir(parents=True)
            if self._disk_bytes:
                self._mount(node_id)
        self.system.start_all(self.started_with)
        self.wait_for(lambda: not self.console.unhealthy(self.started_with, []), "a whole cluster")
        # One broker leads all that clients look at, one only follows, one decides: each can be hurt alone, if that is meant.
        controller = self.console.controller()
        others = [node_id for node_id in self.started_with if node_id != controller]
        replicas = [controller, *others] if self._controller_leads else [*others, controller]
        for topic in self.topics:
            self.console.create(
                topic, [replicas] * PARTITIONS, {"min.insync.replicas": str(min(2, len(replicas)))}
            )
        self.wait_for(lambda: not self.console.unhealthy(self.started_with, self.topics), "topics in sync")
        self._load = Load(
            self.directory, self._site, self._bootstrap(), self._clients, self._group(replicas[0])
        )
        self._warm_up()

    def _bootstrap(self) -> str:
        return ",".join(self.system.address(node_id) for node_id in self.system.sites)

    def _group(self, coordinator: int) -> str:
        """The name of a group that one broker coordinates, which so takes it with it."""
        for number in range(50):
            if self.console.coordinator(f"group-{number}") == coordinator:
                return f"group-{number}"
        raise AssertionError(f"no group is coordinated by {coordinator}")

    def _warm_up(self) -> None:
        self.load.wait_for(
            lambda: (
                min(self.load.acknowledgements().values()) >= _WARM_UP_RECORDS
                and min(self.load.deliveries().values()) >= _WARM_UP_RECORDS
            ),
            "records to and fro",
            90,
        )

    def _mount(self, node_id: int) -> None:
        disk = str(self.system.disk(node_id))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._disk_bytes}", "tmpfs", disk], check=True)
        self._stack.callback(subprocess.run, ["umount", "--lazy", disk], check=False)

    def wait_for(self, condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
        """Waits, with a deadline."""
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"{what} did not come true within {deadline_s:g} s"
            time.sleep(0.1)

    # Who is who, now.

    def leader(self) -> int:
        """Who leads what the first client writes to."""
        return next(
            leader for place, leader in self.console.leaders().items() if place == self.load.places[0]
        )

    def controller(self) -> int:
        return self.console.controller()

    def follower(self) -> int:
        """One that leads nothing that clients look at, and is not the controller if that can be."""
        leader, controller = self.leader(), self.controller()
        return min(
            (node for node in self.system.sites if node != leader), key=lambda node: node == controller
        )

    def zookeeper_leader(self) -> ZooKeeperServer:
        """The member of the ensemble that the others follow."""
        for server in self.zookeepers.values():
            if b"Mode: leader" in (said := server.ask("srvr")) or b"Mode: standalone" in said:
                return server
        raise AssertionError("the ensemble has no leader")

    # What is done.

    def hold(self, seconds: float) -> None:
        """Lets time pass, as long as all clients go on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.load.check()
            time.sleep(0.1)

    def whole(self, topics: Sequence[str] = ()) -> None:
        """Waits until all is well: all in sync, in the eyes of all; each partition is written and read; the controller can decide."""
        self.console.hurt.clear()
        nodes = list(self.system.sites)
        end = time.monotonic() + _WHOLE_DEADLINE_S
        while trouble := self.console.unhealthy(nodes, [*self.topics, *topics]):
            self.load.check()
            assert time.monotonic() < end, f"not whole after {_WHOLE_DEADLINE_S} s: {trouble}"
            time.sleep(0.1)
        since_s = time.time()
        self.load.wait_for(
            lambda: (
                min(self.load.acknowledgements(since_s).values()) > 0
                and min(self.load.deliveries(since_s).values()) > 0
            ),
            "records to and fro in each partition",
            _WHOLE_DEADLINE_S,
        )

    def run(self, rows: Sequence[Callable[[Stage], None]]) -> Outcome:
        """Does to it what rows do, one after the other, ends the load and judges."""
        began_s = time.time()
        for number, row in enumerate(rows):
            row(self)
            self.whole()
            self.console.create(f"afterwards-{number}", [list(self.system.sites)], {})
        self.hold(_AFTERWARDS_S)
        ended_s = time.time()
        history = self.load.finish()
        write_down(history, self.directory / "history.jsonl")
        return Outcome(
            verdict=judge(history),
            produced=silence(
                ((record.place, record.at_s) for record in history.acknowledged),
                self.load.places,
                began_s,
                ended_s,
            ),
            consumed=silence(
                ((seen.place, seen.at_s) for seen in history.consumed), self.load.places, began_s, ended_s
            ),
            took_s=ended_s - began_s,
        )

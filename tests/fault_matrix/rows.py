"""The rows of the matrix: what is done to a cluster under load, until it is whole again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.fault_matrix.stage import Stage

__all__ = ["ROWS", "Row"]

_SMALL_DISK_BYTES = 96 * 1024 * 1024
_INTERNAL_TOPIC = "__consumer_offsets"


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: What it is chosen by.
        title: What is done.
        run: Does it.
        cuts: Whether it needs a network that can be cut.
        disk_bytes: The size of each broker's disk; 0 where that does not matter.
        brokers: How many there are at first.
        controller_leads: Whether the controller leads all partitions, too.
        settings: What differs for this row, for every system.
    """

    name: str
    title: str
    run: Callable[[Stage], None]
    cuts: bool = False
    disk_bytes: int = 0
    brokers: int = 3
    controller_leads: bool = False
    settings: dict[str, str] = field(default_factory=dict)


def _hurting(stage: Stage, node_id: int) -> int:
    """A broker that is not asked for what it knows until it is well again."""
    stage.console.hurt.add(node_id)
    return node_id


def _killed(stage: Stage, node_id: int) -> None:
    stage.system.kill(node_id)
    stage.hold(stage.times.away_s)
    stage.system.start(node_id)


def _paused(stage: Stage, node_id: int) -> None:
    stage.system.pause(_hurting(stage, node_id))
    stage.hold(stage.times.away_s)
    stage.system.resume(node_id)


def _kill_zookeeper_leader(stage: Stage) -> None:
    server = stage.zookeeper_leader()
    server.kill()
    stage.hold(stage.times.away_s)
    server.start()


def _kill_ensemble(stage: Stage) -> None:
    for server in stage.zookeepers.values():
        server.kill()
    stage.hold(stage.times.away_s)
    for server in stage.zookeepers.values():
        server.launch()
    for server in stage.zookeepers.values():
        server.wait()


def _pause_zookeeper_leader(stage: Stage) -> None:
    server = stage.zookeeper_leader()
    server.pause()
    stage.hold(stage.times.away_s)
    server.resume()


def _site(node_id: int) -> str:
    return f"broker-{node_id}"


def _other_brokers(stage: Stage, node_id: int) -> list[str]:
    return [_site(other) for other in stage.system.sites if other != node_id]


def _cut(stage: Stage, sends: Iterable[tuple[str, str]]) -> None:
    for sender, receiver in sends:
        stage.net.cut(sender, receiver)
    stage.hold(stage.times.away_s)
    stage.net.heal()


def _both_ways(one: str, others: Iterable[str]) -> list[tuple[str, str]]:
    return [pair for other in others for pair in ((one, other), (other, one))]


def _cut_leader_from_followers(stage: Stage) -> None:
    leader = _hurting(stage, stage.leader())
    _cut(stage, _both_ways(_site(leader), _other_brokers(stage, leader)))


def _cut_leader_towards_followers(stage: Stage) -> None:
    leader = _hurting(stage, stage.leader())
    _cut(stage, [(_site(leader), other) for other in _other_brokers(stage, leader)])


def _cut_leader_from_zookeeper(stage: Stage) -> None:
    leader = _hurting(stage, stage.leader())
    _cut(stage, _both_ways(_site(leader), stage.zookeepers))


def _cut_zookeeper_towards_leader(stage: Stage) -> None:
    leader = _hurting(stage, stage.leader())
    _cut(stage, [(name, _site(leader)) for name in stage.zookeepers])


def _cut_controller_from_zookeeper(stage: Stage) -> None:
    controller = _hurting(stage, stage.controller())
    _cut(stage, _both_ways(_site(controller), stage.zookeepers))


def _cut_leader_from_everybody(stage: Stage) -> None:
    leader = _hurting(stage, stage.leader())
    everybody = [*_other_brokers(stage, leader), *stage.zookeepers, "clients"]
    _cut(stage, _both_ways(_site(leader), everybody))


def _fill_disk(stage: Stage) -> None:
    leader = stage.leader()
    ballast = stage.system.disk(leader) / "ballast"
    block = bytes(65536)
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        # What a broker frees meanwhile is taken too.
        for _ in range(10):
            size = len(block)
            while size:
                try:
                    os.write(file, block[:size])
                except OSError:
                    size //= 2
            stage.hold(stage.times.away_s / 10)
    finally:
        os.close(file)
    ballast.unlink()
    if not stage.system.is_alive(leader):
        stage.system.start(leader)


def _restart_each(stage: Stage) -> None:
    for node_id in stage.system.sites:
        stage.system.stop(node_id)
        stage.system.start(node_id)
        stage.whole()


def _grow(stage: Stage) -> None:
    stage.system.start_all(node for node in stage.system.sites if node not in stage.started_with)
    nodes = list(stage.system.sites)
    places = [place for place in stage.console.leaders() if place.topic in (*stage.topics, _INTERNAL_TOPIC)]
    targets = {
        place: [nodes[(place.partition + number) % len(nodes)] for number in range(len(nodes))]
        for place in places
    }
    stage.console.reassign(targets)

    def is_done() -> bool:
        found = {
            (topic.name, partition.partition_index): sorted(partition.replica_nodes)
            for topic in stage.console.anybody().topics
            for partition in topic.partitions
        }
        return all(found[place] == nodes for place in places)

    stage.load.wait_for(is_done, "each partition on each broker", 120)
    stage.whole()
    stage.console.configure(stage.topics, "min.insync.replicas", "2")
    stage.console.elect_preferred()

    def is_balanced() -> bool:
        leaders = stage.console.leaders()
        return all(leaders[place] == replicas[0] for place, replicas in targets.items())

    stage.load.wait_for(is_balanced, "each broker leads its share", 60)


ROWS = {
    row.name: row
    for row in (
        Row("kill-leader", "kill -9 of the leader", lambda stage: _killed(stage, stage.leader())),
        Row("kill-follower", "kill -9 of a follower", lambda stage: _killed(stage, stage.follower())),
        Row("kill-controller", "kill -9 of the controller", lambda stage: _killed(stage, stage.controller())),
        Row("kill-zookeeper", "kill -9 of the ensemble's leader", _kill_zookeeper_leader),
        Row("kill-ensemble", "kill -9 of the whole ensemble, and its return", _kill_ensemble),
        Row("pause-leader", "SIGSTOP of the leader", lambda stage: _paused(stage, stage.leader())),
        Row("pause-follower", "SIGSTOP of a follower", lambda stage: _paused(stage, stage.follower())),
        Row(
            "pause-controller", "SIGSTOP of the controller", lambda stage: _paused(stage, stage.controller())
        ),
        Row("pause-zookeeper", "SIGSTOP of the ensemble's leader", _pause_zookeeper_leader),
        Row("cut-followers", "Leader cut off from its followers", _cut_leader_from_followers, cuts=True),
        Row(
            "cut-towards-followers",
            "One way: what the leader sends to its followers is lost",
            _cut_leader_towards_followers,
            cuts=True,
        ),
        Row("cut-zookeeper", "Leader cut off from ZooKeeper", _cut_leader_from_zookeeper, cuts=True),
        Row(
            "cut-from-zookeeper",
            "One way: what ZooKeeper sends to the leader is lost",
            _cut_zookeeper_towards_leader,
            cuts=True,
        ),
        Row("cut-controller", "Controller cut off from ZooKeeper", _cut_controller_from_zookeeper, cuts=True),
        Row(
            "cut-leading-controller",
            "Controller, which leads all partitions, cut off from ZooKeeper",
            _cut_controller_from_zookeeper,
            cuts=True,
            controller_leads=True,
        ),
        Row("cut-everybody", "Leader cut off from everybody", _cut_leader_from_everybody, cuts=True),
        Row("full-disk", "The leader's disk is full for a while", _fill_disk, disk_bytes=_SMALL_DISK_BYTES),
        Row("rolling-restart", "SIGTERM and start of each broker in turn", _restart_each),
        Row(
            "growth",
            "From one broker to three, with reassignment",
            _grow,
            brokers=1,
            settings={"offsets.topic.replication.factor": "1", "min.insync.replicas": "1"},
        ),
    )
}

"""Leaders, followers and the high watermark under everything that may happen to them, drawn from a seed."""

from __future__ import annotations

import shutil

import pytest

from tests.replication.three_brokers import ThreeBrokers

STEPS = 60


def run(directory, seed, *, steps=STEPS, power=True, min_insync_replicas=2):
    cluster = ThreeBrokers(directory, seed, min_insync_replicas=min_insync_replicas)
    chance = cluster.chance
    nodes = list(cluster.nodes.values())
    cluster.run(1)
    for _ in range(steps):
        act = chance.random()
        node = chance.choice(nodes)
        if act < 0.5:
            for each in nodes:
                cluster.produce(each, chance.randint(1, 4), chance.choice((-1, -1, -1, 1)))
        elif act < 0.6 and node.is_up:
            isr = cluster.controller.state.isr
            others = any(other.is_up for other in nodes if other is not node and other.id in isr)
            if power and others and chance.random() < 0.5:
                # What several machines have in memory is taken for safe: one may lose its power, but not two at a time.
                node.crash(power=True)
                cluster.controller.vanished(node.id)
            else:
                node.crash(power=False)
                cluster.loop.call_later(chance.choice((0.01, 0.3)), cluster.controller.vanished, node.id)
        elif act < 0.72 and not node.is_up and node.id not in cluster.controller.live:
            cluster.out_of_touch.discard(node.id)
            cluster.controller.register(node)
        elif act < 0.76:
            cluster.controller.elect(node.id)
        elif act < 0.82:
            other = chance.choice(nodes)
            cluster.cut.add((node.id, other.id))
        elif act < 0.86 and node.is_up:
            # It goes on with what it knew last, while the others may go on without it.
            cluster.out_of_touch.add(node.id)
            if chance.random() < 0.3:
                cluster.controller.vanished(node.id)
        elif act < 0.95:
            _heal(cluster)
        elif chance.random() < 0.5:
            for link in list(cluster.links):
                link.fail()
        cluster.run(chance.choice((0.0, 0.001, 0.005, 0.05, 0.3, 1.0, 3.0)))
        cluster.check()
    _heal(cluster)
    cluster.run(1)
    for node in nodes:
        if not node.is_up:
            cluster.controller.vanished(node.id)
            cluster.controller.register(node)
            cluster.run(0.1)
    for _ in range(200):
        cluster.run(0.2)
        if len(cluster.controller.state.isr) == len(nodes):
            break
    assert len(cluster.controller.state.isr) == len(nodes), "not all came back"
    acknowledged = len(cluster.acknowledged)
    cluster.produce(cluster.nodes[cluster.controller.state.leader], 3)
    cluster.run(2)
    assert len(cluster.acknowledged) == acknowledged + 3, "nothing goes any more"
    cluster.check()
    cluster.check_nothing_is_lost()
    for node in nodes:
        assert node.partition.high_watermark == node.partition.log_end_offset, (
            f"node {node.id} does not hear of it"
        )
    cluster.close()
    return cluster


def _heal(cluster):
    """All reach each other; whoever the controller has given up begins anew."""
    cluster.cut.clear()
    for node_id in sorted(cluster.out_of_touch):
        node = cluster.nodes[node_id]
        if node.is_up and node_id not in cluster.controller.live:
            node.crash(power=False)
            cluster.controller.register(node)
    cluster.out_of_touch.clear()


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_was_acknowledged_is_lost(tmp_path, seed):
    """Committed prefixes agree, high watermarks never go back, and whatever was acknowledged is on all in the end."""
    run(tmp_path, seed)


def main(first, count, directory):
    """Runs many seeds by hand: python -m tests.replication.test_random_replication 0 1000."""
    for seed in range(first, first + count):
        shutil.rmtree(directory, ignore_errors=True)
        try:
            cluster = run(directory, seed)
        except BaseException:
            print("seed", seed)
            raise
        print(seed, len(cluster.acknowledged), cluster.refused, cluster.controller.state.leader_epoch)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

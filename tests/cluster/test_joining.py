"""Brokers come, stop, vanish and come back."""

import asyncio

import pytest

from barnabas.controller import lifecycle
from barnabas.wire.messages.metadata import MetadataRequest
from tests.event_loops import eventually


async def test_brokers_find_each_other(cluster, loop):
    """Every broker tells clients of all of them, with the same controller and cluster id."""
    async with cluster(3) as brokers:
        await brokers.agree(lambda image: sum(each.is_active for each in image.brokers.values()) == 3)
        answers = [await brokers.call(node_id, MetadataRequest(topics=None)) for node_id in (1, 2, 3)]
        assert [sorted(each.node_id for each in answer.brokers) for answer in answers] == [[1, 2, 3]] * 3
        assert len({answer.cluster_id for answer in answers}) == 1
        assert {answer.controller_id for answer in answers} == {brokers.log.leader}
        ports = {broker.addresses["PLAINTEXT"][1] for broker in brokers.brokers.values()}
        assert {each.port for answer in answers for each in answer.brokers} == ports


async def test_any_broker_creates_a_topic(cluster, loop):
    """Whoever is asked, the controller writes, and all know."""
    async with cluster(3) as brokers:
        for node_id in (1, 2, 3):
            await brokers.create_topic(f"made-by-{node_id}", 2, 3, at=node_id)
        for node_id in (1, 2, 3):
            partition = brokers.partition("made-by-2", 1, node_id)
            assert sorted(partition.isr) == [1, 2, 3]


async def test_others_lead_when_a_broker_vanishes(cluster, loop):
    """It is fenced and out of sync everywhere, and serves again when it is back."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", 6, 3)
        await brokers.kill(1)
        await brokers.agree(
            lambda image: (
                image.brokers[1].fenced
                and all(
                    each.leader in {2, 3} and 1 not in each.isr for each in image.topics["orders"].partitions
                )
            )
        )
        await brokers.start(1)
        await brokers.agree(lambda image: image.is_active(1))


async def test_a_broker_that_stops_hands_over_first(cluster, loop):
    """No partition is without a leader for a moment."""
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", 6, 3)
        leaders = []
        brokers.brokers[3]._controller.add_listener(
            lambda image, _: leaders.extend(each.leader for each in image.topics["orders"].partitions)
        )
        await brokers.stop(1)
        await brokers.agree(lambda image: image.brokers[1].fenced)
        assert -1 not in leaders
        assert leaders


@pytest.mark.in_memory("a node is cut off from the store, and a broker that lives")
async def test_another_node_writes_the_metadata_when_its_leader_is_cut_off(cluster, loop):
    """The old leader's writes are refused; what it had not written is gone, and it follows when it is back."""
    async with cluster(3) as brokers:
        first = brokers.log.leader
        brokers.log.cut_off(first)
        second = brokers.log.leader
        assert second not in {first, -1}
        other = next(node_id for node_id in (1, 2, 3) if node_id not in {first, second})
        await eventually(lambda: brokers.image(second).brokers[first].fenced)
        request = brokers.call(other, MetadataRequest(topics=None))
        assert (await request).controller_id == second
        brokers.log.heal(first)
        await brokers.agree(lambda image: image.controller_id == second and image.is_active(first))
        await brokers.create_topic("orders", 1, 3, at=first)


@pytest.mark.in_memory("the store is stopped")
async def test_the_data_path_goes_on_without_the_store(cluster, loop):
    """Nobody is taken for dead while nobody reaches the store; what is asked for meanwhile is done when it is back."""
    async with cluster(2) as brokers:
        await brokers.create_topic("orders", 1, 2)
        brokers.log.stop()
        creating = loop.create_task(brokers.create_topic("later", 1, 2))
        answer = await brokers.call(2, MetadataRequest(topics=None))
        assert len(answer.brokers) == 2
        assert not creating.done()
        brokers.log.go_on()
        await creating


@pytest.mark.in_memory("what a store tells is held back")
async def test_a_broker_that_stops_waits_until_all_others_know(cluster, loop, monkeypatch):
    """It serves, and says who leads now, as long as another one may send a client to it."""
    monkeypatch.setattr(lifecycle, "KNOWN_S", 60.0)
    async with cluster(3) as brokers:
        await brokers.create_topic("orders", 3, 3)
        stops = next(node_id for node_id in (1, 2, 3) if node_id != brokers.log.leader)
        slow = next(node_id for node_id in (1, 2, 3) if node_id not in (stops, brokers.log.leader))
        store = brokers.log.stores[slow]
        hears, store.deliver = store.deliver, lambda entry: None
        connection = await brokers.connect(stops)
        stopping = asyncio.ensure_future(brokers.brokers[stops].stop())
        await eventually(lambda: brokers.image().brokers[stops].fenced)
        for _ in range(3):
            answer = await connection.call(MetadataRequest(topics=None))
            assert stops not in {broker.node_id for broker in answer.brokers}
        assert not stopping.done()
        assert not brokers.image(slow).brokers[stops].fenced
        store.deliver = hears
        store.catch_up()
        await stopping
        assert brokers.image(slow).brokers[stops].fenced
        await connection.close()
        await brokers._forget(stops)
        del brokers.brokers[stops]

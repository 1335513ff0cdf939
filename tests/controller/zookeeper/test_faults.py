"""The store when ZooKeeper, or the way to it, fails."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from barnabas.controller.store.zookeeper.layout import CONTROLLER_EPOCH
from barnabas.controller.store.zookeeper.znodes import Create, Delete, SetData, VersionConflictError
from barnabas.errors import ErrorCode, KafkaError
from tests.controller.zookeeper.expiry import expire
from tests.controller.zookeeper.nodes import registration, setting
from tests.controller.zookeeper.wire import Wire
from tests.event_loops import eventually
from tests.zookeeper_process import zookeeper_ensemble, zookeeper_server

CHECKOUT = Path(__file__).resolve().parents[3]


async def test_an_answer_that_was_lost_is_looked_up(nodes, server, loop):
    """The transaction was carried out: the append succeeds, once, in the same epoch, and what waited behind it follows."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address).open()
        other = await nodes(2).open()
        await first.append(setting(0))
        wire.mute()
        lost = first.store.append([setting(1)])
        await other.until_it_knows(1)  # so it is in the log, and the writer does not know
        behind = first.store.append([setting(2)])
        assert not lost.done()
        wire.mend()
        assert await asyncio.gather(lost, behind) == [1, 2]
        await other.until_it_knows(2)
        assert first.settings == other.settings == dict.fromkeys(("key-0", "key-1", "key-2"), "v")
        assert [told for told in first.follower.told if told[0] == "leader"] == [
            *(("leader", 1, 1), ("leader", -1, 1), ("leader", 1, 1))
        ]
        assert [told[1] for told in first.follower.told if told[0] == "commit"] == [0, 1, 2]


async def test_a_request_that_was_lost_is_sent_again(nodes, server, loop):
    """The transaction was not carried out: it is, when the way is free again."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address).open()
        await first.append(setting(0))
        wire.cut()
        futures = [first.store.append([setting(number)]) for number in range(1, 4)]
        await eventually(lambda: first.follower.leader == (-1, 1))
        with pytest.raises(KafkaError) as refused:
            await first.append(setting("late"))
        assert refused.value.code is ErrorCode.NOT_CONTROLLER
        wire.mend()
        assert await asyncio.gather(*futures) == [1, 2, 3]
        await first.until_it_leads()
        assert await first.append(setting(4)) == 4


async def test_what_waits_for_too_long_fails(nodes, server, loop):
    """With a time-out that says that it may still happen; afterwards everything goes on from what is in the log."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, append_timeout_ms=300, session_timeout_ms=4_000).open()
        other = await nodes(2).open()
        await first.append(setting(0))
        wire.mute()
        futures = [first.store.append([setting(1)]), first.store.append([setting(2), setting(3)])]
        for future in futures:
            with pytest.raises(KafkaError, match="may still come into effect") as failed:
                await future
            assert failed.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert first.follower.leader == (-1, 1)
        await other.until_it_knows(3)  # and so it was
        wire.mend()
        await first.until_it_leads()
        assert first.settings == other.settings
        assert await first.append(setting(4)) == 4


async def test_a_leader_that_was_cut_off_is_replaced_and_follows(nodes, server, loop):
    """What it could not write fails when it is back, and it has what the new one wrote."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, session_timeout_ms=1_500).open()
        second = await nodes(2).open()
        await first.store.register(registration(1))
        await second.store.register(registration(2))
        for node in (first, second):
            await node.until_it_sees(1, 2)
        await first.append(setting(0))
        wire.cut()
        unwritten = first.store.append([setting("unwritten")])
        await second.until_it_leads()
        await second.until_it_sees(2)
        assert await second.append(setting(1)) == 1
        assert first.follower.leader == (-1, 1)
        assert first.follower.live.keys() == {1, 2}, "nobody is told anything while ZooKeeper is away"
        assert (first.follower.is_in_touch, second.follower.is_in_touch) == (False, True)
        wire.mend()
        with pytest.raises(KafkaError) as refused:
            await unwritten
        assert refused.value.code is ErrorCode.NOT_CONTROLLER
        await eventually(lambda: first.follower.leader == (2, 2))
        await eventually(lambda: first.follower.is_in_touch)
        assert first.settings == second.settings
        await second.until_it_sees(1, 2)  # it made itself known again
        with pytest.raises(KafkaError):
            await first.append(setting(2))


async def test_a_deposed_controller_is_fenced(nodes, server, root, loop):
    """Whatever it still sends is void as a whole: the epoch that it checks is another."""
    first, second = await nodes(1).open(), await nodes(2).open()
    await first.append(setting(0))
    stale = first.store._writer.reign
    await expire(first, server)
    await second.until_it_leads()
    await second.append(setting(1))
    # Over a session that lives, as if the old one's last packets came late.
    late = second.store._session
    for operations in (
        [stale.fence, Create(f"/metadata/log/{2:020}", b"late")],
        [stale.fence, SetData("/metadata/head", b"{}")],
        [stale.fence, Create("/metadata/snapshot/late")],
    ):
        with pytest.raises(VersionConflictError, match=CONTROLLER_EPOCH):
            await late.commit(operations)
    assert await late.children("/metadata/log") != []
    assert not await late.exists(f"/metadata/log/{2:020}")
    await eventually(lambda: first.follower.leader == (2, 2))
    assert await second.append(setting(2)) == 2


async def test_a_session_that_ended_is_followed_by_another(nodes, server, loop):
    """The broker is known again, and leads again in a new epoch if nobody else wanted to."""
    only = await nodes(1).open()
    mine = registration(1)
    await only.store.register(mine)
    await only.append(setting(0))
    for epoch in (2, 3):
        await expire(only, server)
        await eventually(lambda epoch=epoch: only.follower.leader == (1, epoch))
        await eventually(lambda: only.follower.live == {1: mine})
        assert await only.append(setting(epoch)) == epoch - 1


async def test_a_follower_that_was_away_begins_with_a_snapshot(nodes, server, loop):
    """When the log does not reach back to where it was; and it ends with the same."""
    async with Wire(server.port) as wire:
        leader = await nodes(1, snapshot_chunks=10).open()
        away = await nodes(2, hosts=wire.address, session_timeout_ms=1_500).open()
        await leader.append(setting(0))
        await away.until_it_knows(0)
        wire.cut()
        for number in range(1, 40):
            await leader.append(setting(number))
            await eventually(lambda: leader.store._snapshots.task is None)
        wire.mend()
        await away.until_it_knows(39)
        assert any(told[0] == "snapshot" for told in away.follower.told)
        assert away.settings == leader.settings


async def test_a_broker_stops_without_zookeeper(nodes, server, loop):
    """Nobody waits for an answer that cannot come."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, session_timeout_ms=4_000).open()
        await first.store.register(registration(1))
        wire.cut()
        unwritten = first.store.append([setting(0)])
        before = loop.time()
        await first.store.unregister()
        await eventually(lambda: first.follower.leader == (-1, 1))
        await first.store.unregister()
        await first.store.close()
        assert loop.time() - before < 3
        with pytest.raises(KafkaError):
            await unwritten


async def test_a_server_that_is_killed_and_started_again(tmp_path, nodes, loop):
    """Minutes without ZooKeeper are survived: nothing is lost, nobody is taken for dead, the epoch stays."""
    with zookeeper_server(tmp_path, tick_ms=1_000) as server:
        # A virtual machine may take its time to start on a busy machine.
        first = await nodes(
            1, hosts=server.address, session_timeout_ms=20_000, append_timeout_ms=50_000
        ).open()
        second = await nodes(2, hosts=server.address, session_timeout_ms=20_000).open()
        await first.store.register(registration(1))
        await second.store.register(registration(2))
        acknowledged = [await first.append(setting(number)) for number in range(50)]
        server.kill()
        waiting = [first.store.append([setting(number)]) for number in range(50, 60)]
        await eventually(lambda: first.follower.leader == (-1, 1))
        await asyncio.to_thread(server.start)
        acknowledged += await asyncio.gather(*waiting)
        assert acknowledged == list(range(60))
        # What was acknowledged may have been found in the log, before it leads again.
        await eventually(lambda: first.follower.leader == (1, 1))
        await second.until_it_knows(59)
        assert second.settings == first.settings
        assert second.follower.live.keys() == {1, 2}


async def test_a_server_that_takes_a_connection_and_says_nothing(nodes, server, loop):
    """As one may that is about to start: the next connection comes before the session is over."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, session_timeout_ms=4_000).open()
        await first.store.register(registration(1))
        session_id = first.store._session.session_id
        wire.swallow(1)
        wire.drop()
        waiting = first.store.append([setting(0)])
        await eventually(lambda: not wire.to_swallow)
        assert await waiting == 0
        assert first.store._session.session_id == session_id
        await eventually(lambda: first.follower.leader == (1, 1))


async def test_a_cluster_that_was_deleted_is_not_followed(nodes, server, loop, caplog):
    """Whoever deletes the nodes by hand gets no new cluster from the brokers of the old one: they say so, and go on with what they know."""
    first = await nodes(1).open()
    await first.append(setting(0))
    session = first.store._session

    async def delete(path):
        for name in await session.children(path):
            await delete(f"{path}/{name}")
        await session.commit([Delete(path)])

    for path in ("/metadata", "/brokers", "/cluster", "/controller_epoch"):
        await delete(path)
    await eventually(lambda: "holds no cluster any more" in caplog.text)
    assert first.follower.leader == (-1, 1)
    assert first.settings == {"key-0": "v"}


async def _append_through(leader_of, faults, loop):
    """Appends all the time while faults happen; gives what was acknowledged."""
    acknowledged, number = {}, 0
    done = False

    async def keep_on():
        nonlocal number
        while not done:
            leader = leader_of()
            if leader is None:
                await asyncio.sleep(0.005)
                continue
            number += 1
            mine = number
            try:
                offset = await leader.append(setting(mine, str(mine)))
            except KafkaError:
                continue
            assert offset not in acknowledged
            acknowledged[offset] = mine

    writing = loop.create_task(keep_on())
    for fault in faults:
        before = len(acknowledged)
        await fault()
        await eventually(lambda before=before: len(acknowledged) > before + 20, 40, "appends go on")
    done = True
    await writing
    return acknowledged


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
async def test_an_ensemble_that_loses_members(tmp_path, nodes, loop):
    """kill -9 and SIGSTOP of members, the leading one too: what was acknowledged is everywhere, once, in the order of its offsets."""
    with zookeeper_ensemble(tmp_path) as ensemble:
        three = [
            await nodes(number, hosts=ensemble.hosts, session_timeout_ms=3_000).open() for number in (1, 2, 3)
        ]

        def leader_of():
            return next((each for each in three if each.leads), None)

        async def kill_the_leader():
            nonlocal down
            down = await asyncio.to_thread(ensemble.leader)
            down.kill()

        async def bring_it_back():
            await asyncio.to_thread(down.start)

        async def freeze_one():
            nonlocal down
            down = await asyncio.to_thread(ensemble.leader)
            down.pause()

        async def thaw_it():
            down.resume()

        down = None
        faults = (kill_the_leader, bring_it_back, freeze_one, thaw_it)
        acknowledged = await _append_through(leader_of, faults, loop)
        last = max(acknowledged)
        for node in three:
            await node.until_it_knows(last)
        newest = max(node.follower.image.offset for node in three)
        for node in three:
            await node.until_it_knows(newest)
        assert three[0].settings == three[1].settings == three[2].settings
        for number in acknowledged.values():
            assert three[0].settings[f"key-{number}"] == str(number)


_NODE = """
import asyncio, sys
from tests.controller.zookeeper.nodes import Node, setting
from barnabas.errors import KafkaError

async def main(hosts, root):
    node = await Node(1, hosts=hosts, root=root, session_timeout_ms=1_000, loop=asyncio.get_running_loop()).open()
    for number in range(1_000_000):
        try:
            print("wrote", await node.append(setting(f"theirs-{number}")), flush=True)
        except KafkaError as error:
            print("refused", error.code.name, node.follower.leader[0], flush=True)
            if node.follower.leader[0] == 2:
                await node.store.close()
                return
            await asyncio.sleep(0.02)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
async def test_a_controller_that_is_frozen_and_thawed(server, nodes, root, loop):
    """SIGSTOP for longer than its session: another one leads, and what it still meant to write is nowhere."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _NODE, server.address, root), stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
    )
    try:
        wrote = []
        while len(wrote) < 20:
            wrote.append((await process.stdout.readline()).split())
        second = await nodes(2).open()
        assert second.follower.leader == (1, 1)
        process.send_signal(signal.SIGSTOP)
        await second.until_it_leads()
        mine = [await second.append(setting(f"mine-{number}")) for number in range(10)]
        process.send_signal(signal.SIGCONT)
        rest, _ = await process.communicate()
        wrote += [line.split() for line in rest.splitlines()]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert wrote[-1][0] == b"refused"
    offsets = [int(words[1]) for words in wrote if words[0] == b"wrote"]
    # The last one that was on its way may have been acknowledged only after the thaw; it lies before the other's first.
    assert max(offsets) < mine[0]
    assert offsets == list(range(len(offsets)))
    assert second.follower.leader == (2, 2)
    theirs = [name for name in second.settings if name.startswith("key-theirs")]
    assert len(theirs) == mine[0] >= len(offsets)

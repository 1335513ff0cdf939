"""The store on a real ZooKeeper that does not fail."""

import asyncio

import pytest

from barnabas.controller.store.zookeeper.session import Session, SessionSettings
from barnabas.controller.store.zookeeper.znodes import Create, SetData
from barnabas.errors import ErrorCode, KafkaError, StorageError
from tests.controller.zookeeper.nodes import CLUSTER_ID, registration, setting
from tests.event_loops import eventually


async def test_the_first_node_leads_and_the_others_follow(nodes, loop):
    """What the leader appends is told to everybody, in order; the leader is told of it before its append is answered."""
    first = await nodes(1).open()
    assert first.leads
    second, third = await nodes(2).open(), await nodes(3).open()
    assert second.follower.leader == third.follower.leader == (1, 1)
    assert await first.append(setting(1), setting(2)) == 1
    assert first.follower.told[-1] == ("commit", 1)
    assert await first.append(setting(3)) == 2
    for node in (second, third):
        await node.until_it_knows(2)
        assert node.settings == {"key-1": "v", "key-2": "v", "key-3": "v"}
    late = await nodes(4).open()
    assert late.settings == first.settings
    assert late.follower.leader == (1, 1)


async def test_the_first_names_the_cluster(nodes, loop):
    """Whoever comes later learns its id, whatever it brings."""
    assert await nodes(1).store.cluster_id(CLUSTER_ID) == CLUSTER_ID
    assert await nodes(2).store.cluster_id("another") == CLUSTER_ID


async def test_only_the_leader_appends(nodes, loop):
    """Anybody else is refused at once."""
    await nodes(1).open()
    second = await nodes(2).open()
    with pytest.raises(KafkaError) as refused:
        await second.append(setting(1))
    assert refused.value.code is ErrorCode.NOT_CONTROLLER


async def test_another_takes_over_when_the_leader_closes(nodes, loop):
    """At once, in a new epoch, with everything that was appended, and offsets go on."""
    first, second = await nodes(1).open(), await nodes(2).open()
    await first.append(setting(1))
    closing = [first.store.append([setting(number)]) for number in range(2, 5)]
    await first.store.close()
    assert [future.result() for future in closing] == [1, 2, 3]
    await second.until_it_leads()
    assert second.follower.leader == (2, 2)
    assert await second.append(setting(5)) == 4
    assert set(second.settings) == {f"key-{number}" for number in range(1, 6)}


async def test_a_cluster_that_stopped_goes_on(nodes, loop):
    """Everything is there after the last node has gone."""
    first = await nodes(1).open()
    await first.append(setting(1))
    await first.store.close()
    again = await nodes(1).open()
    assert again.leads
    assert again.follower.leader == (1, 2)
    assert again.follower.told[0] == ("commit", 0)
    assert await again.append(setting(2)) == 1


async def test_appends_of_a_moment_share_a_transaction(nodes, server, root, loop):
    """Hundreds of appends at once are a few nodes of the log; who follows is told of the same."""
    first, second = await nodes(1).open(), await nodes(2).open()
    futures = [first.store.append([setting(number)]) for number in range(500)]
    assert await asyncio.gather(*futures) == list(range(500))
    await second.until_it_knows(499)
    assert second.settings == first.settings
    async with raw(server, root, loop) as session:
        assert len(await session.children("/metadata/log")) <= 3


async def test_a_batch_that_no_node_can_hold_is_split(nodes, server, root, loop):
    """2 MB of one append arrive as one commit, with those before and after it."""
    first, second = await nodes(1).open(), await nodes(2).open()
    records = [setting(number, "x" * 500) for number in range(4_000)]
    futures = [
        first.store.append([setting("before")]),
        first.store.append(records),
        first.store.append([setting("after")]),
    ]
    assert await asyncio.gather(*futures) == [0, 4_000, 4_001]
    for node in (second, await nodes(3).open()):
        await node.until_it_knows(4_001)
        assert node.settings == first.settings
    async with raw(server, root, loop) as session:
        names = sorted(await session.children("/metadata/log"))
        assert names == [
            f"{0:020}",
            *(f"{1:020}{piece}" for piece in ("", ".0001", ".0002")),
            f"{4_001:020}",
        ]


async def test_pieces_of_a_controller_that_died_do_not_count(nodes, server, root, loop):
    """Nodes behind the head are deleted by the next controller, and nobody reads them."""
    first = await nodes(1).open()
    await first.append(setting(1))
    await first.store.close()
    async with raw(server, root, loop) as session:
        await session.commit(
            [Create(f"/metadata/log/{1:020}", b"half of it"), Create(f"/metadata/log/{1:020}.0001", b"more")]
        )
        second, third = await nodes(2).open(), await nodes(3).open()
        assert second.leads
        assert await session.children("/metadata/log") == [f"{0:020}"]
    assert await second.append(setting(2)) == 1
    await third.until_it_knows(1)
    assert third.settings == {"key-1": "v", "key-2": "v"}


async def test_a_snapshot_takes_the_place_of_the_log(nodes, server, root, loop):
    """The log is trimmed behind the last snapshot but one, and whoever comes later begins with a snapshot."""
    first = await nodes(1, snapshot_chunks=10).open()
    follower = await nodes(2, snapshot_chunks=10).open()
    async with raw(server, root, loop) as session:
        for number in range(45):
            await first.append(setting(number % 7, str(number)))
            # Snapshots are written beside the appends; here each has its time.
            await eventually(lambda: first.store._snapshots.task is None)
        names = sorted(await session.children("/metadata/log"))
        assert int(names[0]) == 30  # where the snapshot before the last ends
        assert len(names) == 45 - 30
        assert sorted(await session.children("/metadata/snapshot")) == [
            f"{30:020}-{1:010}",
            f"{40:020}-{1:010}",
        ]
    late = await nodes(3).open()
    assert late.follower.told[0] == ("snapshot", 39)
    await follower.until_it_knows(44)
    assert ("snapshot", 39) not in follower.follower.told
    assert late.settings == follower.settings == first.settings
    assert late.follower.image.topic_config("t") == first.follower.image.topic_config("t")


async def test_a_snapshot_may_end_within_a_node_of_the_log(nodes, server, root, loop):
    """What comes behind it in the same node is read, and what comes before it is passed over."""
    first = await nodes(1, snapshot_chunks=50).open()
    await asyncio.gather(*(first.store.append([setting(number)]) for number in range(80)))
    await eventually(lambda: first.store._snapshots.task is None)
    late = await nodes(2).open()
    assert late.follower.told[0] == ("snapshot", 49)
    assert late.settings == first.settings
    assert late.follower.image.offset == 79


async def test_brokers_are_told_who_lives(nodes, loop):
    """Everybody sees who comes and goes, at once, and what it said of itself."""
    first, second = await nodes(1).open(), await nodes(2).open()
    one = registration(1, rack="a", security_protocols={"PLAINTEXT": 0}, clean=False)
    await first.store.register(one)
    two = registration(
        2, endpoints={"IN": ("::1", 1), "OUT": ("", 2)}, security_protocols={"IN": 1, "OUT": 0}
    )
    await second.store.register(two)
    for node in (first, second):
        await node.until_it_sees(1, 2)
        assert node.follower.live == {1: one, 2: two}
    await second.store.unregister()
    await first.until_it_sees(1)
    await second.store.register(two)
    await first.until_it_sees(1, 2)
    await second.store.close()
    await first.until_it_sees(1)


async def test_a_process_that_is_gone_is_removed(nodes, loop):
    """Its registration and its office end before its session does; of another incarnation nothing is believed."""
    first, second = await nodes(1).open(), await nodes(2).open()
    one = registration(1)
    await first.store.register(one)
    await second.store.register(registration(2))
    await second.until_it_sees(1, 2)
    await eventually(lambda: second.follower.leader == first.follower.leader == (1, 1))
    await second.store.report_gone(1, b"another one" + bytes(5))
    await second.store.report_gone(7, b"nobody" + bytes(10))
    await second.until_it_sees(1, 2)
    assert second.follower.leader == (1, 1)
    await second.store.report_gone(1, one.incarnation_id)
    # The first is alive after all: it makes itself known again, and takes part in the election.
    await eventually(lambda: second.follower.leader[1] == 2)
    await first.until_it_sees(1, 2)
    await eventually(lambda: first.follower.leader == second.follower.leader)


async def test_an_id_is_given_once(nodes, loop):
    """A second process with the id of one that lives is refused, and the message says where the other is."""
    first, second = (
        await nodes(1, session_timeout_ms=500).open(),
        await nodes(1, session_timeout_ms=500).open(),
    )
    await first.store.register(registration(1, log_dirs=(b"a" * 16,)))
    with pytest.raises(KafkaError, match=r"node\.id 1 is alive \(at localhost:9001\)") as refused:
        await second.store.register(registration(1, log_dirs=(b"b" * 16,)))
    assert refused.value.code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    await first.until_it_sees(1)


async def test_a_killed_process_makes_way_for_the_next_one(nodes, loop):
    """On the same machine with the same log directory, which is locked, the next process need not wait for the session's end."""
    first = await nodes(1, session_timeout_ms=4_000, machine="a").open()
    watcher = await nodes(2).open()
    await first.store.register(registration(1))
    assert first.leads
    # What a killed process leaves behind is a session that nobody ends, and that nobody acts in.
    first.store._pump.cancel()
    again = await nodes(1, session_timeout_ms=4_000, machine="a").open()
    assert again.follower.leader == (-1, 1)
    fresh = registration(1)
    before = loop.time()
    await again.store.register(fresh)
    await eventually(lambda: watcher.follower.live == {1: fresh})
    await eventually(lambda: watcher.leads or again.leads)
    assert loop.time() - before < 2


async def test_on_another_machine_it_waits_for_the_end_of_the_session(nodes, loop):
    """There nobody can know whether the other process is dead."""
    first = await nodes(1, session_timeout_ms=1_000, machine="a").open()
    await first.store.register(registration(1))
    again = await nodes(1, session_timeout_ms=1_000, machine="b").open()
    registering = asyncio.ensure_future(again.store.register(registration(1)))
    await asyncio.sleep(0.2)  # nothing happens meanwhile, which has no event to wait for
    assert not registering.done()
    await first.store.close()
    await registering
    await again.until_it_sees(1)


async def test_what_is_no_cluster_of_ours_is_left_alone(nodes, server, root, loop):
    """Neither Apache Kafka's nodes nor anything else is written over; a later format is refused."""
    async with raw(server, "", loop) as session:
        for name, children in (
            ("kafka", {"/cluster": b"", "/cluster/id": b"{}"}),
            ("other", {"/brokers": b""}),
        ):
            await session.commit([Create(f"/{name}{root.rpartition('/')[2]}")])
            at = f"/{name}{root.rpartition('/')[2]}"
            await session.commit([Create(at + path, data) for path, data in children.items()])
            expected = "belongs to an Apache Kafka" if name == "kafka" else "holds something else"
            with pytest.raises(StorageError, match=expected):
                await nodes(1, root=at).store.cluster_id(CLUSTER_ID)
    await nodes(1).open()
    async with raw(server, root, loop) as session:
        await session.commit([SetData("/cluster", b'{"cluster_id": "x", "format": 2}')])
    with pytest.raises(StorageError, match="has format 2, and this version knows 1 at most"):
        await nodes(2).store.cluster_id(CLUSTER_ID)


async def test_a_zookeeper_that_is_not_there_is_named(nodes, loop):
    """The sentence says where it was looked for."""
    node = nodes(1, hosts="127.0.0.1:1", connection_timeout_ms=300)
    with pytest.raises(StorageError, match=r"ZooKeeper at 127\.0\.0\.1:1 did not answer within 300 ms"):
        await node.store.cluster_id(CLUSTER_ID)


async def test_damage_is_seen(nodes, server, root, loop):
    """A node of the log that was changed by hand fails its checksum: the start is refused, and says which node it is."""
    first = await nodes(1).open()
    await first.append(setting(1))
    async with raw(server, root, loop) as session:
        path = f"/metadata/log/{0:020}"
        content = bytearray((await session.get(path)).data)
        content[-1] ^= 1
        await session.commit([SetData(path, bytes(content))])
    with pytest.raises(StorageError, match=rf"{path} is damaged at byte 0: the batch fails its checksum"):
        await nodes(2).open()


class raw:  # noqa: N801 - reads as a verb
    """A session of the test's own."""

    def __init__(self, server, root, loop):
        self.session = Session(SessionSettings(server.address, root), loop=loop, on_state=lambda _: None)

    async def __aenter__(self):
        await self.session.open()
        return self.session

    async def __aexit__(self, *_):
        await self.session.close()

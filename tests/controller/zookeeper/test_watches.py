"""How many watches kazoo keeps: it frees them only when a node changes or the connection is lost."""

import functools

import pytest

from barnabas.controller.store.zookeeper import store
from barnabas.controller.store.zookeeper.layout import BROKERS, CONTROLLER, HEAD, broker_path
from tests.controller.zookeeper.nodes import registration, setting
from tests.controller.zookeeper.wire import Wire
from tests.event_loops import eventually

ROUNDS = 5


@pytest.fixture
def quick(monkeypatch):
    """Whatever is tried again in vain is tried again at once."""
    monkeypatch.setattr(store, "_RETRY_AFTER_DAMAGE_S", 0.01)


@pytest.fixture
def watches(root):
    """`watches(node)`: how many there are of each path."""

    def count(node):
        client = node.store._session._client
        found = {}
        for kind, watchers in (("data", client._data_watchers), ("children", client._child_watchers)):
            for path, callbacks in list(watchers.items()):
                if callbacks:
                    found[kind, path.removeprefix(root)] = len(callbacks)
        return found

    return count


def rounds_in_vain(caplog, message):
    """What is true after a few more."""
    before = caplog.text.count(message)
    return lambda: caplog.text.count(message) >= before + ROUNDS


class _Timers:
    """A loop that knows which of its timers are still to come."""

    def __init__(self, loop):
        self._loop = loop
        self._handles = []

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, delay, callback):
        self._handles.append(self._loop.call_later(delay, callback))
        return self._handles[-1]

    @property
    def pending(self):
        now = self._loop.time()
        return [handle for handle in self._handles if not handle.cancelled() and handle.when() > now]


async def test_looking_at_everything_again(nodes, watches, loop):
    """As after an append that took too long: each watch is set once more, and is still one."""
    first, second = await nodes(1).open(), await nodes(2).open()
    for node in (first, second):
        await node.store.register(registration(node.id))
    await first.append(setting(0))
    for node in (first, second):
        await node.until_it_sees(1, 2)
    await second.until_it_knows(0)
    membership = second.store._membership
    for _ in range(ROUNDS):
        second.store._note_trouble(None)
        assert not membership._known
        await eventually(lambda: membership._known.keys() == {"1", "2"})
    expected = {
        ("data", CONTROLLER): 1,
        ("data", HEAD): 1,
        ("data", broker_path(1)): 1,
        ("data", broker_path(2)): 2,  # of its loss, and of what it says
        ("children", BROKERS): 1,
    }
    await eventually(lambda: watches(second).keys() == expected.keys())
    assert watches(second) == expected
    # They are called all the same.
    await first.append(setting(1))
    await second.until_it_knows(1)
    await first.store.close()
    await second.until_it_leads()
    await second.until_it_sees(2)


async def test_metadata_that_was_lost(nodes, watches, loop, quick, caplog):
    """Until its data is back ZooKeeper is asked again and again."""
    first, second = await nodes(1).open(), await nodes(2).open()
    await second.store.register(registration(2))
    await first.append(setting(0))
    await second.until_it_knows(0)
    await second.until_it_sees(2)
    second.store._position += 7  # what it knew, and ZooKeeper does not know any more
    second.store._look_at_everything()
    await eventually(rounds_in_vain(caplog, "bring its data back"))
    assert set(watches(second).values()) <= {1, 2}


async def test_an_id_that_another_process_has_taken(nodes, server, watches, loop, quick, caplog):
    """The one that was away asks again and again, without waiting for the other's end; when that comes, it is known again."""
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, session_timeout_ms=1_000).open()
        mine, other = (registration(1, log_dirs=(name * 16,)) for name in (b"a", b"b"))
        await first.store.register(mine)
        wire.cut()
        second = await nodes(1).open()
        await second.store.register(other)
        wire.mend()
        await eventually(rounds_in_vain(caplog, "this broker cannot be made known"))
        await eventually(lambda: ("data", broker_path(1)) in watches(first))
        await eventually(rounds_in_vain(caplog, "this broker cannot be made known"))
        assert watches(first)["data", broker_path(1)] == 1  # of what it says
        await second.store.close()
        await eventually(lambda: first.follower.live == {1: mine})


async def test_new_connections_while_an_id_is_taken(nodes, server, loop, monkeypatch, caplog):
    """Each tries at once to make the broker known again; what tries later stays one."""
    monkeypatch.setattr(store, "_RETRY_AFTER_DAMAGE_S", 60.0)
    async with Wire(server.port) as wire:
        first = await nodes(1, hosts=wire.address, session_timeout_ms=1_000).open()
        await first.store.register(registration(1, log_dirs=(b"a" * 16,)))
        first.store._loop = timers = _Timers(loop)
        wire.cut()
        second = await nodes(1).open()
        await second.store.register(registration(1, log_dirs=(b"b" * 16,)))
        wire.mend()
        for tries in range(1, ROUNDS + 1):
            await eventually(functools.partial(_has_tried, caplog, tries))
            first.store._look_at_everything()  # as with each new connection
        assert len(timers.pending) == 1


def _has_tried(caplog, times):
    return caplog.text.count("this broker cannot be made known") >= times

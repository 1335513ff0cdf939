import asyncio
import itertools

import pytest

from tests.controller.zookeeper.nodes import Node
from tests.event_loops import loop, pytest_pyfunc_call
from tests.zookeeper_process import zookeeper_server

__all__ = ["loop", "pytest_pyfunc_call"]

_numbers = itertools.count()


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """A ZooKeeper that is shared, each test below a root of its own. Who stops it starts one of its own."""
    with zookeeper_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def root():
    """Nodes above it are the test's own too: one that keeps others out would keep them out of a common one."""
    number = next(_numbers)
    return f"/tests-{number}/number-{number}"


@pytest.fixture
def nodes(server, root, loop):
    """`nodes(id, …)`: a store of a node of the test's cluster; all of them are closed at the end."""
    opened = []

    def node(node_id, *, hosts=server.address, **options):
        options.setdefault("root", root)
        made = Node(node_id, hosts=hosts, loop=loop, **options)
        opened.append(made)
        return made

    yield node

    async def close():
        await asyncio.gather(*(each.store.close() for each in opened))

    loop.run_until_complete(close())

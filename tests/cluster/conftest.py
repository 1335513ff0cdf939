"""`cluster(n)`: brokers of one cluster, in this process; see `harness.Cluster`.

Their metadata log is in memory, and can be hurt there; with BARNABAS_TEST_STORE=zookeeper it is in a real Apache ZooKeeper.
"""

import os

import pytest

from tests.cluster.harness import Cluster
from tests.cluster.zookeeper_log import ZooKeeperLog
from tests.event_loops import loop, pytest_pyfunc_call
from tests.our_broker import shared_zookeeper

__all__ = ["loop", "pytest_pyfunc_call"]

_ON_ZOOKEEPER = os.environ.get("BARNABAS_TEST_STORE") == "zookeeper"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "in_memory(why): needs a metadata log that a test can stop and look into"
    )


def pytest_runtest_setup(item):
    marker = item.get_closest_marker("in_memory")
    if marker and _ON_ZOOKEEPER:
        pytest.skip(f"not on ZooKeeper: {marker.args[0]}")


@pytest.fixture
def cluster(tmp_path, loop):
    """`async with cluster(3) as brokers:`; settings of the brokers with underscores for dots."""

    def make(count=3, **settings):
        if _ON_ZOOKEEPER:
            settings["log"] = ZooKeeperLog(shared_zookeeper(), f"/{tmp_path.name}-{os.urandom(4).hex()}")
        return Cluster(tmp_path, count, **settings)

    return make

"""`cluster(n)`: brokers of one cluster, in this process; see `harness.Cluster`."""

import pytest

from tests.cluster.harness import Cluster
from tests.event_loops import loop, pytest_pyfunc_call

__all__ = ["loop", "pytest_pyfunc_call"]


@pytest.fixture
def cluster(tmp_path):
    """`async with cluster(3) as brokers:`; settings of the brokers with underscores for dots."""

    def make(count=3, **settings):
        return Cluster(tmp_path, count, **settings)

    return make

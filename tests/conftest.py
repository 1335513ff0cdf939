"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.broker_process import BrokerProcess

# How long an example takes says nothing where other work keeps the machine busy. (In CI, Hypothesis' profile for CI stays below.)
settings.register_profile(
    "any speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any speed")


@pytest.fixture
def broker(tmp_path):
    """A broker of this test's own; `.bootstrap_server` is its address."""
    with BrokerProcess(tmp_path / "broker") as process:
        yield process


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory):
    """One broker for all tests of a worker that use topics and groups of their own names."""
    with BrokerProcess(tmp_path_factory.mktemp("shared-broker")) as process:
        yield process

"""Each client once with three brokers in place of one; `make test-cluster` runs all tests of this directory so."""

from __future__ import annotations

import pytest

from tests.clients.test_admin import (
    admin,
    test_topics_are_created_listed_described_grown_and_deleted,
)
from tests.clients.test_groups import test_two_members_share_hand_over_and_go_on
from tests.our_broker import BROKERS, our_broker

__all__ = [
    "admin",
    "test_topics_are_created_listed_described_grown_and_deleted",
    "test_two_members_share_hand_over_and_go_on",
]

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(BROKERS > 1, reason="all tests are run with a cluster"),
]


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory):
    """Three brokers."""
    settings = {"offsets.topic.num.partitions": "4"}
    with our_broker(tmp_path_factory.mktemp("clients-in-a-cluster"), settings, brokers=3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bootstrap(shared_broker):
    return shared_broker.bootstrap_server

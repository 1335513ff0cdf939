"""Three of our brokers beside one of Apache Kafka's: the answers are those of one; `make test-cluster` compares everything so."""

from __future__ import annotations

import pytest

from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.machine_runs import run_machine
from tests.oracle.test_data_path import (
    test_acks_zero_is_not_answered_and_a_failure_hangs_up,
    test_ends_of_epochs_are_told_alike,
    test_fetch_sessions_are_kept_alike,
    test_odd_list_offsets_are_answered_alike,
)
from tests.oracle.test_random_steps import SETTINGS, GroupsAndOffsets, TopicsAndRecords, prepared
from tests.oracle.two_brokers import TwoBrokers
from tests.our_broker import BROKERS, our_broker

__all__ = [
    "test_acks_zero_is_not_answered_and_a_failure_hangs_up",
    "test_ends_of_epochs_are_told_alike",
    "test_fetch_sessions_are_kept_alike",
    "test_odd_list_offsets_are_answered_alike",
]

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(BROKERS > 1, reason="all tests are run with a cluster"),
    pytest.mark.timeout(300),
]

EXAMPLES = 4


@pytest.fixture(scope="module")
def brokers(tmp_path_factory):
    """Addresses of Kafka and of our cluster."""
    directory = tmp_path_factory.mktemp("cluster-and-kafka")
    ours = SETTINGS | {"barnabas.group.consumer.waiting.heartbeat.interval.ms": "0"}
    with (
        our_broker(directory / "barnabas", ours, brokers=3) as cluster,
        kafka_broker(directory / "kafka", config=SETTINGS) as kafka,
    ):
        yield kafka.bootstrap, cluster.bootstrap_server


@pytest.fixture(scope="module")
def two_brokers(brokers):
    return prepared(TwoBrokers(*brokers))


@pytest.mark.parametrize("machine", [TopicsAndRecords, GroupsAndOffsets])
def test_random_steps(two_brokers, monkeypatch, machine):
    """Whatever is done to topics, records and groups, and whichever broker has to answer, the answers are Kafka's."""
    machine.brokers = two_brokers
    run_machine(machine, monkeypatch, examples=EXAMPLES, step_count=30)

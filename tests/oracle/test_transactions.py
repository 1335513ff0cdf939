"""Transactions beside Apache Kafka 4.3: the same requests to both, in every version, and the same random steps.

What two brokers cannot have in common is left out: producer ids (their order is compared), times, and coordinator epochs.
After whatever may begin to end a transaction both are waited for, so that neither is busy when the next request comes.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.describe_producers import DescribeProducersRequest
from barnabas.wire.messages.describe_transactions import DescribeTransactionsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from barnabas.wire.messages.list_transactions import ListTransactionsRequest
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.broker_process import wait_until
from tests.oracle.kafka_broker import kafka_broker
from tests.our_broker import our_broker, wire_client
from tests.transactional_producer import (
    TransactionalProducer,
    committed_offset,
    create_topic,
    find_coordinator,
    last_stable_offset,
    read,
)

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(240)]

SETTINGS = {
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "2",
}
KAFKA_SETTINGS = {
    **SETTINGS,
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}
PARTITIONS = 2
SETTLED = ("Empty", "Ongoing", "CompleteCommit", "CompleteAbort", "")


class Side:
    """One of the two brokers: its producers, and what it made up."""

    def __init__(self, address, prefix):
        self.client = wire_client(address)
        self.prefix = prefix
        self.numbers = {-1: None}
        self.topic = create_topic(self.client, f"{prefix}t", PARTITIONS)
        wait_until(self._has_leaders, what="leaders")
        self.group = f"{prefix}g"
        find_coordinator(self.client, self.group, 0)
        self.producers = [TransactionalProducer(self.client, f"{prefix}x{n}") for n in range(2)]
        for producer in self.producers:
            producer.find()
        # Kafka has no block of producer ids before somebody has asked for one.
        wait_until(
            lambda: (
                self.client.call(
                    InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1), 4
                ).error_code
                == 0
            ),
            what="producer ids",
        )

    def _has_leaders(self):
        try:
            for partition in range(PARTITIONS):
                last_stable_offset(self.client, self.topic, partition)
        except AssertionError:
            return False
        return True

    def number(self, producer_id):
        """The how manieth producer id that was ever seen."""
        return self.numbers.setdefault(producer_id, len(self.numbers))

    def states(self):
        names = [producer.transactional_id for producer in self.producers]
        return self.client.call(DescribeTransactionsRequest(transactional_ids=names), 0).transaction_states

    def settle(self):
        """Waits until no transaction is being ended."""
        wait_until(
            lambda: all(state.transaction_state in SETTLED for state in self.states()),
            what="the end of transactions",
        )

    # ----- steps: each gives plain values

    def init(self, who, version, mode, timeout_ms=60_000):
        producer = self.producers[who]
        epoch = producer.epoch
        if mode == "stale" and epoch >= 0:
            producer.epoch -= 1
        answer = producer.init(version=version, keep=mode != "fresh" and version >= 3, timeout_ms=timeout_ms)
        if answer.error_code:
            producer.epoch = epoch
        self.settle()
        return answer.error_code, self.number(answer.producer_id), answer.producer_epoch

    def shifted(self, who, shift, call):
        """A request with another epoch than the producer has."""
        producer = self.producers[who]
        producer.epoch += shift
        try:
            return call(producer)
        finally:
            producer.epoch -= shift

    def add(self, who, version, partitions, shift):
        codes = self.shifted(
            who, shift, lambda producer: producer.add(self.topic, *partitions, version=version)
        )
        return {index: code for (_, index), code in codes.items()}

    def broker_add(self, who, version, partitions, shift, verify_only):
        def call(producer):
            each = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
                transactional_id=producer.transactional_id,
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                verify_only=verify_only,
                topics=[
                    AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(
                        name=self.topic, partitions=list(partitions)
                    )
                ],
            )
            answer = self.client.call(AddPartitionsToTxnRequest(transactions=[each]), version)
            return answer.error_code, [
                (each.partition_index, each.partition_error_code)
                for result in answer.results_by_transaction
                for topic in result.topic_results
                for each in sorted(topic.results_by_partition, key=lambda one: one.partition_index)
            ]

        return self.shifted(who, shift, call)

    def produce(self, who, version, partition, count, gap, shift, transactional):
        producer = self.producers[who]
        sequence = producer.sequences.get((self.topic, partition), 0) + gap
        request = self.shifted(
            who,
            shift,
            lambda producer: producer.produce_request(
                self.topic, partition, [b"v"] * count, sequence=sequence, transactional=transactional
            ),
        )
        answer = self.client.call(request, version).responses[0].partition_responses[0]
        if answer.error_code == 0:
            producer.sequences[self.topic, partition] = sequence + count
        told = answer.error_message if answer.error_code in (19, 48) else None
        return answer.error_code, answer.base_offset, told

    def offsets_add(self, who, version, shift):
        return self.shifted(who, shift, lambda producer: producer.add_offsets(self.group, version))

    def offsets(self, who, version, partition, offset, shift, generation):
        codes = self.shifted(
            who,
            shift,
            lambda producer: producer.commit_offsets(
                self.group,
                self.topic,
                {partition: offset},
                version=version,
                generation=generation if version >= 3 else -1,
                member="m" if generation >= 0 and version >= 3 else "",
            ),
        )
        return list(codes.values())

    def end(self, who, version, commit, shift):
        producer = self.producers[who]
        identity = producer.producer_id, producer.epoch, producer.sequences
        producer.epoch += shift
        answer = producer.end(commit=commit, version=version)
        if answer.error_code or version < 5:
            producer.producer_id, producer.epoch, producer.sequences = identity
        self.settle()
        return answer.error_code, self.number(answer.producer_id), answer.producer_epoch

    def marker(self, who, version, partition, commit):
        producer = self.producers[who]
        request = WriteTxnMarkersRequest(
            markers=[
                WriteTxnMarkersRequest.WritableTxnMarker(
                    producer_id=producer.producer_id,
                    producer_epoch=producer.epoch,
                    transaction_result=commit,
                    coordinator_epoch=0,
                    topics=[
                        WriteTxnMarkersRequest.WritableTxnMarkerTopic(
                            name=self.topic, partition_indexes=[partition]
                        )
                    ],
                )
            ]
        )
        (result,) = self.client.call(request, version).markers
        return [
            (each.partition_index, each.error_code) for topic in result.topics for each in topic.partitions
        ]

    # ----- what is seen

    def fetched(self, partition, offset, isolation):
        """What a fetch says of a partition: where its transactions stand, which are aborted, and how much there is."""
        place = FetchRequest.FetchPartition(
            partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            isolation_level=isolation,
            topics=[FetchRequest.FetchTopic(topic=self.topic, partitions=[place])],
        )
        (found,) = self.client.call(request, 11).responses[0].partitions
        aborted = found.aborted_transactions
        return (
            found.error_code,
            found.last_stable_offset,
            found.high_watermark,
            None
            if aborted is None
            else sorted((self.number(each.producer_id), each.first_offset) for each in aborted),
            len(found.records or b""),
        )

    def seen(self):
        """Everything that anybody can ask of both."""
        described = [
            (
                state.error_code,
                state.transaction_state,
                state.transaction_timeout_ms,
                state.transaction_start_time_ms >= 0,
                None if state.error_code else self.number(state.producer_id),
                state.producer_epoch,
                sorted(index for topic in state.topics for index in topic.partitions),
                len(state.topics),
            )
            for state in self.states()
        ]
        answer = self.client.call(ListTransactionsRequest(), 1)
        listed = sorted(
            (each.transactional_id.removeprefix(self.prefix), each.transaction_state)
            for each in answer.transaction_states
            if each.transactional_id.startswith(self.prefix)
        )
        found = self.client.call(
            DescribeProducersRequest(
                topics=[
                    DescribeProducersRequest.TopicRequest(
                        name=self.topic, partition_indexes=list(range(PARTITIONS))
                    )
                ]
            ),
            0,
        )
        producers = [
            sorted(
                (
                    self.number(each.producer_id),
                    each.producer_epoch,
                    each.last_sequence,
                    each.current_txn_start_offset,
                    each.coordinator_epoch >= 0,
                )
                for each in partition.active_producers
            )
            for partition in found.topics[0].partitions
        ]
        logs = [
            (
                len(read(self.client, self.topic, partition)),
                len(read(self.client, self.topic, partition, committed=False)),
                last_stable_offset(self.client, self.topic, partition),
                last_stable_offset(self.client, self.topic, partition, committed=False),
            )
            for partition in range(PARTITIONS)
        ]
        fetched = [
            self.fetched(partition, offset, isolation)
            for partition in range(PARTITIONS)
            for offset in (0, 2)
            for isolation in (0, 1)
        ]
        offsets = [
            committed_offset(self.client, self.group, self.topic, partition, require_stable=stable)
            for partition in range(PARTITIONS)
            for stable in (False, True)
        ]
        return {
            "transactions": described,
            "listed": listed,
            "producers": producers,
            "logs": logs,
            "fetched": fetched,
            "offsets": offsets,
        }


class Both:
    """The two sides, with names that no other example uses."""

    count = 0

    def __init__(self, addresses):
        Both.count += 1
        prefix = f"{time.time_ns() // 1_000_000 % 10**8:x}-{Both.count}-"
        self.sides = [Side(address, prefix) for address in addresses]
        self.said = []

    def step(self, name, *arguments):
        """Both answer alike; gives our answer."""
        self.said.append((name, *arguments))
        theirs, ours = (getattr(side, name)(*arguments) for side in self.sides)
        assert ours == theirs, f"after {self.said}: ours {ours}, Kafka's {theirs}"
        return ours

    def look(self):
        """Both look alike."""
        theirs, ours = (side.seen() for side in self.sides)
        assert ours == theirs, f"after {self.said}: ours {ours}, Kafka's {theirs}"

    def close(self):
        for side in self.sides:
            side.client.close()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Of both; BARNABAS_ORACLE_TRANSACTIONS names a Kafka that runs already, with the settings above."""
    directory = tmp_path_factory.mktemp("pair")
    with our_broker(directory / "barnabas", SETTINGS) as ours:
        running = os.environ.get("BARNABAS_ORACLE_TRANSACTIONS")
        if running:
            yield running, ours.bootstrap_server
            return
        with kafka_broker(directory / "kafka", config=KAFKA_SETTINGS) as kafka:
            yield kafka.bootstrap, ours.bootstrap_server


@pytest.fixture
def both(addresses):
    both = Both(addresses)
    yield both
    both.close()


@pytest.mark.parametrize("version", range(6))
def test_init_producer_id(both, version):
    """In every version: new, again, with what one has, with what one had, and with wrong times."""
    both.step("init", 0, version, "fresh")
    both.step("init", 0, version, "fresh")
    both.step("init", 0, version, "keep")
    both.step("init", 0, version, "stale")
    both.step("init", 0, version, "keep")
    for timeout_ms in (0, -1, 900_000, 900_001):
        both.step("init", 0, version, "fresh", timeout_ms)
    both.look()


@pytest.mark.parametrize(
    "fields",
    [
        {"transactional_id": "", "transaction_timeout_ms": 1000},
        {"transactional_id": "x", "transaction_timeout_ms": 1000, "producer_id": 5},
        {"transactional_id": "x", "transaction_timeout_ms": 1000, "producer_epoch": 5},
        {"transactional_id": "", "transaction_timeout_ms": -1},
        {"transactional_id": None, "transaction_timeout_ms": -1},
    ],
)
def test_odd_requests_for_a_producer_id(both, fields):
    """Are refused alike."""
    codes = [side.client.call(InitProducerIdRequest(**fields), 4).error_code for side in both.sides]
    assert codes[0] == codes[1]


@pytest.mark.parametrize("version", range(7))
def test_the_coordinator_of_a_transactional_id(both, version):
    """Is found, also for odd names; groups and transactions have one each."""
    for key, key_type in (("x", 1), ("", 1), ("ü" * 300, 1), ("x", 0), ("x", 7)):
        if version == 0 and key_type:
            continue
        answers = []
        for side in both.sides:
            request = FindCoordinatorRequest(key=key, key_type=key_type)
            if version >= 4:
                request = FindCoordinatorRequest(coordinator_keys=[key, "y"], key_type=key_type)
            answer = side.client.call(request, version)
            found = answer.coordinators if version >= 4 else [answer]
            answers.append([(each.error_code, each.node_id >= 0) for each in found])
        assert answers[0] == answers[1], (key, key_type)


@pytest.mark.parametrize("version", range(4))
@pytest.mark.parametrize("ended_in", [0, 1, 2, 3, 4, 5])
def test_a_transaction_of_version_1(both, version, ended_in):
    """Each of its requests before, within and after it, by the right and by wrong epochs."""
    both.step("init", 0, min(version, 3), "fresh")
    for shift in (0, -1, 1):
        both.step("add", 0, version, (0,), shift)
        both.step("offsets_add", 0, version, shift)
        both.step("offsets", 0, version, 0, 7, shift, -1)
        both.step("produce", 0, 9, 0, 2, 0, shift, True)
        both.look()
    for shift in (-1, 1, 0):
        both.step("end", 0, ended_in, True, shift)
    both.look()
    for commit in (True, False):
        both.step("end", 0, ended_in, commit, 0)
    both.step("add", 0, version, (0, 1), 0)
    both.step("produce", 0, 9, 1, 1, 0, 0, True)
    both.step("init", 0, min(version, 3), "fresh")
    both.step("init", 0, min(version, 3), "fresh")
    both.look()


@pytest.mark.parametrize("produce_version", [12])
@pytest.mark.parametrize("offset_version", [4, 5])
def test_a_transaction_of_version_2(both, produce_version, offset_version):
    """The same, without telling the coordinator."""
    both.step("init", 0, 5, "fresh")
    for commit in (True, False):
        for shift in (0, -1, 1):
            both.step("produce", 0, produce_version, 0, 2, 0, shift, True)
            both.step("offsets", 0, offset_version, 0, 7, shift, -1)
            both.look()
        both.step("end", 0, 5, commit, 1)
        both.step("end", 0, 5, commit, 0)
        both.look()
        # Retries of what is done, and what is not the same.
        both.step("end", 0, 5, commit, -1)
        both.step("end", 0, 5, not commit, -1)
        both.step("end", 0, 5, commit, -2)
    both.step("end", 0, 5, True, 0)
    both.step("end", 0, 5, False, 0)
    both.look()


def test_what_is_listed(both):
    """By state, producer and duration, in each version; and what is no state."""
    both.step("init", 0, 5, "fresh")
    both.step("init", 1, 5, "fresh")
    both.step("produce", 0, 12, 0, 1, 0, 0, True)
    for version in (0, 1, 2):
        for filters in (
            {},
            {"state_filters": ["Ongoing"]},
            {"state_filters": ["Ongoing", "Empty", "Dead", "PrepareEpochFence", "ongoing", "Odd"]},
            {"duration_filter": 0},
            {"duration_filter": 10**9},
            {"duration_filter": -5},
            {"producer_id_filters": [-7]},
            *(
                {"transactional_id_pattern": pattern}
                for pattern in (
                    None,
                    "",
                    "x0",
                    ".*x0",
                    "[",
                    "(a",
                    "a**",
                    "(?=a)",
                    "^.*$",
                    "(?i).*X[01]",
                    "ü.*",
                )
            ),
        ):
            if "duration_filter" in filters and version == 0:
                continue
            if "transactional_id_pattern" in filters and version < 2:
                continue
            answers = [side.client.call(ListTransactionsRequest(**filters), version) for side in both.sides]
            plain = [
                (
                    answer.error_code,
                    sorted(answer.unknown_state_filters),
                    sorted(
                        (each.transactional_id, each.transaction_state)
                        for each in answer.transaction_states
                        if each.transactional_id.startswith(side.prefix)
                    ),
                )
                for side, answer in zip(both.sides, answers, strict=True)
            ]
            assert plain[0] == plain[1], filters


def test_ids_that_are_not_there(both):
    """And partitions."""
    for side_answers in zip(
        *(
            [
                state.error_code
                for state in side.client.call(
                    DescribeTransactionsRequest(transactional_ids=["nobody", "", "x"]), 0
                ).transaction_states
            ]
            for side in both.sides
        ),
        strict=True,
    ):
        assert side_answers[0] == side_answers[1]
    answers = []
    for side in both.sides:
        names = (side.topic, "missing", "a b", "", "x" * 250, "__transaction_state")
        answer = side.client.call(
            DescribeProducersRequest(
                topics=[
                    DescribeProducersRequest.TopicRequest(name=name, partition_indexes=[0, 9, -1])
                    for name in names
                ]
            ),
            0,
        )
        answers.append(
            [
                [(each.partition_index, each.error_code, each.error_message) for each in topic.partitions]
                for topic in answer.topics
            ]
        )
    assert answers[0] == answers[1]


# ----- random steps

WHO = st.integers(0, 1)
SHIFT = st.sampled_from([0, 0, 0, 0, -1, 1])
PARTITION = st.integers(0, PARTITIONS - 1)
SOME = st.sampled_from([(0,), (1,), (0, 1), (0, 5)])
STEPS = st.one_of(
    st.tuples(st.just("init"), WHO, st.integers(0, 5), st.sampled_from(["fresh", "keep", "stale"])),
    st.tuples(st.just("add"), WHO, st.integers(0, 3), SOME, SHIFT),
    st.tuples(st.just("broker_add"), WHO, st.integers(4, 5), SOME, SHIFT, st.booleans()),
    st.tuples(
        st.just("produce"),
        WHO,
        st.sampled_from([7, 9, 11, 12, 12, 12]),
        PARTITION,
        st.integers(1, 3),
        st.sampled_from([0, 0, 0, 0, 1, -1]),
        SHIFT,
        st.sampled_from([True, True, True, False]),
    ),
    st.tuples(st.just("offsets_add"), WHO, st.integers(0, 4), SHIFT),
    st.tuples(
        st.just("offsets"),
        WHO,
        st.integers(0, 5),
        PARTITION,
        st.integers(0, 99),
        SHIFT,
        st.sampled_from([-1, -1, -1, 3]),
    ),
    st.tuples(st.just("end"), WHO, st.sampled_from([0, 2, 3, 4, 5, 5, 5]), st.booleans(), SHIFT),
    st.tuples(st.just("end"), WHO, st.sampled_from([3, 5]), st.booleans(), st.just(0)),
    st.tuples(st.just("marker"), WHO, st.integers(1, 2), PARTITION, st.booleans()),
)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "12")),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(STEPS, min_size=10, max_size=25))
def test_random_steps(addresses, steps):
    """Both answer alike, and look alike after each step, whatever the order."""
    both = Both(addresses)
    try:
        both.step("init", 0, 5, "fresh")
        both.step("init", 1, 5, "fresh")
        for step in steps:
            both.step(*step)
            both.look()
    finally:
        both.close()

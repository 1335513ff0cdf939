"""What is wrong or too large in the requests of groups and transactions: Apache Kafka 4.3 and we answer alike, and both go on.

Foreign generations and epochs, zombies and random orders of all of it are in `test_random_steps`, `test_consumer_groups` and
`test_transactions`; here is what a random machine does not think of.
"""

from __future__ import annotations

import itertools
import os
import time

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.client.consumer_protocol_subscription import ConsumerProtocolSubscription
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.broker_process import wait_until
from tests.oracle.admin_pair import BY_NAME, without
from tests.oracle.building import build, fitted
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.likeness import Likeness, differences
from tests.oracle.two_brokers import Side
from tests.our_broker import our_broker, wire_client
from tests.transactional_producer import TransactionalProducer, create_topic, last_stable_offset, read

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
}
CLOSED = "closes the connection"

_numbers = itertools.count()


def subscription(*topics, version=1):
    return version.to_bytes(2) + ConsumerProtocolSubscription(topics=list(topics)).encode(version)


GOOD = subscription("orders")

MALFORMED = {
    "nothing": b"",
    "half a version": b"\0",
    "no topics": b"\0\1",
    "a version that is none": b"\xff\xff" + GOOD[2:],
    "a version of the future": b"\x7f\xff" + GOOD[2:],
    "fewer topics than said": b"\0\1\0\0\0\7" + GOOD[6:],
    "a negative number of topics": b"\0\1\xff\xff\xff\xfe" + GOOD[6:],
    "more topics than memory": b"\0\1\x7f\xff\xff\xff" + GOOD[6:],
    "a topic longer than all": b"\0\1\0\0\0\1\x7f\xff" + GOOD[8:],
    "a topic of no text": b"\0\1\0\0\0\1\0\2\xff\xfe\0\0\0\0\xff\xff\xff\xff",
    "a cut end": GOOD[:-3],
    "a longer end": GOOD + b"more",
}
UNANSWERED = {
    "fewer topics than said",
    "a negative number of topics",
    "more topics than memory",
    "a topic longer than all",
}
"""Kafka fails over these when a rebalance ends, and never answers the JoinGroup."""
LENIENT = {"a topic of no text"}
"""What is no UTF-8 Kafka replaces, and then reads."""


class Both:
    """Apache Kafka and us, asked the same."""

    def __init__(self, addresses):
        self.sides = [Side(address, Likeness()) for address in addresses]

    @property
    def clients(self):
        return [side.client for side in self.sides]

    def ask(self, api, version, *, but=(), **fields):
        """What both answer, which is alike; a field may be a function of the number of the side.

        `but` are fields of the answer that differ on purpose. An error of Kafka's that it did not mean to give
        (UNKNOWN_SERVER_ERROR) may be any error of ours.
        """
        answers = []
        for number, side in enumerate(self.sides):
            said = {name: value(number) if callable(value) else value for name, value in fields.items()}
            request = fitted(build(BY_NAME[api].request_class, **said), version)
            try:
                answers.append(side.client.call(request, version))
            except ConnectionError:
                side.client.close()
                side.client = wire_client(side.address)
                answers.append(CLOSED)
        if (
            getattr(answers[0], "error_code", 0) == ErrorCode.UNKNOWN_SERVER_ERROR
            and answers[1].error_code > 0
        ):
            return answers
        plain = [
            answer if answer is CLOSED else without(side.plain(answer), but)
            for side, answer in zip(self.sides, answers, strict=True)
        ]
        found = differences(*plain)
        assert not found, "\n".join([f"{api} {version} {str(fields)[:2000]}", *found])
        return answers

    def barrier(self):
        for side in self.sides:
            side.barrier()

    def topic(self, partitions=2):
        name = f"topic-{next(_numbers)}"
        for client in self.clients:
            create_topic(client, name, partitions)
        self.barrier()
        return name

    def delete(self, topic):
        self.ask("DeleteTopics", 5, topic_names=[topic], timeout_ms=10_000)
        self.barrier()

    def describe(self, group, version=5):
        self.ask("DescribeGroups", version, groups=[group])

    def join(self, group, protocols, *, version=9, ids=("", ""), kind="consumer", **fields):
        """JoinGroup, twice where a member is given an id first; gives the answers."""

        def once(ids):
            return self.ask(
                "JoinGroup",
                version,
                group_id=group,
                session_timeout_ms=30_000,
                rebalance_timeout_ms=30_000,
                member_id=lambda number: ids[number],
                protocol_type=kind,
                protocols=[{"name": name, "metadata": metadata} for name, metadata in protocols],
                **fields,
            )

        answers = once(ids)
        if CLOSED not in answers and answers[1].error_code == 79:
            answers = once([answer.member_id for answer in answers])
        return answers

    def sync(self, group, joined, assignment, *, version=5, name="range"):
        return self.ask(
            "SyncGroup",
            version,
            group_id=group,
            generation_id=joined[1].generation_id,
            member_id=lambda number: joined[number].member_id,
            protocol_type="consumer",
            protocol_name=name,
            assignments=lambda number: [{"member_id": joined[number].member_id, "assignment": assignment}],
        )

    def commit(self, group, topic, metadata, *, version=8, generation=-1, ids=("", "")):
        place = {"partition_index": 0, "committed_offset": 5, "committed_metadata": metadata}
        return self.ask(
            "OffsetCommit",
            version,
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=lambda number: ids[number],
            topics=[{"name": topic, "partitions": [place, place | {"partition_index": 1}]}],
        )

    def fetch_offsets(self, group, topic):
        self.ask("OffsetFetch", 7, group_id=group, topics=[{"name": topic, "partition_indexes": [0, 1]}])

    def close(self):
        for client in self.clients:
            client.close()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Of both; BARNABAS_ORACLE_GROUPS names a Kafka that runs already, with the settings above."""
    directory = tmp_path_factory.mktemp("pair")
    with our_broker(directory / "barnabas", SETTINGS) as ours:
        running = os.environ.get("BARNABAS_ORACLE_GROUPS")
        if running:
            yield running, ours.bootstrap_server
            return
        with kafka_broker(directory / "kafka", config=SETTINGS) as kafka:
            yield kafka.bootstrap, ours.bootstrap_server


@pytest.fixture
def both(addresses):
    both = Both(addresses)
    for client in both.clients:
        for key_type in (0, 1):
            find = FindCoordinatorRequest(key="any", key_type=key_type)
            wait_until(lambda client=client, find=find: client.call(find, 2).error_code == 0)
    groups = build(BY_NAME["DescribeGroups"].request_class, groups=["any"])
    wait_until(lambda: all(client.call(groups, 5).groups[0].error_code == 0 for client in both.clients))
    for client in both.clients:
        TransactionalProducer(client, "any").start()
    yield both
    both.close()


@pytest.fixture
def group():
    return f"group-{next(_numbers)}"


# ----- subscriptions


@pytest.mark.parametrize("flaw", sorted(UNANSWERED))
def test_subscriptions_that_leave_kafka_speechless(both, group, flaw):
    """Here the group comes to be, and can be looked at, turned down, left and deleted like any other."""
    topic = both.topic()
    client = both.clients[1]

    def ask(api, version, **fields):
        return client.call(build(BY_NAME[api].request_class, group_id=group, **fields), version)

    join = {"session_timeout_ms": 30_000, "rebalance_timeout_ms": 30_000, "protocol_type": "consumer"}
    join["protocols"] = [{"name": "range", "metadata": MALFORMED[flaw]}]
    member = {"member_id": ask("JoinGroup", 9, **join).member_id}
    assert ask("JoinGroup", 9, **join, **member).error_code == 0
    beat = {"member_id": "newcomer", "rebalance_timeout_ms": 30_000, "topic_partitions": []}
    answer = ask("ConsumerGroupHeartbeat", 1, **beat, member_epoch=0, subscribed_topic_names=[topic])
    assert answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    described = client.call(build(BY_NAME["DescribeGroups"].request_class, groups=[group]), 5).groups[0]
    assert [each.member_id for each in described.members] == [member["member_id"]]
    assert ask("LeaveGroup", 5, members=[member]).members[0].error_code == 0
    delete = build(BY_NAME["DeleteGroups"].request_class, groups_names=[group])
    assert client.call(delete, 2).results[0].error_code == 0


@pytest.mark.parametrize("flaw", sorted(MALFORMED.keys() - UNANSWERED))
def test_malformed_subscriptions(both, group, flaw):
    """A classic group takes any bytes; whoever has to understand them says what it does when it can not."""
    topic = both.topic()
    joined = both.join(group, [("range", MALFORMED[flaw])])
    assert joined[1].error_code == 0
    both.sync(group, joined, MALFORMED[flaw])
    both.describe(group)
    both.commit(group, topic, "", generation=1, ids=[answer.member_id for answer in joined])
    place = [{"name": topic, "partitions": [{"partition_index": 0}]}]
    if flaw not in LENIENT:
        both.ask("OffsetDelete", 0, group_id=group, topics=place)
    # One of the new protocol would turn the group around, and has to read what it subscribes to.
    both.ask(
        "ConsumerGroupHeartbeat",
        1,
        group_id=group,
        member_id="newcomer",
        member_epoch=0,
        rebalance_timeout_ms=30_000,
        subscribed_topic_names=[topic],
        topic_partitions=[],
    )
    both.describe(group)
    both.ask("DeleteGroups", 2, groups_names=[group])


@pytest.mark.parametrize("flaw", MALFORMED)
def test_malformed_subscriptions_in_a_consumer_group(both, group, flaw):
    """A classic member that wants to join a group of the new protocol has to be understood."""
    topic = both.topic()
    beat = {"group_id": group, "member_id": "member", "rebalance_timeout_ms": 30_000}
    both.ask(
        "ConsumerGroupHeartbeat",
        1,
        **beat,
        member_epoch=0,
        subscribed_topic_names=[topic],
        topic_partitions=[],
    )
    both.join(group, [("range", MALFORMED[flaw])])
    both.join(group, [("range", GOOD), ("roundrobin", MALFORMED[flaw])])
    both.ask("ConsumerGroupDescribe", 1, group_ids=[group])


PATTERNS = (
    "(",
    "[a",
    "a{2,1}",
    "a**",
    "\\",
    "(?<n>a)",
    "(?=a)",
    "\\1",
    "*",
    "a{1001}",
    "\ud7ff" * 10,
    "x" * 9_000,
)


@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
def test_malformed_patterns(both, group, pattern):
    """INVALID_REGULAR_EXPRESSION with RE2's words, or taken."""
    both.ask(
        "ConsumerGroupHeartbeat",
        1,
        but=["heartbeat_interval_ms"],
        group_id=group,
        member_id="member",
        member_epoch=0,
        rebalance_timeout_ms=30_000,
        subscribed_topic_regex=PATTERNS[pattern],
        topic_partitions=[],
    )


# ----- sizes


@pytest.mark.parametrize("size", [4095, 4096, 4097, 32_767])
@pytest.mark.parametrize("version", [2, 8])
def test_notes_of_commits(both, group, version, size):
    """offset.metadata.max.bytes for each partition by itself; in old versions a note has a length of two bytes."""
    topic = both.topic()
    both.commit(group, topic, "x" * size, version=version)
    both.commit(group, topic, "\u20ac" * (size // 3), version=version)
    both.fetch_offsets(group, topic)


@pytest.mark.parametrize("size", [900_000, 1_048_400, 1_100_000])
def test_what_does_not_fit_into_a_record(both, group, size):
    """Metadata and assignments beyond what a record of the offsets topic can hold: refused, and the group goes on without."""
    joined = both.join(group, [("range", bytes(size))])
    if CLOSED not in joined and joined[1].error_code == 0:
        both.sync(group, joined, bytes(8))
    both.describe(group)
    other = f"{group}-assignment"
    joined = both.join(other, [("range", GOOD)])
    both.sync(other, joined, bytes(size))
    both.describe(other)
    both.sync(other, joined, b"small")
    both.describe(other)


@pytest.mark.parametrize("size", [249, 10_000, 32_767])
def test_long_names(both, size):
    """Of groups, members, instances, protocols, transactions, racks and assignors."""
    long = f"{next(_numbers)}-".ljust(size, "x")
    topic = both.topic()
    both.commit(long, topic, "")
    both.fetch_offsets(long, topic)
    both.describe(long)
    both.join(f"group-{next(_numbers)}", [(long, GOOD)])
    both.join(f"group-{next(_numbers)}", [("range", GOOD)], kind=long)
    both.join(f"group-{next(_numbers)}", [("range", GOOD)], reason=long)
    for field in ("member_id", "instance_id", "rack_id", "server_assignor"):
        fields = {"member_id": "member", field: long[:32_000]}
        both.ask(
            "ConsumerGroupHeartbeat",
            1,
            group_id=f"group-{next(_numbers)}",
            member_epoch=0,
            rebalance_timeout_ms=30_000,
            subscribed_topic_names=[topic],
            topic_partitions=[],
            **fields,
        )
    both.ask(
        "ConsumerGroupHeartbeat",
        1,
        group_id=f"group-{next(_numbers)}",
        member_id="member",
        member_epoch=0,
        rebalance_timeout_ms=30_000,
        subscribed_topic_names=[long],
        topic_partitions=[],
    )
    both.ask("InitProducerId", 4, transactional_id=long, transaction_timeout_ms=60_000)
    both.ask("DescribeTransactions", 0, transactional_ids=[f"{long[:-1]}y"])


# ----- protocols


def test_mixed_protocols(both, group):
    """Kinds and names of protocols that do not fit together; the group stays what it was."""
    joined = both.join(group, [("range", GOOD), ("sticky", GOOD)])
    both.sync(group, joined, b"assignment")
    both.join(group, [("range", GOOD)], kind="connect")
    both.join(group, [("other", GOOD)])
    both.join(group, [("range", GOOD)], kind="")
    both.join(group, [])
    both.sync(group, joined, b"assignment", name="sticky")
    both.sync(group, joined, b"assignment", name="other")
    both.describe(group)
    connect = f"{group}-connect"
    joined = both.join(connect, [("default", b"worker")], kind="connect")
    both.ask(
        "ConsumerGroupHeartbeat",
        1,
        group_id=connect,
        member_id="member",
        member_epoch=0,
        rebalance_timeout_ms=30_000,
        subscribed_topic_names=["orders"],
        topic_partitions=[],
    )
    both.ask("ConsumerGroupDescribe", 1, group_ids=[connect, group, "none"])
    both.describe(connect)


# ----- transactions over deleted topics


def looks(both, producers, topics, group):
    """All that others can see of a transaction."""
    seen = []
    for client, producer in zip(both.clients, producers, strict=True):
        described = client.call(
            build(
                BY_NAME["DescribeTransactions"].request_class, transactional_ids=[producer.transactional_id]
            ),
            0,
        ).transaction_states[0]
        there = {
            topic.name
            for topic in client.call(
                build(
                    MetadataRequest,
                    topics=[{"name": topic} for topic in topics],
                    allow_auto_topic_creation=False,
                ),
                9,
            ).topics
            if topic.error_code == 0
        }
        seen.append(
            (
                described.transaction_state,
                sorted((topic.topic, sorted(topic.partitions)) for topic in described.topics),
                {
                    topic: [
                        (read(client, topic, index), last_stable_offset(client, topic, index))
                        for index in (0, 1)
                    ]
                    for topic in sorted(there)
                },
            )
        )
    assert seen[0] == seen[1]
    both.fetch_offsets(group, topics[0])
    return seen[1]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_transactions_over_deleted_topics(both, group, version, commit, again):
    """What was written elsewhere is committed or aborted; nothing waits for what is gone, or for what came later by its name."""
    kept, gone = both.topic(), both.topic()
    producers = [TransactionalProducer(client, f"id-{group}", version).start() for client in both.clients]

    def each(call):
        theirs, ours = map(call, producers)
        assert ours == theirs
        return ours

    for producer in producers:
        producer.write(kept, 0, b"a")
        producer.write(gone, 0, b"b")
        producer.write(gone, 1, b"c")
        producer.write_offsets(group, gone, {0: 7})
        producer.write_offsets(group, kept, {0: 8})
    both.delete(gone)
    if again:
        for client in both.clients:
            create_topic(client, gone, 2)
        both.barrier()
    looks(both, producers, [kept, gone], group)
    each(lambda producer: producer.produce(gone, 0, b"d").error_code)
    each(lambda producer: producer.commit_offsets(group, gone, {0: 9}))
    if version == 1:
        each(lambda producer: producer.add(gone, 0, 1))
    for producer in producers:
        producer.finish(commit=commit)

    def ended():
        return all(
            last_stable_offset(client, kept, 0) == last_stable_offset(client, kept, 0, committed=False)
            for client in both.clients
        )

    wait_until(ended, what="the end of the transaction")
    end = time.monotonic() + 10
    while True:
        # Both complete it once every marker is written, a moment after the answer.
        try:
            state, _, _ = looks(both, producers, [kept, gone], group)
            break
        except AssertionError:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert state in ("CompleteCommit", "CompleteAbort")
    for client in both.clients:
        assert read(client, kept, 0) == ([b"a"] if commit else [])
    for producer in producers:
        producer.write(kept, 1, b"e")
        producer.finish(commit=True)
    wait_until(lambda: all(read(client, kept, 1) == [b"e"] for client in both.clients), what="the next one")

"""Kafka's own command-line tools on Apache Kafka 4.3 and on us: the same commands, sound and unsound, show the same.

`tests/clients/test_kafka_tools.py` says what each tool is for; here every line that they write is compared, but for ids, times
and other measured numbers, in any order.
"""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from barnabas.handlers.registry import HANDLERS
from barnabas.records.builder import build_batch
from barnabas.wire.messages.produce import ProduceRequest
from tests.clients.peer import Peer
from tests.clients.programs import MissingToolError, program
from tests.clients.test_kafka_tools import (
    ACLS,
    ALL_GROUPS,
    API_VERSIONS,
    CLIENT_METRICS,
    CLUSTER,
    CONFIGS,
    CONSUMER,
    CONSUMER_PERFORMANCE,
    DELETE_RECORDS,
    FEATURES,
    GROUPS,
    LEADER_ELECTION,
    LOG_DIRECTORIES,
    OFFSETS,
    PRODUCER,
    PRODUCER_PERFORMANCE,
    QUORUM,
    REASSIGN,
    TOKENS,
    TOPICS,
    TRANSACTIONS,
)
from tests.cluster_client import shown_by_one_node
from tests.oracle.kafka_broker import kafka_broker
from tests.our_broker import is_cluster, only_on_one_node, our_broker, wire_client
from tests.transactional_producer import TransactionalProducer
from tools.differences import FEATURES as LEVELS

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.min.isr": "1",
}
END_TO_END_LATENCY = "org.apache.kafka.tools.EndToEndLatency"
STREAMS_RESETTER = "org.apache.kafka.tools.StreamsResetter"
CATCH_UP_S = 5
NOT_HERE = {"kraft.version", "share.version", "streams.version"}

_ID = re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])")
_MILLISECONDS = re.compile(r"\b1[789]\d{11}\b")
_GENERATED_GROUP = re.compile(r"\b(console|perf)-consumer-\d+")
_JOB = re.compile(r"\[job-\d+\]|adminclient-\d+")
_MEASURED = re.compile(r"\d+([.,]\d+)?")


class Tools:
    """The tools, in one process of their own, and both brokers."""

    def __init__(self, peer, addresses, directories):
        self.peer = peer
        self.addresses = addresses
        self.directories = directories
        self.clients = [wire_client(address) for address in addresses]

    def run(self, side, tool, arguments, text=None, status=0):
        """What it writes to a terminal."""
        at = ["--bootstrap-server", self.addresses[side]]
        first, rest = (list(arguments[:1]), arguments[1:]) if tool == CLUSTER else ([], arguments)
        done = self.peer.call(
            "tool",
            tool=tool,
            arguments=[*first, *at, *rest],
            **({} if text is None else {"input": text}),
        )
        assert done["status"] == status, f"{self.addresses[side]}: {tool} {arguments}: {done['output']}"
        return done["output"]

    def lines(self, side, output, *, measured=False):
        """Its lines without what two brokers cannot have in common."""
        address = self.addresses[side]
        if is_cluster(address):
            output = shown_by_one_node(output + "\n")
        output = output.replace(str(self.directories[side]), "DIRECTORY")
        every = (address, *address.split(","))
        for each in every:
            output = output.replace(each, "ADDRESS")
        for each in every:
            output = output.replace(each.rpartition(":")[2], "PORT")
        # A group that a tool names by chance, as that of a consumer without one, shows in later lists too.
        output = _GENERATED_GROUP.sub("GROUP", output)
        output = _JOB.sub("NUMBER", _MILLISECONDS.sub("TIME", _ID.sub("ID", output)))
        if measured:
            output = _MEASURED.sub("N", output)
        return sorted(" ".join(line.split()) for line in output.splitlines() if line.strip())

    def agree(self, tool, *arguments, text=None, status=0, measured=False, pick=None):
        """Both show the same and end alike, the one by Kafka within a moment; gives ours.

        `pick` takes from each output what is compared; without it every line is.
        """
        take = pick or (lambda output: output.splitlines())
        ours = self.run(1, tool, arguments, text, status)
        mine = self.lines(1, "\n".join(take(ours)), measured=measured)
        end = time.monotonic() + CATCH_UP_S
        while True:
            theirs = self.run(0, tool, arguments, text, status)
            there = self.lines(0, "\n".join(take(theirs)), measured=measured)
            # What has been asked for already shows in Kafka a moment later; whatever changes something is asked for once.
            if there == mine or text is not None or not _only_looks(tool, arguments):
                break
            if time.monotonic() > end:
                break
        only_theirs, only_ours = _without(there, mine), _without(mine, there)
        assert (only_theirs, only_ours) == ([], []), f"{tool} {' '.join(arguments)}"
        return ours

    def fails(self, tool, *arguments, **options):
        return self.agree(tool, *arguments, status=1, **options)

    def topic(self, name, partitions=2):
        self.agree(TOPICS, "--create", "--topic", name, "--partitions", str(partitions))
        self.agree(TOPICS, "--describe", "--topic", name)
        return name

    def write(self, topic, partition, *times):
        """One batch, the same for both."""
        batch = bytes(build_batch([(0, at, b"key", b"value", ()) for at in times]))
        data = ProduceRequest.PartitionProduceData(index=partition, records=batch)
        request = ProduceRequest(
            acks=-1,
            timeout_ms=10_000,
            topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
        )
        for client in self.clients:
            end = time.monotonic() + CATCH_UP_S
            while client.call(request, 9).responses[0].partition_responses[0].error_code != 0:
                assert time.monotonic() < end, "the topic is not there"

    def close(self):
        for client in self.clients:
            client.close()
        self.peer.close()


def _only_looks(tool, arguments):
    looks = ("--describe", "--list", "--verify", "--dry-run", "--export", "describe", "list", "find-hanging")
    return tool in (OFFSETS, API_VERSIONS) or any(argument in looks for argument in arguments)


def _without(lines, others):
    rest = list(others)
    return [line for line in lines if line not in rest or rest.remove(line)]


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    try:
        command, environment = program("java-4.3")
    except MissingToolError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    directory = tmp_path_factory.mktemp("tools")
    directories = (directory / "kafka", directory / "barnabas")
    with (
        our_broker(directories[1], SETTINGS) as ours,
        kafka_broker(directories[0], config=SETTINGS) as kafka,
    ):
        peer = Peer("java-4.3", command, log_path=directory / "peer.log", environment=environment)
        tools = Tools(peer, (kafka.bootstrap, ours.bootstrap_server), directories)
        yield tools
        tools.close()


@pytest.fixture
def plan(tmp_path):
    """`plan({...})` is the name of a file with that in it."""

    def write(content):
        file = tmp_path / f"plan-{len(list(tmp_path.iterdir()))}"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    return write


def test_topics(tools):
    """kafka-topics: create, list, describe in all its ways, alter, delete; and what cannot be."""
    create = ("--create", "--topic")
    name = tools.topic("topics-a", 3)
    tools.agree(TOPICS, *create, "topics-b", "--replica-assignment", "1,1")
    tools.agree(TOPICS, *create, "topics.c", "--config", "retention.ms=1000", "--config", "segment.ms=7")
    tools.agree(TOPICS, *create, name, "--if-not-exists")
    tools.fails(TOPICS, *create, name)
    tools.fails(TOPICS, *create, "topics_c")
    tools.fails(TOPICS, *create, "bad/name")
    tools.fails(TOPICS, *create, "d", "--replication-factor", "9")
    tools.fails(TOPICS, *create, "d", "--replica-assignment", "1,9")
    tools.fails(TOPICS, *create, "d", "--config", "nope=1")
    tools.fails(TOPICS, *create, "d", "--config", "retention.ms=soon")
    tools.agree(TOPICS, "--list")
    tools.agree(TOPICS, "--list", "--exclude-internal")
    tools.agree(TOPICS, "--list", "--topic", "topics.*")
    tools.agree(TOPICS, "--describe")
    tools.agree(TOPICS, "--describe", "--topic", "topics-a|topics-b")
    tools.agree(TOPICS, "--describe", "--topics-with-overrides")
    tools.agree(TOPICS, "--describe", "--topic", name, "--partition-size-limit-per-response", "1")
    # Where all have one replica more than min.insync.replicas, none is at it.
    at_least = () if is_cluster(tools.addresses[1]) else ("at-min-isr",)
    for kind in ("under-replicated", "under-min-isr", *at_least, "unavailable"):
        tools.agree(TOPICS, "--describe", f"--{kind}-partitions")
    tools.fails(TOPICS, "--describe", "--topic", "none")
    tools.agree(TOPICS, "--describe", "--topic", "none", "--if-exists")
    alter = ("--alter", "--topic", name, "--partitions")
    tools.agree(TOPICS, *alter, "5")
    tools.fails(TOPICS, *alter, "2")
    assigned = ("--alter", "--topic", "topics-b", "--partitions")
    tools.agree(TOPICS, *assigned, "3", "--replica-assignment", "1,1,1")
    tools.fails(TOPICS, *assigned, "4", "--replica-assignment", "1,1,1,9")
    tools.fails(TOPICS, "--alter", "--topic", "none", "--partitions", "2")
    tools.agree(TOPICS, "--describe", "--topic", name)
    tools.agree(TOPICS, "--describe", "--topic", "topics-b")
    tools.agree(TOPICS, "--delete", "--topic", "topics.c")
    tools.fails(TOPICS, "--delete", "--topic", "none")
    tools.agree(TOPICS, "--delete", "--topic", "none", "--if-exists")
    tools.agree(TOPICS, "--list")


def test_configs_of_topics(tools):
    """kafka-configs for topics: every key with its value and where that comes from."""
    name = tools.topic("configs")
    this = ("--entity-type", "topics", "--entity-name", name)
    tools.agree(CONFIGS, "--describe", *this)
    tools.agree(CONFIGS, "--describe", "--all", *this)
    tools.agree(
        CONFIGS, "--alter", *this, "--add-config", "cleanup.policy=[compact,delete],retention.ms=1234567"
    )
    tools.agree(CONFIGS, "--describe", *this)
    tools.fails(CONFIGS, "--alter", *this, "--add-config", "nope=5")
    tools.fails(CONFIGS, "--alter", *this, "--add-config", "retention.ms=soon")
    tools.agree(CONFIGS, "--alter", *this, "--delete-config", "retention.ms,nope")
    tools.agree(CONFIGS, "--describe", *this)
    tools.agree(CONFIGS, "--alter", *this, "--delete-config", "cleanup.policy")
    tools.agree(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", "none")
    tools.agree(CONFIGS, "--describe", "--entity-type", "topics")


def test_configs_of_brokers(tools):
    """kafka-configs for one broker and for all, and for the loggers."""
    one = ("--entity-type", "brokers", "--entity-name", "1")
    everyone = ("--entity-type", "brokers", "--entity-default")
    tools.agree(CONFIGS, "--alter", *one, "--add-config", "message.max.bytes=1048600")
    tools.agree(CONFIGS, "--alter", *everyone, "--add-config", "log.retention.ms=604800001")
    tools.agree(CONFIGS, "--describe", *one)
    tools.agree(CONFIGS, "--describe", *everyone)
    tools.agree(CONFIGS, "--describe", "--entity-type", "brokers")
    tools.fails(CONFIGS, "--alter", *one, "--add-config", "log.dirs=/elsewhere")
    tools.fails(CONFIGS, "--alter", *one, "--add-config", "log.cleaner.threads=many")
    tools.agree(CONFIGS, "--alter", *one, "--delete-config", "message.max.bytes")
    tools.agree(CONFIGS, "--alter", *everyone, "--delete-config", "log.retention.ms")
    tools.agree(CONFIGS, "--describe", *one)
    tools.agree(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "7")
    loggers = ("--entity-type", "broker-loggers", "--entity-name", "1")
    tools.agree(CONFIGS, "--describe", *loggers, pick=lambda shown: re.findall("^root", shown, re.MULTILINE))
    tools.fails(CONFIGS, "--alter", *loggers, "--add-config", "no.such.logger=DEBUG")
    tools.fails(CONFIGS, "--alter", *loggers, "--add-config", "root=NONSENSE")


def test_configs_of_groups(tools):
    """kafka-configs for groups."""
    group = ("--entity-type", "groups", "--entity-name", "configured")
    tools.agree(CONFIGS, "--describe", *group)
    tools.agree(CONFIGS, "--alter", *group, "--add-config", "consumer.session.timeout.ms=50000")
    tools.agree(CONFIGS, "--describe", *group)
    tools.agree(CONFIGS, "--describe", "--all", *group)
    tools.agree(CONFIGS, "--describe", "--entity-type", "groups")
    tools.fails(CONFIGS, "--alter", *group, "--add-config", "consumer.session.timeout.ms=5")
    tools.fails(CONFIGS, "--alter", *group, "--add-config", "nope=5")
    tools.agree(CONFIGS, "--alter", *group, "--delete-config", "consumer.session.timeout.ms")
    tools.agree(CONFIGS, "--describe", *group)


def test_configs_of_users_clients_and_addresses(tools):
    """kafka-configs for quotas and SCRAM users."""
    user = ("--entity-type", "users", "--entity-name", "user")
    both = (*user, "--entity-type", "clients", "--entity-name", "client")
    tools.agree(CONFIGS, "--alter", *both, "--add-config", "producer_byte_rate=1024,request_percentage=50.5")
    tools.agree(CONFIGS, "--describe", *both)
    tools.agree(CONFIGS, "--describe", *user)
    tools.agree(CONFIGS, "--describe", "--entity-type", "users", "--entity-type", "clients")
    tools.fails(CONFIGS, "--alter", *both, "--add-config", "producer_byte_rate=fast")
    tools.agree(CONFIGS, "--alter", *both, "--delete-config", "producer_byte_rate,request_percentage")
    tools.agree(CONFIGS, "--describe", *both)
    address = ("--entity-type", "ips", "--entity-name", "1.2.3.4")
    tools.agree(CONFIGS, "--alter", *address, "--add-config", "connection_creation_rate=10")
    tools.agree(CONFIGS, "--describe", *address)
    tools.agree(CONFIGS, "--alter", *address, "--delete-config", "connection_creation_rate")
    default = ("--entity-type", "clients", "--entity-default")
    tools.agree(CONFIGS, "--alter", *default, "--add-config", "consumer_byte_rate=5")
    tools.agree(CONFIGS, "--describe", *default)
    tools.agree(CONFIGS, "--alter", *default, "--delete-config", "consumer_byte_rate")
    secret = "SCRAM-SHA-256=[iterations={},password=secret]"
    tools.agree(CONFIGS, "--alter", *user, "--add-config", secret.format(8192))
    tools.agree(CONFIGS, "--describe", *user)
    tools.fails(CONFIGS, "--alter", *user, "--add-config", secret.format(1))
    tools.fails(CONFIGS, "--alter", *user, "--delete-config", "SCRAM-SHA-512")
    tools.agree(CONFIGS, "--alter", *user, "--delete-config", "SCRAM-SHA-256")
    tools.agree(CONFIGS, "--describe", *user)


def test_the_console_clients(tools):
    """kafka-console-producer and -consumer: what the one writes the other shows, by either group protocol."""
    name = tools.topic("console")
    parse = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    lines = "".join(f"{key}:{number}\n" for number, key in enumerate("abcdefghij"))
    tools.agree(PRODUCER, "--topic", name, *parse, text=lines)
    everything = ("--from-beginning", "--max-messages", "10", "--timeout-ms", "20000")
    show = [f"print.{what}=true" for what in ("key", "partition", "offset", "headers")]
    shown = [part for each in show for part in ("--formatter-property", each)]
    output = tools.agree(CONSUMER, "--topic", name, *everything, "--group", "console-1", *shown)
    assert "Processed a total of 10 messages" in output
    new = ("--group", "console-2", "--command-property", "group.protocol=consumer")
    tools.agree(CONSUMER, "--include", "conso.e|none", *everything, *new, *shown)
    place = ("--partition", "0", "--offset", "1", "--max-messages", "2", "--timeout-ms", "20000")
    tools.agree(CONSUMER, "--topic", name, *place, *shown)


def test_offsets(tools, plan):
    """kafka-get-offsets and kafka-delete-records."""
    name = tools.topic("offsets")
    now = int(time.time() * 1000)
    tools.write(name, 0, now, now + 5, now + 5, now + 1)
    tools.write(name, 0, now + 2)
    tools.write(name, 1, now - 7)
    this = ("--topic", name)
    for when in ("-1", "-2", "-3", "-4", "-5", "-6", str(now), str(now + 3), str(now + 9)):
        tools.agree(OFFSETS, *this, "--time", when)
    words = (
        "earliest",
        "latest",
        "max-timestamp",
        "earliest-local",
        "latest-tiered",
        "earliest-pending-upload",
    )
    for word in words:
        tools.agree(OFFSETS, *this, "--time", word)
    tools.agree(OFFSETS, *this, "--partitions", "1")
    tools.agree(OFFSETS, "--exclude-internal-topics")
    tools.agree(OFFSETS, "--topic-partitions", f"{name}:0,{name}:1-5,none")
    tools.fails(OFFSETS, "--topic", "none")
    places = [
        {"topic": name, "partition": 0, "offset": 2},
        {"topic": name, "partition": 1, "offset": -1},
    ]
    tools.agree(DELETE_RECORDS, "--offset-json-file", plan({"version": 1, "partitions": places}))
    tools.agree(OFFSETS, *this, "--time", "earliest")
    far = plan({"version": 1, "partitions": [{"topic": name, "partition": 0, "offset": 99}]})
    assert "OffsetOutOfRange" in tools.agree(DELETE_RECORDS, "--offset-json-file", far)
    twice = plan({"version": 1, "partitions": places * 2})
    tools.fails(DELETE_RECORDS, "--offset-json-file", twice)


def test_consumer_groups(tools, plan):
    """kafka-consumer-groups: list, describe, reset in all its ways, delete; and kafka-groups."""
    name = tools.topic("grouped")
    now = int(time.time() * 1000)
    for number in range(6):
        tools.write(name, number % 2, now + number)
    read = ("--topic", name, "--from-beginning", "--max-messages", "6", "--timeout-ms", "20000")
    tools.agree(CONSUMER, *read, "--group", "old")
    tools.agree(CONSUMER, *read, "--group", "new", "--command-property", "group.protocol=consumer")
    for more in ((), ("--state",), ("--state", "Empty"), ("--type", "consumer"), ("--type", "--state")):
        tools.agree(GROUPS, "--list", *more)
    for more in ((), ("--consumer",), ("--group-type", "classic"), ("--protocol", "consumer")):
        tools.agree(ALL_GROUPS, "--list", *more)
    for group in ("old", "new"):
        for more in ((), ("--state",), ("--members",), ("--offsets",)):
            tools.agree(GROUPS, "--describe", "--group", group, *more)
            tools.agree(GROUPS, "--describe", "--group", group, *more, "--verbose")
    tools.agree(GROUPS, "--describe", "--all-groups")
    assert "not found" in tools.agree(GROUPS, "--describe", "--group", "none")
    old = ("--reset-offsets", "--group", "old", "--topic")
    ways = (
        ("--to-earliest",),
        ("--to-latest",),
        ("--to-offset", "2"),
        ("--to-offset", "1000"),
        ("--shift-by", "-1"),
        ("--shift-by", "100"),
        ("--to-current",),
        ("--by-duration", "P1D"),
        ("--to-datetime", "2020-01-01T00:00:00.000"),
    )
    for way in ways:
        tools.agree(GROUPS, *old, name, *way, "--dry-run")
        tools.agree(GROUPS, *old, f"{name}:0", *way, "--execute")
    tools.agree(GROUPS, "--reset-offsets", "--group", "old", "--all-topics", "--to-current", "--export")
    file = plan(f"{name},0,1\n{name},1,2\n")
    tools.agree(GROUPS, "--reset-offsets", "--group", "old", "--from-file", file, "--execute")
    tools.agree(GROUPS, "--describe", "--group", "old")
    fresh = ("--reset-offsets", "--group", "fresh", "--topic")
    tools.agree(GROUPS, *fresh, name, "--to-latest", "--execute")
    tools.agree(GROUPS, "--describe", "--group", "fresh")
    tools.agree(GROUPS, *fresh, "none", "--to-latest", "--execute")
    delete = ("--delete-offsets", "--group")
    tools.agree(GROUPS, *delete, "old", "--topic", f"{name}:0")
    tools.agree(GROUPS, *delete, "old", "--topic", "none")
    tools.agree(GROUPS, *delete, "none", "--topic", name)
    tools.agree(GROUPS, "--delete", "--group", "old")
    tools.agree(GROUPS, "--delete", "--group", "none")
    tools.agree(GROUPS, "--delete", "--group", "new", "--group", "fresh")
    tools.agree(GROUPS, "--list")


def test_what_tools_read_of_the_internal_topics(tools):
    """kafka-console-consumer with Kafka's formatters: the last commit of each group, and each transactional id."""
    name = tools.topic("formatted")
    tools.write(name, 0, 1, 2, 3)
    reset = ("--reset-offsets", "--group", "formatted", "--topic", f"{name}:0", "--execute")
    tools.agree(GROUPS, *reset, "--to-latest")
    for client in tools.clients:
        producer = TransactionalProducer(client, "formatted").start()
        producer.write(name, 1, b"a")
        producer.finish(commit=True)

    def last(part):
        def pick(output):
            text = output[output.find("{") : output.rfind("}") + 1]
            found = {}
            while text:
                record, end = json.JSONDecoder().raw_decode(text)
                if part in json.dumps(record["key"]):
                    found[json.dumps(record["key"])] = json.dumps(record["value"])
                text = text[end:].lstrip()
            return [f"{key} {value}" for key, value in found.items()]

        return pick

    everything = ("--from-beginning", "--timeout-ms", "1500", "--formatter")
    formatters = "org.apache.kafka.tools.consumer"
    offsets = (*everything, f"{formatters}.OffsetsMessageFormatter")
    assert '"formatted"' in tools.agree(
        CONSUMER, "--topic", "__consumer_offsets", *offsets, pick=last('"formatted"')
    )
    ids = (*everything, f"{formatters}.TransactionLogMessageFormatter")
    shown = tools.agree(
        CONSUMER,
        "--topic",
        "__transaction_state",
        *ids,
        pick=lambda output: masked(last("formatted")(output)),
    )
    assert '"formatted"' in shown


def masked(lines):
    """Producer ids are counted by each broker."""
    return [re.sub(r'("\w*[pP]roducerId": )\d+', r"\1N", line) for line in lines]


def test_transactions(tools):
    """kafka-transactions: list, describe, find what hangs, abort it."""
    name = tools.topic("transactional")
    producers = [TransactionalProducer(client, "transactional").start() for client in tools.clients]
    for producer in producers:
        producer.write(name, 1, b"a", b"b")

    def without_ids(output):
        rows = [line.split() for line in output.splitlines()]
        # Only there: a coordinator or an epoch may have the same number.
        header = next((row for row in rows if "ProducerId" in row), ["ProducerId"])
        column = header.index("ProducerId")
        numbers = {str(producer.producer_id) for producer in producers}
        rows = [
            ["N" if at == column and word in numbers else word for at, word in enumerate(row)] for row in rows
        ]
        # Column 7 of the 9 that describe a transaction is for how long it has been open.
        return [
            " ".join(["N" if len(row) == 9 and at == 7 else word for at, word in enumerate(row)])
            for row in rows
        ]

    def agree(*arguments, **options):
        return tools.agree(TRANSACTIONS, *arguments, pick=without_ids, **options)

    this = ("--transactional-id-pattern", "transactional")
    assert "Ongoing" in agree("list", *this)
    agree("list", *this, "--duration-filter", "3600000")
    agree("list", "--transactional-id-pattern", "none.*")
    assert f"{name}-1" in agree("describe", "--transactional-id", "transactional")
    agree("describe", "--transactional-id", "none", status=1)
    place = ("--topic", name, "--partition")
    agree("describe-producers", *place, "1")
    agree("describe-producers", *place, "0")
    agree("find-hanging", "--topic", name, "--max-transaction-timeout", "0")
    agree("abort", *place, "1", "--start-offset", "7", status=1)
    agree("forceTerminateTransaction", "--transactionalId", "none")
    agree("forceTerminateTransaction", "--transactionalId", "transactional")
    assert "Empty" in agree("list", *this)
    for producer in producers:
        producer.start()
        producer.write(name, 1, b"c")
    agree("abort", *place, "1", "--start-offset", "3")
    agree("describe-producers", *place, "1")


def test_leader_election(tools, plan):
    """kafka-leader-election: the leader that should be is, and what is not there is told."""
    name = tools.topic("elected")
    tools.agree(LEADER_ELECTION, "--election-type", "preferred", "--all-topic-partitions")
    tools.agree(LEADER_ELECTION, "--election-type", "unclean", "--all-topic-partitions")
    one = ("--topic", name, "--partition", "1")
    assert "already elected" in tools.agree(LEADER_ELECTION, "--election-type", "unclean", *one)
    tools.fails(LEADER_ELECTION, "--election-type", "preferred", "--topic", "none", "--partition", "0")
    places = [{"topic": name, "partition": 0}, {"topic": "none", "partition": 1}]
    tools.fails(
        LEADER_ELECTION,
        "--election-type",
        "preferred",
        "--path-to-json-file",
        plan({"partitions": places}),
    )


@only_on_one_node("a broker is proposed that cannot have three replicas")
def test_reassign_partitions(tools, plan):
    """kafka-reassign-partitions: generate, execute with and without throttle, verify, cancel, list."""
    name = tools.topic("reassigned")
    topics = plan({"version": 1, "topics": [{"topic": name}]})
    for brokers in ("1", "1,2"):
        tools.agree(REASSIGN, "--topics-to-move-json-file", topics, "--broker-list", brokers, "--generate")

    def wanted(*replicas, topic=name):
        partition = {"topic": topic, "partition": 0, "replicas": list(replicas)}
        return ("--reassignment-json-file", plan({"version": 1, "partitions": [partition]}))

    same = wanted(1)
    tools.agree(REASSIGN, *same, "--execute")
    tools.agree(REASSIGN, *same, "--verify")
    tools.agree(REASSIGN, *same, "--cancel")
    tools.agree(REASSIGN, *same, "--execute", "--throttle", "1000")
    tools.agree(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name)
    tools.agree(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "1")
    tools.agree(REASSIGN, *same, "--verify")
    tools.agree(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "1")
    tools.fails(REASSIGN, *wanted(1, 2), "--execute")
    tools.fails(REASSIGN, *wanted(1, topic="none"), "--execute")
    tools.agree(REASSIGN, "--list")


@only_on_one_node("it lists all brokers; `tests/clients` asks a cluster the same")
def test_what_tells_about_the_cluster(tools):
    """kafka-cluster, -log-dirs, -broker-api-versions, -metadata-quorum."""
    name = tools.topic("told")
    tools.write(name, 0, 1, 2, 3)
    tools.agree(CLUSTER, "cluster-id")
    tools.agree(CLUSTER, "list-endpoints")
    tools.agree(CLUSTER, "list-endpoints", "--include-fenced-brokers")
    tools.fails(CLUSTER, "unregister", "--id", "77")
    tools.agree(LOG_DIRECTORIES, "--describe", "--topic-list", name, pick=log_directories)
    tools.agree(LOG_DIRECTORIES, "--describe", "--topic-list", "none", pick=log_directories)
    tools.fails(LOG_DIRECTORIES, "--describe", "--broker-list", "1,5")
    for more in (("--status",), ("--replication",), ("--replication", "--human-readable")):
        tools.agree(QUORUM, "describe", *more, measured=True, pick=quorum)

    def usable(output):
        found = re.findall(r"\((\d+)\): .*\[usable: (\d+)\]", output)
        return [f"{number} {version}" for number, version in found if int(number) in HANDLERS]

    assert len(usable(tools.agree(API_VERSIONS, pick=usable))) > 50


def log_directories(output):
    (line,) = [line for line in output.splitlines() if line.startswith("{")]
    (broker,) = json.loads(line)["brokers"]
    return [
        json.dumps({**directory, "partitions": sorted(directory["partitions"], key=repr)})
        for directory in broker["logDirs"]
    ]


def quorum(output):
    """Without the controller's address and directory, which a voter has only where others can reach it."""
    return [
        re.sub(r", (\"directoryId|\"endpoints).*?(\}|\])+|\S{22}", "…", line)
        for line in output.splitlines()
        if not line.startswith("CurrentVoters")
    ]


def test_features(tools):
    """kafka-features: the levels of what is served, and how they may change."""

    def served(output):
        lines = output.splitlines()
        return [
            re.sub(r"Epoch:.*", "", line)
            for line in lines
            if not any(f" {feature}" in line or line.startswith(feature) for feature in NOT_HERE)
        ]

    assert set(LEVELS) - NOT_HERE == {
        "eligible.leader.replicas.version",
        "group.version",
        "metadata.version",
        "transaction.version",
    }
    tools.agree(FEATURES, "describe", pick=served)
    tools.agree(FEATURES, "version-mapping")
    tools.agree(FEATURES, "feature-dependencies", "--feature", "transaction.version=2")
    tools.agree(FEATURES, "upgrade", "--feature", "transaction.version=2")
    tools.agree(FEATURES, "downgrade", "--feature", "transaction.version=1", "--dry-run")
    tools.agree(FEATURES, "disable", "--feature", "group.version", "--dry-run")
    tools.fails(FEATURES, "upgrade", "--feature", "transaction.version=9")
    tools.fails(FEATURES, "upgrade", "--feature", "none.version=1")
    tools.fails(FEATURES, "downgrade", "--feature", "metadata.version=7")


def test_client_metrics(tools):
    """kafka-client-metrics: subscriptions are made, listed, described, changed and deleted."""
    wanted = ("--metrics", "org.apache.kafka.producer.", "--interval", "5000", "--match", "client_id=nobody")
    tools.agree(CLIENT_METRICS, "--alter", "--name", "metrics", *wanted)
    tools.agree(CLIENT_METRICS, "--list")
    tools.agree(CLIENT_METRICS, "--describe", "--name", "metrics")
    tools.agree(CLIENT_METRICS, "--describe", "--name", "none")
    tools.agree(CLIENT_METRICS, "--describe")
    tools.fails(CLIENT_METRICS, "--alter", "--name", "metrics", "--interval", "7")
    tools.fails(CLIENT_METRICS, "--alter", "--name", "metrics", "--match", "nobody=nobody")
    tools.agree(CLIENT_METRICS, "--delete", "--name", "metrics")
    tools.agree(CLIENT_METRICS, "--delete", "--name", "none")
    tools.agree(CLIENT_METRICS, "--list")


def test_what_needs_an_authorizer(tools, plan):
    """kafka-acls and kafka-delegation-tokens."""
    tools.fails(ACLS, "--list")
    for what in ("--add", "--remove"):
        rule = ("--allow-principal", "User:a", "--operation", "Read", "--topic", "t", "--force")
        tools.fails(ACLS, what, *rule)
    nothing = ("--command-config", plan(""))
    tools.fails(TOKENS, "--create", "--max-life-time-period", "-1", *nothing)
    tools.fails(TOKENS, "--describe", *nothing)


def test_the_performance_tools(tools):
    """kafka-producer-perf-test (also with transactions), -consumer-perf-test, -e2e-latency: the same lines, other numbers."""
    name = tools.topic("measured")
    load = ("--topic", name, "--num-records", "500", "--record-size", "100", "--throughput", "-1")
    for more in ((), ("--transactional-id", "measured", "--transaction-duration-ms", "5")):
        tools.agree(PRODUCER_PERFORMANCE, *load, *more, measured=True)

    def consumed(output):
        header, numbers = (line.split(", ") for line in output.splitlines()[-2:])
        found = dict(zip(header, numbers, strict=True))
        return [f"{column} {found[column]}" for column in ("data.consumed.in.MB", "data.consumed.in.nMsg")]

    read = ("--topic", name, "--num-records", "1000", "--timeout", "20000", "--group", "measuring")
    assert ", 1000, " in tools.agree(CONSUMER_PERFORMANCE, *read, pick=consumed)
    # How many transactions there were, and which partitions records went to, differs by chance: later lists must not show it.
    tools.agree(GROUPS, "--delete", "--group", "measuring")
    tools.agree(TOPICS, "--delete", "--topic", name)
    tools.topic("latency", 1)
    there_and_back = ("--topic", "latency", "--num-records", "20", "--record-size", "20")
    tools.agree(
        END_TO_END_LATENCY,
        *there_and_back,
        "--producer-acks",
        "all",
        measured=True,
        pick=lambda output: re.findall("^(?:Avg latency|Percentiles).*", output, re.MULTILINE),
    )


def test_streams_reset(tools):
    """kafka-streams-application-reset: offsets of the input, and the internal topics of the application."""
    name = tools.topic("input")
    tools.write(name, 0, 1, 2, 3)
    tools.topic("application-store-changelog")
    reset = ("--application-id", "application", "--input-topics", name, "--force")
    tools.agree(STREAMS_RESETTER, *reset, "--to-earliest", "--dry-run")
    tools.agree(STREAMS_RESETTER, *reset, "--to-latest")
    tools.agree(TOPICS, "--list", "--topic", "application.*")
    tools.agree(GROUPS, "--describe", "--group", "application")

"""Kafka's own command-line tools do their work with us: the classes that bin/kafka-*.sh start."""

from __future__ import annotations

import json
import re

import pytest

from tests.broker_process import wait_until
from tests.clients.conftest import two_directories
from tests.oracle.kafka_jars import run_java
from tests.our_broker import only_on_one_node, replicas_at, wait_until_known, wire_client
from tests.transactional_producer import TransactionalProducer, last_stable_offset, read

pytestmark = pytest.mark.clients

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
ALL_GROUPS = "org.apache.kafka.tools.GroupsCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"
PRODUCER_PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERFORMANCE = "org.apache.kafka.tools.ConsumerPerformance"
API_VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"
CLUSTER = "org.apache.kafka.tools.ClusterTool"
LOG_DIRECTORIES = "org.apache.kafka.tools.LogDirsCommand"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
CLIENT_METRICS = "org.apache.kafka.tools.ClientMetricsCommand"
LEADER_ELECTION = "org.apache.kafka.tools.LeaderElectionCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
ACLS = "org.apache.kafka.tools.AclCommand"
TOKENS = "org.apache.kafka.tools.DelegationTokenCommand"
DUMP_LOG = "org.apache.kafka.tools.DumpLogSegments"


@pytest.fixture(scope="module")
def tool(bootstrap, peers):
    """`tool(TOPICS, "--list")` runs a tool that must succeed and gives what it wrote.

    They run one after another in one process of their own, since a process costs a second.
    """
    peer = peers.another("java-4.3")

    def run(name, *arguments, first=None, text=None, status=0, complains=False, at=bootstrap):
        done = peer.call(
            "tool",
            tool=name,
            arguments=[*filter(None, [first]), *(["--bootstrap-server", at] if at else []), *arguments],
            **({} if text is None else {"input": text}),
        )
        assert done["status"] == status, f"{name} {arguments}: {done['output']}"
        if status == 0:
            trouble = re.search(r"Exception|^Error|WARN|ERROR", done["output"], re.MULTILINE)
            assert bool(trouble) == complains, done["output"]
        return done["output"]

    yield run
    peer.close()


@pytest.fixture
def topic(tool, unique, bootstrap):
    name = unique("tool")
    replicas = str(replicas_at(bootstrap))
    tool(TOPICS, "--create", "--topic", name, "--partitions", "2", "--replication-factor", replicas)
    wait_until_known(bootstrap)
    return name


def write(tool, topic, keys):
    """Writes numbers with these keys, which spread over the partitions, by kafka-console-producer."""
    lines = "".join(f"{key}:{number}\n" for number, key in enumerate(keys))
    parse = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    tool(PRODUCER, "--topic", topic, *parse, text=lines)


def test_kafka_topics(tool, topic):
    """kafka-topics creates, lists, describes, grows and deletes."""
    assert topic in tool(TOPICS, "--list").split()
    described = tool(TOPICS, "--describe", "--topic", topic)
    assert "PartitionCount: 2" in described
    assert re.search(r"Partition: 1\s+Leader: \d+\s+Replicas: [\d,]+\s+Isr: \d", described)
    tool(TOPICS, "--alter", "--topic", topic, "--partitions", "4")
    wait_until(
        lambda: "PartitionCount: 4" in tool(TOPICS, "--describe", "--topic", topic), what="4 partitions"
    )
    assert tool(TOPICS, "--describe", "--under-replicated-partitions").strip() == ""
    assert tool(TOPICS, "--describe", "--unavailable-partitions").strip() == ""
    tool(TOPICS, "--create", "--if-not-exists", "--topic", topic)
    assert "already exists" in tool(TOPICS, "--create", "--topic", topic, status=1)
    tool(TOPICS, "--delete", "--topic", topic)
    wait_until(lambda: topic not in tool(TOPICS, "--list").split(), what="the topic's end")
    assert "does not exist" in tool(TOPICS, "--describe", "--topic", topic, status=1)


def test_kafka_configs(tool, topic):
    """kafka-configs describes and changes the settings of topics, brokers and groups."""
    of_topic = ("--entity-type", "topics", "--entity-name", topic)
    tool(
        CONFIGS, "--alter", *of_topic, "--add-config", "retention.ms=1234567,cleanup.policy=[compact,delete]"
    )
    changed = tool(CONFIGS, "--describe", *of_topic)
    assert "retention.ms=1234567" in changed
    assert "cleanup.policy=compact,delete" in changed
    assert "segment.bytes=" in tool(CONFIGS, "--describe", "--all", *of_topic)
    tool(CONFIGS, "--alter", *of_topic, "--delete-config", "retention.ms")
    assert "retention.ms" not in tool(CONFIGS, "--describe", *of_topic)
    assert "soon" in tool(CONFIGS, "--alter", *of_topic, "--add-config", "retention.ms=soon", status=1)

    node = re.search(r"Leader: (\d+)", tool(TOPICS, "--describe", "--topic", topic))[1]
    of_broker = ("--entity-type", "brokers", "--entity-name", node)
    of_all = ("--entity-type", "brokers", "--entity-default")
    assert "node.id=" in tool(CONFIGS, "--describe", "--all", *of_broker)
    tool(CONFIGS, "--alter", *of_broker, "--add-config", "message.max.bytes=1048600")
    assert "message.max.bytes=1048600" in tool(CONFIGS, "--describe", *of_broker)
    tool(CONFIGS, "--alter", *of_broker, "--delete-config", "message.max.bytes")
    tool(CONFIGS, "--alter", *of_all, "--add-config", "log.retention.ms=604800001")
    assert "log.retention.ms=604800001" in tool(CONFIGS, "--describe", *of_all)
    tool(CONFIGS, "--alter", *of_all, "--delete-config", "log.retention.ms")


def test_the_console_clients_and_the_offsets(tool, topic):
    """What kafka-console-producer writes kafka-console-consumer reads; kafka-get-offsets and kafka-delete-records agree."""
    write(tool, topic, "abcd")
    shown = tool(
        CONSUMER,
        "--topic",
        topic,
        "--from-beginning",
        "--max-messages",
        "4",
        "--timeout-ms",
        "20000",
        "--formatter-property",
        "print.key=true",
        "--formatter-property",
        "print.headers=true",
        "--formatter-property",
        "print.timestamp=true",
    )
    assert sorted(re.findall(r"\t([a-d])\t(\d)$", shown, re.MULTILINE)) == [
        ("a", "0"),
        ("b", "1"),
        ("c", "2"),
        ("d", "3"),
    ]
    assert "Processed a total of 4 messages" in shown

    def offsets(*arguments):
        lines = tool(OFFSETS, "--topic", topic, *arguments).split()
        return [int(line.rpartition(":")[2]) for line in sorted(lines)]

    assert sum(offsets()) == 4
    assert offsets("--time", "-2") == [0, 0]
    latest = zip(offsets("--time", "max-timestamp"), offsets(), strict=True)
    assert all(0 <= offset < end for offset, end in latest)
    assert len(offsets("--partitions", "0")) == 1


def test_kafka_delete_records(tool, topic, tmp_path):
    """kafka-delete-records moves the beginning of a partition."""
    write(tool, topic, "abcdefghij")
    ends = dict(line.rpartition(":")[::2] for line in tool(OFFSETS, "--topic", topic).split())
    wanted = {
        "version": 1,
        "partitions": [
            {"topic": topic, "partition": number, "offset": int(ends[f"{topic}:{number}"])}
            for number in range(2)
        ],
    }
    file = tmp_path / "offsets.json"
    file.write_text(json.dumps(wanted))
    done = tool(DELETE_RECORDS, "--offset-json-file", str(file))
    for number in range(2):
        assert f"partition: {topic}-{number}\tlow_watermark: {ends[f'{topic}:{number}']}" in done
    assert tool(OFFSETS, "--topic", topic, "--time", "-2") == tool(OFFSETS, "--topic", topic)


def test_kafka_consumer_groups(tool, topic, bootstrap, peers, unique):
    """kafka-consumer-groups lists, describes, resets and deletes groups."""
    write(tool, topic, "abcdef")
    group = unique("tool-group")
    member = peers("franz-go").start(
        "member", bootstrap=bootstrap, topics=[topic], group=group, strategy="range", instance=None
    )
    member.wait_for(lambda: len(member.records) == 6, "the records")
    this = ("--group", group)
    assert group in tool(GROUPS, "--list").split()
    assert re.search(
        rf"^{group}\s+Classic\s+Stable", tool(GROUPS, "--list", "--state", "--type"), re.MULTILINE
    )
    assert re.search(rf"^{group}\s+Classic", tool(ALL_GROUPS, "--list"), re.MULTILINE)

    def offsets():
        described = tool(GROUPS, "--describe", *this)
        found = re.findall(rf"^{group}\s+{topic}\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)", described, re.MULTILINE)
        return [[int(number) for number in line] for line in found]

    wait_until(lambda: sum(offset for offset, _, _ in offsets()) == 6, what="the committed offsets")
    assert [lag for _, _, lag in offsets()] == [0, 0]
    members = tool(GROUPS, "--describe", *this, "--members", "--verbose")
    assert f"{topic}:0,1" in members
    assert re.search(r"range\s+Stable\s+1", tool(GROUPS, "--describe", *this, "--state"))
    assert "not empty" in tool(GROUPS, "--delete", *this, complains=True)

    member.stop()
    tool(GROUPS, "--reset-offsets", *this, "--topic", topic, "--to-earliest", "--execute")
    assert [offset for offset, _, _ in offsets()] == [0, 0]
    tool(
        GROUPS,
        "--reset-offsets",
        *this,
        "--all-topics",
        "--to-datetime",
        "2000-01-01T00:00:00.000",
        "--execute",
    )
    tool(GROUPS, "--reset-offsets", *this, "--topic", f"{topic}:0", "--to-latest", "--execute")
    assert {lag for _, _, lag in offsets()} == {0, offsets()[1][1]} or {lag for _, _, lag in offsets()} == {0}
    tool(GROUPS, "--delete-offsets", *this, "--topic", f"{topic}:0")
    assert len(offsets()) == 1
    tool(GROUPS, "--delete", *this)
    assert group not in tool(GROUPS, "--list").split()


def test_the_verifiable_clients(bootstrap, topic, unique):
    """kafka-verifiable-producer and -consumer: every record written, acknowledged, read and committed."""

    def events(tool, *arguments):
        # These end by the process's own hooks, and so need one.
        lines = run_java(
            tool, ["--bootstrap-server", bootstrap, "--topic", topic, *arguments]
        ).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    produced = events(VERIFIABLE_PRODUCER, "--max-messages", "50", "--acks", "-1")
    assert sum(event["name"] == "producer_send_success" for event in produced) == 50
    (summary,) = [event for event in produced if event["name"] == "tool_data"]
    assert summary["acked"] == 50
    group = ("--group-id", unique("verifiable"), "--reset-policy", "earliest")
    consumed = events(VERIFIABLE_CONSUMER, *group, "--max-messages", "50")
    assert sum(event["count"] for event in consumed if event["name"] == "records_consumed") == 50
    committed = [event for event in consumed if event["name"] == "offsets_committed"]
    assert committed
    assert all(event["success"] for event in committed)


def test_the_performance_tools(tool, topic):
    """kafka-producer-perf-test and kafka-consumer-perf-test run through."""
    wrote = tool(
        PRODUCER_PERFORMANCE,
        "--topic",
        topic,
        "--num-records",
        "2000",
        "--record-size",
        "100",
        "--throughput",
        "-1",
    )
    assert "2000 records sent" in wrote
    read = tool(CONSUMER_PERFORMANCE, "--topic", topic, "--num-records", "2000", "--timeout", "20000")
    assert ", 2000, " in read.splitlines()[-1]


def test_what_tells_about_the_cluster(tool, topic, bootstrap):
    """kafka-broker-api-versions, -cluster and -log-dirs get their answers."""
    versions = tool(API_VERSIONS)
    assert re.search(r"Produce\(0\): .*\[usable: \d+\]", versions)
    assert re.search(r"Fetch\(1\): .*\[usable: \d+\]", versions)
    assert re.search(r"Cluster ID: \S+", tool(CLUSTER, first="cluster-id"))
    assert "127.0.0.1" in tool(CLUSTER, first="list-endpoints")

    def directories():
        described = tool(LOG_DIRECTORIES, "--describe", "--topic-list", topic)
        (line,) = [line for line in described.splitlines() if line.startswith("{")]
        found = [broker["logDirs"] for broker in json.loads(line)["brokers"]]
        assert len(found) == replicas_at(bootstrap)
        assert all(directory["error"] is None for (directory,) in found)
        return [{entry["partition"] for entry in directory["partitions"]} for (directory,) in found]

    # Each broker makes its logs when it hears of the topic.
    both = {f"{topic}-0", f"{topic}-1"}
    wait_until(lambda: all(names == both for names in directories()), what="the logs on all brokers")
    assert "is not currently registered" in tool(CLUSTER, "--id", "4711", first="unregister", status=1)


def test_kafka_features(tool):
    """kafka-features describes the levels, and changes those that may change."""
    described = tool(FEATURES, "describe")
    assert re.search(
        r"metadata.version\s+SupportedMinVersion: 3.3-IV3\s+SupportedMaxVersion: 4.3-IV0", described
    )
    assert "metadata.version was" in tool(FEATURES, "upgrade", "--metadata", "4.3-IV0")
    refused = tool(FEATURES, "downgrade", "--feature", "metadata.version=29", status=1)
    assert "might delete metadata information" in refused
    assert "Feature nope not found" in tool(FEATURES, "disable", "--feature", "nope", status=1)


def test_kafka_leader_election(tool, topic, tmp_path):
    """kafka-leader-election finds every partition with the leader that it should have."""
    tool(LEADER_ELECTION, "--election-type", "preferred", "--all-topic-partitions")
    one = ("--election-type", "unclean", "--topic", topic, "--partition", "1")
    assert f"Valid replica already elected for partitions {topic}-1" in tool(LEADER_ELECTION, *one)
    file = tmp_path / "partitions.json"
    file.write_text(
        json.dumps({"partitions": [{"topic": topic, "partition": 0}, {"topic": topic, "partition": 1}]})
    )
    named = ("--election-type", "preferred", "--path-to-json-file", str(file))
    assert "Valid replica already elected" in tool(LEADER_ELECTION, *named)
    missing = ("--election-type", "preferred", "--topic", f"{topic}-not", "--partition", "0")
    assert "UnknownTopicOrPartition" in tool(LEADER_ELECTION, *missing, status=1)


def test_kafka_metadata_quorum(tool):
    """kafka-metadata-quorum shows a quorum of one, which nobody can join or leave."""
    status = tool(QUORUM, "describe", "--status")
    leader = re.search(r"LeaderId:\s+(\d+)", status)[1]
    assert re.search(rf'CurrentVoters:\s+\[\{{"id": {leader}', status)
    assert re.search(r"MaxFollowerLag:\s+0", status)
    replication = tool(QUORUM, "describe", "--replication")
    assert re.search(rf"^{leader}\s+\S+\s+\d+\s+0\s+\d+\s+\d+\s+Leader", replication, re.MULTILINE)
    leave = ("--controller-id", leader, "--controller-directory-id", "AAAAAAAAAAAAAAAAAAAAAQ")
    assert "kraft.version feature is 0" in tool(QUORUM, "remove-controller", *leave, status=1)


def test_what_needs_an_authorizer_says_so(tool, tmp_path):
    """kafka-acls and kafka-delegation-tokens are told that there is none, and that nobody is authenticated."""
    assert "No Authorizer is configured" in tool(ACLS, "--list", status=1)
    add = ("--add", "--allow-principal", "User:a", "--operation", "Read", "--topic", "t")
    assert "SecurityDisabledException" in tool(ACLS, *add, status=1)
    remove = ("--remove", "--allow-principal", "User:a", "--operation", "Read", "--topic", "t", "--force")
    assert "SecurityDisabledException" in tool(ACLS, *remove, status=1)
    file = tmp_path / "client.properties"
    file.write_text("")
    properties = ("--command-config", str(file))
    refused = tool(TOKENS, "--create", "--max-life-time-period", "-1", *properties, status=1)
    assert "DelegationTokenDisabled" in refused or "not allowed" in refused
    assert tool(TOKENS, "--describe", *properties, status=1)


def test_kafka_configs_of_users_clients_and_addresses(tool, unique):
    """kafka-configs sets, shows and takes away quotas and SCRAM credentials."""
    user, client = unique("user"), unique("client")
    both = (
        "--entity-type",
        "users",
        "--entity-name",
        user,
        "--entity-type",
        "clients",
        "--entity-name",
        client,
    )
    tool(CONFIGS, "--alter", *both, "--add-config", "producer_byte_rate=1024,request_percentage=50.5")
    assert "producer_byte_rate=1024.0" in tool(CONFIGS, "--describe", *both)
    tool(CONFIGS, "--alter", *both, "--delete-config", "producer_byte_rate")
    shown = tool(CONFIGS, "--describe", *both)
    assert "request_percentage=50.5" in shown
    assert "producer_byte_rate" not in shown
    tool(CONFIGS, "--alter", *both, "--delete-config", "request_percentage")
    address = ("--entity-type", "ips", "--entity-name", "127.9.9.9")
    tool(CONFIGS, "--alter", *address, "--add-config", "connection_creation_rate=10")
    assert "connection_creation_rate=10.0" in tool(CONFIGS, "--describe", *address)
    tool(CONFIGS, "--alter", *address, "--delete-config", "connection_creation_rate")
    of_user = ("--entity-type", "users", "--entity-name", user)
    for secret in ("SCRAM-SHA-256=[iterations=8192,password=secret]", "SCRAM-SHA-512=[password=secret]"):
        tool(CONFIGS, "--alter", *of_user, "--add-config", secret)
    described = tool(CONFIGS, "--describe", *of_user)
    assert "SCRAM-SHA-256=iterations=8192" in described
    assert "SCRAM-SHA-512=iterations=4096" in described
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        tool(CONFIGS, "--alter", *of_user, "--delete-config", mechanism)
    assert "SCRAM" not in tool(CONFIGS, "--describe", *of_user)


def test_kafka_client_metrics(tool, unique):
    """kafka-client-metrics and kafka-configs keep subscriptions."""
    name = unique("subscription")
    wanted = ("--metrics", "org.apache.kafka.producer.", "--interval", "5000", "--match", "client_id=nobody")
    tool(CLIENT_METRICS, "--alter", "--name", name, *wanted)
    assert name in tool(CLIENT_METRICS, "--list").split()
    described = tool(CLIENT_METRICS, "--describe", "--name", name)
    assert "interval.ms=5000" in described
    assert "match=client_id=nobody" in described
    of_it = ("--entity-type", "client-metrics", "--entity-name", name)
    assert "metrics=org.apache.kafka.producer." in tool(CONFIGS, "--describe", *of_it)
    refused = tool(CLIENT_METRICS, "--alter", "--name", name, "--interval", "7", status=1)
    assert "interval must be between" in refused
    tool(CLIENT_METRICS, "--delete", "--name", name)
    wait_until(lambda: name not in tool(CLIENT_METRICS, "--list").split(), what="the subscription's end")


@pytest.fixture
def two_disks(tmp_path):
    """A broker with two log directories, or Apache Kafka with them."""
    with two_directories(tmp_path / "broker") as broker:
        yield broker


@only_on_one_node("it names the only replica, and the directories of its broker")
def test_kafka_reassign_partitions(tool, two_disks, unique, tmp_path):
    """kafka-reassign-partitions moves a replica to another disk, throttled, and says when it is there; not to other brokers."""
    at = two_disks.bootstrap_server
    directories = [tmp_path / "broker" / name for name in ("a", "b")]
    name = unique("moved")
    tool(TOPICS, "--create", "--topic", name, "--partitions", "1", at=at)
    numbers = ("--num-records", "3000", "--record-size", "1000", "--throughput", "-1")
    tool(PRODUCER_PERFORMANCE, "--topic", name, *numbers, at=at)

    def where():
        described = tool(LOG_DIRECTORIES, "--describe", "--topic-list", name, at=at)
        (line,) = [line for line in described.splitlines() if line.startswith("{")]
        (node,) = json.loads(line)["brokers"]
        found = [
            (entry["logDir"], partition["isFuture"])
            for entry in node["logDirs"]
            for partition in entry["partitions"]
        ]
        return node["broker"], found

    node, ((here, _),) = where()
    there = next(str(path) for path in directories if str(path) != here)

    def plan(replicas, *log_dirs):
        file = tmp_path / "plan.json"
        partition = {"topic": name, "partition": 0, "replicas": replicas}
        if log_dirs:
            partition["log_dirs"] = log_dirs
        file.write_text(json.dumps({"version": 1, "partitions": [partition]}))
        return ("--reassignment-json-file", str(file))

    moving = plan([node], there)
    tool(REASSIGN, *moving, "--execute", "--replica-alter-log-dirs-throttle", "400000", at=at)
    assert "is still in progress" in tool(REASSIGN, *moving, "--verify", "--preserve-throttles", at=at)
    assert (there, True) in where()[1]
    faster = ("--execute", "--additional", "--replica-alter-log-dirs-throttle", "400000000")
    tool(REASSIGN, *moving, *faster, at=at)
    wait_until(lambda: where()[1] == [(there, False)], what="the move's end")
    finished = tool(REASSIGN, *moving, "--verify", at=at)
    assert f"Reassignment of replica {name}-0-{node} completed successfully" in finished
    assert "No partition reassignments found" in tool(REASSIGN, "--list", at=at)
    refused = tool(REASSIGN, *plan([node, node + 7]), "--execute", at=at, status=1)
    assert "unknown broker" in refused.lower()
    offsets = tool(OFFSETS, "--topic", name, at=at)
    assert offsets.strip() == f"{name}:0:3000"
    segments = sorted((directories[there == str(directories[1])] / f"{name}-0").glob("*.log"))
    dumped = tool(DUMP_LOG, "--files", ",".join(map(str, segments)), "--deep-iteration", at=None)
    assert len(re.findall(r"^\| offset: \d+", dumped, re.MULTILINE)) == 3000


def test_kafka_transactions(tool, topic, bootstrap, unique):
    """kafka-transactions lists, describes and finds what hangs, and aborts it."""
    name = unique("transaction")
    with wire_client(bootstrap) as client:
        producer = TransactionalProducer(client, name).start()
        producer.write(topic, 1, b"a", b"b")
        listed = tool(TRANSACTIONS, "list")
        assert re.search(rf"{name}\s+\d+\s+{producer.producer_id}\s+Ongoing", listed), listed
        assert name not in tool(TRANSACTIONS, "list", "--duration-filter", "3600000")
        described = tool(TRANSACTIONS, "describe", "--transactional-id", name)
        assert re.search(rf"{producer.producer_id}\s+{producer.epoch}\s+Ongoing\s+60000", described), (
            described
        )
        assert f"{topic}-1" in described
        place = ("--topic", topic, "--partition", "1")
        producers = tool(TRANSACTIONS, "describe-producers", *place)
        assert re.search(rf"{producer.producer_id}\s+{producer.epoch}\s+-1\s+1\s+\d+\s+0", producers), (
            producers
        )
        # Its coordinator knows of it, so that it does not hang.
        hanging = tool(TRANSACTIONS, "find-hanging", "--topic", topic, "--max-transaction-timeout", "0")
        assert str(producer.producer_id) not in hanging.split()
        tool(TRANSACTIONS, "abort", *place, "--start-offset", "0")
        assert read(client, topic, 1) == []
        assert last_stable_offset(client, topic, 1) == 3
        assert "None" in tool(TRANSACTIONS, "describe-producers", *place)
        shown = tool(
            CONSUMER,
            "--topic",
            "__transaction_state",
            "--from-beginning",
            "--timeout-ms",
            "2000",
            "--formatter",
            "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
            complains=True,
        )
        assert f'"transactionalId":"{name}"' in shown, shown[-2000:]

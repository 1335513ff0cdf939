"""The same random steps of administrators for Apache Kafka 4.3 and for us: every field of every answer is the same.

Quotas, SCRAM users, subscriptions of client metrics and the clients that they are for, elections, reassignments, features, and replicas
that move between two log directories while they are written. `make differential` runs many more examples than CI does.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from tests.oracle.admin_pair import BY_NAME, Both, two_directories_each
from tests.oracle.building import build
from tests.oracle.likeness import Likeness, differences
from tests.oracle.machine_runs import DEADLINE_S, run_machine, steps
from tests.our_broker import wire_client

STEPS = steps(25)

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(DEADLINE_S)]

MOVE_DEADLINE_S = 120


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with two_directories_each(tmp_path_factory.mktemp("pair")) as addresses:
        both = Both(addresses)
        yield both
        both.close()


def test_administration(both, monkeypatch):
    """Whatever administrators do, and in whichever order, the answers are Kafka's."""
    Administration.both = both
    run_machine(Administration, monkeypatch, examples=8, step_count=STEPS)
    print(f"\nAdministration: {Administration.examples} examples, {both.count} answers compared")


NAMES = st.sampled_from(["a", "b", "c", None])
QUOTA_KEYS = st.sampled_from(
    [
        "producer_byte_rate",
        "consumer_byte_rate",
        "request_percentage",
        "controller_mutation_rate",
        "connection_creation_rate",
        "nope",
    ]
)
QUOTA_VALUES = st.sampled_from([None, 1.0, 2.0, 1024.0, 0.5, 1e9, 0.0, -1.0, 2.0**40, 1e300])
ENTITIES = st.one_of(
    st.tuples(st.tuples(st.just("user"), NAMES)),
    st.tuples(st.tuples(st.just("client-id"), NAMES)),
    st.tuples(st.tuples(st.just("user"), NAMES), st.tuples(st.just("client-id"), NAMES)),
    st.tuples(st.tuples(st.just("ip"), st.sampled_from(["10.0.0.1", "10.0.0.2", None]))),
    st.tuples(st.tuples(st.sampled_from(["ip", "group"]), NAMES), st.tuples(st.just("user"), NAMES)),
    st.just(()),
)
COMPONENTS = st.tuples(
    st.sampled_from(["user", "client-id", "ip", "user", "client-id", "", "group"]),
    st.sampled_from([0, 0, 1, 2, 2, 3]),
    st.sampled_from(["a", "b", None, None, None]),
)
USERS = st.sampled_from(["a", "b", "c", ""])
MECHANISMS = st.sampled_from([1, 1, 2, 2, 0, 3])
PARTITIONS = st.lists(st.sampled_from([0, 1, 1, 2, -1]), max_size=3)
METRICS = st.sampled_from(["*", "", "one.", "one.,two.", "two."])
MATCHES = st.sampled_from(
    [
        "",
        "client_id=admin-.*",
        "client_id=nobody",
        "client_software_name=random,client_id=.*",
        "x=y",
        "client_id",
    ]
)
LEVELS = st.tuples(
    st.sampled_from(["metadata.version", "metadata.version", "nope", ""]),
    st.sampled_from([30, 30, 31, 29, 25, 7, 0, -1]),
    st.sampled_from([0, 1, 1, 2, 3, 4]),
)


def is_default(entity):
    """Whether quotas of this entity hold for whoever has none of their own."""
    return all(name is None for _, name in entity)


class Administration(RuleBasedStateMachine):
    """What administrators may do; each example has names of its own."""

    both: Both
    examples = 0

    @initialize()
    def begin(self):
        Administration.examples += 1
        self.prefix = f"{self.both.prefix}x{Administration.examples}"
        self.topic = self.both.topic(f"x{Administration.examples}topic", 2)
        self.clients = []
        self.quotas = set()
        self.users = set()
        self.records = 0

    def teardown(self):
        for client in getattr(self, "clients", ()):
            client.close()
        # What is left would be in everybody's lists.
        for entity in getattr(self, "quotas", ()):
            keys = ["producer_byte_rate", "consumer_byte_rate", "request_percentage"]
            keys += ["controller_mutation_rate", "connection_creation_rate"]
            self.alter_quotas(1, [(entity, [(key, None) for key in keys])], validate_only=False)
        if hasattr(self, "users"):
            self.settle_subscription(None, None, None)

    def name(self, name):
        return name and f"{self.prefix}{name}"

    # ----- quotas

    def alter_quotas(self, version, alterations, *, validate_only):
        """Quotas for everybody are generous: Kafka would slow this very conversation down."""
        if not validate_only:
            alterations = [
                (
                    entity,
                    [(key, None if value is None else 1e9) for key, value in operations]
                    if is_default(entity)
                    else operations,
                )
                for entity, operations in alterations
            ]
        entries = [
            {
                "entity": [
                    {"entity_type": kind, "entity_name": name if kind == "ip" else self.name(name)}
                    for kind, name in entity
                ],
                "ops": [
                    {"key": key, "value": 0.0 if value is None else value, "remove": value is None}
                    for key, value in operations
                ],
            }
            for entity, operations in alterations
        ]
        # Of several bad quotas Kafka names the first in the order of a hash map.
        is_plain = all(len(operations) < 2 for _, operations in alterations)
        answer = self.both.agree(
            "AlterClientQuotas",
            [version],
            entries=entries,
            validate_only=validate_only,
            but=() if is_plain else ["error_message"],
        )
        if not validate_only:
            self.quotas |= {entity for entity, _ in alterations}
        return answer

    @rule(
        version=st.integers(0, 1),
        alterations=st.lists(
            st.tuples(ENTITIES, st.lists(st.tuples(QUOTA_KEYS, QUOTA_VALUES), max_size=3)), max_size=3
        ),
        validate_only=st.sampled_from([False, False, False, True]),
    )
    def change_quotas(self, version, alterations, validate_only):
        self.alter_quotas(version, alterations, validate_only=validate_only)

    @rule(
        version=st.integers(0, 1),
        components=st.lists(COMPONENTS, max_size=2),
        strict=st.booleans(),
    )
    def describe_quotas(self, version, components, strict):
        parts = [
            {"entity_type": kind, "match_type": match_type, "match": self.name(name)}
            for kind, match_type, name in components
        ]
        self.both.agree(
            "DescribeClientQuotas", [version], components=parts, strict=strict, is_repeatable=True
        )

    # ----- users

    @rule(
        deletions=st.lists(st.tuples(USERS, MECHANISMS), max_size=2),
        upsertions=st.lists(
            st.tuples(
                USERS, MECHANISMS, st.sampled_from([4096, 4096, 8192, 16384, 4095, 16385]), st.booleans()
            ),
            max_size=2,
        ),
    )
    def change_users(self, deletions, upsertions):
        self.both.agree(
            "AlterUserScramCredentials",
            [0],
            deletions=[{"name": self.name(name), "mechanism": mechanism} for name, mechanism in deletions],
            upsertions=[
                {
                    "name": self.name(name),
                    "mechanism": mechanism,
                    "iterations": iterations,
                    "salt": b"salt",
                    "salted_password": b"p" if has_password else b"",
                }
                for name, mechanism, iterations, has_password in upsertions
            ],
        )

    @rule(names=st.one_of(st.none(), st.lists(USERS, max_size=3)))
    def describe_users(self, names):
        users = None if names is None else [{"name": self.name(name)} for name in names]
        self.both.agree("DescribeUserScramCredentials", [0], users=users, is_repeatable=True)

    # ----- leaders, replicas, features

    @rule(
        version=st.integers(0, 2),
        election_type=st.sampled_from([0, 0, 1, 1, 2]),
        indexes=PARTITIONS,
        is_known=st.booleans(),
        timeout_ms=st.sampled_from([10_000, 10_000, 10_000, 0, -1]),
    )
    def elect(self, version, election_type, indexes, is_known, timeout_ms):
        topic = self.topic if is_known else self.name("none")
        self.both.agree(
            "ElectLeaders",
            [version],
            election_type=election_type,
            topic_partitions=[{"topic": topic, "partitions": indexes}],
            timeout_ms=timeout_ms,
        )

    @rule(
        version=st.integers(0, 1),
        parts=st.lists(
            st.tuples(
                st.sampled_from([0, 1, 1, 2]),
                st.one_of(st.none(), st.lists(st.sampled_from([1, 1, 2]), max_size=2)),
            ),
            max_size=3,
        ),
        is_allowed=st.booleans(),
    )
    def reassign(self, version, parts, is_allowed):
        partitions = [{"partition_index": index, "replicas": replicas} for index, replicas in parts]
        self.both.agree(
            "AlterPartitionReassignments",
            [version],
            topics=[{"name": self.topic, "partitions": partitions}],
            timeout_ms=10_000,
            allow_replication_factor_change=is_allowed,
        )
        listed = [{"name": self.topic, "partition_indexes": [0, 1, 2]}]
        self.both.agree("ListPartitionReassignments", [0], topics=listed, timeout_ms=10_000)

    @rule(version=st.integers(0, 2), updates=st.lists(LEVELS, max_size=1), validate_only=st.booleans())
    def change_features(self, version, updates, validate_only):
        self.both.agree(
            "UpdateFeatures",
            [version],
            feature_updates=[
                {
                    "feature": name,
                    "max_version_level": level,
                    "upgrade_type": upgrade_type,
                    "allow_downgrade": upgrade_type > 1,
                }
                for name, level, upgrade_type in updates
            ],
            validate_only=validate_only,
            timeout_ms=10_000,
        )

    # ----- log directories

    @rule(count=st.integers(1, 3), index=st.sampled_from([0, 1]))
    def write(self, count, index):
        now_ms = int(time.time() * 1000)
        batch = bytes(build_batch([Record(each, now_ms, None, b"x" * 1000, ()) for each in range(count)]))
        part = {"index": index, "records": batch}
        topic = {"name": self.topic, "partition_data": [part]}
        self.both.agree("Produce", [9], acks=-1, timeout_ms=10_000, topic_data=[topic])

    @rule(
        version=st.integers(1, 2),
        places=st.lists(
            st.tuples(st.sampled_from(["a", "b", "a", "b", "nowhere"]), PARTITIONS), min_size=1, max_size=2
        ),
    )
    def move(self, version, places):
        def dirs(side):
            known = {result.log_dir[-1]: result.log_dir for result in self.describe(side)}
            return [
                {
                    "path": known.get(place, "/nowhere"),
                    "topics": [{"name": self.topic, "partitions": indexes}],
                }
                for place, indexes in places
            ]

        self.both.agree("AlterReplicaLogDirs", [version], dirs=dirs)
        wanted = {index: place for place, indexes in places for index in indexes if index in (0, 1)}
        wanted = {index: place for index, place in wanted.items() if place != "nowhere"}
        end = time.monotonic() + MOVE_DEADLINE_S
        for side in self.both.sides:
            while not self.is_settled(side, wanted):
                assert time.monotonic() < end, f"{side.address} does not move {wanted}: {self.describe(side)}"
                time.sleep(0.01)

    def describe(self, side):
        topics = [{"topic": self.topic, "partitions": [0, 1]}]
        return side.client.call(build(BY_NAME["DescribeLogDirs"].request_class, topics=topics), 4).results

    def is_settled(self, side, wanted):
        found = [
            (part.partition_index, result.log_dir[-1], part.is_future_key)
            for result in self.describe(side)
            for topic in result.topics
            for part in topic.partitions
        ]
        return len(found) == 2 and all(
            not is_future and wanted.get(index, place) == place for index, place, is_future in found
        )

    @rule(version=st.integers(1, 5))
    def describe_sizes(self, version):
        # Where a new topic goes, each broker decides for itself: what is in both directories together is compared.
        answers = [
            side.client.call(
                build(
                    BY_NAME["DescribeLogDirs"].request_class,
                    topics=[{"topic": self.topic, "partitions": [0, 1]}],
                ),
                version,
            )
            for side in self.both.sides
        ]
        plain = [
            sorted(
                (part.partition_index, part.partition_size, part.offset_lag, part.is_future_key)
                for result in answer.results
                for topic in result.topics
                for part in topic.partitions
            )
            for answer in answers
        ]
        assert plain[0] == plain[1]

    @rule(timestamp=st.sampled_from([-1, -2, -3]))
    def list_offsets(self, timestamp):
        parts = [{"partition_index": index, "timestamp": timestamp} for index in (0, 1)]
        self.both.agree(
            "ListOffsets",
            [7],
            replica_id=-1,
            isolation_level=0,
            topics=[{"name": self.topic, "partitions": parts}],
            # Apache Kafka's copies know nothing of epochs without records.
            but=["timestamp", "leader_epoch"],
        )

    # ----- what clients measure

    def settle_subscription(self, metrics, interval_ms, match):
        values = {"metrics": metrics, "interval.ms": interval_ms, "match": match}
        configs = [
            {"name": key, "config_operation": int(value is None), "value": value or ""}
            for key, value in values.items()
        ]
        resource = {"resource_type": 16, "resource_name": self.name("metrics"), "configs": configs}
        answer = self.both.agree("IncrementalAlterConfigs", [1], resources=[resource])
        if answer.responses[0].error_code == 0:
            self.both.barrier()

    @rule(
        metrics=st.one_of(st.none(), METRICS),
        interval_ms=st.sampled_from([None, "100", "3600000", "60000", "99", "x"]),
        match=st.one_of(st.none(), MATCHES),
    )
    def subscribe_clients(self, metrics, interval_ms, match):
        self.settle_subscription(metrics, interval_ms, match)
        described = [{"resource_type": 16, "resource_name": self.name("metrics")}]
        self.both.agree("DescribeConfigs", [4], resources=described, is_repeatable=True)

    @rule(
        pushes=st.lists(
            st.tuples(st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 5, 4]), st.booleans()), max_size=3
        )
    )
    def measure(self, pushes):
        """A client asks what is wanted, and pushes."""
        number = len(self.clients)
        client_instance_id = f"{self.prefix}{number}".encode()[-16:].rjust(16, b"i")
        pair = [
            wire_client(side.address, client_id=f"admin-{number}", timeout_s=60) for side in self.both.sides
        ]
        self.clients += pair
        greeting = build(
            BY_NAME["ApiVersions"].request_class, client_software_name="random", client_software_version="1"
        )
        for client in pair:
            client.call(greeting, 3)
        wanted = self.ask(pair, "GetTelemetrySubscriptions", client_instance_id=client_instance_id)
        for difference, compression, is_terminating in pushes:
            self.ask(
                pair,
                "PushTelemetry",
                subscription_id=[answer.subscription_id + difference for answer in wanted],
                client_instance_id=client_instance_id,
                compression_type=compression,
                terminating=is_terminating,
                metrics=b"",
            )
            if wanted[1].push_interval_ms == 100:
                return  # whether the next one comes too soon is the machine's business

    def ask(self, pair, api, subscription_id=None, **fields):
        answers = []
        for index, client in enumerate(pair):
            more = {} if subscription_id is None else {"subscription_id": subscription_id[index]}
            answers.append(client.call(build(BY_NAME[api].request_class, **fields, **more), 0))
        plain = [Likeness()(answer) for answer in answers]
        for each in plain:
            each.get("requested_metrics", []).sort()  # a hash set's order in Kafka, from which the id follows
            if len(each.get("requested_metrics", ())) > 1:
                each.pop("subscription_id")
        found = differences(*plain)
        assert not found, "\n".join([f"{api} {fields}", *found])
        return answers

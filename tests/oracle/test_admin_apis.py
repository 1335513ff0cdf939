"""The administrators' APIs beside Apache Kafka 4.3: the same requests to both, sound and unsound, in every version.

Both have two log directories. What must differ is listed, with the reasons, in `likeness.py`; a connection that is closed is an
answer too.
"""

from __future__ import annotations

import gzip
import math
import time

import pytest

from barnabas.wire.apis import APIS
from tests.oracle.admin_pair import BY_NAME, Both, two_directories_each
from tests.oracle.building import build
from tests.oracle.likeness import Likeness, differences
from tests.our_broker import wire_client
from tools.kafka_apis import ANNOUNCED

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with two_directories_each(tmp_path_factory.mktemp("pair")) as addresses:
        both = Both(addresses)
        yield both
        both.close()


def test_every_api_of_kafka_is_served_or_named_as_absent(both):
    """The reference knows what Kafka announces; what we announce goes as far as Kafka does, and nothing is there that Kafka lacks."""
    assert both.announced == ANNOUNCED
    request = build(BY_NAME["ApiVersions"].request_class)
    ours = {
        key.api_key: (key.min_version, key.max_version)
        for key in both.sides[1].client.call(request, 0).api_keys
    }
    for key, (lowest, highest) in ours.items():
        assert lowest <= ANNOUNCED[key][0], APIS[key].name
        assert highest == ANNOUNCED[key][1], APIS[key].name


# ----- who may do what: nobody is asked


ACL = {"resource_type": 2, "resource_name": "x", "principal": "User:a", "host": "*", "operation": 3}
ACL |= {"permission_type": 3, "resource_pattern_type": 3}
ACL_FILTER = {"resource_type_filter": 1, "pattern_type_filter": 3, "operation": 1, "permission_type": 1}


@pytest.mark.parametrize("flaw", [{}, {"operation": 99}, {"resource_type_filter": 9}])
@pytest.mark.parametrize("unknown", ["", "resource_type_filter", "operation", "permission_type"])
def test_acls_are_described_without_an_authorizer(both, flaw, unknown):
    """That there is no authorizer is said; what is UNKNOWN closes the connection."""
    fields = ACL_FILTER | flaw | ({unknown: 0} if unknown else {})
    both.agree("DescribeAcls", **fields)
    both.agree("DeleteAcls", filters=[ACL_FILTER, fields])


@pytest.mark.parametrize(
    "creations",
    [
        [],
        [ACL],
        [ACL, ACL, ACL | {"resource_name": ""}],
        [ACL | {"principal": "nonsense", "operation": 77}],
        [ACL | {"resource_type": 0}],
        [ACL | {"permission_type": 0}],
        [ACL | {"resource_pattern_type": 0}],
        [ACL | {"resource_pattern_type": 4}],
        [ACL, ACL | {"operation": 0}],
    ],
)
def test_acls_are_created_without_an_authorizer(both, creations):
    """Each one is refused for itself."""
    both.agree("CreateAcls", creations=creations)
    both.agree("DeleteAcls", filters=[])


def test_old_versions_of_acl_requests_are_served(both):
    """Clients of Kafka 3.9 and older find them, though Kafka 4 has dropped them."""
    ours = both.sides[1].client
    filters = {name: value for name, value in ACL_FILTER.items() if name != "pattern_type_filter"}
    assert ours.call(build(BY_NAME["DescribeAcls"].request_class, **filters), 0).error_code == 54
    answer = ours.call(build(BY_NAME["CreateAcls"].request_class, creations=[ACL]), 0)
    assert answer.results[0].error_code == 54
    answer = ours.call(build(BY_NAME["DeleteAcls"].request_class, filters=[filters]), 0)
    assert answer.filter_results[0].error_code == 54


def test_delegation_tokens_are_for_the_authenticated(both):
    """On a plaintext listener nobody gets, sees, renews or ends a token."""
    renewer = {"principal_type": "User", "principal_name": "b"}
    both.agree("CreateDelegationToken", renewers=[])
    both.agree("CreateDelegationToken", renewers=[renewer, {"principal_type": "Robot", "principal_name": ""}])
    for owner in ("alice", "", None):
        both.agree(
            "CreateDelegationToken",
            renewers=[renewer],
            owner_principal_type="User",
            owner_principal_name=owner,
            max_lifetime_ms=1,
        )
    both.agree("CreateDelegationToken", renewers=[], owner_principal_type=None, owner_principal_name="alice")
    for owners in (None, [], [renewer]):
        both.agree("DescribeDelegationToken", owners=owners)
    for hmac in (b"", b"abc"):
        both.agree("RenewDelegationToken", hmac=hmac, renew_period_ms=-1)
        both.agree("ExpireDelegationToken", hmac=hmac, expiry_time_period_ms=-1)


def test_sasl_is_not_spoken_on_a_plaintext_listener(both):
    """Whoever begins an authentication is told that this is not the time for it."""
    for mechanism in ("PLAIN", "", "SCRAM-SHA-256"):
        both.agree("SaslHandshake", mechanism=mechanism)
    for token in (b"", b"\0user\0password"):
        both.agree("SaslAuthenticate", auth_bytes=token)


# ----- quotas


def quota(*entity, **values):
    """An entry of AlterClientQuotas; a value of None removes the key."""
    return {
        "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity],
        "ops": [
            {"key": key, "value": value or 0.0, "remove": value is None} for key, value in values.items()
        ],
    }


def component(kind, match_type, match=None):
    return {"entity_type": kind, "match_type": match_type, "match": match}


DOUBLE_KEY = {
    "entity": [{"entity_type": "user", "entity_name": "d"}],
    "ops": [{"key": "producer_byte_rate", "value": 5.0, "remove": False}] * 2,
}
ALTERATIONS = [
    [quota(("user", "a"), producer_byte_rate=1000.0)],
    [quota(("user", "a"), ("client-id", "c"), consumer_byte_rate=5.0, request_percentage=0.25)],
    [quota(("client-id", None), controller_mutation_rate=0.5), quota(("user", None), request_percentage=1e9)],
    [quota(("user", None), ("client-id", None), producer_byte_rate=2.0**62)],
    [
        quota(("ip", "1.2.3.4"), connection_creation_rate=5.0),
        quota(("ip", None), connection_creation_rate=7.0),
    ],
    [quota(("ip", "::1"), connection_creation_rate=5.0)],
    [quota(("ip", "no such host. at all"), connection_creation_rate=5.0)],
    [quota(("ip", "1.2.3.4"), producer_byte_rate=5.0)],
    [quota(("ip", "1.2.3.4"), ("user", "a"), connection_creation_rate=5.0)],
    [quota(("ip", "1.2.3.4"), connection_creation_rate=2.0**31)],
    [quota(("ip", "1.2.3.4"), connection_creation_rate=2.5)],
    [quota(("user", "a"), connection_creation_rate=5.0)],
    [quota(("user", "a"), producer_byte_rate=5.5)],
    [quota(("user", "a"), producer_byte_rate=5.0000001)],
    [quota(("user", "a"), producer_byte_rate=-1.0)],
    [quota(("user", "a"), producer_byte_rate=1e-300)],
    [quota(("user", "a"), producer_byte_rate=2.0**63)],
    [quota(("user", "a"), producer_byte_rate=2.0**64)],
    [quota(("user", "a"), producer_byte_rate=math.inf)],
    [quota(("user", "n"), producer_byte_rate=math.nan)],
    [quota(("user", "n"), producer_byte_rate=None, nope=None)],
    [quota(("user", "a"), nope=1.0)],
    [quota(("user", "e"))],
    [quota(producer_byte_rate=1.0)],
    [quota(("nope", "a"), producer_byte_rate=1.0)],
    [quota(("user", ""), producer_byte_rate=1.0)],
    [quota(("user", "a"), ("user", "b"), producer_byte_rate=1.0)],
    [DOUBLE_KEY],
    [quota(("user", "two"), producer_byte_rate=1.0), quota(("user", "two"), producer_byte_rate=2.0)],
    [quota(("user", "bad"), nope=1.0), quota(("user", "bad"), producer_byte_rate=2.0)],
    [quota(("user", "good"), producer_byte_rate=3.0), quota(("user", "bad"), nope=2.0)],
    [],
]
FILTERS = [
    [],
    [component("user", 0, "a")],
    [component("user", 1)],
    [component("user", 2)],
    [component("user", 2), component("client-id", 2)],
    [component("user", 0, "a"), component("client-id", 2)],
    [component("client-id", 1)],
    [component("ip", 0, "1.2.3.4")],
    [component("ip", 1)],
    [component("ip", 2)],
    [component("ip", 2), component("user", 2)],
    [component("", 0, "a")],
    [component("group", 2)],
    [component("user", 0)],
    [component("user", 1, "x")],
    [component("user", 2, "x")],
    [component("user", 7)],
    [component("user", -1)],
    [component("user", 2), component("user", 1)],
]


def test_quotas(both):
    """Quotas are judged, kept, described and taken away as Kafka does it."""
    for entries in ALTERATIONS:
        both.agree("AlterClientQuotas", entries=entries, validate_only=True)
        both.agree("AlterClientQuotas", entries=entries)
        both.agree("DescribeClientQuotas", components=[], is_repeatable=True)
    for components in FILTERS:
        for strict in (False, True):
            both.agree("DescribeClientQuotas", components=components, strict=strict)
    left = both.agree("DescribeClientQuotas", [1], components=[])
    for entry in left.entries:
        entity = [(part.entity_type, part.entity_name) for part in entry.entity]
        gone = quota(*entity, **dict.fromkeys((value.key for value in entry.values), None))
        both.agree("AlterClientQuotas", [1], entries=[gone])
    assert not both.agree("DescribeClientQuotas", components=[], is_repeatable=True).entries


# ----- SCRAM users


def user(name, mechanism=1, iterations=4096, password=b"p"):
    return {
        "name": name,
        "mechanism": mechanism,
        "iterations": iterations,
        "salt": b"salt",
        "salted_password": password,
    }


def gone(name, mechanism=1):
    return {"name": name, "mechanism": mechanism}


SCRAM_CHANGES = [
    ([], []),
    ([], [user("u"), user("v", 2)]),
    ([], [user("u", 2, 8192)]),
    ([], [user("w"), user("w", 2)]),
    ([gone("u")], [user("u", 2)]),
    ([gone("u"), gone("u"), gone("u")], []),
    ([gone("v"), gone("nobody")], []),
    ([gone(""), gone("u", 9), gone("u")], []),
    ([gone("u", 9)], [user("u")]),
    ([], [user(""), user("x", 0), user("y", 1, 4095), user("z", 2, 16385), user("e", password=b"")]),
    ([], [user("x", -1), user("x", 1), user("q", 1, 16384, b"s" * 64)]),
    ([gone("u", 1)], [user("v", 1)]),
    ([], [user("e", password=b""), user("e", password=b"")]),
]


def test_scram_users(both):
    """Credentials are judged, kept, described and deleted as Kafka does it; salts and keys are never told."""
    for deletions, upsertions in SCRAM_CHANGES:
        both.agree("AlterUserScramCredentials", deletions=deletions, upsertions=upsertions)
        both.agree("DescribeUserScramCredentials", users=None, is_repeatable=True)
    for names in ([], ["u"], ["u", "u"], ["u", "nobody", ""], ["v", "u", "v", "v"]):
        both.agree("DescribeUserScramCredentials", users=[{"name": name} for name in names])
    left = both.agree("DescribeUserScramCredentials", users=None)
    for result in left.results:
        for info in result.credential_infos:
            both.agree(
                "AlterUserScramCredentials", deletions=[gone(result.user, info.mechanism)], upsertions=[]
            )
    assert not both.agree("DescribeUserScramCredentials", users=None, is_repeatable=True).results


# ----- leaders and replicas


def partitions(topic, *indexes):
    return {"topic": topic, "partitions": list(indexes)}


@pytest.fixture(scope="module")
def topic(both):
    return both.topic("topic", 2)


@pytest.fixture(scope="module")
def unmoved(both):
    """A topic whose leaders are those that should lead: in a cluster, a reassignment may choose others."""
    return both.topic("unmoved", 2)


@pytest.mark.parametrize("election_type", [0, 1, 2, -1])
def test_leaders_are_elected_where_one_is_needed(both, unmoved, election_type):
    """On one node no partition needs an election; what is not there and kinds that nobody knows are refused."""
    topic = unmoved
    for wanted in (
        [],
        [partitions(topic, 0)],
        [partitions(topic)],
        [partitions(topic, 0, 0, 7, -1), partitions("none", 0)],
        [partitions(topic, 0), partitions(topic, 1)],
        [partitions("", 0)],
    ):
        for timeout_ms in (5000, 0, -1):
            both.agree(
                "ElectLeaders", election_type=election_type, topic_partitions=wanted, timeout_ms=timeout_ms
            )
    answer = both.agree(
        "ElectLeaders",
        election_type=election_type,
        topic_partitions=None,
        timeout_ms=5000,
        but=["replica_election_results"],  # all topics of everybody
    )
    assert all(not result.partition_result for result in answer.replica_election_results)


def moves(topic, *parts):
    return {"name": topic, "partitions": [{"partition_index": i, "replicas": ids} for i, ids in parts]}


@pytest.mark.parametrize("allowed", [True, False])
def test_replicas_are_reassigned_as_far_as_one_node_can(both, topic, allowed):
    """To itself is no move at all; to nobody, to others, twice or of what is not there is refused."""
    for wanted in (
        [],
        [moves(topic)],
        [moves(topic, (0, [1]))],
        [moves(topic, (0, None))],
        [moves(topic, (0, []))],
        [moves(topic, (0, [2]))],
        [moves(topic, (0, [1, 1]))],
        [moves(topic, (0, [1, 2]))],
        [moves(topic, (0, [-1]))],
        [moves(topic, (9, [1])), moves(topic, (-1, None))],
        [moves("none", (0, [1])), moves("", (0, None))],
        [moves(topic, (0, [1]), (0, None)), moves(topic, (1, [1]))],
    ):
        for timeout_ms in (5000, 0, -7):
            both.agree(
                "AlterPartitionReassignments",
                topics=wanted,
                timeout_ms=timeout_ms,
                allow_replication_factor_change=allowed,
            )
    listed = [{"name": topic, "partition_indexes": [0, 1, 9, -1]}, {"name": "none", "partition_indexes": [0]}]
    for topics in (None, [], listed):
        both.agree("ListPartitionReassignments", topics=topics, timeout_ms=5000)


# ----- the cluster


def asked(*topics):
    return [
        {"topic_name": name, "partitions": [{"partition_index": index} for index in indexes]}
        for name, indexes in topics
    ]


def test_the_quorum_is_one_voter(both):
    """It is described, and nobody can join or leave it."""
    log = "__cluster_metadata"
    # Where the log ends and since when, and the listener for controllers, which we do not have.
    but = [
        "leader_epoch",
        "high_watermark",
        "log_end_offset",
        "last_fetch_timestamp",
        "last_caught_up_timestamp",
    ]
    for topics in (
        asked((log, [0])),
        asked(),
        asked((log, [1])),
        asked((log, [])),
        asked((log, [0, 0])),
        asked((log, [0]), ("x", [0])),
        asked(("x", [0, 1]), ("", [])),
    ):
        both.agree("DescribeQuorum", topics=topics, but=[*but, "listeners"])
    for client in (side.client for side in both.sides):
        request = build(BY_NAME["DescribeQuorum"].request_class, topics=asked((log, [0])))
        quorum = client.call(request, 2).topics[0].partitions[0]
        (voter,) = quorum.current_voters
        assert 0 < quorum.high_watermark <= voter.log_end_offset
        assert 0 <= time.time() * 1000 - voter.last_caught_up_timestamp < 60_000
        assert voter.last_fetch_timestamp == voter.last_caught_up_timestamp
    here = {"name": "CONTROLLER", "host": "h", "port": 9}
    for listeners in (
        [here],
        [],
        [{"name": "X", "host": "127.0.0.1", "port": 1}],
        [here, {**here, "name": "Y"}],
    ):
        for voter_id, directory_id in ((3, b"d" * 16), (1, b"d" * 16), (-1, b"d" * 16), (3, bytes(16))):
            both.agree(
                "AddRaftVoter",
                cluster_id=None,
                timeout_ms=100,
                voter_id=voter_id,
                voter_directory_id=directory_id,
                listeners=listeners,
            )
            both.agree("RemoveRaftVoter", voter_id=voter_id, voter_directory_id=directory_id, cluster_id=None)
    for client in (side.client for side in both.sides):
        strange = {"cluster_id": "another", "voter_id": 3, "voter_directory_id": b"d" * 16}
        answers = [
            client.call(build(BY_NAME["RemoveRaftVoter"].request_class, **strange), 0),
            client.call(build(BY_NAME["AddRaftVoter"].request_class, timeout_ms=1, **strange), 1),
        ]
        assert [answer.error_code for answer in answers] == [104, 104]
        assert all('"another" doesn\'t match the cluster id' in answer.error_message for answer in answers)


@pytest.mark.parametrize("broker_id", [7, -1, 2**31 - 1])
def test_unknown_brokers_cannot_be_unregistered(both, broker_id):
    """There is no such broker."""
    both.agree("UnregisterBroker", broker_id=broker_id)


def test_a_broker_that_serves_is_not_unregistered(both):
    """Kafka would do it, and serve nobody from then on."""
    answer = both.sides[1].client.call(build(BY_NAME["UnregisterBroker"].request_class, broker_id=1), 0)
    assert (answer.error_code, answer.error_message) == (42, "Broker 1 is in use; stop it first.")


def level(name, number, upgrade_type=1):
    return {
        "feature": name,
        "max_version_level": number,
        "upgrade_type": upgrade_type,
        "allow_downgrade": upgrade_type != 1,
    }


METADATA = "metadata.version"


@pytest.mark.parametrize("name", ["group.version", "transaction.version"])
def test_features_with_levels_of_their_own(both, name):
    """What may be raised and lowered, and that ApiVersions tells it afterwards."""
    top = {"group.version": 1, "transaction.version": 2}[name]
    for number in range(-1, top + 2):
        for kind in (0, 1, 2, 3):
            update = [level(name, number, kind)]
            both.agree("UpdateFeatures", feature_updates=update, validate_only=True, timeout_ms=5000)
    for number, kind in ((0, 2), (0, 1), (top, 2), (top, 1)):
        update = [level(name, number, kind)]
        both.agree("UpdateFeatures", [1], feature_updates=update, validate_only=False, timeout_ms=5000)
        both.barrier()
        for side in both.sides:
            told = side.client.call(
                build(
                    BY_NAME["ApiVersions"].request_class,
                    client_software_name="t",
                    client_software_version="1",
                ),
                3,
            )
            levels = {each.name: each.max_version_level for each in told.finalized_features}
            assert levels.get(name, 0) == (top if number == top and kind == 1 else 0)


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize(
    "updates",
    [
        [],
        *(
            [level(METADATA, number, kind)]
            for number in (30, 31, 29, 22, 7, 6, 0, -1)
            for kind in (0, 1, 2, 3, 9)
        ),
        [level(METADATA, 30), level(METADATA, 30)],
        *([level("nope", number, kind)] for number in (0, 1, -1) for kind in (1, 2)),
        [level("", 1)],
        [level(METADATA, 30), level("nope", 1)],
    ],
    ids=str,
)
def test_features_have_the_levels_that_kafka_allows(both, updates, validate_only):
    """Unknown features and levels, ways back that would lose something, and half a change are refused."""
    both.agree("UpdateFeatures", feature_updates=updates, validate_only=validate_only, timeout_ms=5000)


# ----- log directories


def to(path, *topics):
    return {"path": path, "topics": [{"name": name, "partitions": list(indexes)} for name, indexes in topics]}


def places(side, topic):
    """Partition -> the last letter of the directory of each copy, and whether it is a future one."""
    asked = [{"topic": topic, "partitions": [0, 1]}]
    answer = side.client.call(build(BY_NAME["DescribeLogDirs"].request_class, topics=asked), 4)
    return {
        part.partition_index: (result.log_dir[-1], part.is_future_key)
        for result in answer.results
        for found in result.topics
        for part in found.partitions
    }


def directory(letter, more=""):
    """The path of a directory as its broker spells it."""

    def path(side):
        answer = side.client.call(build(BY_NAME["DescribeLogDirs"].request_class, topics=[]), 4)
        return next(result.log_dir for result in answer.results if result.log_dir[-1] == letter) + more

    return path


def test_replicas_move_between_log_directories(both):
    """To and fro; DescribeLogDirs shows where they are."""
    name = both.topic("moving", 2)
    for letter in "abab":
        both.agree(
            "AlterReplicaLogDirs",
            [2],
            dirs=lambda side, to_=letter: [to(directory(to_)(side), (name, [0, 1]))],
        )
        end = time.monotonic() + 30
        for side in both.sides:
            while places(side, name) != {0: (letter, False), 1: (letter, False)}:
                assert time.monotonic() < end, places(side, name)
        both.agree("DescribeLogDirs", topics=[{"topic": name, "partitions": [0, 1, 2]}], is_repeatable=True)


def test_moves_that_cannot_be_are_refused(both):
    """Unknown directories and partitions, names that are too long; one that is named twice goes to the later directory."""
    name = both.topic("staying", 2)
    for dirs in (
        lambda _: [],
        lambda side: [to(directory("a")(side))],
        lambda side: [to(directory("a")(side), (name, []))],
        lambda side: [to(directory("a")(side), (name, [7, -1]), ("none", [0]), ("bad name", [0]), ("", [0]))],
        lambda _: [to("/nowhere", (name, [0])), to("", (name, [1]))],
        lambda side: [to(directory("a", "/")(side), (name, [0]))],
        lambda side: [to(directory("a")(side), ("x" * 213, [0]))],
        lambda side: [to(directory("a")(side), ("x" * 214, [0]), ("y" * 300, [0]))],
        lambda _: [to("/nowhere", ("x" * 300, [0]), ("none", [0]))],
        lambda side: [to(directory("a")(side), ("__cluster_metadata", [0]))],
        lambda side: [to("/nowhere", (name, [0])), to(directory("b")(side), (name, [0, 0]))],
    ):
        both.agree("AlterReplicaLogDirs", dirs=dirs)


# ----- what clients measure


def metrics_settings(name, **settings):
    """IncrementalAlterConfigs of a CLIENT_METRICS resource; None removes a setting."""
    configs = [
        {"name": key.replace("_", "."), "config_operation": int(value is None), "value": value or ""}
        for key, value in settings.items()
    ]
    return {"resources": [{"resource_type": 16, "resource_name": name, "configs": configs}]}


class Telemetry:
    """A client of both brokers, each on a connection of its own."""

    def __init__(self, both, number):
        self.both = both
        self.client_instance_id = bytes([number]) * 16
        self.clients = [
            wire_client(side.address, client_id=f"telemetry-{number}", timeout_s=10) for side in both.sides
        ]
        version = build(
            BY_NAME["ApiVersions"].request_class, client_software_name="test", client_software_version="1.2"
        )
        for client in self.clients:
            client.call(version, 3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()

    def agree(self, api, **fields):
        request = build(BY_NAME[api].request_class, **fields)
        answers = [client.call(request, 0) for client in self.clients]
        for answer in answers:
            metrics = getattr(answer, "requested_metrics", [])
            metrics.sort()  # a hash set's order in Kafka
            if len(metrics) > 1:
                answer.subscription_id = 0  # follows from that order
        assert not differences(*(Likeness()(answer) for answer in answers)), fields
        return answers[1]

    def subscribe(self, **fields):
        fields = {"client_instance_id": self.client_instance_id} | fields
        return self.agree("GetTelemetrySubscriptions", **fields)

    def push(self, **fields):
        fields = {"client_instance_id": self.client_instance_id} | fields
        return self.agree("PushTelemetry", **fields).error_code


def test_a_client_without_subscriptions_is_asked_for_nothing(both):
    """It may ask again after five minutes, and what it pushes is judged all the same."""
    with Telemetry(both, 71) as client:
        wanted = client.subscribe()
        assert (wanted.requested_metrics, wanted.push_interval_ms) == ([], 300_000)
        assert client.subscribe().error_code == 89
        assert client.push(subscription_id=wanted.subscription_id + 1) == 117
        assert client.push(subscription_id=wanted.subscription_id) == 89
        assert client.push(subscription_id=wanted.subscription_id, terminating=True, metrics=b"x") == 0
        assert client.push(subscription_id=wanted.subscription_id) == 42
    with Telemetry(both, 72) as client:
        assert client.push(subscription_id=7) == 117
        for reserved in (bytes(16), bytes(15) + b"\x01"):
            assert client.push(client_instance_id=reserved) == 42
        assert client.push(client_instance_id=bytes(15) + b"\x02") == 117


def test_a_client_that_comes_back_is_a_new_one(both):
    """What a broker knows of a client ends with its connection."""
    for _ in range(2):
        with Telemetry(both, 73) as client:
            assert client.subscribe().error_code == 0
            assert client.subscribe().error_code == 89
        both.barrier()  # time in which both notice the end


def test_new_clients_get_an_id(both):
    """Another one each, by which they are known from then on."""
    request = build(BY_NAME["GetTelemetrySubscriptions"].request_class, client_instance_id=bytes(16))
    for side in both.sides:
        ids = {side.client.call(request, 0).client_instance_id for _ in range(3)}
        assert len(ids) == 3
        assert bytes(16) not in ids


def test_pushes_are_judged(both):
    """Compression, size and subscription; a push that is refused counts for the interval."""
    for number, fields, code in (
        (74, {"compression_type": 5}, 76),
        (75, {"compression_type": -1}, 76),
        (76, {"compression_type": 4, "metrics": b"x" * 10}, 87),
        (79, {"compression_type": 1, "metrics": gzip.compress(b"")}, 0),
        (77, {"metrics": b"x" * 1_048_577}, 118),
        (78, {"metrics": b""}, 0),
    ):
        with Telemetry(both, number) as client:
            known = client.subscribe().subscription_id
            assert client.push(subscription_id=known, **fields) == code
            assert client.push(subscription_id=known) == 89


SUBSCRIPTIONS = [
    {"metrics": "org.apache.kafka.producer."},
    {"metrics": "org.apache.kafka.producer.,org.apache.kafka.consumer.", "interval_ms": "5000"},
    {"metrics": "*,org.apache.kafka.producer.", "interval_ms": "100"},
    {"interval_ms": "1000"},
    {"metrics": "one.", "match": "client_id=telemetry-.*"},
    {"metrics": "two.", "match": "client_id=telemetry-,client_software_name=test"},
    {"metrics": "three.", "match": "client_software_name=te.t,client_software_version=1\\\\.2"},
    {"metrics": "four.", "match": "client_source_address=127.0.0.1,client_source_port=[0-9]+"},
    {"metrics": "five.", "match": "client_instance_id=.{22}"},
    {"metrics": "six.", "match": "client_id = telemetry-[0-9]+ "},
]


def test_subscriptions_are_for_the_clients_that_match(both):
    """Metrics of all that match are asked for, as often as the most eager wants them; a change is told at once."""
    name = f"{both.prefix}metrics"
    with Telemetry(both, 80) as client:
        client.subscribe()
        before = {}
        for settings in SUBSCRIPTIONS:
            removed = dict.fromkeys(before.keys() - settings.keys())
            both.agree("IncrementalAlterConfigs", [1], **metrics_settings(name, **settings, **removed))
            before = settings
            both.barrier()
            wanted = client.subscribe()
            assert wanted.error_code == 0
            both.agree(
                "DescribeConfigs",
                resources=[{"resource_type": 16, "resource_name": name}],
                is_repeatable=True,
            )
        other = f"{both.prefix}others"
        both.agree(
            "IncrementalAlterConfigs", [1], **metrics_settings(other, metrics="seven.", interval_ms="700")
        )
        both.barrier()
        wanted = client.subscribe()
        assert (wanted.requested_metrics, wanted.push_interval_ms) == (["seven.", "six."], 700)
        both.agree("ListConfigResources", [0], is_repeatable=True)
        for each, settings in ((name, before), (other, {"metrics": "", "interval_ms": ""})):
            both.agree("IncrementalAlterConfigs", [1], **metrics_settings(each, **dict.fromkeys(settings)))
        both.barrier()
        assert client.subscribe().requested_metrics == []
        both.agree("ListConfigResources", [0], is_repeatable=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": ""},
        {"interval.ms": "99"},
        {"interval.ms": "3600001"},
        {"interval.ms": "soon"},
        {"match": "client_id"},
        {"match": "client_id=a=b"},
        {"match": "nobody=x"},
        {"match": "client_id=["},
        {"nope": "1"},
    ],
    ids=str,
)
def test_subscriptions_that_cannot_be_are_refused(both, settings):
    """Unknown settings and properties, intervals out of bounds, expressions that are none."""
    name = f"{both.prefix}bad"
    configs = [{"name": key, "config_operation": 0, "value": value} for key, value in settings.items()]
    resource = {"resource_type": 16, "resource_name": name, "configs": configs}
    both.agree("IncrementalAlterConfigs", resources=[resource])
    both.agree("AlterConfigs", resources=[{"resource_type": 16, "resource_name": name, "configs": []}])

"""The same requests to Apache Kafka and to Barnabas get the same answers.

Each conversation is a function that talks to one broker and gives what it heard; ids that brokers make up are numbered in the
order in which they come.
"""

import re
import time

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.describe_groups import DescribeGroupsRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.list_groups import ListGroupsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_delete import OffsetDeleteRequest
from tests.broker_process import BrokerProcess
from tests.coordinators.requests import TOPIC, heartbeat, join, leave, offset_commit, offset_fetch, sync
from tests.oracle.kafka_broker import kafka_broker
from tests.wire_client import WireClient

pytestmark = pytest.mark.oracle

PARTITIONS = 3
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    config = {
        "group.initial.rebalance.delay.ms": "0",
        "group.max.size": "3",
        "offsets.topic.num.partitions": "3",
    }
    with kafka_broker(tmp_path_factory.mktemp("kafka"), config=config) as broker:
        prepare(broker.bootstrap)
        yield broker.bootstrap


@pytest.fixture(scope="module")
def barnabas(tmp_path_factory):
    settings = {"group.max.size": "3", "offsets.topic.num.partitions": "3"}
    with BrokerProcess(tmp_path_factory.mktemp("barnabas"), settings=settings) as broker:
        prepare(broker.bootstrap_server)
        yield broker.bootstrap_server


def prepare(address):
    """A topic, and `__consumer_offsets`."""
    with WireClient(address) as client:
        topic = CreateTopicsRequest.CreatableTopic(
            name=TOPIC, num_partitions=PARTITIONS, replication_factor=1
        )
        (created,) = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5).topics
        assert created.error_code == 0
        end = time.monotonic() + 30
        while True:
            found = client.call(FindCoordinatorRequest(key="warm up"), 2).error_code
            loaded = client.call(ListGroupsRequest(), 4).error_code
            committed = client.call(offset_commit("warm up", version=2), 2).topics[0].partitions[0].error_code
            if (found, loaded, committed) == (0, 0, 0):
                break
            assert time.monotonic() < end, (found, loaded, committed)
            time.sleep(0.05)
        client.call(DeleteGroupsRequest(groups_names=["warm up"]), 1)


# ----- plain values, with made-up ids numbered


class Plain:
    """Turns messages into values that can be compared."""

    def __init__(self):
        self._members = {}
        self._topic_ids = {}

    def __call__(self, value):
        if isinstance(value, list):
            items = [self(item) for item in value]
            return sorted(items, key=repr)
        if isinstance(value, str):
            return UUID.sub(lambda found: self._number(self._members, found[0]), value)
        if isinstance(value, bytes) and len(value) == 16:
            return value if value == bytes(16) else self._number(self._topic_ids, value)
        if hasattr(value, "__slots__") and not isinstance(value, int | bytes):
            fields = [slot for base in type(value).__mro__ for slot in getattr(base, "__slots__", ())]
            return {name: self(getattr(value, name)) for name in fields}
        return value

    @staticmethod
    def _number(known, found):
        return known.setdefault(found, f"<{len(known) + 1}>")


class Talk:
    """What a conversation is given: `say(request, version)` sends a request, notes its answer and gives it."""

    def __init__(self, client):
        self.client = client
        self.heard = []
        self._plain = Plain()

    def __call__(self, request, version):
        response = self.client.call(request, version)
        self.heard.append({f"{type(request).__name__} {version}": self._plain(response)})
        return response


def hear(conversation, address):
    """What a broker says in a conversation."""
    with WireClient(address, client_id="c") as client:
        say = Talk(client)
        conversation(say)
        return say.heard


def differences(theirs, ours, path=""):
    """Where two plain values differ: (path, Kafka's, ours)."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        return [found for key in theirs for found in differences(theirs[key], ours[key], f"{path}.{key}")]
    if isinstance(theirs, list | tuple) and isinstance(ours, list | tuple) and len(theirs) == len(ours):
        pairs = enumerate(zip(theirs, ours, strict=True))
        return [found for index, pair in pairs for found in differences(*pair, f"{path}[{index}]")]
    if isinstance(theirs, list) and isinstance(ours, list):
        only_theirs = [item for item in theirs if item not in ours]
        return [(path, only_theirs, [item for item in ours if item not in theirs])]
    return [] if theirs == ours else [(path, theirs, ours)]


def assert_same(theirs, ours):
    found = differences(theirs, ours)
    assert not found, "\n".join(f"{path}: Kafka {each!r}, Barnabas {other!r}" for path, each, other in found)


def check(conversation, kafka, barnabas):
    assert_same(hear(conversation, kafka), hear(conversation, barnabas))


# ----- conversations to build upon


def stable_member(say, group, version=9, **fields):
    """A member that leads a stable group."""
    joined = say(join(group, version, **fields), version)
    if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        joined = say(join(group, version, **(fields | {"member_id": joined.member_id})), version)
    instance = {"group_instance_id": fields["instance"]} if fields.get("instance") else {}
    protocol_type = {"protocol_type": fields["protocol_type"]} if "protocol_type" in fields else {}
    say(
        sync(
            joined,
            5,
            group=group,
            assignments=[(joined.member_id, b"mine")],
            **instance,
            **protocol_type,
        ),
        5,
    )
    return joined


def topic_id(say):
    asked = [MetadataRequest.MetadataRequestTopic(name=TOPIC)]
    return say.client.call(MetadataRequest(topics=asked), 12).topics[0].topic_id


# ----- conversations


@pytest.mark.parametrize("version", range(10))
def test_a_members_life_in_every_version(kafka, barnabas, version):
    """Join, sync, heartbeat, describe, leave: the answers of each version."""

    def conversation(say):
        group = f"life-{version}"
        joined = say(join(group, version), version)
        if joined.error_code:
            joined = say(join(group, version, member_id=joined.member_id), version)
        say(DescribeGroupsRequest(groups=[group]), 5)
        versions = {"sync": min(version, 5), "heartbeat": min(version, 4), "leave": min(version, 5)}
        say(
            sync(joined, versions["sync"], group=group, assignments=[(joined.member_id, b"part")]),
            versions["sync"],
        )
        say(heartbeat(joined, group=group), versions["heartbeat"])
        say(join(group, version, member_id=joined.member_id), version)
        say(DescribeGroupsRequest(groups=[group, "none"]), min(version, 6))
        say(leave(group, versions["leave"], ("ghost", None)), versions["leave"])
        say(leave(group, versions["leave"], (joined.member_id, None)), versions["leave"])
        say(heartbeat(joined, group=group), versions["heartbeat"])
        say(DescribeGroupsRequest(groups=[group]), 6)

    check(conversation, kafka, barnabas)


def test_joins_that_are_refused(kafka, barnabas):
    """Bad ids, time-outs and protocols."""

    def conversation(say):
        for version in (0, 3, 5, 9):
            say(join("", version), version)
            say(join("refused", version, session_timeout_ms=5_999), version)
            say(join("refused", version, session_timeout_ms=1_800_001), version)
            say(join("refused", version, member_id="ghost"), version)
            say(join("refused", version, protocols=()), version)
            say(join("refused", version, protocol_type=""), version)
        member = stable_member(say, "taken")
        for version in (0, 4, 9):
            say(join("taken", version, protocol_type="connect"), version)
            say(join("taken", version, protocols=(("sticky", b""),)), version)
            say(join("taken", version, member_id="ghost"), version)
        say(heartbeat(member, group="taken"), 4)

    check(conversation, kafka, barnabas)


def test_syncs_and_heartbeats_that_are_refused(kafka, barnabas):
    """Wrong members, generations, protocols and groups, before and after the assignment."""

    def conversation(say):
        group = "sync-refused"
        first = say(join(group, 9), 9)
        joined = say(join(group, 9, member_id=first.member_id), 9)
        for _ in range(2):
            for fields in (
                {"member_id": "ghost"},
                {"generation_id": 7},
                {"generation_id": -1},
                {"protocol_type": "connect"},
                {"protocol_name": "sticky"},
                {"protocol_name": None},
                {"group_instance_id": "nobody"},
                {"group_id": "nowhere"},
                {"group_id": ""},
            ):
                say(
                    sync(joined, 5, **({"group": group} | fields))
                    if "group_id" not in fields
                    else sync(joined, 5, group=group, **fields),
                    5,
                )
                if not fields.keys() & {"protocol_type", "protocol_name"}:
                    say(heartbeat(joined, group=group, **fields), 4)
            say(sync(joined, 5, group=group, assignments=[(joined.member_id, b"x")]), 5)

    check(conversation, kafka, barnabas)


def test_a_rebalance_as_everyone_hears_it(kafka, barnabas):
    """Two connections: the second member's JoinGroup is parked until the first rejoins."""

    def rebalance(address):
        plain, heard = Plain(), []

        def note(response):
            heard.append(plain(response))
            return response

        with WireClient(address, client_id="a") as a, WireClient(address, client_id="b") as b:
            group = "two"
            one = stable_member(lambda request, version: note(a.call(request, version)), group)
            two = note(b.call(join(group, 9), 9))
            b.send(join(group, 9, member_id=two.member_id), 9)
            note(a.call(heartbeat(one, group=group, generation_id=99), 4))
            end = time.monotonic() + 20
            while a.call(heartbeat(one, group=group), 4).error_code != ErrorCode.REBALANCE_IN_PROGRESS:
                assert time.monotonic() < end
            note(a.call(sync(one, 5, group=group), 5))
            commit = {"generation_id_or_member_epoch": 1, "member_id": one.member_id}
            note(a.call(offset_commit(group, version=9, **commit), 9))
            note(a.call(DescribeGroupsRequest(groups=[group]), 5))
            again = note(a.call(join(group, 9, member_id=one.member_id), 9))
            joined = note(b.receive())
            note(a.call(offset_commit(group, version=9, **commit), 9))
            commit["generation_id_or_member_epoch"] = 2
            note(a.call(offset_commit(group, version=9, **commit), 9))
            note(b.call(join(group, 9, member_id=joined.member_id), 9))
            b.send(sync(joined, 5, group=group), 5)
            assignments = [(again.member_id, b"for a"), (joined.member_id, b"for b")]
            note(a.call(sync(again, 5, group=group, assignments=assignments), 5))
            note(b.receive())
            note(b.call(sync(joined, 5, group=group), 5))
            note(a.call(offset_commit(group, version=9, **commit), 9))
            note(b.call(join(group, 9, member_id=joined.member_id), 9))
            note(a.call(leave(group, 5, (again.member_id, None), ("ghost", None)), 5))
            note(b.call(heartbeat(joined, group=group), 4))
            last = note(b.call(join(group, 9, member_id=joined.member_id), 9))
            note(b.call(leave(group, 5, (last.member_id, None)), 5))
            note(b.call(DescribeGroupsRequest(groups=[group]), 5))
        return heard

    assert_same(rebalance(kafka), rebalance(barnabas))


def test_a_full_group(kafka, barnabas):
    """`group.max.size` is 3 here: the fourth is refused while the group is preparing, and when it is stable."""

    def conversation(say):
        group = "full"
        members = []
        with_ids = [say(join(group, 9), 9).member_id for _ in range(5)]
        members.append(say(join(group, 9, member_id=with_ids[0]), 9))
        say(
            sync(members[0], 5, group=group, assignments=[(with_ids[0], b"x")]),
            5,
        )
        say(DescribeGroupsRequest(groups=[group]), 5)
        say(leave(group, 5, *[(member_id, None) for member_id in with_ids[1:]]), 5)
        say(heartbeat(members[0], group=group), 4)

    check(conversation, kafka, barnabas)


@pytest.mark.parametrize("version", [5, 8, 9])
def test_static_members(kafka, barnabas, version):
    """They come back, are fenced, and are removed by instance id."""

    def conversation(say):
        group = f"static-{version}"
        member = stable_member(say, group, version, instance="i-1")
        say(heartbeat(member, group=group, group_instance_id="i-1"), 4)
        say(heartbeat(member, group=group, group_instance_id="i-2"), 4)
        again = say(join(group, version, instance="i-1"), version)
        for joined in (member, again):
            say(heartbeat(joined, group=group, group_instance_id="i-1"), 4)
            say(sync(joined, 5, group=group, group_instance_id="i-1"), 5)
            say(
                offset_commit(
                    group,
                    version=8,
                    generation_id_or_member_epoch=joined.generation_id,
                    member_id=joined.member_id,
                    group_instance_id="i-1",
                ),
                8,
            )
            say(join(group, version, member_id=joined.member_id, instance="i-1"), version)
        say(DescribeGroupsRequest(groups=[group]), 5)
        say(leave(group, 5, (member.member_id, "i-1"), ("", "i-9"), ("", None)), 5)
        say(leave(group, 5, ("", "i-1")), 5)
        say(DescribeGroupsRequest(groups=[group]), 5)

    check(conversation, kafka, barnabas)


@pytest.mark.parametrize("version", range(2, 11))
def test_offsets_in_every_version(kafka, barnabas, version):
    """Committed without a group, fetched by topic and all at once; unknown topics and partitions."""

    def conversation(say):
        group = f"offsets-{version}"
        found = topic_id(say)
        by_id = {"topic_id": found} if version >= 10 else {}
        fetches = range(1, 11)
        for fetch in fetches:
            ids = {"topic_id": found} if fetch >= 10 else {}
            say(offset_fetch(group, fetch, topics={TOPIC: [0, 1]}, **ids), fetch)
        say(offset_commit(group, version=version, topics={TOPIC: [0, 2, 9, -1]}, **by_id), version)
        if version < 10:
            say(offset_commit(group, version=version, topics={"unknown": [0], TOPIC: [1]}), version)
        else:
            say(offset_commit(group, version=version, topics={"": [0]}, topic_id=b"\x07" * 16), version)
            say(offset_commit(group, version=version, topics={"": [0]}), version)
        for fetch in fetches:
            ids = {"topic_id": found} if fetch >= 10 else {}
            say(offset_fetch(group, fetch, topics={TOPIC: [0, 1, 2, 9]}, **ids), fetch)
            if fetch >= 2:
                say(offset_fetch(group, fetch), fetch)
            if fetch < 10:
                say(offset_fetch(group, fetch, topics={"unknown": [0]}), fetch)
            else:
                say(offset_fetch(group, fetch, topics={"": [0]}, topic_id=b"\x07" * 16), fetch)
            if fetch >= 7:
                say(offset_fetch(group, fetch, topics={TOPIC: [0]}, require_stable=True, **ids), fetch)
        say(offset_fetch("", min(version, 9), topics={TOPIC: [0]}), min(version, 9))

    check(conversation, kafka, barnabas)


def test_commits_that_are_refused(kafka, barnabas):
    """Wrong members and generations, groups that do not exist, notes that are too long."""

    def conversation(say):
        group = "commit-refused"
        member = stable_member(say, group)
        mine = {"generation_id_or_member_epoch": 1, "member_id": member.member_id}
        for version in (2, 5, 8, 9):
            for fields in (
                mine,
                {},
                mine | {"generation_id_or_member_epoch": 2},
                mine | {"generation_id_or_member_epoch": -1},
                mine | {"member_id": "ghost"},
                mine | {"member_id": ""},
            ):
                say(offset_commit(group, version=version, **fields), version)
            say(
                offset_commit("nowhere", version=version, generation_id_or_member_epoch=1, member_id="x"),
                version,
            )
            say(offset_commit(group, version=version, metadata="x" * 4097, **mine), version)
            say(offset_commit(group, version=version, metadata="x" * 4096, **mine), version)
            say(offset_commit(group, version=version, metadata=None, **mine), version)
            say(offset_commit("", version=version), version)
        say(offset_commit(group, version=8, group_instance_id="i", **mine), 8)
        say(offset_fetch(group, 8), 8)

    check(conversation, kafka, barnabas)


def test_deleting_offsets_and_groups(kafka, barnabas):
    """Live, empty, simple and unknown groups; topics in use and not; topics that do not exist."""

    def delete(group, topics):
        return OffsetDeleteRequest(
            group_id=group,
            topics=[
                OffsetDeleteRequest.OffsetDeleteRequestTopic(
                    name=name,
                    partitions=[
                        OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=index)
                        for index in indexes
                    ],
                )
                for name, indexes in topics.items()
            ],
        )

    def conversation(say):
        member = stable_member(say, "del-live")
        mine = {"generation_id_or_member_epoch": 1, "member_id": member.member_id}
        say(offset_commit("del-live", version=8, **mine), 8)
        worker = stable_member(say, "del-connect", protocol_type="connect")
        say(offset_commit("del-simple", version=8, topics={TOPIC: [0, 1]}), 8)
        for group in ("del-live", "del-connect", "del-simple", "del-none", ""):
            say(delete(group, {TOPIC: [0, 9], "unknown": [0]}), 0)
            say(delete(group, {"unknown": [0]}), 0)
            if group:
                say(offset_fetch(group, 8), 8)
        say(
            DeleteGroupsRequest(groups_names=["del-live", "del-connect", "del-simple", "del-none", ""]),
            2,
        )
        say(ListGroupsRequest(states_filter=["stable", "EMPTY"]), 4)
        say(leave("del-connect", 5, (worker.member_id, None)), 5)
        say(leave("del-live", 5, (member.member_id, None)), 5)
        for version in (0, 1, 2):
            say(DeleteGroupsRequest(groups_names=["del-connect", "del-live"]), version)
        say(offset_fetch("del-live", 8), 8)
        say(DescribeGroupsRequest(groups=["del-live"], include_authorized_operations=True), 5)

    # Only groups of this conversation are to be listed.
    for address in (kafka, barnabas):
        forget_all_groups(address)
    check(conversation, kafka, barnabas)


def forget_all_groups(address):
    with WireClient(address) as client:
        for group in client.call(ListGroupsRequest(), 4).groups:
            described = client.call(DescribeGroupsRequest(groups=[group.group_id]), 5).groups[0]
            members = [(member.member_id, member.group_instance_id) for member in described.members]
            if members:
                client.call(leave(group.group_id, 5, *members), 5)
            client.call(DeleteGroupsRequest(groups_names=[group.group_id]), 1)


@pytest.mark.parametrize("version", range(6))
def test_lists_and_descriptions(kafka, barnabas, version):
    """Names, states, types and filters of each version."""

    def conversation(say):
        stable_member(say, "list-live")
        say(offset_commit("list-simple", version=8), 8)
        say(join("list-pending", 9), 9)
        # Kafka answers before the new group is committed, and lists what is.
        end = time.monotonic() + 20
        while all(
            group.group_id != "list-pending" for group in say.client.call(ListGroupsRequest(), 4).groups
        ):
            assert time.monotonic() < end
        say(ListGroupsRequest(), version)
        if version >= 4:
            for states in (["Stable"], ["sTaBlE "], ["Empty", "Dead"], ["Nonsense"], ["PreparingRebalance"]):
                say(ListGroupsRequest(states_filter=states), version)
        if version >= 5:
            for types in (["Classic"], ["cLASSIC"], ["Consumer"], ["Nonsense"], ["Classic", "Share"]):
                say(ListGroupsRequest(types_filter=types), version)
            say(ListGroupsRequest(states_filter=["Empty"], types_filter=["classic"]), version)
        for describe in range(7):
            say(DescribeGroupsRequest(groups=["list-live", "list-simple", "list-none", ""]), describe)
            if describe >= 3:
                say(
                    DescribeGroupsRequest(
                        groups=["list-live", "list-none"], include_authorized_operations=True
                    ),
                    describe,
                )

    for address in (kafka, barnabas):
        forget_all_groups(address)
    check(conversation, kafka, barnabas)


@pytest.mark.parametrize("version", range(7))
def test_finding_the_coordinator(kafka, barnabas, version):
    """One key or several; nobody but the address differs."""

    def find(address):
        with WireClient(address) as client:
            if version < 4:
                answer = client.call(FindCoordinatorRequest(key="some group"), version)
                return [
                    (
                        answer.error_code,
                        answer.error_message,
                        answer.node_id,
                        f"{answer.host}:{answer.port}" == address,
                    )
                ]
            keys = ["one", "two", ""]
            answer = client.call(FindCoordinatorRequest(coordinator_keys=keys), version)
            found = [
                (
                    each.key,
                    each.error_code,
                    each.error_message,
                    each.node_id,
                    f"{each.host}:{each.port}" == address,
                )
                for each in answer.coordinators
            ]
            unknown = client.call(FindCoordinatorRequest(coordinator_keys=["x"], key_type=9), version)
            return [*found, unknown.error_code, [each.error_code for each in unknown.coordinators]]

    assert find(barnabas) == find(kafka)

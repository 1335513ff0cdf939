"""A `WireClient` for a cluster: says each request where Kafka's clients say it, and shows the answers as those of one node.

Tests say one request and compare its answer with what one Apache Kafka node answers. So that the same tests ask a cluster,

- each request goes to the broker for which it is meant: to the leaders of its partitions, to the coordinators of its groups and
  transactions, to the broker whose settings it names, or to any. What is meant for several is taken apart, and the answers
  are put together in the order of the request;
- a change of metadata is waited for on all brokers: they learn of it one after the other, and clients ask again meanwhile;
- records that acks=0 or 1 took are waited for on the followers: readers do not see them sooner;
- what answers say of brokers and replicas is told as if there were one: `OneNode` is the only place that does it.
"""

from __future__ import annotations

import copy
import itertools
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from barnabas.wire.messages.describe_quorum import DescribeQuorumRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from tests.oracle.building import build
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from barnabas.wire.message import Message

__all__ = ["ClusterClient", "OneNode", "shown_by_one_node"]

_DEADLINE_S = 30
_PAUSE_S = 0.005

_GROUP, _TRANSACTION = 0, 1
_NOT_YET = {14, 15}
"""COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE."""
_BROKER_RESOURCES = {4, 8}
"""A broker's settings, its loggers."""
_EVERY_OFFSET = -2
"""The replica id to which ListOffsets tells what is not committed yet, too."""


class _Parts(NamedTuple):
    """Lists of topics and their partitions in a request and in its answer; `index` is None where a partition is its number."""

    topics: str
    partitions: str
    index: str | None
    answered_topics: str
    answered_partitions: str


_TO_LEADERS = {
    "ProduceRequest": _Parts("topic_data", "partition_data", "index", "responses", "partition_responses"),
    "FetchRequest": _Parts("topics", "partitions", "partition", "responses", "partitions"),
    "ListOffsetsRequest": _Parts("topics", "partitions", "partition_index", "topics", "partitions"),
    "OffsetForLeaderEpochRequest": _Parts("topics", "partitions", "partition", "topics", "partitions"),
    "DeleteRecordsRequest": _Parts("topics", "partitions", "partition_index", "topics", "partitions"),
    "DescribeProducersRequest": _Parts("topics", "partition_indexes", None, "topics", "partitions"),
}


class _Keyed(NamedTuple):
    """Whose coordinator is meant: the field with the name, or the list of what has one, and the list that answers it."""

    kind: int
    field: str = ""
    items: str = ""
    key: str | None = None
    answers: str = ""


_GROUP_ID = _Keyed(_GROUP, "group_id")
_TRANSACTIONAL_ID = _Keyed(_TRANSACTION, "transactional_id")
_TO_COORDINATORS = {
    **dict.fromkeys(
        [
            "JoinGroupRequest",
            "SyncGroupRequest",
            "HeartbeatRequest",
            "LeaveGroupRequest",
            "OffsetCommitRequest",
            "OffsetDeleteRequest",
            "TxnOffsetCommitRequest",
            "ConsumerGroupHeartbeatRequest",
        ],
        _GROUP_ID,
    ),
    **dict.fromkeys(["InitProducerIdRequest", "AddOffsetsToTxnRequest", "EndTxnRequest"], _TRANSACTIONAL_ID),
    "OffsetFetchRequest": _Keyed(_GROUP, "group_id", "groups", "group_id", "groups"),
    "DescribeGroupsRequest": _Keyed(_GROUP, items="groups", answers="groups"),
    "DeleteGroupsRequest": _Keyed(_GROUP, items="groups_names", answers="results"),
    "ConsumerGroupDescribeRequest": _Keyed(_GROUP, items="group_ids", answers="groups"),
    "DescribeTransactionsRequest": _Keyed(
        _TRANSACTION, items="transactional_ids", answers="transaction_states"
    ),
    "AddPartitionsToTxnRequest": _Keyed(
        _TRANSACTION,
        "v3_and_below_transactional_id",
        "transactions",
        "transactional_id",
        "results_by_transaction",
    ),
}

_TO_ALL = {"ListGroupsRequest": "groups", "ListTransactionsRequest": "transaction_states"}

_TO_NAMED = {
    "DescribeConfigsRequest": "results",
    "AlterConfigsRequest": "responses",
    "IncrementalAlterConfigsRequest": "responses",
}

_CHANGES = {
    "AlterClientQuotasRequest",
    "AlterConfigsRequest",
    "AlterPartitionReassignmentsRequest",
    "AlterUserScramCredentialsRequest",
    "CreatePartitionsRequest",
    "CreateTopicsRequest",
    "DeleteTopicsRequest",
    "ElectLeadersRequest",
    "FindCoordinatorRequest",
    "IncrementalAlterConfigsRequest",
    "MetadataRequest",
    "UpdateFeaturesRequest",
}
"""What may change metadata."""


_FOREIGN = 1000
"""What is added to the ids of brokers that one node does not know, and a cluster would."""
_CONTROLLER = re.compile(r"(?<=Local controller )\d+")
_UNKNOWN_BROKER = re.compile(rf"(?<=broker ){_FOREIGN // 1000}\d{{3}}\b")


class OneNode:
    """What three brokers say, as one would: broker 1, which leads and hosts everything."""

    NODE = 1

    def __init__(self, node_ids: Sequence[int]) -> None:
        self._node_ids = list(node_ids)
        self._more = len(self._node_ids) - 1
        """Each replica count is told, and asked for, with the other brokers left out."""

    # ----- requests: a replica on the one node is one on each

    def asked(self, request: Message) -> Message:
        """The request as a cluster gets it."""
        name = type(request).__name__
        if name not in (
            "CreateTopicsRequest",
            "CreatePartitionsRequest",
            "AlterPartitionReassignmentsRequest",
        ):
            return request
        request = copy.deepcopy(request)
        for topic in request.topics:
            if name == "CreateTopicsRequest" and topic.replication_factor > 0:
                topic.replication_factor += self._more
            assignments = topic.partitions if name.startswith("Alter") else topic.assignments or ()
            for number, assignment in enumerate(assignments):
                field = "replicas" if name.startswith("Alter") else "broker_ids"
                ids = getattr(assignment, field)
                if ids:
                    setattr(assignment, field, self._spread(ids, number))
        return request

    def _spread(self, ids: list[int], number: int) -> list[int]:
        """A replica on broker 1 is one on each, each leading in turn; other brokers are none that the cluster has."""
        spread: list[int] = []
        for node in ids:
            if node == self.NODE:
                turn = number % len(self._node_ids)
                spread += self._node_ids[turn:] + self._node_ids[:turn]
            else:
                spread.append(node + _FOREIGN if node in self._node_ids else node)
        return spread

    # ----- answers

    def told(self, answer: Any) -> Any:
        """The answer as one node gives it."""
        self._tell(answer)
        return answer

    def _tell(self, value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                self._tell(item)
        elif hasattr(value, "__slots__") and not isinstance(value, memoryview):
            for name in value.__slots__:
                field = getattr(value, name)
                told = self._field(name, field)
                if told is not field:
                    setattr(value, name, told)
                self._tell(told)

    def _field(self, name: str, value: Any) -> Any:
        match name:
            case "leader_id" | "controller_id" | "replica_id" if value in self._node_ids:
                return self.NODE
            case "replica_nodes" | "isr_nodes" | "replicas" | "adding_replicas" | "removing_replicas" if (
                value
            ):
                return [self.NODE] if set(value) <= set(self._node_ids) else value
            case "brokers":
                return [
                    each
                    for each in value
                    if self.NODE in (getattr(each, "node_id", 0), getattr(each, "broker_id", 0))
                ]
            case "nodes":
                return value[:1]
            case "node_id" if value in self._node_ids:
                return self.NODE
            case "replication_factor" if value > self._more:
                return value - self._more
            case "config_resources":
                others = set(map(str, self._node_ids)) - {str(self.NODE)}
                return [
                    each
                    for each in value
                    if each.resource_type not in _BROKER_RESOURCES or each.resource_name not in others
                ]
            case "error_message" if value:
                value = _CONTROLLER.sub(str(self.NODE), value)
                return _UNKNOWN_BROKER.sub(lambda found: str(int(found[0]) - _FOREIGN), value)
        return value


_LEADER = re.compile(r"\b(Leader: )\d+")
_REPLICAS = re.compile(r"\b((?:Replicas|Isr): )\d+(?:,\d+)+")
_FACTOR = re.compile(r"\b(ReplicationFactor: )\d+")
_FEWER = re.compile(r"(?<=because only )\d+(?= broker)")
_COORDINATOR = re.compile(
    r"(127\.0\.0\.1:\d+\s+)\(\d+\)|(?m:^(\S+\s+)\d(?=\s+\S+\s+(?:Ongoing|Empty|Complete\w+)))"
)
_COORDINATOR_FIRST = re.compile(r"(?m)^\d(?=\s+\S+\s+\S+\s+\S+\s+(?:Ongoing|Empty|Complete\w+)\s)")
_OTHERS = re.compile(r"Dynamic configs for broker [^1]\d* are:\n?")


def shown_by_one_node(output: str) -> str:
    """What Kafka's tools write about a cluster, as about one node: it leads and hosts everything."""
    output = _FACTOR.sub(r"\g<1>1", _REPLICAS.sub(r"\g<1>1", _LEADER.sub(r"\g<1>1", output)))
    output = _COORDINATOR.sub(lambda found: f"{found[1]}(1)" if found[1] else f"{found[2]}1", output)
    output = _COORDINATOR_FIRST.sub("1", output)
    output = _CONTROLLER.sub("1", _FEWER.sub("1", output))
    return _OTHERS.sub("", output)


class _Pending(NamedTuple):
    """A request under way: where its parts are, and how their answers become one; None is one of raw bytes."""

    nodes: list[int]
    merge: Callable[[list[Any]], Any]
    request: Message | None


class _Session:
    """A fetch session that the client believes to have with one node: one with each leader.

    Attributes:
        parts: The session with each broker, and by how many its epochs are behind.
    """

    def __init__(self) -> None:
        self.parts: dict[int, tuple[int, int]] = {}


class ClusterClient:
    """With the interface of `WireClient`; the brokers have the ids 1, 2, … in the order of the address."""

    _turn = itertools.count()

    def __init__(self, address: str, *, client_id: str | None = "test", timeout_s: float = 30) -> None:
        addresses = address.split(",")
        self.client_id = client_id
        self.nodes = {
            number: WireClient(each, client_id=client_id, timeout_s=timeout_s)
            for number, each in enumerate(addresses, 1)
        }
        self._asking = {number: WireClient(each) for number, each in enumerate(addresses, 1)}
        self.one_node = OneNode(list(self.nodes))
        self.any = 1 + next(self._turn) % len(addresses)
        """Who gets what any broker can answer: another one for each client."""
        self._last = self.any
        self._pending: list[_Pending] = []
        self._sessions: dict[int, _Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for client in [*self.nodes.values(), *self._asking.values()]:
            client.close()

    @property
    def socket(self):
        """Where the answer to the oldest request comes from."""
        return self.nodes[self._pending[0].nodes[0] if self._pending else self.any].socket

    def call(self, request: Message, version: int) -> Any:
        """Sends a request and gives its answer."""
        self.send(request, version)
        return self.receive()

    def send(self, request: Message, version: int, *, is_answered: bool = True) -> None:
        """Sends a request, in parts if need be."""
        request = self.one_node.asked(request)
        parts, merge = self._route(request, version)
        for node, part in parts.items():
            self._last = node
            self.nodes[node].send(part, version, is_answered=is_answered)
        if is_answered:
            self._pending.append(_Pending(list(parts), merge, request))
        else:
            self._see_followers(request)

    def send_raw(self, api_key: int, version: int, body: bytes, *, is_answered: bool = True) -> int:
        """Sends a header and whatever is said to be the body, to any broker."""
        self._last = self.any
        if is_answered:
            self._pending.append(_Pending([self.any], _first, None))
        return self.nodes[self.any].send_raw(api_key, version, body, is_answered=is_answered)

    def receive(self) -> Any:
        """The answer to the oldest request that is not answered yet."""
        pending = self._pending[0]
        answers = [self.nodes[node].receive() for node in pending.nodes]
        self._pending.pop(0)
        if pending.request is None:
            return answers[0]
        answer = answers[0] if len(answers) == 1 and pending.merge is _first else pending.merge(answers)
        name = type(pending.request).__name__
        if name in _CHANGES:
            self.settle()
        elif name == "ProduceRequest" and pending.request.acks != -1:
            self._see_followers(pending.request)
        return self.one_node.told(answer)

    def receive_frame(self) -> bytes:
        """An answer of the broker that got the last request, as it comes."""
        return self.nodes[self._last].receive_frame()

    def is_closed_by_peer(self) -> bool:
        """Whether the broker that got the last request hangs up."""
        return self.nodes[self._last].is_closed_by_peer()

    # ----- who is meant

    def _route(self, request: Message, version: int) -> tuple[dict[int, Message], Callable]:
        name = type(request).__name__
        if name in _TO_LEADERS:
            return self._to_leaders(request, version, _TO_LEADERS[name])
        if name in _TO_COORDINATORS:
            return self._to_coordinators(request, version, _TO_COORDINATORS[name])
        if name in _TO_ALL:
            return dict.fromkeys(self.nodes, request), _concatenation(_TO_ALL[name])
        if name in _TO_NAMED:
            places = [
                int(each.resource_name)
                if each.resource_type in _BROKER_RESOURCES and each.resource_name in map(str, self.nodes)
                else self.any
                for each in request.resources
            ]
            return self._divided(request, "resources", places, _TO_NAMED[name])
        if name == "WriteTxnMarkersRequest":
            return self._markers(request)
        if name in ("AlterReplicaLogDirsRequest", "DescribeLogDirsRequest"):
            return {OneNode.NODE: request}, _first
        return {self.any: request}, _first

    def _to_coordinators(self, request, version, keyed):
        if keyed.field and not (keyed.items and getattr(request, keyed.items)):
            key = getattr(request, keyed.field)
            return {self.any if key is None else self._coordinator(keyed.kind, key): request}, _first
        places = [
            self._coordinator(keyed.kind, getattr(item, keyed.key) if keyed.key else item)
            for item in getattr(request, keyed.items)
        ]
        return self._divided(request, keyed.items, places, keyed.answers)

    def _divided(self, request, items, places, answers):
        """Each item of a list to its place, and their answers back in order."""
        if len(set(places)) < 2:
            return {places[0] if places else self.any: request}, _first
        parts = {}
        for item, place in zip(getattr(request, items), places, strict=True):
            if place not in parts:
                parts[place] = _with(request, **{items: []})
            getattr(parts[place], items).append(item)
        order = list(parts)

        def merge(received):
            lists = [getattr(answer, answers) for answer in received]
            if sum(map(len, lists)) == len(places):
                rests = [iter(each) for each in lists]
                together = [next(rests[order.index(place)]) for place in places]
            else:
                together = [item for each in lists for item in each]
            return _with(_worst(received), **{answers: together})

        return parts, merge

    def _coordinator(self, kind: int, key: str) -> int:
        end = time.monotonic() + _DEADLINE_S
        while True:
            answer = self._asking[self.any].call(FindCoordinatorRequest(key=key, key_type=kind), 2)
            if answer.error_code not in _NOT_YET:
                return answer.node_id if answer.node_id in self.nodes else self.any
            assert time.monotonic() < end, f"no coordinator for {key!r}: {answer}"
            time.sleep(_PAUSE_S)

    # ----- leaders

    def _leaders(self, topics) -> dict[tuple[str, bytes, int], int]:
        """The leader of each partition, by the topic's name or id."""
        names = {getattr(topic, "name", "") or getattr(topic, "topic", "") for topic in topics} - {""}
        ids = {bytes(getattr(topic, "topic_id", bytes(16))) for topic in topics} - {bytes(16)}
        leaders = {}
        for asked in (
            [{"name": name} for name in sorted(names)],
            [{"name": None, "topic_id": topic_id} for topic_id in sorted(ids)],
        ):
            if asked:
                request = build(MetadataRequest, topics=asked, allow_auto_topic_creation=False)
                for topic in self._asking[self.any].call(request, 12).topics:
                    for partition in topic.partitions:
                        place = partition.partition_index, partition.leader_id
                        leaders[topic.name, bytes(16), place[0]] = place[1]
                        leaders["", bytes(topic.topic_id), place[0]] = place[1]
        return leaders

    def _to_leaders(self, request, version, parts):
        topics = getattr(request, parts.topics)
        leaders = self._leaders(topics)
        places = []
        for topic in topics:
            key = _topic_key(topic)
            places.append(
                [
                    self._place(
                        leaders, key, partition if parts.index is None else getattr(partition, parts.index)
                    )
                    for partition in getattr(topic, parts.partitions)
                ]
            )
        if parts.topics == "topics" and hasattr(request, "session_epoch"):
            return self._in_session(request, parts, places, leaders)
        return self._by_place(request, parts, places)

    def _markers(self, request):
        """To the leaders, as a transaction coordinator does."""
        leaders = self._leaders([topic for marker in request.markers for topic in marker.topics])
        divided = {}
        for number, marker in enumerate(request.markers):
            for topic in marker.topics:
                for index in topic.partition_indexes:
                    markers = divided.setdefault(self._place(leaders, _topic_key(topic), index), {})
                    markers.setdefault(number, _with(marker, topics=[])).topics.append(
                        _with(topic, partition_indexes=[index])
                    )
        if len(divided) < 2:
            return {next(iter(divided), self.any): request}, _first

        def merge(received):
            found = {}
            for markers, answer in zip(divided.values(), received, strict=True):
                for number, marker in zip(markers, answer.markers, strict=True):
                    for topic in marker.topics:
                        for partition in topic.partitions:
                            key = number, topic.name, partition.partition_index
                            found.setdefault(key, []).append(partition)
            whole = _with(received[0], markers=[])
            for number, marker in enumerate(request.markers):
                topics = [
                    type(received[0]).WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            found[number, topic.name, index].pop(0) for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ]
                whole.markers.append(
                    type(received[0]).WritableTxnMarkerResult(producer_id=marker.producer_id, topics=topics)
                )
            return whole

        parts = {node: _with(request, markers=list(markers.values())) for node, markers in divided.items()}
        return parts, merge

    def _place(self, leaders, key, index) -> int:
        leader = leaders.get((*key, index), -1)
        return leader if leader in self.nodes else self.any

    def _by_place(self, request, parts, places, merge_topics=None):
        involved = {place for each in places for place in each}
        if len(involved) < 2:
            return {next(iter(involved), self.any): request}, _first
        divided = {}
        # What comes back: which topic, and of which brokers in the order of the partitions.
        for topic, places_of_topic in zip(getattr(request, parts.topics), places, strict=True):
            for place in dict.fromkeys(places_of_topic) or [self.any]:
                part = divided.setdefault(place, _with(request, **{parts.topics: []}))
                partitions = [
                    partition
                    for partition, home in zip(getattr(topic, parts.partitions), places_of_topic, strict=True)
                    if home == place
                ]
                getattr(part, parts.topics).append(_with(topic, **{parts.partitions: partitions}))
        order = list(divided)
        merge_topics = merge_topics or _topics_in_order

        def merge(received):
            lists = {
                node: getattr(answer, parts.answered_topics)
                for node, answer in zip(order, received, strict=True)
            }
            together = merge_topics(lists, places, parts.answered_partitions, self.any)
            return _with(_worst(received), **{parts.answered_topics: together})

        return divided, merge

    # ----- fetch sessions

    def _in_session(self, request, parts, places, leaders):
        if request.session_epoch == -1 and not request.session_id:
            divided, merge = self._by_place(request, parts, places, _topics_as_they_come)
            return divided, merge if merge is _first else _limited(merge, request, parts)
        session = self._sessions.get(request.session_id)
        if request.session_epoch in (0, -1) or session is None:
            divided, merge = self._by_place(request, parts, places, _topics_as_they_come)
            if session is not None and request.session_epoch == -1:
                # The end of the session, for all who have a part in it.
                for node, (session_id, _) in session.parts.items():
                    divided[node] = _with(
                        divided.get(node) or _with(request, topics=[]), session_id=session_id
                    )
                del self._sessions[request.session_id]
                return divided, _fetches
            if request.session_epoch == 0:
                return divided, self._opened(list(divided), request, _fetches)
            return divided, merge
        return self._continued(session, request, parts, places)

    def _opened(self, nodes, request, merge):
        def opened(received):
            answer = merge(received)
            session = _Session()
            for node, each in zip(nodes, received, strict=True):
                if each.session_id:
                    session.parts[node] = each.session_id, 0
            if session.parts:
                answer.session_id = next(iter(session.parts.values()))[0]
                self._sessions[answer.session_id] = session
            return answer

        return opened

    def _continued(self, session, request, parts, places):
        """Everybody who has a part hears of it, and who gets one now."""
        divided = {}
        new = []
        for topic, places_of_topic in zip(request.topics, places, strict=True):
            for place in dict.fromkeys(places_of_topic):
                part = divided.setdefault(place, _with(request, topics=[], forgotten_topics_data=[]))
                partitions = [
                    each
                    for each, home in zip(topic.partitions, places_of_topic, strict=True)
                    if home == place
                ]
                part.topics.append(_with(topic, partitions=partitions))
        for node, (session_id, behind) in session.parts.items():
            part = divided.setdefault(node, _with(request, topics=[], forgotten_topics_data=[]))
            part.session_id = session_id
            part.session_epoch = request.session_epoch - behind
            part.forgotten_topics_data = request.forgotten_topics_data
        for node, part in divided.items():
            if node not in session.parts:
                part.session_id, part.session_epoch = 0, 0
                new.append(node)
        order = list(divided)

        def merge(received):
            answer = _fetches(received)
            answer.session_id = request.session_id
            for node, each in zip(order, received, strict=True):
                if node in new and each.session_id:
                    session.parts[node] = each.session_id, request.session_epoch
                elif not each.session_id and not each.error_code:
                    # It has nothing left of the session.
                    session.parts.pop(node, None)
            if answer.error_code:
                answer.session_id = 0
            return answer

        return divided, merge

    # ----- what takes a moment in a cluster

    def settle(self) -> None:
        """Waits until every broker knows what now the one that knows most knows."""
        topics = [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]
        request = build(DescribeQuorumRequest, topics=topics)
        wanted = 0
        behind = set(self.nodes)
        end = time.monotonic() + _DEADLINE_S
        while behind:
            for node in sorted(behind):
                self._asking[node].send(request, 0)
            known = {
                node: self._asking[node].receive().topics[0].partitions[0].high_watermark
                for node in sorted(behind)
            }
            wanted = wanted or max(known.values())
            behind = {node for node, offset in known.items() if offset < wanted}
            assert time.monotonic() < end, f"brokers {behind} do not learn of a change"
            if behind:
                time.sleep(_PAUSE_S)

    def _see_followers(self, request) -> None:
        """Waits until what a produce has appended is committed."""
        for topic, index, leader in self._produced(request):
            partitions = [{"partition_index": index, "timestamp": -1}]
            ends = [
                build(
                    ListOffsetsRequest,
                    replica_id=replica_id,
                    topics=[{"name": topic, "partitions": partitions}],
                )
                for replica_id in (_EVERY_OFFSET, -1)
            ]
            end = time.monotonic() + _DEADLINE_S
            while True:
                found = [self.nodes_asked(leader).call(each, 4).topics[0].partitions[0] for each in ends]
                if found[0].error_code or found[0].offset <= found[1].offset:
                    break
                assert time.monotonic() < end, f"{topic}-{index} is not replicated: {found}"

    def _produced(self, request) -> Iterator[tuple[str, int, int]]:
        leaders = self._leaders(request.topic_data)
        names = {key[0] for key in leaders if key[0]}
        for topic in request.topic_data:
            for partition in topic.partition_data:
                leader = leaders.get((*_topic_key(topic), partition.index))
                if leader in self.nodes and (topic.name or len(names) == 1):
                    yield topic.name or next(iter(names)), partition.index, leader

    def leader(self, topic: str, partition: int) -> int:
        """Who leads a partition."""
        return self._leaders([MetadataRequest.MetadataRequestTopic(name=topic)])[topic, bytes(16), partition]

    def nodes_asked(self, node: int) -> WireClient:
        """A connection beside the one on which requests may be waiting."""
        return self._asking[node]


def _first(received: list[Any]) -> Any:
    return received[0]


def _with(message, **fields):
    """A copy with other fields."""
    other = copy.copy(message)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _worst(received):
    """The answer that reports an error for all, or else the first."""
    for answer in received:
        if getattr(answer, "error_code", 0):
            return answer
    return received[0]


def _concatenation(field: str):
    def merge(received):
        together = [item for answer in received for item in getattr(answer, field)]
        return _with(_worst(received), **{field: together})

    return merge


def _topic_key(topic) -> tuple[str, bytes]:
    """What a topic is called: its name, or its id where there is no name."""
    name = getattr(topic, "name", None) or getattr(topic, "topic", None) or ""
    topic_id = bytes(getattr(topic, "topic_id", None) or bytes(16))
    return (name, bytes(16)) if name else ("", topic_id)


def _topics_in_order(lists, places, partitions_name, anyone):
    """Answers in the order of the request, where each broker has answered what it was asked."""
    rests = {node: iter(topics) for node, topics in lists.items()}
    together = []
    for places_of_topic in places:
        homes = list(dict.fromkeys(places_of_topic)) or [anyone]
        topics = {node: next(rests[node]) for node in homes}
        found = {node: iter(getattr(topic, partitions_name)) for node, topic in topics.items()}
        merged = topics[homes[0]]
        if len(homes) > 1:
            setattr(merged, partitions_name, [next(found[place]) for place in places_of_topic])
        together.append(merged)
    return together


def _topics_as_they_come(lists, _places, _partitions_name, _anyone):
    """Of fetches, which leave out what has nothing new."""
    return _whole_topics([topic for topics in lists.values() for topic in topics])


def _whole_topics(topics):
    """Each topic once, its partitions in order."""
    whole = {}
    for topic in topics:
        key = _topic_key(topic)
        if key in whole:
            whole[key].partitions = sorted(
                whole[key].partitions + topic.partitions, key=lambda each: each.partition_index
            )
        else:
            whole[key] = _with(topic)
    return list(whole.values())


def _fetches(received):
    topics = _whole_topics([topic for answer in received for topic in answer.responses])
    return _with(_worst(received), responses=topics)


def _limited(merge, request, parts):
    """A fetch's limit counts for all its partitions, in the order of the request, and each leader has kept to it alone."""

    def limited(received):
        answer = merge(received)
        found = {}
        for topic in answer.responses:
            for partition in topic.partitions:
                found.setdefault((*_topic_key(topic), partition.partition_index), []).append(partition)
        left = request.max_bytes
        is_first = True
        for topic in request.topics:
            for asked in topic.partitions:
                answered = found.get((*_topic_key(topic), asked.partition))
                if not answered:
                    continue
                partition = answered.pop(0)
                records = bytes(partition.records or b"")
                if records and not is_first and len(records) > max(left, 0):
                    records = records[: max(left, 0)]
                    first = 12 + int.from_bytes(records[8:12], "big") if len(records) >= 12 else 12
                    partition.records = records if len(records) >= first else b""
                if records:
                    is_first = False
                left -= len(partition.records or b"")
        return answer

    return limited

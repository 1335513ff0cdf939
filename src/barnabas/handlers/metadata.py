"""Metadata (3), versions 0-13: brokers, topics, partitions and their leaders; missing topics are created.

    0   an empty list of topics means all             1   null means all, empty none; controller, rack, is_internal
    2   cluster id                                    4   allow_auto_topic_creation
    5   offline replicas                              6   LISTENER_NOT_FOUND
    7   leader epoch                                  8   authorized operations (KIP-430)
    9   flexible                                      10  topic ids (12 asks by them, KIP-516)
    11  no authorized operations of the cluster       13  an error for the whole answer (KIP-1102)

Behaviour: a topic that does not exist is created when the client allows it and `auto.create.topics.enable` does (version 3
and below always allow), and the answer waits until it can be used, where Kafka answers UNKNOWN_TOPIC_OR_PARTITION at
once and leaves the client to ask again. A name that can never be created, because it is invalid or differs from an
existing one in dots and underscores only, gives INVALID_TOPIC_EXCEPTION.

A broker that is left behind (`controller.lifecycle`) has the controller answer, as it knows the leaders of before.

The answer about a topic is built once and used until the topic or a broker changes; that about all topics is even encoded once,
and used until anything changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.addresses import address_by_id, address_of
from barnabas.handlers.authorized_operations import CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS
from barnabas.handlers.offline_replicas import offline_replicas
from barnabas.handlers.replies import brief
from barnabas.metadata.identifiers import INTERNAL_TOPICS, ZERO_ID
from barnabas.metadata.image import NO_LEADER
from barnabas.metadata.topic_names import is_valid_topic_name
from barnabas.wire.messages.metadata import MetadataRequest, MetadataResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Mapping, Sequence

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import Broker, Partition, Topic

__all__ = ["API_KEY", "handle"]

API_KEY = 3

_PREBUILT_MAX = 4
"""Answers about all topics: clients of a few versions on a few listeners; each is 30 bytes and more for a partition."""

_ResponseTopic = MetadataResponse.MetadataResponseTopic
_ResponsePartition = MetadataResponse.MetadataResponsePartition


def handle(
    broker: BrokerServices, context: RequestContext, request: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Answers at once, or when the missing topics have been created."""
    if broker.is_left_behind():
        from barnabas.handlers.forwarding import relayed

        return relayed(broker, context, request, _answer_here, _put_addresses)
    return _answer_here(broker, context, request)


def _put_addresses(broker: BrokerServices, context: RequestContext, answer: MetadataResponse) -> None:
    reachable = []
    for node in answer.brokers:
        address = address_by_id(broker.image.brokers, node.node_id, context.connection)
        if address is not None:
            node.host, node.port = address
            reachable.append(node)
    answer.brokers = reachable


def _answer_here(
    broker: BrokerServices, context: RequestContext, request: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse]:
    image = broker.image
    asked = request.topics
    version = context.api_version
    if asked is None or (version == 0 and not asked):
        return _answer_about_all(broker, context, request)
    if version >= 12 and any(topic.topic_id != ZERO_ID for topic in asked):
        return _answer_by_id(broker, context, request)
    names: list[str] = []
    for topic in asked:
        if topic.name is None or topic.topic_id != ZERO_ID:
            return _refuse(asked)
        names.append(topic.name)
    if request.allow_auto_topic_creation and broker.config["auto.create.topics.enable"]:
        missing = [name for name in names if name not in image.topics and is_valid_topic_name(name)]
        if missing:
            try:
                creating = broker.controller.create_missing_topics(missing)
            except KafkaError as error:
                broker.log_refusal(context, brief(missing), error)
            else:
                return _answer_when_created(broker, context, request, names, creating)
    return _answer(broker, context, request, names)


def _answer_about_all(
    broker: BrokerServices, context: RequestContext, request: MetadataRequest
) -> MetadataResponse:
    image = broker.image
    connection = context.connection
    addresses = tuple(
        None if node.fenced else address_of(node, connection) for node in image.brokers.values()
    )
    asked_for = (request.include_topic_authorized_operations, request.include_cluster_authorized_operations)
    key = (API_KEY, context.api_version, connection.listener_name, addresses, asked_for)
    prebuilt: _AnswerAboutAll | None = image.prebuilt.get(key)
    if prebuilt is None:
        if len(image.prebuilt) >= _PREBUILT_MAX:
            image.prebuilt.clear()
        answer = _answer(broker, context, request, list(image.topics))
        prebuilt = image.prebuilt[key] = _AnswerAboutAll(answer)
    return prebuilt


class _AnswerAboutAll(MetadataResponse):
    """An answer that is encoded once, in the one version that it is for."""

    __slots__ = ("_encoded",)

    def __init__(self, answer: MetadataResponse) -> None:
        super().__init__(**{name: getattr(answer, name) for name in MetadataResponse.__slots__})
        self._encoded: bytes | None = None

    def encode(self, version: int) -> bytes:
        """See `Message.encode`."""
        if self._encoded is None:
            self._encoded = super().encode(version)
        return self._encoded


async def _answer_when_created(
    broker: BrokerServices,
    context: RequestContext,
    request: MetadataRequest,
    names: list[str],
    creating: asyncio.Future[dict[str, KafkaError | None]],
) -> MetadataResponse:
    refused: dict[str, KafkaError] = {}
    try:
        for name, error in (await creating).items():
            if error is not None:
                refused[name] = error
                broker.log_refusal(context, name, error)
    except KafkaError as error:
        broker.log_refusal(context, brief(names), error)
    return _answer(broker, context, request, names, refused)


def _refuse(asked: Sequence[MetadataRequest.MetadataRequestTopic]) -> MetadataResponse:
    """Topics by id in a version that does not know them, or neither by name nor by id."""
    return MetadataResponse(
        topics=[
            _ResponseTopic(
                error_code=ErrorCode.INVALID_REQUEST, name=topic.name or "", topic_id=topic.topic_id
            )
            for topic in asked
        ]
    )


def _answer_by_id(
    broker: BrokerServices, context: RequestContext, request: MetadataRequest
) -> MetadataResponse:
    """As soon as one topic is asked for by id, all are, and names do not count."""
    image = broker.image
    names = []
    unknown = []
    for topic_id in dict.fromkeys(topic.topic_id for topic in request.topics or ()):
        topic = image.topic_by_id(topic_id)
        if topic is not None:
            names.append(topic.name)
        elif topic_id != ZERO_ID:
            unknown.append(
                _ResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
            )
    answer = _answer(broker, context, request, names)
    answer.topics += unknown
    return answer


def _answer(
    broker: BrokerServices,
    context: RequestContext,
    request: MetadataRequest,
    names: Sequence[str],
    refused: Mapping[str, KafkaError] | None = None,
) -> MetadataResponse:
    image = broker.image
    connection = context.connection
    version = context.api_version
    with_operations = version >= 8 and request.include_topic_authorized_operations
    operations = TOPIC_OPERATIONS if with_operations else NOT_ASKED
    view = _View(image.brokers, connection.listener_name, version, operations)
    nodes = []
    for node in image.brokers.values():
        address = None if node.fenced else address_of(node, connection)
        if address is not None:
            nodes.append(
                MetadataResponse.MetadataResponseBroker(
                    node_id=node.id, host=address[0], port=address[1], rack=node.rack
                )
            )
    topics = []
    known = image.topics
    for name in dict.fromkeys(names):
        topic = known.get(name)
        if topic is not None:
            topics.append(view.topic(topic))
        else:
            error = (refused or {}).get(name)
            topics.append(_missing(name, error, operations))
    response = MetadataResponse(
        brokers=nodes,
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
        topics=topics,
    )
    if 8 <= version <= 10 and request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def _missing(name: str, error: KafkaError | None, operations: int) -> MetadataResponse.MetadataResponseTopic:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if not is_valid_topic_name(name) or (
        error is not None and error.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    ):
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
    return _ResponseTopic(
        error_code=code,
        name=name,
        is_internal=name in INTERNAL_TOPICS,
        topic_authorized_operations=operations,
    )


class _View:
    """Topics as a client of some version sees them on some listener."""

    __slots__ = ("_brokers", "_key", "_listener", "_operations", "_version")

    def __init__(self, brokers: Mapping[int, Broker], listener: str, version: int, operations: int) -> None:
        self._brokers = brokers
        self._listener = listener
        self._version = version
        self._operations = operations
        # What the versions between these see is the same.
        self._key = (API_KEY, listener, 0 if version == 0 else 1 if version < 6 else 6, operations)

    def topic(self, topic: Topic) -> MetadataResponse.MetadataResponseTopic:
        """The answer about one topic; it is shared between answers and not to be changed."""
        prebuilt = topic.prebuilt.get(self._key)
        if prebuilt is None or prebuilt[0] is not self._brokers:
            built = _ResponseTopic(
                error_code=0,
                name=topic.name,
                topic_id=topic.id,
                is_internal=topic.is_internal,
                partitions=[self._partition(partition) for partition in topic.partitions],
                topic_authorized_operations=self._operations,
            )
            prebuilt = topic.prebuilt[self._key] = self._brokers, built
        response: MetadataResponse.MetadataResponseTopic = prebuilt[1]
        return response

    def _partition(self, partition: Partition) -> MetadataResponse.MetadataResponsePartition:
        leader = self._brokers.get(partition.leader)
        replicas, isr = list(partition.replicas), list(partition.isr)
        error = ErrorCode.NONE
        if self._version == 0:
            # Version 0 leaves out what cannot be reached, and says so; later versions tell it apart.
            replicas = [replica for replica in replicas if self._is_reachable(replica)]
            isr = [replica for replica in isr if self._is_reachable(replica)]
            if len(replicas) < len(partition.replicas) or len(isr) < len(partition.isr):
                error = ErrorCode.REPLICA_NOT_AVAILABLE
        leader_id = partition.leader
        if leader is None:
            error, leader_id = ErrorCode.LEADER_NOT_AVAILABLE, NO_LEADER
        elif self._listener not in leader.endpoints:
            error, leader_id = ErrorCode.LISTENER_NOT_FOUND, NO_LEADER
            if self._version < 6:
                error = ErrorCode.LEADER_NOT_AVAILABLE
        return _ResponsePartition(
            error_code=error,
            partition_index=partition.index,
            leader_id=leader_id,
            leader_epoch=partition.leader_epoch,
            replica_nodes=replicas,
            isr_nodes=isr,
            offline_replicas=offline_replicas(self._brokers, self._listener, partition),
        )

    def _is_reachable(self, broker_id: int) -> bool:
        broker = self._brokers.get(broker_id)
        return broker is not None and not broker.fenced and self._listener in broker.endpoints
